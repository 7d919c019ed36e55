"""Traffic selectors and ranges of other programs as networks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network, summarize_address_range

from ikeclient.lazy_dataclass import dataclass

EVERYTHING = ("0.0.0.0/0", "::/0")
MAX_NETWORKS = 64  # of one range
_PROTOCOL = re.compile(r"(?P<network>[^\[]*)\[(?P<protocol>[^\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selectors:
    """Networks, what in the text names none, and what was limited to a protocol or a port."""

    networks: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    limited: tuple[str, ...] = ()
    dynamic: bool = False

    @property
    def everything(self) -> bool:
        """Whether they are everything and nothing else: of one family or of both."""
        return bool(self.networks) and set(self.networks) <= set(EVERYTHING)


def read_selectors(texts: Iterable[str]) -> Selectors:
    """What selectors such as `10.0.0.0/8`, `10.0.0.1-10.0.0.9` and `10.1.0.0/16[tcp/80]` mean."""
    networks: list[str] = []
    others: list[str] = []
    limited: list[str] = []
    dynamic = False
    for text in texts:
        written = text.strip()
        plain = written
        if match := _PROTOCOL.fullmatch(written):
            plain = match["network"].strip() or "dynamic"
            if match["protocol"].strip(" /") not in ("", "any", "%any", "any/any", "0", "0/0"):
                limited.append(written)
        if plain in ("dynamic", "%dynamic"):
            dynamic = True
            continue
        found = networks_of(plain)
        networks += found
        if not found:
            others.append(written)
    return Selectors(
        networks=tuple(dict.fromkeys(networks)), others=tuple(others), limited=tuple(limited), dynamic=dynamic
    )


def networks_of(text: str) -> list[str]:
    """An address, a network (with a prefix length or an IPv4 mask) or a range as networks; empty for anything else."""
    try:
        if "-" not in text:
            return [str(ip_network(text.strip(), strict=False))]
        first, last = (ip_address(part.strip()) for part in text.split("-", 1))
        return [str(network) for network in _range(first, last)]
    except (ValueError, TypeError):
        return []


def _range(first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> list[object]:
    if isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
        found: list[object] = list(summarize_address_range(first, last))
    elif isinstance(first, IPv6Address) and isinstance(last, IPv6Address):
        found = list(summarize_address_range(first, last))
    else:
        return []
    return found if len(found) <= MAX_NETWORKS else []
