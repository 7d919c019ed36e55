"""How a tunnel's status and its events look to people. Pure functions from dictionaries to text.

The dictionaries come over a socket, so nothing is taken for granted: what is missing or has another type is left out or
shown as it is, and every string is made harmless.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from ikeclient.cli.view.terminal import WIDTH, Segments, printable
from ikeclient.errors import UsageError

SCHEMA = "ikeclient.status/1"

_LABEL = 11  # columns of a label in the text form
_STATE_STYLES = {"connected": "good", "connecting": "busy", "reconnecting": "busy"}
_DROPPED = (
    ("replays", "replayed"),
    ("auth_failures", "forged or damaged"),
    ("selector_drops", "outside the selectors"),
    ("malformed", "malformed"),
    ("congested", "with impossible congestion marks"),
    ("exhausted", "without a sequence number"),
)
_NOTHING: tuple[object, ...] = (None, "", [], {})

# The first sentence whose fields are all there is the one that is shown.
_SENTENCES: dict[str, tuple[str, ...]] = {
    "resolving": ("resolving {host}", "resolving"),
    "negotiating": ("negotiating with {gateway}", "negotiating"),
    "authenticating": ("authenticating",),
    "configuring": ("configuring {interface}", "configuring"),
    "connected": (
        "connected in {elapsed_ms} ms: {addresses} on {interface}, gateway {gateway}",
        "connected in {elapsed_ms} ms: {interface}, gateway {gateway}",
        "connected in {elapsed_ms} ms",
        "connected",
    ),
    "mtu": ("the path carries {path_mtu} bytes: the tunnel's MTU is {mtu}",),
    "roamed": ("roamed to {local}", "roamed"),
    "rekeyed": ("rekeyed the {what} SA, {suite}", "rekeyed the {what} SA", "rekeyed"),
    "child-closed": ("the gateway closed the Child SA; the next packet makes another one",),
    "child-created": ("made another Child SA, {suite}", "made another Child SA"),
    "reconnecting": ("reconnecting: {error}", "reconnecting"),
    "disconnected": ("disconnected: {error}", "disconnected"),
    "reloaded": ("the profile was read again: {effect}", "the profile was read again"),
    "listening": ("listening: {listeners}", "listening"),
    "notice": ("{text}",),
    "warning": ("warning: {text}",),
}


def document(tunnels: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The document of `status --json`."""
    return {"schema": SCHEMA, "tunnels": list(tunnels)}


def unresponsive(name: str, pid: int) -> dict[str, object]:
    """The entry of a tunnel whose process is there but does not answer: every key, nothing known."""
    end_point = {"address": None, "port": None}
    return {
        "name": name,
        "pid": pid,
        "state": "unresponsive",
        "since": None,
        "interface": None,
        "mtu": None,
        "path_mtu": None,
        "mode": None,
        "offload": None,
        "gateway": end_point | {"identity": None},
        "local": end_point | {"behind_nat": None},
        "remote_behind_nat": None,
        "addresses": [],
        "dns": {"servers": [], "domains": []},
        "routes": [],
        "ike": None,
        "children": [],
        "idle": None,
        "drops": None,
        "roams": 0,
        "last_error": "the process does not answer",
    }


def sentence(event: Mapping[str, object]) -> str:
    """An event in words, one harmless line."""
    name = str(event.get("event", "event"))
    values = {key: _brief(value) for key, value in event.items() if value not in _NOTHING}
    for template in _SENTENCES.get(name, ()):
        try:
            return template.format_map(values)
        except KeyError:
            continue
    rest = " ".join(f"{printable(key)}={text}" for key, text in values.items() if key not in {"event", "time"})
    return f"{printable(name)} {rest}".rstrip()


def event_line(event: Mapping[str, object]) -> str:
    """An event with its time, for `ikeclient events` and for logs."""
    return f"{printable(event.get('time', '-'))}  {sentence(event)}"


def fields(tunnel: Mapping[str, object], names: Sequence[str]) -> str:
    """The named fields, tab-separated. `gateway.address` and `children.0.suite` reach inside; lists have commas.

    Raises UsageError that names the fields there are.
    """
    return "\t".join(_field(tunnel, name) for name in names)


def _field(tunnel: Mapping[str, object], name: str) -> str:
    value: object = tunnel
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, list) and all(isinstance(item, Mapping) and part in item for item in value):
            value = [item[part] for item in value]
        elif value is None:
            break  # a tunnel that is not connected has no `ike.suite`, which is no mistake
        else:
            place = value[0] if isinstance(value, list) and value else value
            known = f"known here: {', '.join(place)}" if isinstance(place, Mapping) else None
            raise UsageError(f"there is no field '{printable(name)}'", reason=known)
    return _plain(value)


