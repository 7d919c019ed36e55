"""PEAP version 0, the peer's side ([MS-PEAP]; RFC 9427 with TLS 1.3): EAP inside of TLS.

The method inside comes without the header of EAP packets, as Windows and hostapd send it; the outer identifier stands
in. Only TLVs (EAP type 33) come whole. The server ends with a Result TLV, which we confirm: that is the protected
indication of success, and no outer EAP Success counts before. With it may come a Crypto-Binding TLV, whose MAC shows
that the two ends of TLS and of the method inside are the same; it is checked, answered, and then the keys are made of
both.

    offset  0                2        4
            M, R, TLV type   Length   Value
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from ikeclient.crypto.algorithms.legacy import sha1_hmac
from ikeclient.crypto.tls import TlsClient
from ikeclient.eap.method import InnerPeer, Login, NeedCredential, breach, certificate_refused, quoted
from ikeclient.eap.methods.inner import PEAP_INNER
from ikeclient.eap.tls_method import MSK_LENGTH, TlsMethod
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType

TLV_TYPE = 33  # the EAP type that carries TLVs
_TLV_HEADER, _MANDATORY, _TYPE_MASK = 4, 0x8000, 0x3FFF
RESULT, NAK, CRYPTO_BINDING = 3, 4, 12
SUCCESS, FAILURE = b"\x00\x01", b"\x00\x02"
_BINDING_LENGTH = 56  # reserved, version, received version, subtype, nonce, MAC
_NONCE_AT, _MAC_AT = 4, 36
_REQUEST, _RESPONSE = 0, 1
_HEADER = 4  # of an EAP packet
_TUNNEL_KEY, _INNER_KEY = 40, 32
_SHORT = 64
_COMPOUND_MAC_KEY = 20
_COMMITMENT = b"\x00"


class Peap(TlsMethod):
    """One PEAPv0 conversation."""

    def __init__(self, login: Login) -> None:
        super().__init__(EapType.PEAP, "client EAP encryption", login)
        self._peer: InnerPeer = login.inner_peer(PEAP_INNER[self._credentials.inner or "mschapv2"])

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        self._answered(self._stripped(self._peer.supply(password)))

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        answer = self._peer.decline()
        if answer is None or self._tls is None:
            return None
        self._unanswered = None
        return self._sealed(self._tls, answer[_HEADER:])

    def _react(self, tls: TlsClient, said: bytes, identifier: int) -> bytes | NeedCredential:
        if not said or (said == _COMMITMENT and tls.modern):
            return b""
        packet = _whole(said, identifier)
        if packet.code == EapCode.REQUEST and packet.type == TLV_TYPE:
            return self._on_tlvs(tls, packet)
        if packet.code == EapCode.FAILURE:
            self.refusal = self._refused()
            return b""
        if packet.code != EapCode.REQUEST:
            raise breach(f"an EAP {packet.code} inside of PEAP, where a Result TLV belongs")
        answer = self._peer.respond(packet.emit())
        return self._stripped(answer)

    def _stripped(self, answer: bytes | NeedCredential | None) -> bytes | NeedCredential:
        """The answer of the method inside without its header."""
        self.message = self.message or self._peer.take_notices()
        self.queries += self._peer.take_queries()
        self.refusal = self._peer.refusal
        if answer is None or isinstance(answer, NeedCredential):
            return answer or b""
        return answer[_HEADER:]

    def _on_tlvs(self, tls: TlsClient, request: EapPacket) -> bytes:
        tlvs = parse_tlvs(request.data)
        for kind, (mandatory, _) in tlvs.items():
            if kind not in (RESULT, CRYPTO_BINDING) and mandatory:
                return _tlvs(request, tlv(NAK, bytes(4) + kind.to_bytes(2, "big")))
        if RESULT not in tlvs:
            raise breach("TLVs inside of PEAP without a result")
        if tlvs[RESULT][1] != SUCCESS:
            self.done, self.msk = False, None
            self.refusal = self._refused()
            return _tlvs(request, tlv(RESULT, FAILURE))
        if self._peer.refusal is not None:
            raise breach("PEAP says success after the method inside had failed")
        self._peer.conclude()
        keys = self._keys(tls)
        answer = tlv(RESULT, SUCCESS)
        if CRYPTO_BINDING in tlvs:
            keys, binding = self._bind((keys, self._keys(tls, _SHORT)), *tlvs[CRYPTO_BINDING])
            answer += binding
        self.msk = keys[:MSK_LENGTH]
        self.done = True
        return _tlvs(request, answer)

    def _refused(self) -> AuthenticationFailed:
        if self._peer.refusal is None and self.with_certificate:
            return certificate_refused("eap-tls inside of eap-peap", accepted=False)
        return self._peer.refusal or AuthenticationFailed(
            f"the authentication server refused user {quoted(self._login.user)} or the password",
            reason="PEAP: it says that the login inside failed",
            hint="check the user name and the password",
        )

    def _bind(self, possible: Sequence[bytes], mandatory: bool, value: bytes) -> tuple[bytes, bytes]:
        """The keys of both layers, and our Crypto-Binding TLV. Raises GatewayNotAuthenticated for a wrong MAC.

        `possible` are the keys of TLS as servers make them: hostapd up to 2.10 takes fewer bytes from TLS 1.3.
        """
        if len(value) != _BINDING_LENGTH or value[3] != _REQUEST:
            raise breach("a malformed Crypto-Binding TLV")
        inner = (self._peer.msk or b"")[:_INNER_KEY].ljust(_INNER_KEY, b"\0")
        for keys in possible:
            mixed = _prf_plus(keys[:_TUNNEL_KEY], b"Inner Methods Compound Keys", inner, 60)
            mac_key = mixed[_TUNNEL_KEY:]
            if hmac.compare_digest(_compound_mac(mac_key, mandatory, value), value[_MAC_AT:]):
                break
        else:
            raise GatewayNotAuthenticated(
                "the end of TLS and the end of the login inside are not the same",
                reason="PEAP: the Crypto-Binding TLV does not verify",
                hint="somebody may be posing as the authentication server: ask its administrator",
            )
        answer = bytes([0, 0, value[1], _RESPONSE]) + value[_NONCE_AT:_MAC_AT] + bytes(_COMPOUND_MAC_KEY)
        answer = answer[:_MAC_AT] + _compound_mac(mac_key, mandatory, answer)
        session = _prf_plus(mixed[:_TUNNEL_KEY], b"Session Key Generating Function", b"\0", 128)
        return session, tlv(CRYPTO_BINDING, answer, mandatory=mandatory)


def _whole(said: bytes, identifier: int) -> EapPacket:
    """The EAP packet that the server means: TLVs and some identity requests are whole, all else lacks its header."""
    if len(said) > _HEADER and said[0] == EapCode.REQUEST and int.from_bytes(said[2:4], "big") == len(said):
        packet = EapPacket.parse(said)
        if packet.type == TLV_TYPE or (packet.type == EapType.IDENTITY and len(said) == _HEADER + 1):
            return packet
    if len(said) == _HEADER and said[0] in (EapCode.SUCCESS, EapCode.FAILURE):
        return EapPacket(code=EapCode(said[0]), identifier=said[1])
    try:
        return EapPacket(code=EapCode.REQUEST, identifier=identifier, type=EapType(said[0]), data=said[1:])
    except ValueError as fault:
        raise breach(f"inside of PEAP: {fault}") from None


def parse_tlvs(data: bytes) -> dict[int, tuple[bool, bytes]]:
    """TLVs by type, each with whether it is mandatory. Raises NegotiationRefused for what does not fit (E11)."""
    found: dict[int, tuple[bool, bytes]] = {}
    at = 0
    while at < len(data):
        start = at + _TLV_HEADER
        if len(data) < start:
            raise breach("a TLV in PEAP that is shorter than its header")
        kind, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : start], "big")
        at = start + length
        if len(data) < at:
            raise breach(f"a TLV of {length} bytes in PEAP, where {len(data) - start} are left")
        if kind & _TYPE_MASK in found:
            raise breach(f"two TLVs of type {kind & _TYPE_MASK} in PEAP")
        found[kind & _TYPE_MASK] = (bool(kind & _MANDATORY), data[start:at])
    return found


def tlv(kind: int, value: bytes, *, mandatory: bool = True) -> bytes:
    """One TLV."""
    return (kind | (_MANDATORY if mandatory else 0)).to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def _tlvs(request: EapPacket, values: bytes) -> bytes:
    identifier = request.identifier
    return EapPacket(code=EapCode.RESPONSE, identifier=identifier, type=EapType(TLV_TYPE), data=values).emit()


def _compound_mac(key: bytes, mandatory: bool, value: bytes) -> bytes:
    """The MAC over the Crypto-Binding TLV with its MAC as zeros, and the EAP type ([MS-PEAP] section 3.1.5.5)."""
    blank = value[:_MAC_AT] + bytes(_COMPOUND_MAC_KEY)
    return sha1_hmac(key, tlv(CRYPTO_BINDING, blank, mandatory=mandatory) + bytes([EapType.PEAP]))


def _prf_plus(key: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """PRF+ of [MS-PEAP] section 3.1.5.5.2.1."""
    found, last, counter = b"", b"", 0
    while len(found) < length:
        counter += 1
        last = sha1_hmac(key, last + label + seed + bytes([counter, 0, 0]))
        found += last
    return found[:length]
