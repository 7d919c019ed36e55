"""What an answer must contain to become a Child SA."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sim_gateway import ESP_GCM, NET, ipv4
from sim_script import notify

from ikeclient.errors import ParseError, ProtocolError
from ikeclient.ike.child import agreed
from ikeclient.ike.negotiate import choose_esp, offer_esp
from ikeclient.ike.selectors import ANY_IPV4
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TsiPayload, TsrPayload

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


def test_wider_selectors_are_refused() -> None:
    """K11."""
    sa, tsi, _ = answer()
    with pytest.raises(ProtocolError, match="wider"):
        read([sa, tsi, TsrPayload(selectors=(NET, ipv4("10.98.0.0/24")))])


def test_what_else_is_notified_does_not_matter() -> None:
    assert read([*answer(), notify(NotifyType.ADDITIONAL_TS_POSSIBLE), notify(NotifyType(50_000))])
