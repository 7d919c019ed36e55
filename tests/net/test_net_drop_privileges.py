"""Giving up rights, for real, in child processes."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import socket
import struct
import threading
from collections.abc import Collection
from pathlib import Path

import pytest
from net_lab import in_child
from process_status import status_of

from ikeclient.errors import PlatformError
from ikeclient.net.rights import drop_privileges as dropping
from ikeclient.net.rights.drop_privileges import CAP_NET_ADMIN, CAP_SETPCAP, drop_privileges, held

CAP_SETGID, CAP_SETUID = 6, 7
SO_MARK = 36

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


def keep(capabilities: Collection[int]) -> None:
    """Have no other capabilities from now on."""
    mask = sum(1 << capability for capability in capabilities)
    data = struct.pack("=6I", mask, mask, 0, 0, 0, 0)
    assert ctypes.CDLL(None).capset(struct.pack("=II", 0x20080522, 0), data) == 0


def number(field: str) -> int:
    return int(status_of()[field], 16)


def assert_bare(capabilities: Collection[int]) -> None:
    mask = sum(1 << capability for capability in capabilities)
    assert (number("CapEff"), number("CapPrm")) == (mask, mask)
    assert (number("CapInh"), number("CapAmb")) == (0, 0)
    assert status_of()["NoNewPrivs"] == "1"
    assert ctypes.CDLL(None).prctl(3) == 0, "PR_GET_DUMPABLE"


def test_root_becomes_nobody_with_one_capability() -> None:
    """O17: and there is no way back."""

    def body() -> None:
        nobody = pwd.getpwnam("nobody")
        identity = drop_privileges()
        assert (identity.uid, identity.still_root) == (nobody.pw_uid, False)
        assert os.getresuid() == (nobody.pw_uid,) * 3
        assert os.getresgid() == (nobody.pw_gid,) * 3
        assert os.getgroups() == []
        assert held() == {CAP_NET_ADMIN}
        assert_bare({CAP_NET_ADMIN})
        assert number("CapBnd") == 0
        with pytest.raises(PermissionError):
            os.setuid(0)
        with pytest.raises(PermissionError):
            Path("/etc/shadow").read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marked:
            marked.setsockopt(socket.SOL_SOCKET, SO_MARK, 1)
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] >= 0

    in_child(body)


def test_a_child_program_has_no_capability_at_all() -> None:
    """Whatever is executed, also a set-user-ID program, stays without rights."""

    def body() -> None:
        drop_privileges()
        program = "import sys; sys.exit('CapEff:\\t0000000000000000' not in open('/proc/self/status').read())"
        assert os.spawnl(os.P_WAIT, "/usr/bin/python3", "python3", "-I", "-c", program) == 0

    in_child(body)


def test_the_project_has_a_user_of_its_own_where_one_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "USERS", ("no-such-user", "daemon", "nobody"))
    in_child(lambda: drop_privileges().uid == pwd.getpwnam("daemon").pw_uid or pytest.fail("not daemon"))


@pytest.mark.parametrize("extra", [(), (CAP_SETPCAP,)])
def test_a_containers_root_that_may_not_change_user_still_gives_up_the_rest(extra: tuple[int, ...]) -> None:
    """`--cap-drop ALL --cap-add NET_ADMIN`: user 0, one capability."""

    def body() -> None:
        keep({CAP_NET_ADMIN, *extra})
        identity = drop_privileges()
        assert (identity.uid, identity.still_root) == (0, True)
        assert_bare({CAP_NET_ADMIN})

    in_child(body)


def test_root_without_the_bounding_set_in_its_hands_becomes_nobody_all_the_same() -> None:
    """`--cap-drop ALL --cap-add NET_ADMIN,SETUID,SETGID`."""

    def body() -> None:
        keep({CAP_NET_ADMIN, CAP_SETUID, CAP_SETGID})
        assert not drop_privileges().still_root
        assert_bare({CAP_NET_ADMIN})

    in_child(body)


@pytest.mark.parametrize("capable", [False, True])
def test_an_ordinary_user_stays_who_it_is(capable: bool) -> None:
    """An ambient CAP_NET_ADMIN stays for us, and is not handed on; without it there is none afterwards either."""

    def body() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        mask = 1 << CAP_NET_ADMIN if capable else 0
        libc.capset(struct.pack("=II", 0x20080522, 0), struct.pack("=6I", mask, mask, mask, 0, 0, 0))
        if capable:
            assert libc.prctl(47, 2, CAP_NET_ADMIN, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
        identity = drop_privileges()
        assert (identity.uid, identity.still_root) == (1000, False)
        assert_bare({CAP_NET_ADMIN} if capable else ())

    in_child(body)


def test_rights_are_not_given_up_while_another_thread_would_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "_LAST_THREAD", 0.05)

    def body() -> None:
        done = threading.Event()
        other = threading.Thread(target=done.wait)
        other.start()
        with pytest.raises(PlatformError, match="cannot give up rights"):
            drop_privileges()
        assert CAP_SETPCAP in held()
        done.set()
        other.join()

    in_child(body)
