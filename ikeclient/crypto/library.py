"""The border to the cryptographic library, where bytes of unproven peers are concerned.

Which exceptions its parsers raise for which damage is not documented, and changes. None of them may be taken for a bug
of ours that ends the client, so all of them become one error of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.crypto.pki.names import clause
from ikeclient.errors import IkeclientError, ProtocolError


@contextmanager
def contained(kind: type[ProtocolError], what: str) -> Iterator[None]:
    """Raise `kind`, with `what` failed and the library's reason, for any exception but our own."""
    try:
        yield
    except IkeclientError:
        raise
    except Exception as error:
        raise kind(f"{what}: {clause(error) or type(error).__name__}") from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic in the library's Rust code is no Exception
            raise
        raise kind(f"{what}: the cryptographic library panicked") from None