def _plain(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(_plain(item) for item in value)
        case Mapping():
            return ",".join(f"{printable(key)}={_plain(item)}" for key, item in value.items())
    return printable(value)


def _brief(value: object) -> str:
    """A value inside a sentence; of an end point only its address."""
    return _plain(value["address"]) if isinstance(value, Mapping) and "address" in value else _listed(value)


def _listed(value: object) -> str:
    return ", ".join(_listed(item) for item in value) if isinstance(value, list | tuple) else _plain(value)


def status_lines(tunnel: Mapping[str, object], now: datetime | None = None) -> list[Segments]:
    """The text form of one tunnel: the state as the first word, then a line for each thing, in 80 columns."""
    state = printable(tunnel.get("state", "unknown"), 17)[:20]  # cut twice, because what is escaped becomes longer
    name = printable(tunnel.get("name", "?"), 33)[:36]
    head = [(state, _STATE_STYLES.get(state, "bad")), ("  ", ""), (name, "strong")]
    if since := _since(tunnel.get("since"), now or datetime.now(UTC)):
        head.append((f"  for {since}", "dim"))
    lines: list[Segments] = [head]
    for label, text in _rows(tunnel):
        wrapped = textwrap.wrap(text, WIDTH - _LABEL - 2, break_on_hyphens=False) if text else []
        for number, piece in enumerate(wrapped):
            lines.append(
                [(f"  {'' if number else label:<{_LABEL}}", "dim"), (piece, "bad" if label == "error" else "")]
            )
    return lines


def _rows(tunnel: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    gateway, local, dns = _part(tunnel, "gateway"), _part(tunnel, "local"), _part(tunnel, "dns")
    nat = "behind NAT"
    yield "gateway", _joined(_end_point(gateway), gateway.get("identity"), tunnel.get("remote_behind_nat") and nat)
    yield "local", _joined(_end_point(local), local.get("behind_nat") and nat)
    mtu = tunnel.get("mtu")
    yield "interface", _joined(tunnel.get("interface"), mtu and f"mtu {mtu}", tunnel.get("mode"))
    yield "offload", _offload(_part(tunnel, "offload"))
    yield "addresses", _listed(tunnel.get("addresses"))
    domains = _listed(dns.get("domains"))
    yield "dns", _joined(_listed(dns.get("servers")), domains and f"for {domains}")
    yield "routes", _listed(tunnel.get("routes"))
    ike = _part(tunnel, "ike")
    yield (
        "ike",
        _joined(ike.get("suite"), _rekey(ike), ike.get("mobike") and "mobike", ike.get("fragmentation") and "frag"),
    )
    children = tunnel.get("children")
    for child in children if isinstance(children, list) else ():
        if isinstance(child, Mapping):
            yield from _child_rows(child)
    yield "esp", "none: the gateway closed it, and the next packet makes another one" if tunnel.get("idle") else ""
    roams = tunnel.get("roams")
    yield "roams", _plain(roams) if roams else ""
    yield "error", _plain(tunnel.get("last_error"))


def _offload(part: Mapping[str, object]) -> str:
    """What carries the packets, and what of the kernel's help is missing."""
    if not part:
        return ""
    if not part.get("fast"):
        return "none: one packet at a time"
    names = (("tun_udp", "UDP super-packets"), ("udp_segments", "UDP_SEGMENT"), ("udp_merges", "UDP_GRO"))
    missing = [name for key, name in names if not part.get(key)]
    return _joined(f"{part.get('codec')} codec", missing and f"without {', '.join(missing)}")


def _child_rows(child: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield "esp", _joined(child.get("suite"), _rekey(child))
    yield (
        "traffic",
        f"in {_size(child.get('bytes_in'))} ({_count(child.get('packets_in'))} packets), "
        f"out {_size(child.get('bytes_out'))} ({_count(child.get('packets_out'))} packets)",
    )
    dropped = [f"{_count(child[key])} {word}" for key, word in _DROPPED if child.get(key)]
    yield "dropped", ", ".join(dropped)


def _part(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _joined(*pieces: object) -> str:
    return "  ".join(printable(piece) for piece in pieces if piece)


def _end_point(part: Mapping[str, object]) -> str:
    address, port = part.get("address"), part.get("port")
    if not address:
        return ""
    text = f"[{address}]" if ":" in str(address) else str(address)
    return f"{text}:{port}" if port else text


def _rekey(part: Mapping[str, object]) -> str:
    seconds = part.get("rekey_in")
    return f"rekey in {duration(seconds)}" if isinstance(seconds, int | float) and seconds > 0 else ""


def _since(since: object, now: datetime) -> str:
    try:
        return duration((now - datetime.fromisoformat(str(since))).total_seconds())
    except (ValueError, TypeError):  # no time, or one without a zone
        return ""


def duration(seconds: float) -> str:
    """Seconds in the two largest units that are not zero: `2 h 14 min`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _size(count: object) -> str:
    if not isinstance(count, int | float):
        return "?"
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"


def _count(count: object) -> str:
    return f"{count:,}" if isinstance(count, int) else "?"
