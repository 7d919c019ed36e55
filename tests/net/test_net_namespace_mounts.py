"""The files that decide how a program in a namespace resolves names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from ikeclient.net.model import DnsConfig
from ikeclient.net.namespace.mounts import HOSTS, NOTHING, NamespaceDns, name_switch


@pytest.mark.parametrize(
    "before",
    [
        "passwd: files\nhosts: files resolve [!UNAVAIL=return] mdns4_minimal dns\nnetworks: files\n",
        "passwd: files\n  hosts:  files mymachines\nnetworks: files\nhosts: sss",
        "passwd: files\nnetworks: files",
    ],
)
def test_host_names_come_from_files_and_dns_alone(before: str) -> None:
    assert name_switch(before).splitlines() == ["passwd: files", "networks: files", HOSTS]


@pytest.fixture
def dns(tmp_path: Path) -> Iterator[tuple[NamespaceDns, Path]]:
    path = tmp_path / "resolv.conf"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    yield NamespaceDns(descriptor), path
    os.close(descriptor)


def test_the_file_follows_the_tunnels_servers(dns: tuple[NamespaceDns, Path]) -> None:
    """Also to fewer of them: nothing of a longer text stays."""
    adapter, path = dns
    assert path.read_text() == NOTHING
    many = tuple(ip_address(f"10.99.0.{number}") for number in range(50, 55))
    for servers, domains in ((many, ("corp.example", "example.net")), (many[:1], ())):
        step, warnings = adapter.prepare(DnsConfig(servers=servers, domains=domains, mode="all"), "ike0", None)
        assert step is not None
        assert warnings == []
        adapter.apply(step)
        lines = [f"nameserver {server}" for server in servers[:3]] + [f"search {' '.join(domains)}"] * bool(domains)
        assert path.read_text().splitlines() == lines
    adapter.undo(step)
    assert path.read_text() == NOTHING


def test_no_servers_are_no_step(dns: tuple[NamespaceDns, Path]) -> None:
    assert dns[0].prepare(DnsConfig(servers=()), "ike0", None) == (None, [])
