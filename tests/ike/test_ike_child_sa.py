"""What an answer must contain to become a Child SA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from sim_gateway import ESP_GCM, NET, ipv4
from sim_script import notify

from ikeclient.crypto.algorithms.keymat import child_keys
from ikeclient.crypto.algorithms.transforms import PRF
from ikeclient.errors import ParseError, ProtocolError
from ikeclient.ike.v2.child.child_sa import ChildSa, agreed
from ikeclient.ike.v2.rules.negotiate import choose_esp, offer_esp
from ikeclient.ike.v2.rules.selectors import ANY_IPV4, ANY_IPV6
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

OFFER = offer_esp([ESP_GCM], 0xA0000001, esn=True, key_exchange=False)
ASKED_LOCAL, ASKED_REMOTE = (ANY_IPV4,), (NET,)
LOCAL = ipv4("10.88.0.1/32")


def answer() -> list[Payload]:
    chosen = choose_esp(offer_esp([ESP_GCM], 0, esn=True, key_exchange=False), OFFER, 0xB0000001)
    assert chosen is not None
    return [chosen[0], TsiPayload(selectors=(LOCAL,)), TsrPayload(selectors=(NET,))]


def read(payloads: Sequence[Payload]):  # type: ignore[no-untyped-def]
    return agreed(payloads, OFFER, ASKED_LOCAL, ASKED_REMOTE)


def test_what_was_offered_and_narrowed_is_agreed_on() -> None:
    settled = read(answer())
    assert settled.spi_out == 0xB0000001
    assert settled.suite.esn
    assert (settled.local, settled.remote) == ((LOCAL,), (NET,))


@pytest.mark.parametrize("missing", [SaPayload, TsiPayload, TsrPayload])
def test_nothing_may_be_missing(missing: type[Payload]) -> None:
    with pytest.raises(ParseError):
        read([p for p in answer() if not isinstance(p, missing)])


@pytest.mark.parametrize("twice", [SaPayload, TsiPayload, TsrPayload])
def test_nothing_may_be_there_twice(twice: type[Payload]) -> None:
    with pytest.raises(ParseError):
        read([*answer(), next(p for p in answer() if isinstance(p, twice))])


@pytest.mark.parametrize(
    "extra",
    [
        notify(NotifyType.USE_TRANSPORT_MODE),
        notify(NotifyType.IPCOMP_SUPPORTED, b"\0\1\2"),
    ],
)
def test_a_mode_that_was_not_asked_for_is_refused(extra: Payload) -> None:
    """S9."""
    with pytest.raises(ProtocolError):
        read([*answer(), extra])


def test_of_wider_selectors_only_what_was_asked_for_is_taken() -> None:
    """K11."""
    sa, tsi, _ = answer()
    assert read([sa, tsi, TsrPayload(selectors=(ipv4("10.0.0.0/8"), ipv4("11.0.0.0/24")))]).remote == (NET,)


def test_selectors_that_have_nothing_in_common_with_the_offer_are_refused() -> None:
    """K11."""
    sa, tsi, tsr = answer()
    with pytest.raises(ProtocolError, match=r"TSr 10\.98\.0\.0/24"):
        read([sa, tsi, TsrPayload(selectors=(ipv4("10.98.0.0/24"),))])
    with pytest.raises(ProtocolError, match="TSi ::/0"):
        read([sa, TsiPayload(selectors=(ANY_IPV6,)), tsr])


@pytest.mark.parametrize(
    ("agreed_on", "addresses", "installed"),
    [
        ((ANY_IPV4,), ["10.88.0.1"], ["10.88.0.1/32"]),
        ((ANY_IPV4, ANY_IPV6), ["10.88.0.1", "fd88::1"], ["10.88.0.1/32", "fd88::1/128"]),
        ((ANY_IPV4,), ["10.88.0.1", "fd88::1"], ["10.88.0.1/32"]),
        ((ipv4("10.88.0.0/24"),), ["10.88.0.1", "10.88.0.9"], ["10.88.0.1/32", "10.88.0.9/32"]),
        ((replace(LOCAL, protocol=6),), ["10.88.0.1"], ["10.88.0.1/32[6]"]),
    ],
)
def test_however_wide_tsi_is_only_inner_addresses_are_installed(
    agreed_on: tuple[TrafficSelector, ...], addresses: list[str], installed: list[str]
) -> None:
    """K21: else the gateway reaches services of the LAN, and hosts beyond a machine that forwards."""
    settled = read(answer())
    keys = child_keys(PRF["prfsha256"], settled.suite, bytes(32), bytes(32), bytes(32), initiator=True)
    child = ChildSa(
        spi_in=1000,
        spi_out=2000,
        suite=settled.suite,
        keys=keys,
        local=agreed_on,
        remote=(NET,),
        addresses=tuple(map(ip_address, addresses)),
    )
    assert [str(selector) for selector in child.installed_local] == installed


def test_what_else_is_notified_does_not_matter() -> None:
    assert read([*answer(), notify(NotifyType.ADDITIONAL_TS_POSSIBLE), notify(NotifyType(50_000))])
