"""Running a command that prints a secret: no shell, a small environment, half a minute, and only so much output."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.trust import program as trusted_program
from ikeclient.wire.text import printable

TIMEOUT = 30.0  # seconds
# What password managers need to find their store, their agent and a way to ask; nothing else of ours leaks into them.
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TERM", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "GPG_TTY",
    "PASSWORD_STORE_DIR", "SSH_AUTH_SOCK",
)  # fmt: skip
_ANYBODYS = ("PATH", "LANG", "LC_ALL", "TERM")


def run_for_secret(
    command: Sequence[str],
    directory: Path,
    limit: int,
    name: str,
    *,
    timeout: float = TIMEOUT,
    author: Author | None = None,
    given: bytes = b"",
) -> bytes:
    """What `command` prints on its standard output, at most `limit` bytes, run in `directory`, as `author` if given.

    `given` is what it reads on its standard input, less than a pipe holds.

    Its standard error is thrown away, since it may repeat the secret. Raises ProfileError naming the program and
    never its arguments.
    """
    program = printable(command[0], 120)
    path = trusted_program(command[0], directory, f"the command for the {name} is", author)
    environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    if author is not None:  # what else there is leads to root's places
        environment = {key: environment[key] for key in _ANYBODYS if key in environment}
        environment |= {"HOME": author.home, "USER": author.name, "LOGNAME": author.name}
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell; the words are the profile's owner's
            [path, *command[1:]],
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env=environment,
            **({} if author is None else author.of_process()),
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ProfileError(f"the command {program} for the {name} cannot be run", reason=reason) from None
    deadline = time.monotonic() + timeout
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(given)
                process.stdin.close()
        output = _read(process, limit, deadline)
        if output is None or len(output) > limit:
            what = f"did not end within {timeout:g} seconds" if output is None else f"printed more than {limit} bytes"
            raise ProfileError(f"the command {program} for the {name} {what}")
        try:
            status = process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise ProfileError(f"the command {program} for the {name} did not end") from None
    finally:
        _end(process)
    if status:
        ended = f"with exit code {status}" if status > 0 else f"by signal {-status}"
        raise ProfileError(
            f"the command {program} for the {name} ended {ended}",
            reason="its own messages are not shown, because they may hold the secret",
            hint="run it by hand to see them",
        )
    return output


def _read(process: subprocess.Popen[bytes], limit: int, deadline: float) -> bytes | None:
    """Everything up to the end of output or just past `limit`; None when the time is over."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    output = bytearray()
    while len(output) <= limit:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            return None
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            break
        output += piece
    return bytes(output)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
