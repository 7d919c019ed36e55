"""Rights, and what is given up so that secrets stay in the process."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from pathlib import Path

import pytest
from net_lab import in_child

from ikeclient.net.rights import grants, privileges
from ikeclient.net.rights.grants import Missing
from ikeclient.net.rights.privileges import Fact, describe, forbid_core_dumps, has_net_admin


def test_a_process_forbids_core_dumps_and_debuggers() -> None:
    """O17, F12."""

    def body() -> None:
        forbid_core_dumps()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert ctypes.CDLL(None).prctl(3) == 0, "PR_GET_DUMPABLE"
        with pytest.raises(ValueError, match=r"not allowed|exceeds"):
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))

    def unprivileged() -> None:
        drop_capabilities()
        body()

    in_child(unprivileged)


def drop_capabilities() -> None:
    ctypes.CDLL(None).capset(struct.pack("=II", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def test_the_right_to_change_the_network_is_read_from_the_kernel() -> None:
    """O1."""
    assert has_net_admin() == (os.geteuid() == 0)

    def body() -> None:
        drop_capabilities()
        assert not has_net_admin()
        facts = {fact.name: fact for fact in describe("resolv.conf")}
        assert not facts["CAP_NET_ADMIN"].ok
        assert "--cap-add NET_ADMIN" in (facts["CAP_NET_ADMIN"].hint or "")

    in_child(body)


@pytest.mark.parametrize("there", [False, True])
def test_a_tun_device_that_is_missing_or_broken_is_named_with_a_remedy(tmp_path: Path, there: bool) -> None:
    """O1."""
    tun = tmp_path / "tun"
    if there:
        tun.mkdir()
    fact = describe("resolv.conf", tun)[0]
    assert not fact.ok
    assert str(tun) in fact.text
    assert fact.hint


def test_every_fact_is_a_line_for_people() -> None:
    facts = describe("systemd-resolved")
    assert [fact.name for fact in facts] == ["TUN device", "CAP_NET_ADMIN", "user namespaces", "DNS", "allowed here"]
    assert all(fact.text.isprintable() and (fact.ok or fact.hint) for fact in facts)
    assert "systemd-resolved" in facts[3].text


@pytest.mark.parametrize(
    ("node", "admin", "namespaces", "ok", "words"),
    [
        (True, True, True, True, "`connect` can route this whole machine"),
        (True, True, False, True, "`connect` can route this whole machine"),
        (True, False, True, True, "`exec` and `proxy`"),
        (True, False, False, False, "next to nothing"),
        (False, True, True, False, "nothing yet"),
        (False, False, False, False, "nothing yet"),
    ],
)
def test_what_is_allowed_here_is_said_in_plain_words(
    node: bool, admin: bool, namespaces: bool, ok: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O1: one line sums up the three levels, and what is missing has a remedy."""
    monkeypatch.setattr(privileges, "_tun", lambda _: Fact("TUN device", node, "", "the node"))
    monkeypatch.setattr(privileges, "_net_admin", lambda: Fact("CAP_NET_ADMIN", admin, "", "the right"))
    monkeypatch.setattr(privileges, "_user_namespaces", lambda: Fact("user namespaces", namespaces, "", "a switch"))
    level = describe("resolv.conf")[-1]
    assert level.ok is ok
    assert words in level.text
    assert ok or level.hint in ("the node", "the right")


def test_every_missing_right_has_a_remedy_for_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O1: docker, podman, Kubernetes and a plain host; only the one we are in where that can be told."""
    assert grants.grant(Missing.NODE, "docker") == "--device /dev/net/tun"
    place = grants.place
    monkeypatch.setattr(grants, "place", lambda: None)
    for missing in Missing:
        everywhere = grants.grant(missing)
        for where in ("host", "docker", "podman", "kubernetes"):
            assert grants.grant(missing, where) in everywhere
        assert len(everywhere) < 420
    assert place({}, tmp_path) is None
    (tmp_path / ".dockerenv").touch()
    assert place({}, tmp_path) == "docker"
    assert place({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path) == "kubernetes"
