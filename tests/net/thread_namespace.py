"""Network namespaces entered by the test's own thread, without a process for each."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _home() -> Iterator[None]:
    with open("/proc/thread-self/ns/net") as home:
        try:
            yield
        finally:
            assert _libc.setns(home.fileno(), _CLONE_NEWNET) == 0


@contextmanager
def fresh_namespace() -> Iterator[None]:
    """Nothing but a loopback device that is down; skips the test where namespaces are not to be had."""
    with _home():
        if _libc.unshare(_CLONE_NEWNET):
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        yield


@contextmanager
def named_namespace(name: str) -> Iterator[None]:
    """One made by `ip netns add`."""
    with _home(), open(f"/run/netns/{name}") as namespace:
        assert _libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0
        yield


@contextmanager
def namespace_of(pid: int) -> Iterator[None]:
    """That of a process."""
    with _home(), open(f"/proc/{pid}/ns/net") as namespace:
        assert _libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0
        yield
