"""INFORMATIONAL exchanges of ours, byte for byte."""

from __future__ import annotations

import pytest

from ikeclient.ike.v2.exchanges.informational import delete_children, delete_ike_sa, informational
from ikeclient.wire.payload import emit_chain
from ikeclient.wire.registry import ExchangeType, NotifyType


def test_a_liveness_check_is_empty_and_returns_the_answer() -> None:
    """RFC 7296 section 2.4."""
    exchange = informational()
    request = next(exchange)
    assert (request.exchange, request.payloads) == (ExchangeType.INFORMATIONAL, ())
    with pytest.raises(StopIteration) as stop:
        exchange.send(())
    assert stop.value.value == ()


def test_the_delete_of_the_ike_sa_has_no_spi() -> None:
    """RFC 7296 section 3.11: protocol 1, SPI size 0, no SPIs."""
    assert emit_chain(delete_ike_sa()) == bytes.fromhex("0000 0008 01 00 0000")


def test_the_delete_of_the_ike_sa_may_say_why() -> None:
    """RFC 7296 section 2.21.2: AUTHENTICATION_FAILED is 24."""
    assert emit_chain(delete_ike_sa(NotifyType.AUTHENTICATION_FAILED)) == bytes.fromhex(
        "2a00 0008 00 00 0018  0000 0008 01 00 0000"
    )


def test_the_delete_of_child_sas_names_our_inbound_spis() -> None:
    """RFC 7296 section 3.11: protocol 3, SPI size 4."""
    assert emit_chain([delete_children([0x01020304, 0xC0000001])]) == bytes.fromhex(
        "0000 0010 03 04 0002 01020304 c0000001"
    )
