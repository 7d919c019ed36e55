"""The small languages inside a profile's values: durations, addresses, networks, interface names.

Each parser takes what TOML gave and returns the value or raises `ValueError` whose text completes the sentence
"key 'network.mtu' ...". The texts quote the refused value; nothing that can hold a secret is parsed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from ikeclient.signer.uri import parse_uri
from ikeclient.wire.text import printable

IPNetwork = IPv4Network | IPv6Network

MAX_ADDRESSES = 8
MAX_NETWORKS = 256
MAX_FILES = 64
MAX_NAME_SERVERS = 16
MAX_DOMAINS = 64
_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_UNITS = (86400, 3600, 60, 1)
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]+(?:%d)?[A-Za-z0-9_.-]*|%d[A-Za-z0-9_.-]*")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
MAX_INTERFACE_NAME = 15  # IFNAMSIZ less the terminating NUL


class Fault(ValueError):
    """A refused value: the text completes the sentence "key 'crypto.ike' ...", `hint` says what to try."""

    def __init__(self, text: str, *, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


def shown(value: object) -> str:
    """`value` as an error text quotes it: TOML's notation for scalars, the kind for the rest."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return printable(str(value), 40) if abs(value) < 10**30 else "that number"
        case str():
            return f'"{printable(value, 80)}"'
        case dict():
            return "a section"
        case list() | tuple():
            return "a list"
    return f"a {type(value).__name__}"


def text(value: object) -> str:
    """Text of 1 to 256 characters without control characters (identities, user and service names)."""
    if not isinstance(value, str):
        raise ValueError(f"must be text in quotes, not {shown(value)}")
    if not value:
        raise ValueError("is empty")
    if len(value) > 256:
        raise ValueError(f"has {len(value)} characters, at most 256 are possible")
    if not value.isprintable():
        raise ValueError(f"holds a control character: {shown(value)}")
    return value


def path(value: object) -> str:
    """A file's path, as written; relative ones are resolved later."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the path of a file, not {shown(value)}")
    if len(value) > 4096:
        raise ValueError("is a path of more than 4096 characters")
    return value


def paths(value: object) -> tuple[str, ...]:
    """One path or a list of them."""
    if not isinstance(value, list | tuple):
        return (path(value),)
    if not 1 <= len(value) <= MAX_FILES:
        raise ValueError(f"must list 1 to {MAX_FILES} files, not {len(value)}")
    return tuple(path(item) for item in value)


def format_duration(seconds: int) -> str:
    """Seconds in a profile's own notation: `5400` becomes `1h30m`."""
    parts = []
    for size, unit in zip(_UNITS, "dhms", strict=True):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration(minimum: int, maximum: int, *, zero: bool = False) -> Callable[[object], int]:
    """A parser of durations in seconds: an integer, or text such as `4h`, `1h30m`, `45s`; `zero` allows 0 as well."""

    def parse(value: object) -> int:
        match value:
            case bool():
                seconds = None
            case int():
                seconds = value
            case str() if value and (match := _DURATION.fullmatch(value)):
                seconds = sum(int(n or 0) * unit for n, unit in zip(match.groups(), _UNITS, strict=True))
            case _:
                seconds = None
        if seconds is None:
            raise ValueError(f'must be a duration such as "4h", "1h30m" or a number of seconds, not {shown(value)}')
        if not (minimum <= seconds <= maximum or (zero and seconds == 0)):
            limits = f"between {format_duration(minimum)} and {format_duration(maximum)}"
            raise ValueError(f"must be {limits}{' or 0' if zero else ''}, not {shown(value)}")
        return seconds

    return parse


