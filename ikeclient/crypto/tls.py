"""The client's end of a TLS session in memory, and the only module that imports OpenSSL's TLS.

EAP methods carry TLS records in their packets, so there is no socket: records come in, records go out. `ssl` of the
standard library has no exporter, from which the keys of such a method are made; pyOpenSSL has, over the very OpenSSL
that `cryptography` brings. What OpenSSL takes for itself, random bytes and the time, cannot be arguments here. Nothing
that is decided depends on them: the server's certificate is judged by our own path validation, which OpenSSL calls
before it sends anything of ours (docs/decisions/tls-by-openssl.md).

TLS 1.2 and 1.3 only, with forward secrecy, without renegotiation, compression or resumption (hardening E14).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.errors import GatewayNotAuthenticated, IkeclientError, ParseError, ProfileError

MAX_CERTIFICATES = 16
_CHUNK = 1 << 16
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE+AES:DHE+AES:!aNULL:!eNULL:!PSK:!SRP:!MD5"
CLOSE_NOTIFY = "close notify"
_TOO_OLD = ("unsupported protocol", "wrong version number", "alert protocol version", "version too low")

Verify = Callable[[Sequence[Certificate]], None]


class TlsError(Exception):
    """The session failed. `alert` is what the server said, None if the fault was found here; `reason` is for people."""

    def __init__(self, reason: str, *, alert: str | None = None, too_old: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.alert = alert
        self.too_old = too_old


class TlsClient:
    """One session. `verify` raises IkeclientError unless the server's chain, its own certificate first, is acceptable.

    It is called before anything that identifies us leaves. `chain` and `key` are what we show if the server asks.
    With `ask_status` the server may send an OCSP response along with its certificate, which is in `stapled` then, as it
    came (RFC 6066 section 8). Raises ProfileError for a key that OpenSSL cannot use.
    """

    def __init__(
        self,
        verify: Verify,
        chain: Sequence[Certificate] = (),
        key: FileKey | None = None,
        *,
        ask_status: bool = False,
    ) -> None:
        self._verify = verify
        self._refusal: IkeclientError | None = None
        self._verified: bytes | None = None  # the server's certificate that was accepted
        self.established = False
        self.stapled = b""
        self._connection = SSL.Connection(self._context(chain, key), None)
        self._connection.set_connect_state()
        if ask_status:
            self._connection.request_ocsp()

    def _context(self, chain: Sequence[Certificate], key: FileKey | None) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_CIPHERS)
        # strongSwan's TLS says nothing about renegotiation. What RFC 5746 prevents is that a stranger's session goes on
        # as ours; then the keys that both ends export differ, and nothing is authenticated with them.
        context.set_options(
            SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_LEGACY_SERVER_CONNECT
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_PEER, self._judge)
        context.set_ocsp_client_callback(self._take_status)
        if chain and key is not None:
            try:
                own, *others = (x509.load_der_x509_certificate(certificate.der) for certificate in chain)
                context.use_certificate(own)
                for other in others:
                    context.add_extra_chain_cert(other)
                private: Any = load_der_private_key(key.pkcs8(), None)
                context.use_privatekey(private)
            except (SSL.Error, TypeError, ValueError) as error:
                raise ProfileError("our certificate cannot be used in TLS", reason=type(error).__name__) from None
        return context

    def _judge(self, connection: SSL.Connection, *_theirs: object) -> bool:
        """Accept or refuse the server's chain, by our rules alone; OpenSSL asks for each of its own findings."""
        if self._verified is not None or self._refusal is not None:
            return self._refusal is None
        try:
            chain = [_certificate(encoded, index) for index, encoded in enumerate(_sent(connection))]
            self._verify([certificate for certificate in chain if certificate is not None])
        except IkeclientError as error:
            self._refusal = error
            return False
        assert chain[0] is not None
        self._verified = chain[0].der
        return True

    def _take_status(self, _connection: SSL.Connection, response: bytes, _data: object) -> bool:
        """Keep what was stapled, to be judged with everything else that is known; it ends nothing by itself."""
        self.stapled = response
        return True

    @property
    def modern(self) -> bool:
        """Whether this is TLS 1.3."""
        return self._connection.get_protocol_version_name() == "TLSv1.3"

    def start(self) -> None:
        """Make the first message, for `output`."""
        self._advance()

    def receive(self, records: bytes) -> bytes:
        """Take records of the server and return what is readable in them.

        Raises what `verify` raised, or TlsError.
        """
        if records:
            self._connection.bio_write(records)
        if not self.established:
            self._advance()
        return self._read() if self.established else b""

    def write(self, data: bytes) -> None:
        """Encrypt data for the server, for `output`."""
        self._connection.sendall(data)

    def output(self) -> bytes:
        """Return the records to send."""
        found = bytearray()
        try:
            while True:
                found += self._connection.bio_read(_CHUNK)
        except SSL.WantReadError:
            return bytes(found)

    def export(self, label: str, length: int, context: bytes | None = None) -> bytes:
        """Keying material that only both ends know (RFC 5705, RFC 8446 section 7.5)."""
        return self._connection.export_keying_material(label.encode(), length, context)

    def _advance(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise self._failure(error) from None
        shown = self._connection.get_peer_certificate()
        if shown is None or _encoded(shown) != self._verified:
            raise TlsError("the session is not with the server whose certificate was verified")
        self.established = True

    def _read(self) -> bytes:
        found = bytearray()
        try:
            while True:
                found += self._connection.recv(_CHUNK)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            return bytes(found)
        except SSL.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: SSL.Error) -> Exception:
        if self._refusal is not None:
            return self._refusal
        entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
        reasons = [str(entry[-1]) for entry in entries if isinstance(entry, tuple) and entry]
        # OpenSSL has no text for a fatal close_notify, with which strongSwan ends TLS after a refused login.
        reasons = [each or f"alert {CLOSE_NOTIFY}" for each in reasons]
        reason = reasons[-1] if reasons else "the connection broke"
        alert = next((each.split("alert", 1)[1].strip() for each in reasons if "alert" in each), None)
        if reason == "":  # OpenSSL has no words for a fatal one of this kind, as strongSwan sends it
            reason = alert = "close notify"
        old = any(mark in each for each in reasons for mark in _TOO_OLD)
        return TlsError(reason, alert=alert, too_old=old)


def _encoded(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _sent(connection: SSL.Connection) -> Sequence[bytes]:
    chain = connection.get_peer_cert_chain() or ()
    if not chain or len(chain) > MAX_CERTIFICATES:
        raise GatewayNotAuthenticated(
            "the authentication server did not prove who it is", reason=f"it sent {len(chain)} certificates"
        )
    return [_encoded(certificate) for certificate in chain]


def _certificate(encoded: bytes, index: int) -> Certificate | None:
    """One of the server's certificates by our own parser; None for an additional one that it cannot read."""
    try:
        return Certificate.from_der(encoded)
    except (ParseError, ValueError) as error:
        if index:
            return None
        raise GatewayNotAuthenticated(
            "the authentication server did not prove who it is", reason=f"its certificate is not readable: {error}"
        ) from None
