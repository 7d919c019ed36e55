"""Who may read and own a file with a secret in it, a key or a password."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.files import read_configuration, shown_path, trusted_owners


def read_private(path: Path, limit: int, *, insecure: bool = False, author: Author | None = None) -> bytes:
    """The content of a file with a secret: of mode 0600 or stricter, or 0640 if it is root's.

    `insecure` waives both (hardening F11, F14). Raises ProfileError.
    """
    content = read_configuration(path, limit, author)
    if insecure:
        return content.data
    forbidden = 0o037 if content.owner == 0 else 0o077  # root's may be for a group, as with PostgreSQL
    if content.mode & forbidden:
        raise ProfileError(
            f"{shown_path(path)}: holds a secret, but others may read or change it (mode {content.mode:04o})",
            hint=f"chmod {0o677 & ~forbidden:o} {shlex.quote(shown_path(path))}  "
            "(or say { file = ..., insecure = true } in the profile)",
        )
    if content.owner not in (trusted_owners(os.environ) if author is None else {0, author.uid}):
        raise ProfileError(
            f"{shown_path(path)}: holds a secret that belongs to another user (uid {content.owner})",
            hint="chown it, or say { file = ..., insecure = true } in the profile",
        )
    return content.data
