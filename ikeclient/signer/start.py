"""Starts the process that signs for a tunnel whose key is elsewhere. Other tunnels load nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient


@contextmanager
def signer(wanted: bool) -> Iterator[SignerClient | None]:
    """Fork the process for the block, if it is wanted. Call it while there is one thread, with the rights it keeps.

    It ends with the block, or when this process ends, and its workers with it.
    """
    if not wanted:
        yield None
        return
    from ikeclient.signer.client import forked

    with forked() as client:
        yield client
