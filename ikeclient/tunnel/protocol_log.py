"""The protocol in lines for people who look for a fault: each message, and each decision that follows from it.

A line of `-v` (INFO) names what a message holds; `-vv` (DEBUG) adds its lengths and when it is sent again. Nothing
secret is in either: of AUTH the method is shown, of EAP the type, of keys and nonces nothing, and text of the gateway
is escaped. Nothing here ever raises: a log must not end a tunnel.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.sign.schemes import parse_algorithm_identifier
from ikeclient.errors import IkeclientError
from ikeclient.ike.events import (
    ChildClosed,
    ChildEstablished,
    Closed,
    Configuration,
    Event,
    GatewayAddresses,
    HeardElsewhere,
    IkeEstablished,
    NatStatus,
    PathChanged,
    PathProbed,
    PathRefused,
    ReauthenticationDue,
    Roamed,
)
from ikeclient.ike.observation import CandidateLost, CandidateTried, MessageSeen, Observation
from ikeclient.wire.config import ConfigPayload
from ikeclient.wire.cursor import Writer
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.identity import AuthPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.key_exchange import KePayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import GENERIC_HEADER_LENGTH, Payload
from ikeclient.wire.registry import AuthMethod, PayloadType, SequenceNumbers, TransformType
from ikeclient.wire.sa import Proposal, SaPayload, Transform
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload
from ikeclient.wire.text import printable

_MOST = 16  # selectors, attributes or SPIs that a line names
_NAMES: Mapping[PayloadType, str] = {
    PayloadType.IDI: "IDi",
    PayloadType.IDR: "IDr",
    PayloadType.TSI: "TSi",
    PayloadType.TSR: "TSr",
    PayloadType.CONFIGURATION: "CP",
    PayloadType.NOTIFY: "N",
    PayloadType.VENDOR_ID: "V",
}
_TABLES: Mapping[TransformType, Mapping[str, Any]] = {
    TransformType.PRF: PRF,
    TransformType.INTEGRITY: INTEGRITY,
    TransformType.KEY_EXCHANGE: KEY_EXCHANGE,
}

_log = logging.getLogger("ikeclient.ike")


def observe(observation: Observation) -> None:
    """Log an observation of the protocol."""
    if not _log.isEnabledFor(logging.INFO):
        return
    with contextlib.suppress(Exception):
        for line in observed(observation):
            _log.info("%s", line)
        if isinstance(observation, MessageSeen) and _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s", details(observation))


def event(event: Event) -> None:
    """Log an event of the protocol."""
    if not _log.isEnabledFor(logging.INFO):
        return
    with contextlib.suppress(Exception):
        if isinstance(event, PathProbed):
            fate = "passed" if event.passed else "did not pass"
            _log.debug("a packet of %d bytes %s", event.size, fate)
        elif line := decided(event):
            _log.info("%s", line)


def observed(observation: Observation) -> Iterator[str]:
    """Yield the lines of an observation: the message, and what its proposals say."""
    match observation:
        case CandidateTried(suite=suite, nat=nat, fragmentation=fragmentation):
            pieces = (suite, _nat(nat), "fragmentation" if fragmentation else "")
            yield f"goes on with {', '.join(filter(None, pieces))}"
        case CandidateLost(reason=reason):
            yield f"this answer leads nowhere: {printable(reason)}"
        case MessageSeen(attempt=1):
            yield f"{_heading(observation)}: {' '.join(map(name, observation.payloads)) or 'empty'}"
            for payload in observation.payloads:
                if isinstance(payload, SaPayload):
                    yield _proposals(payload, chosen=observation.header.response)
        case MessageSeen(attempt=attempt):
            yield f"{_heading(observation)} again, for the {_ordinal(attempt)} time"


def details(seen: MessageSeen) -> str:
    """Return the lengths of a message and of its payloads, and when it is sent again."""
    pieces = []
    if seen.lengths:
        fragments = f" in {len(seen.lengths)} fragments" if len(seen.lengths) > 1 else ""
        pieces.append(f"{sum(seen.lengths)} bytes{fragments}")
    if seen.payloads:
        pieces.append(" ".join(f"{_plain(payload)}:{_length(payload)}" for payload in seen.payloads))
    if seen.wait is not None:
        pieces.append(f"sent again in {seen.wait:.1f} s")
    spis = f"{seen.header.spi_i.hex()}_i {seen.header.spi_r.hex()}_r"
    return f"  {', '.join((*pieces, spis))}"


def decided(event: Event) -> str | None:
    """Return the line of a decision; None for an event that is none."""
    match event:
        case IkeEstablished():
            abilities = ("MOBIKE" if event.mobike else "", "fragmentation" if event.fragmentation else "")
            pieces = (event.suite.name, _nat(event.nat), *abilities)
            verb = "rekeyed" if event.rekeyed else "established"
            return (
                f"IKE SA {event.spi_i.hex()}_i {event.spi_r.hex()}_r {verb} with "
                f"{printable(event.gateway_identity)}: {', '.join(filter(None, pieces))}"
            )
        case Configuration():
            given = (
                ("addresses", event.addresses),
                ("DNS", event.dns_servers),
                ("domains", tuple(map(printable, event.dns_domains))),
                ("P-CSCF", event.p_cscf),
                ("subnets", event.subnets),
                ("excluded", event.excluded),
            )
            assigned = [f"{what} {_listed(values)}" for what, values in given if values]
            return f"assigned: {'; '.join(assigned) or 'nothing'}"
        case ChildEstablished():
            verb = "rekeyed" if event.replaces else "established"
            return (
                f"Child SA {event.spi_in:08x}_i {event.spi_out:08x}_o {verb}: "
                f"{event.suite.name}, {_listed(event.local_selectors)} === {_listed(event.remote_selectors)}"
            )
        case ChildClosed(spi_in=spi_in):
            return f"Child SA {spi_in:08x}_i closed"
        case PathChanged(path=path):
            return f"path: {path}"
        case Roamed(path=path, nat=nat):
            return f"the gateway confirms the path {path}, {_nat(nat)}"
        case PathRefused(path=path, reason=reason):
            return f"the gateway refuses the path {path}: {printable(reason)}"
        case GatewayAddresses(addresses=addresses):
            return f"the gateway has further addresses: {_listed(addresses)}"
        case HeardElsewhere(address=address):
            return f"a request of the gateway came from {address}"
        case ReauthenticationDue():
            return "the gateway wants a new login soon"
        case Closed(error=error):
            return "closed" if error is None else f"closed: {printable('; '.join(error.lines()))}"
    return None


def name(payload: Payload) -> str:
    """Return a payload's name as RFC 7296 writes it, with what may be told of it."""
    plain = _plain(payload)
    match payload:
        case KePayload(method=method):
            return f"{plain}({_keyword(Transform(type=TransformType.KEY_EXCHANGE, id=method))})"
        case IdiPayload(identity=identity) | IdrPayload(identity=identity):
            return f"{plain}({_identity(identity)})"
        case AuthPayload():
            return f"{plain}({_method(payload)})"
        case NotifyPayload(type=type_, spi=spi):
            return f"{plain}({type_}{f' {spi[:8].hex()}' if spi else ''})"
        case DeletePayload(protocol=protocol, spis=spis):
            return f"{plain}({' '.join((str(protocol), *(spi.hex() for spi in spis[:_MOST])))})"
        case VendorIdPayload(data=data):
            return (
                f"{plain}({printable(data, 40) if data.isascii() and data.decode().isprintable() else data[:20].hex()})"
            )
        case TsiPayload(selectors=selectors) | TsrPayload(selectors=selectors):
            return f"{plain}({_listed(selectors)})"
        case ConfigPayload(type=type_, attributes=attributes):
            names = " ".join(str(attribute.type) for attribute in attributes[:_MOST])
            return f"{plain}({type_}{': ' if names else ''}{names})"
        case EapPayload(packet=packet):
            return f"{plain}({_eap(packet)})"
    return plain


