"""Writing files complete or not at all, most of them readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path

from ikeclient.cli.view.terminal import printable
from ikeclient.errors import UsageError
from ikeclient.nofollow import create_file


def write_private(path: Path, data: bytes, force: bool) -> None:
    """Make the file `path` with mode 0600 and its directory; an existing one is replaced only with `force`.

    Raises UsageError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {printable(path.parent)}", reason=error.strerror) from error
    write_file(path, data, force=force, mode=0o600)


def write_file(path: Path, data: bytes, *, force: bool, mode: int, instead: str = "--force replaces it") -> None:
    """Make the file `path`; an existing one is replaced only with `force`.

    Raises UsageError; of a file that exists it says what to do `instead`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        created = create_file(temporary)
        try:
            with created as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
            if force:
                temporary.replace(path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{printable(path)} is there already", hint=instead) from None
    except OSError as error:
        raise UsageError(f"cannot write {printable(path)}", reason=error.strerror) from error
