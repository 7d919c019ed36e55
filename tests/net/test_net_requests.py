"""Requests about interfaces, addresses and the kernel's rule, with the few modules of pyroute2 that write them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = """
import sys
{before}
from ipaddress import ip_interface
from ikeclient.net.changes.steps import Address
from ikeclient.net.machine.requests import address_body, local_rule_body
print(address_body(Address(interface="ike0", index=7, address=ip_interface("10.88.0.2/32"))).hex())
print(address_body(Address(interface="ike0", index=7, address=ip_interface("fd88::2/64"))).hex())
print(local_rule_body(6, 1, 157).hex())
print("pyroute2.iproute.linux" in sys.modules)
"""
BODIES = (  # ifaddrmsg and fib_rule_hdr, then each attribute: length, type, value
    "0220000007000000080002000a580002080001000a5800020800080000020000",
    "0a4000000700000014000200fd88000000000000000000000000000214000100fd8800000000000000000000000000020800080002020000",
    "0a000000ff000001000000000800060001000000050015009d00000008000f00ff000000",
)


@pytest.mark.parametrize(
    ("before", "whole"),
    [
        ("", False),
        ("import pyroute2", True),
        ("sys.modules['pyroute2.netlink.rtnl.fibmsg'] = None", True),
    ],
    ids=["lean", "imported before", "laid out in another way"],
)
def test_requests_are_written_with_as_much_of_pyroute2_as_it_takes(before: str, whole: bool) -> None:
    program = SHOW.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [*BODIES, str(whole)], done.stderr
