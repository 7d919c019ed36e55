"""What only some profiles need is loaded for them: it would stay in the memory of every other tunnel.

That happens while a tunnel is made, before it gives up its rights: afterwards it may be unable to read its own files.
So what is imported inside of a function that a tunnel calls later stands here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.errors import PlatformError
from ikeclient.profile.compiled import CompiledProfile


def load_for(profile: CompiledProfile) -> None:
    """Load what this profile needs and others do not. Raises PlatformError."""
    with loading():
        if profile.ike.uses_eap:
            import ikeclient.eap.peer  # with OpenSSL's TLS
        if profile.ike.uses_certificates:
            import http.client  # noqa: F401  certificates may have been revoked
            import secrets  # noqa: F401

            import ikeclient.ike.v2.rules.certificates
            import ikeclient.tunnel.certificates
            import ikeclient.tunnel.fetch
            import ikeclient.tunnel.revocation  # noqa: F401


@contextmanager
def loading() -> Iterator[None]:
    """Raise PlatformError if what the block imports cannot be loaded."""
    try:
        yield
    except (ImportError, OSError) as error:
        hint = "end the tunnel and connect again: it gave up the right to read some files"
        raise PlatformError("what the profile needs cannot be loaded", reason=str(error), hint=hint) from error
