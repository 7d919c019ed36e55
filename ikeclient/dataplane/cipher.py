"""Which OpenSSL encrypts packets: found on the machine before rights are given up."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ikeclient.esp.codec import run_cipher

VARIABLE = "IKECLIENT_LIBCRYPTO"  # the path of a library, or `none`
LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1")


def choose_cipher(environ: Mapping[str, str] = os.environ) -> None:
    """Open the machine's OpenSSL for the compiled loop; if there is none that works, `cryptography` does everything.

    Whoever names a library has its code run with our rights. With rights that our caller does not have, we do not ask.
    """
    named = "" if run_cipher.raised_rights() else environ.get(VARIABLE, "")
    if named == "none":
        run_cipher.load(())
    else:
        run_cipher.load((named,) if named.startswith("/") else LIBRARIES)


def describe() -> tuple[str, str | None]:
    """For people: what encrypts packets, and what to do about a slow one."""
    version, missing = run_cipher.version(), run_cipher.missing()
    if version is None:
        return (
            "cryptography, one packet at a time (slower)",
            f"needs the compiled codec and OpenSSL's {LIBRARIES[0]}; {VARIABLE} may say where it is",
        )
    return f"{version}" + (f"; cryptography for {', '.join(missing)}" if missing else ""), None
