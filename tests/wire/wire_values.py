"""Hypothesis strategies for every payload that the codec knows, and for the edits that a network makes to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import strategies as st

from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Message, Payload, RawPayload, emit_chain, first_type
from ikeclient.wire.registry import (
    AuthMethod,
    CertEncoding,
    ConfigAttributeType,
    ConfigType,
    EncryptionId,
    ExchangeType,
    IdType,
    IntegrityId,
    KeyExchangeId,
    NotifyType,
    PayloadType,
    PrfId,
    ProtocolId,
    TransformType,
)
from ikeclient.wire.sa import Proposal, SaPayload, Transform
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
octets = st.binary(max_size=80)
spis = st.binary(min_size=8, max_size=8)


def _other_attributes() -> st.SearchStrategy[bytes]:
    """Transform attributes that are not Key Length: short ones, and long ones with a value."""
    short = st.builds(lambda t, v: (0x8000 | t).to_bytes(2, "big") + v.to_bytes(2, "big"), st.integers(15, 40), u16)
    long = st.builds(lambda t, v: t.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v, st.integers(0, 40), octets)
    return st.lists(st.one_of(short, long), max_size=2).map(b"".join)


transforms = st.builds(
    Transform,
    type=u8.map(TransformType),
    id=u16,
    key_bits=st.none() | u16,
    other=st.just(b"") | _other_attributes(),
)
proposals = st.builds(
    Proposal,
    number=u8,
    protocol=u8.map(ProtocolId),
    spi=st.binary(max_size=16),
    transforms=st.lists(transforms, max_size=6).map(tuple),
)


@st.composite
def traffic_selectors(draw: st.DrawFn) -> TrafficSelector:
    """A selector of either family; ports in order, or OPAQUE."""
    anywhere = draw(st.sampled_from((ip_network("0.0.0.0/0"), ip_network("::/0"))))
    number = st.integers(0, anywhere.num_addresses - 1)
    start, end = sorted((draw(number), draw(number)))
    ports = draw(st.just((65535, 0)) | st.tuples(u16, u16).map(sorted))
    return TrafficSelector(
        start=anywhere[start], end=anywhere[end], protocol=draw(u8), start_port=ports[0], end_port=ports[1]
    )


@st.composite
def identities(draw: st.DrawFn) -> Identity:
    """An identity of any type; addresses have their length."""
    type_ = draw(u8.map(IdType))
    length = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}.get(type_)
    data = draw(octets if length is None else st.binary(min_size=length, max_size=length))
    return Identity(type=type_, data=data)


@st.composite
def deletes(draw: st.DrawFn) -> DeletePayload:
    """A DELETE whose SPIs are all as long as it says."""
    length = draw(st.sampled_from((0, 4, 8, 255)))
    count = draw(st.integers(0, 5)) if length else 0
    return DeletePayload(
        protocol=draw(u8.map(ProtocolId)),
        spi_length=length,
        spis=tuple(draw(st.binary(min_size=length, max_size=length)) for _ in range(count)),
    )


@st.composite
def fragments(draw: st.DrawFn) -> EncryptedFragmentPayload:
    """A fragment with a possible number."""
    number, total = sorted((draw(st.integers(1, 0xFFFF)), draw(st.integers(1, 0xFFFF))))
    inner = draw(u8.map(PayloadType))
    return EncryptedFragmentPayload(inner=inner, number=number, total=total, body=draw(octets))


IKE_PROPOSAL = Proposal(
    number=1,
    protocol=ProtocolId.IKE,
    spi=b"",
    transforms=(
        Transform(type=TransformType.ENCRYPTION, id=EncryptionId.AES_CBC, key_bits=256),
        Transform(type=TransformType.PRF, id=PrfId.HMAC_SHA2_256),
        Transform(type=TransformType.INTEGRITY, id=IntegrityId.HMAC_SHA2_256_128),
        Transform(type=TransformType.KEY_EXCHANGE, id=KeyExchangeId.MODP_2048),
    ),
)

_KNOWN = frozenset(PayloadType)
_attributes = st.builds(ConfigAttribute, type=st.integers(0, 0x7FFF).map(ConfigAttributeType), value=octets)
_selector_lists = st.lists(traffic_selectors(), min_size=1, max_size=5).map(tuple)

# By the name of the class, so that a test per kind of payload has a readable name.
PAYLOADS: dict[str, st.SearchStrategy[Payload]] = {
    "SaPayload": st.builds(SaPayload, proposals=st.lists(proposals, min_size=1, max_size=4).map(tuple)),
    "KePayload": st.builds(KePayload, method=u16.map(KeyExchangeId), data=octets),
    "IdiPayload": st.builds(IdiPayload, identity=identities()),
    "IdrPayload": st.builds(IdrPayload, identity=identities()),
    "CertPayload": st.builds(CertPayload, encoding=u8.map(CertEncoding), data=octets),
    "CertReqPayload": st.builds(CertReqPayload, encoding=u8.map(CertEncoding), authorities=octets),
    "AuthPayload": st.builds(AuthPayload, method=u8.map(AuthMethod), data=octets),
    "NoncePayload": st.builds(NoncePayload, nonce=st.binary(min_size=16, max_size=256)),
    "NotifyPayload": st.builds(
        NotifyPayload, type=u16.map(NotifyType), data=octets, protocol=u8.map(ProtocolId), spi=st.binary(max_size=16)
    ),
    "DeletePayload": deletes(),
    "VendorIdPayload": st.builds(VendorIdPayload, data=octets),
    "TsiPayload": st.builds(TsiPayload, selectors=_selector_lists),
    "TsrPayload": st.builds(TsrPayload, selectors=_selector_lists),
    "ConfigPayload": st.builds(
        ConfigPayload, type=u8.map(ConfigType), attributes=st.lists(_attributes, max_size=5).map(tuple)
    ),
    "EapPayload": st.builds(EapPayload, packet=octets),
    "RawPayload": st.builds(
        RawPayload,
        TYPE=u8.filter(lambda number: number not in _KNOWN).map(PayloadType),
        critical=st.booleans(),
        body=octets,
    ),
}
ENVELOPES: dict[str, st.SearchStrategy[Payload]] = {
    "EncryptedPayload": st.builds(EncryptedPayload, inner=u8.map(PayloadType), body=octets),
    "EncryptedFragmentPayload": fragments(),
}
EVERY = PAYLOADS | ENVELOPES


@st.composite
def chains(draw: st.DrawFn, max_size: int = 6) -> tuple[Payload, ...]:
    """Payloads in any order, an envelope only at the end."""
    plain = draw(st.lists(st.one_of(*PAYLOADS.values()), max_size=max_size))
    last = draw(st.none() | st.one_of(*ENVELOPES.values()))
    return (*plain, last) if last is not None else tuple(plain)


def message_of(payloads: Sequence[Payload], **fields: object) -> Message:
    """A message around `payloads` whose header says the truth about them; `fields` replace others of the header."""
    header: dict[str, object] = {
        "spi_i": bytes(8),
        "spi_r": bytes(8),
        "exchange": ExchangeType.INFORMATIONAL,
        "initiator": True,
        "response": False,
        "message_id": 0,
        **fields,
    }
    length = HEADER_LENGTH + len(emit_chain(payloads))
    return Message(
        header=Header(next_payload=first_type(payloads), length=length, **header),  # type: ignore[arg-type]
        payloads=tuple(payloads),
    )


messages = st.builds(
    message_of,
    chains(),
    spi_i=spis,
    spi_r=spis,
    exchange=u8.map(ExchangeType),
    initiator=st.booleans(),
    response=st.booleans(),
    message_id=u32,
    major=st.integers(0, 15),
    minor=st.integers(0, 15),
)


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after a few edits: bytes overwritten, inserted, removed, doubled."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(result)))
        match draw(st.sampled_from(("overwrite", "insert", "remove", "double"))):
            case "overwrite":
                new = draw(st.binary(min_size=1, max_size=4))
                result[at : at + len(new)] = new
            case "insert":
                result[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del result[at : at + draw(st.integers(1, 8))]
            case _:
                result[at:at] = result[at : at + draw(st.integers(1, 64))]
    return bytes(result)


def with_true_length(datagram: bytes) -> bytes:
    """Correct the length in the IKE header, so that an edited message is read beyond it."""
    if len(datagram) < HEADER_LENGTH:
        return datagram
    return datagram[:24] + len(datagram).to_bytes(4, "big") + datagram[28:]
