"""Requests that the peer starts: a table from what arrived to the reply and its effects (RFC 7296 sections 1.3, 1.4).

Everything here is authenticated. The functions change nothing themselves: `sa.py` applies the effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ikeclient.errors import IkeclientError, KeyExchangeError, ParseError, ProtocolError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IPAddress, Path
from ikeclient.ike.v2.child.child_sa import ChildRekeyed, ChildSa
from ikeclient.ike.v2.child.table import ChildTable
from ikeclient.ike.v2.close_reasons import broke_protocol
from ikeclient.ike.v2.ending import Ending
from ikeclient.ike.v2.exchanges.auth import AuthOutcome, auth_lifetime
from ikeclient.ike.v2.exchanges.informational import delete_children
from ikeclient.ike.v2.exchanges.init import new_spi
from ikeclient.ike.v2.exchanges.mobike import additional_addresses
from ikeclient.ike.v2.exchanges.rekey_child import ChildTerms, answer_rekey_child
from ikeclient.ike.v2.exchanges.rekey_ike import IkeRekeyed, answer_rekey_ike
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.channel import Channel
from ikeclient.ike.v2.message.payloads import find, notifies
from ikeclient.ike.v2.state import State
from ikeclient.ike.v2.tasks import ABOUT_CHILDREN, Job, Tasks
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload, unknown_critical
from ikeclient.wire.registry import ExchangeType, NotifyType, ProtocolId
from ikeclient.wire.sa import SaPayload

# Notifications that end the IKE SA by themselves (sections 2.21.2 and 2.21.3).
FATAL = frozenset({NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX})


class View(Protocol):
    """What a request handler may look at; `IkeSa` provides it."""

    config: IkeConfig
    keying: Keying
    children: ChildTable
    entropy: Callable[[int], bytes]
    state: State
    tasks: Tasks
    channel: Channel
    outcome: AuthOutcome | None
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDeletedIke:
    """The peer deleted the IKE SA; `reason` is the error it sent along, if any."""

    reason: NotifyType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDeletedChildren:
    """The peer deleted the Child SAs with these outbound SPIs, of which we need not have heard yet."""

    spis_out: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeLimited:
    """The peer wants a new authentication within that many seconds (RFC 4478)."""

    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddresses:
    """The peer's further addresses changed (RFC 4555 section 3.6)."""

    addresses: tuple[IPAddress, ...]


Effect = PeerDeletedIke | PeerDeletedChildren | LifetimeLimited | PeerAddresses | ChildRekeyed | IkeRekeyed
Answer = tuple[tuple[Payload, ...], tuple[Effect, ...]]


def serve(
    view: View, channel: Channel, data: bytes, message: Message, path: Path, now: float
) -> tuple[Effect, ...] | IkeclientError | None:
    """Answer a request on `channel` and tell what it changes; None for what is not a genuine new request.

    An error means that the peer sent a message that makes no sense: both ends close the SA with the INVALID_SYNTAX
    that was answered, without any DELETE (RFC 7296 section 2.21.3, RFC 6989 section 2.5).
    """
    try:
        payloads = channel.incoming(data, message, path, now)
        if payloads is None:
            return None
        reply, effects = respond(view, message.header.exchange, payloads)
    except (ParseError, KeyExchangeError) as error:
        channel.answer(message.header, (NotifyPayload(type=NotifyType.INVALID_SYNTAX),), path)
        return broke_protocol(str(error))
    channel.answer(message.header, reply, path)
    return effects


def respond(view: View, exchange: ExchangeType, payloads: Sequence[Payload]) -> Answer:
    """The reply to a request and what it changes.

    Raises `ParseError` for a request that is malformed inside and `KeyExchangeError` for a bad public value.
    """
    if (unknown := unknown_critical(payloads)) is not None:
        return (NotifyPayload(type=NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, data=bytes((unknown,))),), ()
    match exchange:
        case ExchangeType.INFORMATIONAL:
            return _informational(view, payloads)
        case ExchangeType.CREATE_CHILD_SA:
            return _create_child(view, payloads)
        case _:
            raise ParseError(f"a request of type {exchange} in an established IKE SA")


