"""Work in threads beside the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ikeclient.tunnel.threads import in_thread


def test_a_result_or_an_exception_comes_back() -> None:
    async def run() -> None:
        assert await in_thread(lambda: threading.current_thread().name, "look") == "ikeclient-look"
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0, "look")

    asyncio.run(run())


def test_nobody_waits_for_a_thread_whose_result_is_not_wanted_any_more() -> None:
    free = threading.Event()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(lambda: free.wait(60), "look"), 0.01)

    asyncio.run(run())
    free.set()
