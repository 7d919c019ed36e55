"""The largest inner packet that a path carries, to the byte, and what follows from it for TCP.

An ESP packet grows in steps: plaintext and trailer are padded to 4 bytes, or to a cipher block. A tunnel whose MTU is
guessed too large loses exactly the large packets, and one guessed too small wastes a little of each, so nothing is
guessed here.
"""

from __future__ import annotations

from ikeclient.crypto.algorithms.esp_ciphers import esp_layout
from ikeclient.crypto.algorithms.transforms import EspSuite

IP_HEADERS = {4: 20, 6: 40}
UDP_HEADER = 8
TCP_HEADER = 20

MINIMUM_PATH_MTU = {
    4: 576,
    6: 1280,
}  # below it a report is forged or of no use (RFC 1122 section 3.3.3, RFC 8200 section 5)
IPV6_MINIMUM_MTU = 1280


def inner_mtu(path_mtu: int, outer_version: int, suite: EspSuite, *, udp: bool = True) -> int:
    """The longest inner packet whose outer packet fits into `path_mtu` bytes.

    `outer_version` is 4 or 6, `udp` says whether ESP travels in UDP (RFC 3948). A path MTU below the least that IP
    allows is taken for that least, so that a forged report cannot strangle the tunnel.
    """
    path_mtu = max(path_mtu, MINIMUM_PATH_MTU[outer_version])
    return esp_layout(suite).room(path_mtu - IP_HEADERS[outer_version] - (UDP_HEADER if udp else 0))


def interface_mtu(inner: int, *, ipv6: bool) -> int:
    """The MTU to give the interface: the kernel takes IPv6 away from one below 1280.

    Inner IPv6 packets between `inner` and 1280 bytes then travel in fragmented outer packets (RFC 8200 section 5).
    """
    return max(inner, IPV6_MINIMUM_MTU) if ipv6 else inner


def segment_sizes(inner: int) -> tuple[int, int]:
    """The largest TCP segments over IPv4 and over IPv6 that fit into inner packets of `inner` bytes unfragmented."""
    return inner - IP_HEADERS[4] - TCP_HEADER, inner - IP_HEADERS[6] - TCP_HEADER
