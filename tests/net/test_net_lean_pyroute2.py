"""pyroute2 without the parts that nobody here uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = """
import sys
{before}
from ikeclient.net.machine.lean_pyroute2 import lean_pyroute2
route, error = lean_pyroute2()
assert lean_pyroute2() == (route, error)
netlink = route()
assert any(link.get_attr("IFLA_IFNAME") == "lo" for link in netlink.get_links())
try:
    netlink.link("get", index=1 << 30)
except error as failed:
    assert failed.code
netlink.close()
print(route.__name__, error.__module__, "pyroute2.ndb.main" in sys.modules)
import pyroute2
assert {whole} == hasattr(pyroute2, "NDB")
"""


@pytest.mark.parametrize(
    ("before", "whole"),
    [
        ("", False),
        ("import pyroute2", True),
        ("sys.modules['pyroute2.iproute.linux'] = None", True),
    ],
    ids=["lean", "imported before", "laid out in another way"],
)
def test_the_kernel_is_asked_with_as_much_of_pyroute2_as_it_takes(before: str, whole: bool) -> None:
    program = SHOW.format(before=before, whole=whole)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"IPRoute pyroute2.netlink.exceptions {whole}\n", done.stderr
