"""Rights, and what is given up so that secrets stay in the process."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from pathlib import Path

import pytest
from net_lab import in_child

from ikeclient.net.privileges import describe, forbid_core_dumps, has_net_admin


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
    assert [fact.name for fact in facts] == ["TUN device", "CAP_NET_ADMIN", "user namespaces", "DNS"]
    assert all(fact.text.isprintable() and (fact.ok or fact.hint) for fact in facts)
    assert "systemd-resolved" in facts[-1].text
