"""What can stand where a profile or a tunnel is named, for the shell that completes it. Nothing here ever fails."""

from __future__ import annotations

from collections.abc import Iterator

from ikeclient.control import client


def profile_names(incomplete: str) -> Iterator[str]:
    """Yield the profiles whose name begins so. A path is the shell's own business."""
    from ikeclient.profile.load.lookup import list_profiles

    if "/" not in incomplete:
        yield from (entry.name for entry in list_profiles() if entry.name.startswith(incomplete))


def tunnel_names(incomplete: str) -> Iterator[str]:
    """Yield the running tunnels whose name begins so."""
    yield from (name for name in client.list_tunnels() if name.startswith(incomplete))


def secret_names(incomplete: str) -> Iterator[str]:
    """Yield the secrets in files whose name begins so."""
    from ikeclient.profile.load.lookup import user_directory

    try:
        yield from sorted(
            path.name
            for path in (user_directory().parent / "secrets").iterdir()
            if path.name.startswith(incomplete) and path.is_file()
        )
    except OSError:
        return
