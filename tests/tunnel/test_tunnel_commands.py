"""What a tunnel asks of its driver."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ikeclient.errors import NoResponse
from ikeclient.tunnel.commands import Lookup


def test_a_lookup_has_a_result_once_it_is_answered() -> None:
    lookup = Lookup(["vpn.example.com"], 500)
    assert not lookup.answered
    assert lookup.result() == []
    lookup.answer([("vpn.example.com", ip_address("192.0.2.1"))])
    assert lookup.answered
    assert lookup.result() == [("vpn.example.com", ip_address("192.0.2.1"))]


def test_the_error_of_a_lookup_is_its_result() -> None:
    lookup = Lookup(["vpn.example.com"], 500)
    lookup.answer(NoResponse("no such name"))
    assert lookup.answered
    with pytest.raises(NoResponse, match="no such name"):
        lookup.result()
