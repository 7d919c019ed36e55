"""Work that would keep the event loop waiting, in threads that nobody waits for at exit.

The loop's own pool of threads is joined at exit, which a call of the C library that cannot be interrupted would delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def in_thread(work: Callable[[], _Result], name: str) -> asyncio.Future[_Result]:
    """Do `work` in a thread of its own; the future has its result or its exception.

    Raises RuntimeError if no thread can be started.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def deliver(result: _Result | None, error: Exception | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result: _Result | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=run, name=f"ikeclient-{name}", daemon=True).start()
    return done
