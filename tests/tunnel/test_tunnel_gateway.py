"""What a tunnel keeps about its gateway from one connection to the next."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from sim_tunnel import profile

from ikeclient.tunnel.gateway import Gateway

ONE, TWO, THREE = (ip_address(f"203.0.113.{number}") for number in (1, 2, 3))


def test_the_address_that_worked_comes_first_and_none_is_lost() -> None:
    gateway = Gateway()
    gateway.known = [("a.example", ONE), ("a.example", TWO), ("b.example", THREE)]
    gateway.prefer("b.example", THREE)
    assert gateway.known == [("b.example", THREE), ("a.example", ONE), ("a.example", TWO)]


def test_only_the_addresses_of_the_host_in_use_may_stand_for_it() -> None:
    """S12: another host of the profile is another gateway, which MOBIKE does not lead to."""
    gateway = Gateway()
    gateway.known = [("a.example", ONE), ("b.example", THREE), ("a.example", TWO)]
    gateway.host = "a.example"
    assert gateway.addresses == [ONE, TWO]


def test_a_gateway_is_asked_as_it_last_accepted() -> None:
    """E9: a try that is refused is logged, counted, and may lock an account."""
    gateway, work = Gateway(), profile()
    assert gateway.config(work) == work.ike
    gateway.accepted = replace(work.ike, gateway=replace(work.ike.gateway, named=False))
    assert gateway.config(work) == replace(work.ike, gateway=replace(work.ike.gateway, named=False))
