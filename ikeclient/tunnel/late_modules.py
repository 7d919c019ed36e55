"""What only some profiles need is loaded for them: it would stay in the memory of every other tunnel.

That happens while a tunnel is made, before it gives up its rights: afterwards it may be unable to read its own files.
"""

from __future__ import annotations

from ikeclient.errors import PlatformError
from ikeclient.ike.config import PskAuth
from ikeclient.profile.compiled import CompiledProfile


def load_for(profile: CompiledProfile) -> None:
    """Load what this profile needs and others do not. Raises PlatformError."""
    try:
        if profile.ike.uses_eap:
            import ikeclient.eap.peer  # noqa: F401  with OpenSSL's TLS
        if profile.ike.uses_eap or not isinstance(profile.ike.gateway.auth, PskAuth):
            import http.client  # noqa: F401  certificates may have been revoked
    except (ImportError, OSError) as error:
        hint = "end the tunnel and connect again: it gave up the right to read some files"
        raise PlatformError("what the profile needs cannot be loaded", reason=str(error), hint=hint) from error
