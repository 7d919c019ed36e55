"""A Child SA as the IKE SA keeps it, and how an answer becomes one (RFC 7296 sections 1.3, 2.9, 2.17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from ikeclient.crypto.algorithms.keymat import ChildKeys
from ikeclient.crypto.algorithms.transforms import EspSuite
from ikeclient.errors import ProtocolError
from ikeclient.ike.events import IPAddress
from ikeclient.ike.v2.message.payloads import has_notify, need
from ikeclient.ike.v2.rules.negotiate import accept_esp
from ikeclient.ike.v2.rules.selectors import hosts, intersect, narrowed
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSa:
    """One pair of ESP SAs; SPIs are integers, selectors are seen from here.

    `local` and `remote` are as agreed, for the next rekey to propose again. `addresses` are the inner addresses: those
    assigned, or this machine's own if none was. Empty if they are not known (a gateway's end).
    """

    spi_in: int
    spi_out: int
    suite: EspSuite
    keys: ChildKeys = field(repr=False)
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    addresses: tuple[IPAddress, ...] = ()

    @property
    def installed_local(self) -> tuple[TrafficSelector, ...]:
        """What this end sends from and receives for: the inner addresses, however wide TSi is.

        A TSi of everything would let the gateway send packets for other hosts, and for services on other networks of
        this machine.
        """
        return intersect(hosts(self.addresses), self.local) if self.addresses else self.local


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRekeyed:
    """`child` takes over from the one with inbound SPI `old`.

    The nonces decide which of two simultaneous rekeys survives (section 2.8.1).
    """

    old: int
    child: ChildSa
    nonces: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What SA, TSi and TSr of an answer settle, before keys are derived."""

    suite: EspSuite
    spi_out: int
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]


def agreed(
    payloads: Sequence[Payload],
    offer: SaPayload,
    asked_local: Sequence[TrafficSelector],
    asked_remote: Sequence[TrafficSelector],
) -> Agreed:
    """Read the answer to a Child SA request of ours.

    Selectors are cut down to what was asked for. Raises `ProtocolError` if anything else was not offered.
    """
    suite, spi_out = accept_esp(offer, need(payloads, SaPayload))
    local = narrowed("TSi", asked_local, need(payloads, TsiPayload).selectors)
    remote = narrowed("TSr", asked_remote, need(payloads, TsrPayload).selectors)
    if has_notify(payloads, NotifyType.USE_TRANSPORT_MODE):
        raise ProtocolError("the peer chose transport mode, which was not offered")
    if has_notify(payloads, NotifyType.IPCOMP_SUPPORTED):
        raise ProtocolError("the peer chose IP compression, which was not offered")
    return Agreed(suite=suite, spi_out=spi_out, local=local, remote=remote)
