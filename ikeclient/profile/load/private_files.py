"""Who may read and own a file with a secret in it, a key or a password."""

from __future__ import annotations

import os
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.files import quoted_path, read_configuration, shown_path, trusted_owners


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
            reason="in a container, where that cannot be helped, say { file = ..., insecure = true } in the profile",
            hint=f"chmod {0o677 & ~forbidden:o} {quoted_path(path)}",
        )
    if content.owner not in (trusted_owners(os.environ) if author is None else {0, author.uid}):
        raise ProfileError(
            f"{shown_path(path)}: holds a secret that belongs to another user (uid {content.owner})",
            reason="in a container, where that cannot be helped, say { file = ..., insecure = true } in the profile",
            hint=f"chown {os.geteuid()} {quoted_path(path)}",
        )
    return content.data
