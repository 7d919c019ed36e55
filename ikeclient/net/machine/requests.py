"""Bodies of the requests to rtnetlink(7) that are rare: about the tunnel's interface, its addresses, the kernel's rule.

pyroute2 knows the messages of addresses and rules. Its package imports all that is in it, a database among others, and
its sockets import every kind of interface and queue: 5 MiB, which each tunnel would keep. So the modules of these two
messages are imported without running what the package itself does first. Where that fails, as it may in a version that
is laid out in another way, the package is imported as it is. A message about an interface is one structure.
"""

from __future__ import annotations

import socket
import sys
from functools import cache
from importlib.util import find_spec, module_from_spec
from struct import Struct
from typing import Any

from ikeclient.net.changes.steps import LOCAL, Address
from ikeclient.net.model import Version
from ikeclient.net.watch.netlink import IFF_UP, attribute

_PACKAGE = "pyroute2"
_LINK = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, which flags change
_NUMBER = Struct("=I")
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_HEADER_SIZE = 16  # of the message, nlmsghdr, which is the socket's business
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_TO_TABLE = 1  # what the rule does
_FAMILIES: dict[Version, int] = {4: socket.AF_INET, 6: socket.AF_INET6}


@cache
def message_classes() -> tuple[type[Any], type[Any]]:
    """The classes `ifaddrmsg` and `fibmsg` of pyroute2; the first call loads them."""
    spec = find_spec(_PACKAGE) if _PACKAGE not in sys.modules else None
    if spec is not None:
        sys.modules[_PACKAGE] = module_from_spec(spec)  # and nothing runs
        try:
            return _import_classes()
        except (ImportError, AttributeError):
            for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
                del sys.modules[name]
    import pyroute2  # noqa: F401  it is imported as it is

    return _import_classes()


def _import_classes() -> tuple[type[Any], type[Any]]:
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

    return ifaddrmsg, fibmsg


def link_body(index: int, *, name: str | None = None, mtu: int | None = None, up: bool | None = None) -> bytes:
    """Give an interface another name or MTU, and set it up or down; None leaves it as it is."""
    flags = IFF_UP if up else 0
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, 0 if up is None else IFF_UP)
    if name is not None:
        body += attribute(_IFLA_IFNAME, name.encode("ascii") + b"\0")
    if mtu is not None:
        body += attribute(_IFLA_MTU, _NUMBER.pack(mtu))
    return body


def address_body(step: Address) -> bytes:
    """An address of ours, for which the kernel makes no route, and does not look for duplicates on the tunnel."""
    version = step.address.version
    message = message_classes()[0]()
    message["family"] = _FAMILIES[version]
    message["prefixlen"] = step.address.network.prefixlen
    message["index"] = step.index
    address = str(step.address.ip)
    flags = _IFA_F_NOPREFIXROUTE | (_IFA_F_NODAD if version == 6 else 0)
    message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address), ("IFA_FLAGS", flags)]
    return _encoded(message)


def local_rule_body(version: Version, priority: int, protocol: int) -> bytes:
    """The rule that has every packet looked up in the kernel's table of its own addresses."""
    message = message_classes()[1]()
    message["family"] = _FAMILIES[version]
    message["table"] = LOCAL
    message["action"] = _TO_TABLE
    message["attrs"] = [("FRA_PRIORITY", priority), ("FRA_PROTOCOL", protocol), ("FRA_TABLE", LOCAL)]
    return _encoded(message)


def _encoded(message: Any) -> bytes:
    message.encode()
    return bytes(message.data[_HEADER_SIZE:])
