"""What a refused step is called, and what is said about it: one cause, and how it is undone everywhere."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ikeclient.errors import PlatformError, PrivilegeError
from ikeclient.net.namespace.rootless import NamespaceRefusal, Stage

APPARMOR = {"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}
SECCOMP = {"self/status": "Name:\tpython\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n"}


@pytest.mark.parametrize(
    ("stage", "code", "files", "words"),
    [
        (Stage.USER, errno.ENOSPC, {"sys/user/max_user_namespaces": "0\n"}, "user.max_user_namespaces is 0"),
        (Stage.USER, errno.ENOSPC, {"sys/user/max_user_namespaces": "5\n"}, "as many user namespaces as"),
        (Stage.USER, errno.EPERM, {"sys/kernel/unprivileged_userns_clone": "0\n"}, "unprivileged_userns_clone is 0"),
        (Stage.USER, errno.EPERM, SECCOMP, "a seccomp filter forbids user namespaces"),
        (Stage.USER, errno.EACCES, APPARMOR, "AppArmor forbids user namespaces"),
        (Stage.USER, errno.EINVAL, {}, "this kernel has no user namespaces"),
        (Stage.USER, errno.EPERM, {}, "user namespaces are forbidden here"),
        (Stage.NETWORK, errno.EPERM, APPARMOR, "without rights (Ubuntu 24.04)"),
        (Stage.NETWORK, errno.ENOSPC, {}, "user.max_net_namespaces"),
        (Stage.NETWORK, errno.EPERM, SECCOMP, "a seccomp filter or security module refuses it"),
        (Stage.MOUNTS, errno.EACCES, {}, "a security module refuses it"),
        (Stage.NODE, errno.ENOENT, {}, "there is no /dev/net/tun"),
        (Stage.NODE, errno.ENODEV, {}, "no TUN driver"),
        (Stage.NODE, errno.EPERM, {}, "not among the devices this container may use"),
        (Stage.NODE, errno.EACCES, {}, "may not be opened by user"),
        (Stage.DEVICE, errno.EPERM, SECCOMP, "a seccomp filter forbids TUNSETIFF"),
        (Stage.DEVICE, errno.EPERM, {}, "a security module forbids TUNSETIFF"),
    ],
)
def test_each_missing_right_has_its_own_words(
    tmp_path: Path, stage: Stage, code: int, files: dict[str, str], words: str
) -> None:
    """O1, O2: the exit code for a missing right, and always something to try."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    error = NamespaceRefusal(stage=stage, code=code).error(tmp_path)
    assert isinstance(error, PrivilegeError)
    assert error.exit_code == 11
    assert len(error.lines()) == 3
    assert error.reason is not None
    assert words in error.reason


def test_what_is_no_missing_right_is_called_something_else(tmp_path: Path) -> None:
    error = NamespaceRefusal(stage=Stage.DEVICE, code=errno.EBUSY).error(tmp_path)
    assert isinstance(error, PlatformError)
    assert "busy" in str(error.reason)
