"""Run one command of the profile: an argument list, no shell, a bounded run time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ikeclient.profile.load.author import Author

TIMEOUT = 30.0


async def run_command(
    command: Sequence[str], variables: Mapping[str, str], directory: Path, author: Author | None = None
) -> str | None:
    """Run one command; returns what went wrong, if anything did. It ends with whoever waits for it.

    With an `author` it runs with that user's rights.
    """
    rights = {} if author is None else author.of_process()
    null = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=null,
            stdout=null,
            stderr=null,
            env=variables,
            cwd=directory,
            start_new_session=True,
            **rights,
        )
    except OSError as error:
        return f"cannot run: {error.strerror}"
    try:
        status = await asyncio.wait_for(process.wait(), TIMEOUT)
    except TimeoutError:
        return f"was stopped after {TIMEOUT:.0f} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with everything that it started
            await process.wait()
    return f"ended with status {status}" if status else None
