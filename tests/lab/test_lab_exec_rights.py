"""`exec` where something is missing: each right has its own words, says how it is granted, and the exit code 11."""

from __future__ import annotations

import pytest
from lab.person import Person, give_tun
from lab.seccomp import refused
from lab.world import Lab


@pytest.fixture
def person(lab: Lab) -> Person:
    return Person(lab)


def refusal(person: Person, *prefix: str) -> str:
    """What is said when `exec` fails for a missing right, before a packet or a secret."""
    person.machine.run("chmod", "000", "/run/user/1000/psk")
    done = person.run("exec", "work", "--", "echo", "ran", prefix=prefix)
    assert done.returncode == 11, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 3
    return done.stderr


def test_no_device_node(person: Person) -> None:
    """O2"""
    person.machine.run("rm", "/dev/net/tun")
    said = refusal(person)
    assert "there is no /dev/net/tun" in said
    assert "--device /dev/net/tun" in said


def test_a_device_node_that_is_not_for_everybody(person: Person) -> None:
    """O2"""
    give_tun(person.machine, "600")
    said = refusal(person)
    assert "/dev/net/tun may not be opened by user 1000: Permission denied" in said
    assert "0666" in said


def test_no_user_namespaces(person: Person) -> None:
    """O1: the limit of a user namespace around it, so that the machine's own is untouched."""
    zero = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    said = refusal(person, "unshare", "-U", "-c", "--keep-caps", "sh", "-c", zero, "sh")
    assert "user.max_user_namespaces is 0" in said
    assert "sysctl user.max_user_namespaces" in said


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("docker", "a seccomp filter forbids user namespaces (the default of docker and Kubernetes)"),
        ("tunsetiff", "a seccomp filter forbids TUNSETIFF"),
    ],
)
def test_a_seccomp_filter(person: Person, call: str, reason: str) -> None:
    """O1, O2: as in a container; all that the filter answers is EPERM."""
    said = refusal(person, *refused(call))
    assert reason in said
    assert "docker and podman" in said
    assert "Kubernetes" in said


def test_doctor_says_the_same(person: Person) -> None:
    assert "a command can have a network of its own" in " ".join(person.run("doctor").stdout.split())
    give_tun(person.machine, "600")
    said = " ".join(person.run("doctor").stdout.split())
    assert "cannot open a TUN device: /dev/net/tun may not be opened by user 1000" in said
