"""Rules about the modules of a tunnel."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ikeclient.tunnel

MODULES = sorted(Path(ikeclient.tunnel.__file__).parent.glob("[a-z]*.py"))
CLOCKS, ENTROPY = {"boottime", "local_time", "monotonic"}, {"urandom"}
NETWORK = {"UdpSocket", "NetworkMonitor", "path_mtu", "local_address_for"}
# `ports` brings the world in; `probe` is a command of its own, not part of a tunnel.
HOMES = {"clock", "ports", "probe"}


def world_of(source: str) -> set[str]:
    """What a module takes from the world past `Ports`: clocks, entropy, sockets."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"os", "time"}:
            found.add(node.attr)
    return found & (CLOCKS | ENTROPY | NETWORK)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_module_has_a_unit_test(module: Path) -> None:
    assert (Path(__file__).parent / f"test_tunnel_{module.stem}.py").is_file()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_clock_entropy_and_sockets_come_through_the_ports(module: Path) -> None:
    """Else a whole tunnel does not run under virtual time."""
    assert module.stem in HOMES or world_of(module.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ikeclient.tunnel.clock import boottime", {"boottime"}),
        ("import os\nos.urandom(8)", {"urandom"}),
        ("import time\ntime.monotonic()", {"monotonic"}),
        ("from ikeclient.net.transport.udp import UdpSocket", {"UdpSocket"}),
        ("from ikeclient.tunnel.ports import Ports\nimport os\nos.getpid()", set()),
    ],
)
def test_the_rule_about_ports_can_fail(source: str, found: set[str]) -> None:
    assert world_of(source) == found