def _informational(view: View, payloads: Sequence[Payload]) -> Answer:
    """Liveness checks, DELETEs and notifications (section 1.4); what we do not know is ignored."""
    reply: list[Payload] = []
    effects: list[Effect] = []
    errors = [n.type for n in notifies(payloads) if n.type.is_error]
    for delete in (p for p in payloads if isinstance(p, DeletePayload)):
        if delete.protocol == ProtocolId.IKE and not delete.spis:
            return (), (PeerDeletedIke(reason=errors[0] if errors else None),)
        if delete.protocol != ProtocolId.ESP or delete.spi_length != 4:
            continue
        spis = tuple(dict.fromkeys(int.from_bytes(spi, "big") for spi in delete.spis))
        gone = [child.spi_in for spi in spis if (child := view.children.by_outbound(spi))]
        # A Child SA that we are deleting too is not named again in the answer (section 2.25.1).
        answered = [spi for spi in gone if not view.children.deleting(spi)]
        if answered:
            reply.append(delete_children(answered))
        effects.append(PeerDeletedChildren(spis_out=spis))
    if (fatal := next((error for error in errors if error in FATAL), None)) is not None:
        return (), (PeerDeletedIke(reason=fatal),)
    # COOKIE2 is returned unchanged (RFC 4555 section 3.7): the peer checks that we are where we say we are.
    reply += [n for n in notifies(payloads) if n.type == NotifyType.COOKIE2 and 8 <= len(n.data) <= 64]
    if (seconds := auth_lifetime(payloads)) is not None:
        effects.append(LifetimeLimited(seconds=seconds))
    if (addresses := additional_addresses(payloads)) is not None:
        effects.append(PeerAddresses(addresses=addresses))
    return tuple(reply), tuple(effects)


def _create_child(view: View, payloads: Sequence[Payload]) -> Answer:
    """Rekeys are answered, and another Child SA in the place of a lost one; further ones are not (section 1.3)."""
    sa = find(payloads, SaPayload)
    rekey = next((n for n in notifies(payloads) if n.type == NotifyType.REKEY_SA), None)
    if view.state is not State.ESTABLISHED:
        return _refuse(NotifyType.TEMPORARY_FAILURE)
    try:
        if rekey is not None:
            return _rekey_child(view, payloads, rekey)
        if sa is not None and sa.proposals[0].protocol == ProtocolId.IKE:
            return _rekey_ike(view, payloads)
        if (lost := view.children.replaceable) is not None:
            return _renew_child(view, payloads, lost)
    except (ParseError, KeyExchangeError):
        raise
    except ProtocolError:  # well-formed, but nothing that we can accept, such as a reserved SPI
        return _refuse(NotifyType.NO_PROPOSAL_CHOSEN)
    return _refuse(NotifyType.NO_ADDITIONAL_SAS)


def _refuse(type_: NotifyType) -> Answer:
    return (NotifyPayload(type=type_),), ()


def _rekey_ike(view: View, payloads: Sequence[Payload]) -> Answer:
    if view.tasks.doing(*ABOUT_CHILDREN):  # section 2.25.1
        return _refuse(NotifyType.TEMPORARY_FAILURE)
    proposals, spi = view.config.ike_proposals, new_spi(view.entropy)
    reply, rekeyed = answer_rekey_ike(payloads, proposals, view.keying, spi=spi, entropy=view.entropy)
    return reply, (rekeyed,) if rekeyed else ()


def _rekey_child(view: View, payloads: Sequence[Payload], rekey: NotifyPayload) -> Answer:
    if rekey.protocol != ProtocolId.ESP or len(rekey.spi) != 4:
        return (NotifyPayload(type=NotifyType.CHILD_SA_NOT_FOUND, protocol=rekey.protocol, spi=rekey.spi),), ()
    old = view.children.by_outbound(int.from_bytes(rekey.spi, "big"))
    if old is None and not view.children.rekeying:  # else it may be the one that we do not know yet
        return (NotifyPayload(type=NotifyType.CHILD_SA_NOT_FOUND, protocol=rekey.protocol, spi=rekey.spi),), ()
    if old is None or view.children.rekeyable(old.spi_in) is None or view.tasks.doing(Job.REKEY_IKE):
        return _refuse(NotifyType.TEMPORARY_FAILURE)  # section 2.25
    return _renew_child(view, payloads, old)


def _renew_child(view: View, payloads: Sequence[Payload], old: ChildSa) -> Answer:
    if view.tasks.doing(Job.REKEY_IKE):  # section 2.25.2
        return _refuse(NotifyType.TEMPORARY_FAILURE)
    reply, rekeyed = answer_rekey_child(ChildTerms.of(view, old), payloads)
    if rekeyed is not None and view.children.by_outbound(rekeyed.child.spi_out):
        return _refuse(NotifyType.NO_PROPOSAL_CHOSEN)  # the peer uses that SPI already
    return reply, (rekeyed,) if rekeyed else ()
