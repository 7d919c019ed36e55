"""The name of the wireless network that an interface is in, asked of the kernel (nl80211)."""

from __future__ import annotations

from struct import Struct

from ikeclient.net.watch.netlink import Netlink, attributes

_GENERIC = Struct("=BBxx")  # genlmsghdr: command, version
_NUMBER, _FAMILY = Struct("=I"), Struct("=H")
_PROTOCOL = 16  # NETLINK_GENERIC
_CONTROLLER = 16  # GENL_ID_CTRL
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2
_GET_INTERFACE, _INDEX, _SSID = 5, 3, 52
_NAME = b"nl80211"


def networks() -> dict[int, str]:
    """The wireless interfaces by index, each with the name of its network, "" for none; needs no rights.

    A name is bytes of any kind: those that are not UTF-8 become escapes. Raises OSError if the kernel does not tell.
    """
    kernel = Netlink(_PROTOCOL)
    try:
        for _, message in kernel.dump(_CONTROLLER, _GENERIC.pack(_GET_FAMILY, 1)):
            family = attributes(message, _GENERIC.size)
            if family.get(_FAMILY_NAME, b"").rstrip(b"\0") == _NAME:
                (number,) = _FAMILY.unpack(family[_FAMILY_ID])
                return interfaces([m for _, m in kernel.dump(number, _GENERIC.pack(_GET_INTERFACE, 0))])
        return {}
    finally:
        kernel.close()


def interfaces(messages: list[memoryview]) -> dict[int, str]:
    """Read the answers to a question for all wireless interfaces."""
    found: dict[int, str] = {}
    for message in messages:
        values = attributes(message, _GENERIC.size)
        if len(index := values.get(_INDEX, b"")) == _NUMBER.size:
            found[_NUMBER.unpack(index)[0]] = values.get(_SSID, b"").decode("utf-8", "backslashreplace")
    return found
