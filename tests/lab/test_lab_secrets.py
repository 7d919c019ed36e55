"""Secrets have one way in and no way out: a canary is looked for in everything a connection leaves anywhere."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from lab.client import REPOSITORY, core_limit_of, environment_of
from lab.gateway import PASSWORD, PSK, Offer
from lab.machines import host_run, wait_for
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

WRONG = "wrong-canary-Zq7!x9"


def forms(secret: str) -> list[bytes]:
    """How a secret may look in an output: as it is, as MSCHAPv2 encodes it, in hexadecimal, in Base64."""
    found = []
    for raw in (secret.encode(), secret.encode("utf-16-le")):
        found += [raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:-4]]
    return found


def leaks(lab: Lab, *secrets: str) -> list[str]:
    """Where one of the secrets can be seen: files, and the command line and environment of the machine's processes."""
    machine = lab.network.client
    directory = lab.client.directory
    copy = directory / "copy"
    machine.run("sh", "-c", f"mkdir -p {copy} && cp -a /run /etc/resolv.conf* {copy}/")
    given = {directory / "psk", directory / "password"}
    places = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink() and path not in given]
    pids = host_run("ip", "netns", "pids", machine.name).stdout.split()
    assert pids
    places += [Path("/proc", pid, name) for pid in pids for name in ("cmdline", "environ")]
    wanted = [form for secret in secrets for form in forms(secret)]
    found = []
    for place in places:
        try:
            content = place.read_bytes()
        except OSError:  # a process that has ended
            continue
        found += [f"{place}: {form!r}" for form in wanted if form in content]
    shutil.rmtree(copy)
    return found


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/ikeclient/work.sock")
    connection.sendall(sys.argv[1].encode() + b"\\n")
    print(connection.makefile().readline())
"""


def write_down_what_it_tells(lab: Lab) -> None:
    """Status, events and replies of the control socket, each into a file of its own."""
    machine, directory, events = lab.network.client, lab.client.directory, lab.client.directory / "events"
    with events.open("wb") as stdout:
        machine.start("ikeclient", "events", "--json", stdout=stdout, env=lab.client.environment)
    for request in ("status", "keys"):
        reply = machine.run("python3", "-c", ASK, f'{{"version": 1, "request": "{request}"}}').stdout
        assert "ok" in reply
        (directory / f"reply-{request}").write_text(reply)
    for arguments in (("status",), ("profile", "show", "work")):
        done = lab.client.run("-vvv", *arguments)
        assert done.stdout
        (directory / f"said-{arguments[0]}").write_text(done.stdout + done.stderr)

    def heard() -> bool:
        lab.gateway.rekey(child="net")
        return b"rekeyed" in events.read_bytes()

    wait_for(heard, timeout=15, interval=0.5, what="an event")


Source: TypeAlias = "tuple[dict[str, object], dict[str, str]]"  # the profile's key, and the environment


def _from_file(lab: Lab) -> Source:
    return {"file": str(lab.client.secret_file("password", PASSWORD))}, {}


def _from_environment(_: Lab) -> Source:
    return {"env": "VPN_PASSWORD"}, {"VPN_PASSWORD": PASSWORD}


def _from_command(lab: Lab) -> Source:
    return {"command": ["cat", str(lab.client.secret_file("password", f"{PASSWORD}\n"))]}, {}


def _from_credential(lab: Lab) -> Source:
    lab.client.secret_file("password", PASSWORD)
    return {"credential": "password"}, {"CREDENTIALS_DIRECTORY": str(lab.client.directory)}


@pytest.mark.parametrize("source", [_from_file, _from_environment, _from_command, _from_credential])
def test_a_password_is_seen_nowhere_while_it_serves(lab: Lab, source: Callable[[Lab], Source]) -> None:
    """F10, F12: logs, status, events, journal, control socket, `ps` and /proc, at the highest verbosity."""
    lab.gateway.serve(Offer(auth="eap-mschapv2"))
    password, environment = source(lab)
    lab.client.write_profile(lab.gateway, {"auth": {"password": password}})
    connection = lab.client.start("work", "-vvv", env=environment)
    wait_for(lambda: "connected in" in connection.stderr, timeout=20, what="the tunnel")
    if source is _from_file:
        write_down_what_it_tells(lab)
    assert leaks(lab, PASSWORD) == []
    assert "PATH=" in environment_of(connection.process.pid)
    assert connection.terminate() == 0
    assert leaks(lab, PASSWORD) == []


def test_a_pre_shared_key_is_seen_nowhere_while_it_serves(lab: Lab) -> None:
    """F12; and nothing of the process's memory goes to a core file."""
    connection = lab.start(None, "-vvv")
    wait_for(lambda: "connected in" in connection.stderr, timeout=20, what="the tunnel")
    write_down_what_it_tells(lab)
    looked_into = {Path(leak.split(": ")[0]).name for word in ("work", "authenticating") for leak in leaks(lab, word)}
    assert {"connect0.stderr", "work.undo.json", "cmdline", "events", "reply-status", "said-status"} <= looked_into
    assert leaks(lab, PSK) == []
    assert core_limit_of(connection.process.pid).split()[4:6] == ["0", "0"]
    assert connection.interrupt() == 130
    assert leaks(lab, PSK) == []