def address(value: object) -> str:
    """One gateway address: a host name, an IPv4 address or an IPv6 address with or without a zone (hardening F3)."""
    if not isinstance(value, str):
        raise ValueError(f"must be a host name or an IP address in quotes, not {shown(value)}")
    if not value:
        raise ValueError("is empty: it must name the gateway")
    if len(value) > 253:
        raise ValueError(f"has {len(value)} characters, a host name has at most 253")
    if "://" in value or "/" in value:
        raise ValueError(f"must be a bare host name or an IP address, not a URL or a path: {shown(value)}")
    try:
        literal = ip_address(value)
    except ValueError:
        return _host_name(value)
    if literal.is_unspecified or literal.is_multicast or value == "255.255.255.255":
        raise ValueError(f"cannot be {shown(value)}: no gateway can have that address")
    if isinstance(literal, IPv6Address) and literal.scope_id and not _ZONE.fullmatch(literal.scope_id):
        raise ValueError(f"has a zone that is not an interface name: {shown(value)}")
    return value


def _host_name(value: str) -> str:
    if value.startswith("[") or re.fullmatch(r"[^:]*:\d+", value):
        raise ValueError(f"must be without brackets and port: {shown(value)}; the port is the key 'gateway.port'")
    if not value.isascii():
        raise ValueError(f"must be ASCII, so write an international name in its xn-- form: {shown(value)}")
    labels = value.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"is neither a host name nor an IP address: {shown(value)}")
    if labels[-1].isdigit():
        raise ValueError(f"is not an IPv4 address: {shown(value)}")
    return value


def addresses(value: object) -> tuple[str, ...]:
    """One gateway address or a list of them, tried in order."""
    if not isinstance(value, list | tuple):
        return (address(value),)
    if not 1 <= len(value) <= MAX_ADDRESSES:
        raise ValueError(f"must list 1 to {MAX_ADDRESSES} addresses, not {len(value)}")
    return tuple(dict.fromkeys(address(item) for item in value))


def network(value: object, warnings: list[str]) -> IPNetwork:
    """A network in CIDR notation; host bits are cleared with a warning (hardening F5)."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'must be a network such as "10.0.0.0/8", not {shown(value)}')
    try:
        result = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'must be a network such as "10.0.0.0/8" or "2001:db8::/32", not {shown(value)}') from None
    if "%" in value:
        raise ValueError(f"cannot have a zone: {shown(value)}")
    if str(ip_address(value.partition("/")[0])) != str(result.network_address):
        warnings.append(f"{value} has host bits set: taken as {result}")
    return result


def networks(values: Sequence[object], warnings: list[str]) -> tuple[IPNetwork, ...]:
    """A list of networks, without repetitions; one inside another is kept and warned about."""
    if len(values) > MAX_NETWORKS:
        raise ValueError(f"lists {len(values)} networks, at most {MAX_NETWORKS} are possible")
    result = tuple(dict.fromkeys(network(value, warnings) for value in values))
    warnings += (f"{a} is inside {b}, which is listed too" for a in result for b in result if _inside(a, b))
    return result


def _inside(inner: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner != outer and inner.subnet_of(outer)
    return (
        isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner != outer and inner.subnet_of(outer)
    )


def routes(value: object, warnings: list[str]) -> Literal["gateway", "all"] | tuple[IPNetwork, ...]:
    """`gateway`, `all` or a list of networks."""
    match value:
        case "gateway":
            return "gateway"
        case "all":
            return "all"
        case list() | tuple() if value:
            return networks(value, warnings)
        case list() | tuple():
            raise ValueError('is empty: list networks, or say "gateway" or "all"')
    raise ValueError(f'must be "gateway", "all" or a list of networks, not {shown(value)}')


def name_servers(value: object) -> tuple[IPv4Address | IPv6Address, ...]:
    """A list of addresses that names can be asked from."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of IP addresses, not {shown(value)}")
    if len(value) > MAX_NAME_SERVERS:
        raise ValueError(f"lists {len(value)} addresses, at most {MAX_NAME_SERVERS} are possible")
    return tuple(dict.fromkeys(_name_server(item) for item in value))


