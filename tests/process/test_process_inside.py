"""What a tunnel says about its inside, which may be another user's."""

from __future__ import annotations

import pytest

from ikeclient.control.status import DnsStatus, TunnelStatus
from ikeclient.errors import NoResponse
from ikeclient.process.inside import _interface


@pytest.mark.parametrize(
    ("addresses", "servers"), [(("10.88.0.1/32", "\n"), ()), ((), ("10.99.0.53", "x" * 10_000)), (("10.0.0.1/99",), ())]
)
def test_addresses_that_are_none_make_no_sense(addresses: tuple[str, ...], servers: tuple[str, ...]) -> None:
    """O23: else the command ended as a bug of ours."""
    told = TunnelStatus(name="work", addresses=addresses, dns=DnsStatus(servers=servers))
    with pytest.raises(NoResponse, match="makes no sense"):
        _interface(told, "ike0")


def test_addresses_with_and_without_a_length_are_taken() -> None:
    told = TunnelStatus(name="work", addresses=("10.88.0.1/32", "fd88::1"), dns=DnsStatus(servers=("10.99.0.53",)))
    assert _interface(told, "ike0").addresses == told.addresses
