"""Which networks go through the tunnel; what becomes of them on the machine is in `test_tunnel_machine_config`."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from grants import networks, selectors, settings

from ikeclient.errors import NegotiationRefused
from ikeclient.tunnel.routes import MAX_ROUTES, blocked_families, require_routes, routes_into
from ikeclient.wire.selector import TrafficSelector


def test_only_networks_of_a_family_with_an_inner_address_are_routed() -> None:
    routes = routes_into(selectors("10.99.0.0/24", "fd99::/64"), {4})
    assert routes == networks("10.99.0.0/24")


def test_neighbouring_and_overlapping_selectors_become_the_fewest_routes() -> None:
    wide = selectors("10.0.0.0/25", "10.0.0.128/25", "10.0.0.64/26", "fd99::/64")
    assert routes_into(wide, {4, 6}) == networks("10.0.0.0/24", "fd99::/64")


def test_a_range_that_is_no_network_is_routed_exactly() -> None:
    odd = TrafficSelector(start=ip_address("10.0.0.1"), end=ip_address("10.0.0.3"))
    assert routes_into((odd,), {4}) == networks("10.0.0.1/32", "10.0.0.2/31")


@pytest.mark.parametrize(
    ("routes", "granted_routes", "blocked"),
    [
        ("gateway", ("10.0.0.0/8",), set()),
        ("gateway", ("0.0.0.0/0",), {6}),
        ("gateway", ("0.0.0.0/0", "::/0"), set()),
        ("all", ("0.0.0.0/0",), {6}),
        ("all", ("::/0",), {4}),
        ("all", ("10.0.0.0/8",), {4, 6}),
    ],
)
def test_the_family_that_a_full_tunnel_lacks_is_blocked(
    routes: str, granted_routes: tuple[str, ...], blocked: set[int]
) -> None:
    """O7: what the tunnel does not carry must not leave beside it."""
    assert blocked_families(settings(routes=routes), networks(*granted_routes)) == blocked


def test_no_route_and_too_many_are_refused() -> None:
    remote = selectors("fd99::/64")
    with pytest.raises(NegotiationRefused, match="nothing would go through"):
        require_routes((), remote)
    one, *more = networks(*(f"10.{n >> 8}.{n & 255}.0/32" for n in range(MAX_ROUTES + 1)))
    require_routes(more, remote)
    with pytest.raises(NegotiationRefused, match=f"make {MAX_ROUTES + 1} routes"):
        require_routes((one, *more), remote)