def _plain(payload: Payload) -> str:
    return _NAMES.get(payload.TYPE, str(payload.TYPE))


def _heading(seen: MessageSeen) -> str:
    header = seen.header
    kind = "response" if header.response else "request"
    where = f"{seen.path.remote_address}[{seen.path.remote_port}]"
    what = f"{header.exchange} {kind} {header.message_id}"
    return f"sent {what} to {where}" if seen.sent else f"received {what} from {where}"


def _identity(identity: Identity) -> str:
    return printable(identity_text(identity.type, identity.data), 120)


def _method(payload: AuthPayload) -> str:
    """Return how somebody proves who they are; with RFC 7427 the algorithm stands before the signature."""
    if payload.method == AuthMethod.DIGITAL_SIGNATURE and payload.data:
        with contextlib.suppress(IkeclientError):
            return str(parse_algorithm_identifier(payload.data[1 : 1 + payload.data[0]]))
    return str(payload.method)


def _eap(packet: bytes) -> str:
    try:
        parsed = EapPacket.parse(packet)
    except IkeclientError:
        return "malformed"
    return f"{parsed.code}{f' {parsed.type}' if parsed.type is not None else ''}"


def _proposals(payload: SaPayload, *, chosen: bool) -> str:
    what = "chosen" if chosen else "proposed"
    return f"  {what}: {', '.join(map(_proposal, payload.proposals[:_MOST])) or 'nothing'}"


def _proposal(proposal: Proposal) -> str:
    spi = f" {proposal.spi.hex()}" if proposal.spi else ""
    return f"{proposal.protocol}{spi} {'-'.join(map(_keyword, proposal.transforms[: 2 * _MOST]))}"


def _keyword(transform: Transform) -> str:
    """Return swanctl's keyword for an algorithm, or else the registry's name."""
    if transform.type == TransformType.ENCRYPTION:
        for each in ENCRYPTION.values():
            bits = each.key_bits if each.variable_key else None
            if (each.id, bits) == (transform.id, transform.key_bits):
                return each.keyword
    if transform.type == TransformType.SEQUENCE_NUMBERS:
        return "esn" if transform.id == SequenceNumbers.EXTENDED else "noesn"
    for entry in _TABLES.get(transform.type, {}).values():
        if entry.id == transform.id:
            return str(entry.keyword)
    return str(transform).lower()


def _length(payload: Payload) -> int:
    writer = Writer()
    payload.emit(writer)
    return GENERIC_HEADER_LENGTH + len(writer.bytes())


def _listed(values: tuple[TrafficSelector | Any, ...]) -> str:
    more = f" and {len(values) - _MOST} more" if len(values) > _MOST else ""
    return " ".join(map(str, values[:_MOST])) + more


def _nat(nat: NatStatus) -> str:
    sides = [where for where, there in (("here", nat.local), ("at the gateway", nat.remote)) if there]
    return f"NAT {' and '.join(sides)}" if sides else "no NAT"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
