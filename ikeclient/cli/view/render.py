"""How a tunnel's status and its events look to people. Pure functions from values to text.

The values come over a socket, so nothing is taken for granted: what is missing is left out, and every string is made
harmless.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ikeclient.cli.view.rates import Rate, sparkline
from ikeclient.cli.view.terminal import WIDTH, Segments, printable, wrapped
from ikeclient.control.events import EVENTS
from ikeclient.errors import UsageError

if TYPE_CHECKING:
    from ikeclient.control.record import Record
    from ikeclient.control.status import AuthStatus, OffloadStatus, TunnelStatus

_LABEL = 11  # columns of a label in the text form
_STATE_STYLES = {"connected": "good", "connecting": "busy", "reconnecting": "busy", "blocked": "bad"}
_ROW_STYLES = {"warning": "busy", "error": "bad"}
_LONGEST = 300  # characters of what a file says
_ESSENTIAL = 3  # parts of the first line that stay in a narrow terminal
_NOTHING: tuple[object, ...] = (None, "", [], {})


def sentence(event: Mapping[str, object]) -> str:
    """Return an event in words, one harmless line."""
    name = str(event.get("event", "event"))
    values = {key: _brief(value) for key, value in event.items() if value not in _NOTHING}
    for template in EVENTS[name].sentences if name in EVENTS else ():
        try:
            return template.format_map(values)
        except KeyError:
            continue
    rest = " ".join(f"{printable(key)}={text}" for key, text in values.items() if key not in {"event", "time"})
    return f"{printable(name)} {rest}".rstrip()


def event_line(event: Mapping[str, object]) -> str:
    """Return an event with its time, for `ikeclient events` and for logs."""
    return f"{printable(event.get('time', '-'))}  {sentence(event)}"


def fields(tunnel: TunnelStatus, names: Sequence[str]) -> str:
    """Return the named fields, tab-separated. `gateway.address` and `children.0.suite` reach inside; lists have commas.

    Raises UsageError that names the fields there are.
    """
    document = tunnel.to_json()
    return "\t".join(_field(document, name) for name in names)


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
    """Return a value as it stands in a sentence; of an end point only its address."""
    return _plain(value["address"]) if isinstance(value, Mapping) and "address" in value else _listed(value)


def _listed(value: object) -> str:
    return ", ".join(_listed(item) for item in value) if isinstance(value, list | tuple) else _plain(value)


def status_lines(
    tunnel: TunnelStatus, now: datetime | None = None, columns: int = WIDTH, rate: Rate | None = None
) -> list[Segments]:
    """Return the text form of one tunnel: the state as the first word, then a line for each thing, in so many columns.

    With a `rate` the traffic is told a second as well.
    """
    lines: list[Segments] = [_head(tunnel, now, columns)]
    for label, text in _rows(tunnel, rate):
        for number, piece in enumerate(wrapped(text, columns - _LABEL - 2, cut=True) if text else []):
            lines.append([(f"  {'' if number else label:<{_LABEL}}", "dim"), (piece, _ROW_STYLES.get(label, ""))])
    return lines


def top_lines(tunnel: TunnelStatus, rate: Rate | None, columns: int, now: datetime | None = None) -> list[Segments]:
    """Return one tunnel of `top`: state, path, rates with a picture of the last ones, clocks, drops by kind."""
    gateway, ike = tunnel.gateway, tunnel.ike
    lines: list[Segments] = [_head(tunnel, now, columns)]
    path = _joined(tunnel.interface, _end_point(tunnel.local.address, tunnel.local.port))
    remote = _end_point(gateway.address, gateway.port)
    texts = [f"{path} > {remote}" if path and remote else path or remote]
    clocks = [
        f"rtt {ike.rtt_ms} ms" if ike is not None and ike.rtt_ms is not None else "",
        f"ike {_rekey(ike.rekey_in)}" if ike is not None and ike.rekey_in else "",
        *(f"esp {_rekey(child.rekey_in)}" for child in tunnel.children if child.rekey_in),
        f"{tunnel.roams} roams" if tunnel.roams else "",
        f"{tunnel.reconnects} reconnections" if tunnel.reconnects else "",
    ]
    dropped = [_dropped(counters) for counters in (*tunnel.children, tunnel.drops) if counters is not None]
    texts += [_joined(*clocks), ", ".join(filter(None, dropped)) and f"dropped: {', '.join(filter(None, dropped))}"]
    if tunnel.state != "connected" and tunnel.last_error:
        texts.append(printable(tunnel.last_error))
    first, *plain = [
        [[("  " + line, "")] for line in wrapped(text, columns - 2, cut=True)] if text else [] for text in texts
    ]
    pictures = [] if rate is None else [_picture("in", rate.inward, columns), _picture("out", rate.outward, columns)]
    return [*lines, *first, *pictures, *(line for each in plain for line in each)]


def _picture(way: str, values: Sequence[float], columns: int) -> Segments:
    speed = f"{_size(round(values[-1] if values else 0))}/s"
    start = f"  {way:<4}{speed:>13}  "
    return [(start, ""), (sparkline(values, columns - len(start), sys.stdout), "good")]


def _head(tunnel: TunnelStatus, now: datetime | None, columns: int) -> Segments:
    """Return the first line: state, name, since when."""
    state = printable(tunnel.state, 17)[:20]  # cut twice, because what is escaped becomes longer
    trying = "" if not tunnel.blocked or state == "blocked" else state
    state = "blocked" if tunnel.blocked else state
    name = printable(tunnel.name, 33)[:36]
    head = [(state, _STATE_STYLES.get(state, "bad")), ("  ", ""), (name, "strong")]
    if since := _since(tunnel.since, now or datetime.now(UTC)):
        head.append((f"  for {since}", "dim"))
    if trying:
        head.append((f"  ({trying})", "dim"))
    while len(head) > _ESSENTIAL and sum(len(text) for text, _ in head) > columns:
        head.pop()
    left = columns - len(state) - 2
    return [(text[:left] if style == "strong" else text, style) for text, style in head]


def _rows(tunnel: TunnelStatus, rate: Rate | None) -> Iterator[tuple[str, str]]:
    if tunnel.state == "unresponsive":
        yield "error", _plain(tunnel.last_error)
        return
    if tunnel.blocked:
        yield "closed", f"nothing leaves but through the tunnel; `ikeclient unblock {printable(tunnel.name)}` opens it"
    yield "switch", printable(tunnel.kill_switch) if tunnel.kill_switch else ""
    yield "watch", _decided(tunnel)
    gateway, local, dns, ike = tunnel.gateway, tunnel.local, tunnel.dns, tunnel.ike
    nat = "behind NAT"
    yield (
        "gateway",
        _joined(_end_point(gateway.address, gateway.port), gateway.identity, tunnel.remote_behind_nat and nat),
    )
    yield "proven by", "; ".join(map(_proof, gateway.auth))
    yield "local", _joined(_end_point(local.address, local.port), local.behind_nat and nat)
    yield "proven by", "; ".join(map(_proof, local.auth))
    if tunnel.pid:  # without a process there is neither a device nor a stack
        yield "interface", _joined(tunnel.interface, tunnel.mtu and f"mtu {tunnel.mtu}", tunnel.mode)
    if tunnel.offload is not None:
        yield "offload", _offload(tunnel.offload)
    yield "cipher", _plain(tunnel.cipher)
    yield "addresses", _listed(tunnel.addresses)
    domains = _listed(dns.domains)
    match tunnel.dns_names:
        case "split":
            yield "dns", f"{_listed(dns.servers)}  for {domains}, other names as without the tunnel"
        case "all":
            yield "dns", f"{_listed(dns.servers)}  for every name{domains and f', searched: {domains}'}"
        case _ if dns.servers:  # of an earlier version
            yield "dns", _joined(_listed(dns.servers), domains and f"for {domains}")
        case _:
            yield "dns", "as without the tunnel" if tunnel.state == "connected" else ""
    yield "p-cscf", _listed(tunnel.p_cscf)
    yield "routes", _listed(tunnel.routes)
    if ike is not None:
        rtt = f"rtt {ike.rtt_ms} ms" if ike.rtt_ms is not None else ""
        abilities = (ike.mobike and "mobike", ike.fragmentation and "frag", ike.ppk and "ppk")
        yield "ike", _joined(ike.suite, _rekey(ike.rekey_in), rtt, *abilities)
    if rate is not None and rate.inward and rate.outward:
        yield "rate", f"in {_size(round(rate.inward[-1]))}/s, out {_size(round(rate.outward[-1]))}/s"
    for child in tunnel.children:
        carried = child.counters
        yield "esp", _joined(child.suite, _rekey(child.rekey_in))
        yield (
            "traffic",
            f"in {_size(carried.bytes_in)} ({carried.packets_in:,} packets), "
            f"out {_size(carried.bytes_out)} ({carried.packets_out:,} packets)",
        )
        yield "dropped", _dropped(child)
    yield "esp", "none: the gateway closed it, and the next packet makes another one" if tunnel.idle else ""
    if tunnel.drops is not None:
        yield "dropped", _dropped(tunnel.drops)
    yield "roams", _plain(tunnel.roams) if tunnel.roams else ""
    for warning in tunnel.warnings:
        yield "warning", printable(warning)
    yield "error", _plain(tunnel.last_error)


def _decided(tunnel: TunnelStatus) -> str:
    """Say what `watch` has decided, and whether it is so."""
    watch = tunnel.watch
    if watch is None:
        return ""
    is_down = tunnel.state == "disconnected"
    head = {"disconnect": "not connected" if is_down else "to be ended", "keep": "left as it is"}.get(
        watch.action or "", "to be connected" if is_down else "kept up"
    )
    trouble = f"; the tunnel {printable(watch.trouble, _LONGEST)}" if watch.trouble else ""
    return f"{head}: {printable(watch.reason or '', _LONGEST)}{trouble}"


def _proof(auth: AuthStatus) -> str:
    serial = auth.serial and f"serial {printable(auth.serial)}"
    revocation = auth.revocation and f"revocation {printable(auth.revocation)}"
    key = auth.key and f"key on {printable(auth.key)}"
    return _joined(auth.method, auth.subject, serial, auth.signature, key, revocation)


def _offload(part: OffloadStatus) -> str:
    """Say what carries the packets, and what of the kernel's help is missing."""
    if not part.fast:
        return "none: one packet at a time"
    helps = (
        (part.tun_udp, "UDP super-packets"),
        (part.udp_segments, "UDP_SEGMENT"),
        (part.udp_merges, "UDP_GRO"),
    )
    missing = [name for there, name in helps if not there]
    return _joined(f"{part.codec} codec", missing and f"without {', '.join(missing)}")


def _dropped(counters: Record) -> str:
    return ", ".join(f"{count:,} {kind}" for count, kind in counters.dropped())


def _joined(*pieces: object) -> str:
    return "  ".join(printable(piece) for piece in pieces if piece)


def _end_point(address: str | None, port: int | None) -> str:
    if not address:
        return ""
    text = f"[{address}]" if ":" in address else address
    return f"{text}:{port}" if port else text


def _rekey(seconds: int | None) -> str:
    return f"rekey in {duration(seconds)}" if seconds is not None and seconds > 0 else ""


def _since(since: str | None, now: datetime) -> str:
    try:
        return duration((now - datetime.fromisoformat(since or "")).total_seconds())
    except (ValueError, TypeError):  # no time, or one without a zone
        return ""


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that are not zero: `2 h 14 min`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"
