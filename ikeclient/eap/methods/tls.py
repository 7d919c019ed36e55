"""EAP-TLS, the peer's side (RFC 5216; RFC 9190 with TLS 1.3): both ends show a certificate.

With TLS 1.2 the server's last message of the handshake shows that it accepts us. With TLS 1.3 the handshake is over for
us before the server has judged our certificate, so it adds one byte of application data, the protected indication of
success; there is no success without it (RFC 9190 section 2.5). Inside of PEAP and TTLS hostapd 2.10 leaves it out, and
what it says behind the handshake is protected by the tunnel: that is enough there.
"""

from __future__ import annotations

from ikeclient.crypto.tls import TlsClient
from ikeclient.eap.method import Login, breach
from ikeclient.eap.tls_method import MSK_LENGTH, TlsMethod
from ikeclient.wire.registry import EapType

COMMITMENT = b"\x00"


class Tls(TlsMethod):
    """One EAP-TLS conversation."""

    def __init__(self, login: Login) -> None:
        super().__init__(EapType.TLS, "client EAP encryption", login)

    def _react(self, tls: TlsClient, said: bytes, identifier: int) -> bytes:  # noqa: ARG002  TLS tells them apart
        if said not in ((COMMITMENT, b"") if tls.modern else (b"",)):
            raise breach("data inside of EAP-TLS, which has none")
        if said == COMMITMENT or not tls.modern or self._credentials.tunnelled:
            self.msk = self._keys(tls)[:MSK_LENGTH]
            self.done = True
        return b""