def test_a_detached_tunnel_keeps_a_typed_password_to_itself(lab: Lab) -> None:
    """F10, F12: the password goes through standard input to the process that stays."""
    lab.prepare(Offer(auth="eap-mschapv2"), auth={"password": None})
    done = lab.client.run("connect", "work", "-vvv", "--detach", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    (lab.client.directory / "said").write_text(done.stdout + done.stderr)
    assert lab.network.client.run("cat", "/run/ikeclient/work.log").stdout
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    status = lab.status()
    assert core_limit_of(status["pid"]).split()[4:6] == ["0", "0"]
    assert leaks(lab, PASSWORD) == []
    lab.client.disconnect()
    assert leaks(lab, PASSWORD) == []


@pytest.mark.parametrize("auth", ["eap-mschapv2", "psk"])
def test_a_refused_secret_is_seen_nowhere(lab: Lab, auth: str) -> None:
    """F12: most leaks sit on the paths of errors."""
    lab.prepare(Offer(auth=auth))  # type: ignore[arg-type]
    lab.client.secret_file("password", WRONG)
    lab.client.secret_file("psk", WRONG)
    done = lab.client.run("--debug", "connect", "work", "-vvv", *(["--detach"] if auth == "psk" else []))
    assert done.returncode == 4
    (lab.client.directory / "said").write_text(done.stdout + done.stderr)
    assert leaks(lab, WRONG) == []


# What breaks, as a patch of our own code that puts the secret into an exception.
BUGS = {
    "where a connection is made": (
        "import ikeclient.tunnel.ports as place\n"
        "def broken(config, *rest):\n"
        "    raise RuntimeError(f'{config!r} {config.auth.password}')\n"
        "place.Initiator = broken\n"
    ),
    "where the password is used": (
        "import ikeclient.eap.methods.mschap as place\n"
        "def broken(*arguments, **named):\n"
        "    raise ValueError(f'{arguments!r} {named!r}')\n"
        "for name in [name for name in vars(place) if callable(getattr(place, name)) and name[0].islower()]:\n"
        "    setattr(place, name, broken)\n"
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_an_internal_error_does_not_quote_a_secret(lab: Lab, bug: str) -> None:
    """F12: neither the message nor the traceback, on stderr with --debug or in the file that is left for us.

    What fails over a gateway's answer ends that login alone, so it leaves no traceback.
    """
    patches = lab.client.directory / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(BUGS[bug])
    lab.prepare(Offer(auth="eap-mschapv2"))
    before = lab.client.traces()
    environment = {**lab.client.environment, "PYTHONPATH": f"{patches}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    for options in ((), ("--debug",)):
        command = ("ikeclient", *options, "connect", "work", "-vvv", "--timeout", "2")
        done = lab.network.client.run(*command, check=False, env=environment)
        (lab.client.directory / f"said{len(options)}").write_text(done.stdout + done.stderr)
        assert done.returncode == 1, done.stderr
        assert "this is a bug in ikeclient" in done.stderr
        assert len(done.stderr[done.stderr.index("error: unexpected") :].strip().splitlines()) <= 3
    if bug == "where a connection is made":
        assert "in broken" in done.stderr
        assert lab.network.client.run("cat", "/run/ikeclient/crash.log").stdout
    assert leaks(lab, PASSWORD) == []
    assert lab.client.traces() == before


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(lab: Lab) -> None:
    """F10"""
    lab.client.write_profile(lab.gateway)
    for text in (f"auth.psk={PSK}", f"auth.psk={{ value = '{PSK}' }}", f"auth.{PSK}=x", PSK):
        done = lab.client.run("connect", "work", "--set", text)
        assert done.returncode in (2, 9)
        if text != f"auth.{PSK}=x":  # that is a key's name, which an error quotes
            assert PSK not in done.stdout + done.stderr


def test_a_key_that_others_can_read_is_refused(lab: Lab) -> None:
    """F11"""
    lab.prepare()
    (lab.client.directory / "psk").chmod(0o644)
    refused = lab.client.run("connect", "work")
    assert refused.returncode == 9
    assert "0644" in refused.stderr
    assert PSK not in refused.stderr


def test_a_process_that_holds_secrets_cannot_be_looked_into_by_its_user(lab: Lab) -> None:
    """F12: not dumpable, so its memory and environment in /proc belong to root, even for the one who started it."""
    lab.client.write_profile(lab.gateway)
    for path in (lab.client.directory.parent, lab.client.directory):
        path.chmod(0o755)
    for path in (lab.client.directory, *lab.client.directory.rglob("*")):
        os.chown(path, 1000, 1000)
    user = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
    run = str(lab.client.directory / "run")
    connection = lab.client.start(
        "work", "--dry-run", "--timeout", "8", prefix=user, env={"IKECLIENT_RUNTIME_DIR": run}
    )
    wait_for(lambda: "negotiating" in connection.stderr, timeout=10, what="the first step")
    process = Path(f"/proc/{connection.process.pid}")
    assert process.joinpath("status").read_text().split("Uid:")[1].split()[0] == "1000"
    assert process.joinpath("mem").stat().st_uid == 0
    peek = ("cat", str(process / "environ"))
    assert lab.network.client.run(*user, *peek, check=False).returncode != 0
    assert connection.interrupt() == 130