def _name_server(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        found = ip_address(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or getattr(found, "scope_id", None):
        raise ValueError(f'must list IP addresses such as "10.99.0.53"; {shown(value)} is none')
    if found.is_unspecified or found.is_multicast or found.is_loopback:
        raise ValueError(f"cannot list {shown(value)}: no server behind a tunnel has that address")
    return found


def domains(value: object) -> tuple[str, ...]:
    """A list of domain names, without the dot at the end."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of domain names, not {shown(value)}")
    if len(value) > MAX_DOMAINS:
        raise ValueError(f"lists {len(value)} names, at most {MAX_DOMAINS} are possible")
    return tuple(dict.fromkeys(_domain(item) for item in value))


def _domain(value: object) -> str:
    name = value.strip(".").lower() if isinstance(value, str) else ""
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f'must list domain names such as "corp.example"; {shown(value)} is none')
    return name


def exclusions(value: object, warnings: list[str]) -> tuple[IPNetwork | Literal["lan"], ...]:
    """A list of networks and the word `lan`."""
    if not isinstance(value, list | tuple):
        raise ValueError(f'must be a list of networks or "lan", not {shown(value)}')
    found = networks([item for item in value if item != "lan"], warnings)
    return (*found, "lan") if "lan" in value else found


def version(value: object) -> int:
    """The version of the format; there is one so far."""
    if isinstance(value, bool) or value != 1:
        raise ValueError(f"must be 1, the only version this ikeclient knows, not {shown(value)}")
    return 1


def integer(minimum: int, maximum: int, *, zero: bool = False) -> Callable[[object], int]:
    """A parser of whole numbers within limits; `zero` allows 0 as well."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not (minimum <= value <= maximum or (zero and value == 0)):
            limits = f"between {minimum} and {maximum}{' or 0' if zero else ''}"
            raise ValueError(f"must be {limits}, not {shown(value)}")
        return value

    return parse


def interface(value: object) -> str:
    """An interface name, or a pattern in which `%d` stands for the first free number."""
    if not isinstance(value, str):
        raise ValueError(f"must be an interface name in quotes, not {shown(value)}")
    if not _INTERFACE.fullmatch(value) or value in {".", "..", "all", "default", "lo"}:
        raise ValueError(f'must be an interface name such as "ike%d", not {shown(value)}')
    if len(value.replace("%d", "0")) > MAX_INTERFACE_NAME:
        raise ValueError(f"must have at most {MAX_INTERFACE_NAME} characters, not {shown(value)}")
    return value


def retry(value: object) -> Literal["forever"] | int:
    """`forever`, or how many more attempts follow a failed one."""
    if value == "forever":
        return "forever"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f'must be "forever" or a number of attempts, not {shown(value)}')
    if not 0 <= value <= 1000:
        raise ValueError(f"must be between 0 and 1000, not {shown(value)}")
    return value


def commands(value: object) -> tuple[tuple[str, ...], ...]:
    """A list of commands, each a list of its words; nothing is given to a shell."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, list | tuple) for item in value):
        raise ValueError('must be a list of commands, each a list of words: [["/usr/local/bin/hook", "argument"]]')
    if len(value) > 16:
        raise ValueError(f"lists {len(value)} commands, at most 16 are possible")
    return tuple(command(item) for item in value)


def command(value: object) -> tuple[str, ...]:
    """One command as the list of its words. The texts of errors do not quote it: it may carry a secret."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError('must be a command as a list of words: ["program", "argument"]')
    if not value[0] or len(value) > 64 or any("\0" in word or len(word) > 4096 for word in value):
        raise ValueError("is a command that cannot be run: an empty, too long or NUL-bearing word, or too many of them")
    return tuple(value)


def pkcs11_uri(value: object) -> str:
    """A PKCS#11 URI (RFC 7512) that names a key."""
    if not isinstance(value, str):
        raise ValueError(f"must be a PKCS#11 URI in quotes, not {shown(value)}")
    try:
        parse_uri(value)
    except ValueError as error:
        raise ValueError(f"is a URI that {error}") from None
    return value


def agent_fingerprint(value: object) -> str:
    """The fingerprint of a key of ssh-agent."""
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise ValueError(f"must be a fingerprint as `ssh-add -l` shows it, SHA256:..., not {shown(value)}")
    return value
