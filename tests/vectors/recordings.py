"""Conversations between two strongSwans, message by message, with what the gateway itself said was in them.

A file begins with `source:`, `comment:`, the algorithms and the keys of its IKE SA. Messages follow, each after an
empty line: `from:` its end points, `expect:` the payloads outside encryption in strongSwan's words, `inside:` those
inside (at the last fragment where it is fragmented), and the datagram in hexadecimal, without the non-ESP marker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, IkeSuite
from ikeclient.ike import events
from ikeclient.wire.config import ConfigPayload
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.encrypted import EncryptedFragmentPayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import (
    ConfigAttributeType,
    ConfigType,
    EapCode,
    EapType,
    NotifyType,
    OpenEnum,
    PayloadType,
)

DIRECTORY = Path(__file__).parent / "ike"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.txt"))
INITIATOR, RESPONDER = "10.1.0.2", "10.1.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One datagram; `expect` and `inside` are strongSwan's words (`inside` None: nothing encrypted ends here)."""

    path: events.Path  # as its receiver sees it
    expect: str
    inside: str | None
    data: bytes

    @property
    def from_initiator(self) -> bool:
        """Whether the client of the first exchange sent it."""
        return str(self.path.remote_address) == INITIATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One IKE SA; `suite` and `keys` are None where it never came to keys. Only the ciphers of `suite` are recorded."""

    name: str
    suite: IkeSuite | None
    keys: IkeKeys | None = field(repr=False)
    messages: tuple[Recorded, ...]


def load(name: str) -> Recording:
    """Read one file."""
    head, *blocks = (DIRECTORY / f"{name}.txt").read_text().split("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    suite = keys = None
    if "encryption" in fields:
        suite = IkeSuite(
            encryption=ENCRYPTION[fields["encryption"]],
            integrity=INTEGRITY.get(fields.get("integrity", "")),
            prf=PRF["prfsha256"],
            key_exchange=KEY_EXCHANGE["x25519"],
        )
        keys = IkeKeys(
            **{k: bytes.fromhex(fields.get(f"sk_{k}", "")) for k in ("d", "ai", "ar", "ei", "er", "pi", "pr")}
        )
    return Recording(name=name, suite=suite, keys=keys, messages=tuple(map(_message, blocks)))


def _message(block: str) -> Recorded:
    lines = block.splitlines()
    fields = {key: value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    ends = re.fullmatch(r"(\S+)\[(\d+)\] to (\S+)\[(\d+)\]", fields["from"])
    assert ends is not None
    source, source_port, destination, destination_port = ends.groups()
    return Recorded(
        path=events.Path(ip_address(destination), int(destination_port), ip_address(source), int(source_port)),
        expect=fields["expect"],
        inside=fields.get("inside"),
        data=bytes.fromhex("".join(line for line in lines if ":" not in line)),
    )


RECORDINGS = {name: load(name) for name in NAMES}
DATAGRAMS = {
    f"{name}-{number}": message.data
    for name, recording in RECORDINGS.items()
    for number, message in enumerate(recording.messages)
}

# Our names of things to strongSwan's.

_PAYLOADS = {
    PayloadType.SA: "SA",
    PayloadType.KE: "KE",
    PayloadType.NONCE: "No",
    PayloadType.IDI: "IDi",
    PayloadType.IDR: "IDr",
    PayloadType.CERT: "CERT",
    PayloadType.CERTREQ: "CERTREQ",
    PayloadType.AUTH: "AUTH",
    PayloadType.DELETE: "D",
    PayloadType.TSI: "TSi",
    PayloadType.TSR: "TSr",
    PayloadType.ENCRYPTED: "E",
}
_NOTIFICATIONS = {
    NotifyType.NAT_DETECTION_SOURCE_IP: "NATD_S_IP",
    NotifyType.NAT_DETECTION_DESTINATION_IP: "NATD_D_IP",
    NotifyType.IKEV2_FRAGMENTATION_SUPPORTED: "FRAG_SUP",
    NotifyType.SIGNATURE_HASH_ALGORITHMS: "HASH_ALG",
    NotifyType.REDIRECT_SUPPORTED: "REDIR_SUP",
    NotifyType.CHILDLESS_IKEV2_SUPPORTED: "CHDLESS_SUP",
    NotifyType.MULTIPLE_AUTH_SUPPORTED: "MULT_AUTH",
    NotifyType.INITIAL_CONTACT: "INIT_CONTACT",
    NotifyType.MOBIKE_SUPPORTED: "MOBIKE_SUP",
    NotifyType.ADDITIONAL_IP6_ADDRESS: "ADD_6_ADDR",
    NotifyType.EAP_ONLY_AUTHENTICATION: "EAP_ONLY",
    NotifyType(16420): "MSG_ID_SYN_SUP",  # RFC 6311, without a name here
    NotifyType.COOKIE: "COOKIE",
    NotifyType.INVALID_KE_PAYLOAD: "INVAL_KE",
    NotifyType.NO_PROPOSAL_CHOSEN: "NO_PROP",
    NotifyType.REKEY_SA: "REKEY_SA",
}
_ATTRIBUTES = {
    ConfigAttributeType.INTERNAL_IP4_ADDRESS: "ADDR",
    ConfigAttributeType.INTERNAL_IP6_ADDRESS: "ADDR6",
    ConfigAttributeType.INTERNAL_IP4_DNS: "DNS",
    ConfigAttributeType.INTERNAL_DNS_DOMAIN: "DOMAIN",
}
_CONFIGURATIONS = {ConfigType.REQUEST: "CPRQ", ConfigType.REPLY: "CPRP"}
_EAP_CODES: dict[OpenEnum, str] = {EapCode.REQUEST: "REQ", EapCode.RESPONSE: "RES", EapCode.SUCCESS: "SUCC"}
_EAP_TYPES: dict[OpenEnum, str] = {EapType.IDENTITY: "ID", EapType.MSCHAPV2: "MSCHAPV2"}


def in_words(payloads: Sequence[Payload]) -> str:
    """Payloads as strongSwan's log shows them."""
    return " ".join(map(_word, payloads))


def _word(payload: Payload) -> str:
    match payload:
        case NotifyPayload(type=type_):
            return f"N({_NOTIFICATIONS[type_]})"
        case ConfigPayload(type=type_, attributes=attributes):
            return f"{_CONFIGURATIONS[type_]}({' '.join(_ATTRIBUTES[a.type] for a in attributes)})"
        case EapPayload(packet=data):
            packet = EapPacket.parse(data)
            return f"EAP/{_EAP_CODES[packet.code]}" + (f"/{_EAP_TYPES[packet.type]}" if packet.type else "")
        case EncryptedFragmentPayload(number=number, total=total):
            return f"EF({number}/{total})"
        case _:
            return _PAYLOADS[payload.TYPE]


def header_words(message: Message) -> str:
    """The header as the `expect:` lines begin."""
    header = message.header
    return f"{header.exchange} {'response' if header.response else 'request'} {header.message_id}"
