"""An imported profile as files for a moment: to check it, or to connect with it without keeping it.

The directory is the caller's alone and is removed as soon as the profile is compiled; secrets are in it with mode 0600.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.nofollow import create_file
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.load import LoadedProfile, load_profile
from ikeclient.profile.load.places import Places

MEMORY = Path("/dev/shm")  # noqa: S108 - what is in it never reaches a disk; the directory made there is private


@contextmanager
def staged(
    draft: Draft,
    name: str,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    *,
    author: Author | None = None,
) -> Iterator[LoadedProfile]:
    """The draft as a profile called `name` with its files beside it. Raises ProfileError.

    `author` is the user with whose rights what it names is read, None for our own; the files are then that user's.
    """
    try:
        memory = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="ikeclient-import-", dir=memory))
    except OSError as error:
        raise ProfileError(
            "an imported profile cannot be put into a temporary directory", reason=error.strerror
        ) from None
    try:
        files = {f"{name}.{item.suffix}": item.data for item in draft.attachments}
        files[f"{name}.toml"] = draft.toml(name).encode()
        for each, data in files.items():
            with create_file(directory / each) as file:
                file.write(data)
                if author is not None:
                    os.fchown(file.fileno(), author.uid, author.gid)
        loaded = replace(load_profile(str(directory / f"{name}.toml"), overrides, environ), places=Places())
        if author is not None:
            os.chown(directory, author.uid, author.gid)
            loaded = replace(loaded, author=author)
        yield loaded
    finally:
        shutil.rmtree(directory, ignore_errors=True)
