"""Tunnels as metrics, in the text format that Prometheus reads (version 0.0.4).

One table says which metrics there are; text, documentation and tests are made from it. A metric may be added; none is
renamed or taken away. Counters go on through rekeys and new connections, for as long as a tunnel's process lives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal

from ikeclient import __version__
from ikeclient.control.status import STATES, AuthStatus, ChildCounters, Drops, TunnelStatus
from ikeclient.lazy_dataclass import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Value = float | None
Sample = tuple[Mapping[str, str], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: `samples` gives its values with their labels beside `tunnel`; one without a value is left out."""

    kind: Literal["gauge", "counter"]
    about: str
    samples: Callable[[TunnelStatus], Iterable[Sample]]
    labels: tuple[str, ...] = ()


def _one(value: Callable[[TunnelStatus], Value]) -> Callable[[TunnelStatus], Iterable[Sample]]:
    return lambda tunnel: [({}, value(tunnel))]


def _seconds(milliseconds: int | None) -> Value:
    return None if milliseconds is None else milliseconds / 1000


def _unix_time(text: str | None) -> Value:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _carried(field: str) -> Callable[[TunnelStatus], Iterable[Sample]]:
    return _one(lambda tunnel: None if tunnel.totals is None else getattr(tunnel.totals.counters, field))


def _info(tunnel: TunnelStatus) -> Iterator[Sample]:
    labels = {
        "version": __version__,
        "mode": tunnel.mode,
        "interface": tunnel.interface,
        "gateway": tunnel.gateway.address,
        "identity": tunnel.gateway.identity,
        "cipher": tunnel.cipher,
    }
    yield {key: value or "" for key, value in labels.items()}, 1


def _states(tunnel: TunnelStatus) -> Iterator[Sample]:
    for state in STATES:
        yield {"state": state}, tunnel.state == state


def _dropped(tunnel: TunnelStatus) -> Iterator[Sample]:
    counters = (("child-sa", tunnel.totals.counters if tunnel.totals is not None else None), ("outside", tunnel.drops))
    for where, record in counters:
        if record is not None:
            for kind in _drop_kinds(record):
                yield {"where": where, "kind": kind}, getattr(record, kind)


def _drop_kinds(record: ChildCounters | Drops) -> Iterator[str]:
    return (each.name for each in dataclasses.fields(record) if each.metadata["dropped"])


def _rekeys(tunnel: TunnelStatus) -> Iterator[Sample]:
    if tunnel.totals is not None:
        yield {"sa": "ike"}, tunnel.totals.ike_rekeys
        yield {"sa": "child"}, tunnel.totals.child_rekeys


def _rekey_in(tunnel: TunnelStatus) -> Iterator[Sample]:
    if tunnel.ike is not None:
        yield {"sa": "ike"}, tunnel.ike.rekey_in
    times = [child.rekey_in for child in tunnel.children if child.rekey_in is not None]
    yield {"sa": "child"}, min(times, default=None)


def _certificates(tunnel: TunnelStatus) -> Iterator[Sample]:
    sides: tuple[tuple[str, tuple[AuthStatus, ...]], ...] = (
        ("gateway", tunnel.gateway.auth),
        ("local", tunnel.local.auth),
    )
    for side, proofs in sides:
        for proof in proofs:
            labels = {"side": side, "subject": proof.subject or "", "serial": proof.serial or ""}
            yield labels, _unix_time(proof.expires)


METRICS: dict[str, Metric] = {
    "ikeclient_tunnel_info": Metric(
        kind="gauge",
        about="Always 1; the labels say what the tunnel is.",
        samples=_info,
        labels=("version", "mode", "interface", "gateway", "identity", "cipher"),
    ),
    "ikeclient_up": Metric(
        kind="gauge", about="1 while packets flow.", samples=_one(lambda tunnel: tunnel.state == "connected")
    ),
    "ikeclient_state": Metric(
        kind="gauge",
        about="1 for the state that the tunnel is in, 0 for the others.",
        samples=_states,
        labels=("state",),
    ),
    "ikeclient_state_since_seconds": Metric(
        kind="gauge",
        about="When that state began, as Unix time.",
        samples=_one(lambda tunnel: _unix_time(tunnel.since)),
    ),
    "ikeclient_blocked": Metric(
        kind="gauge",
        about="1 while the kill switch is closed and there is no connection.",
        samples=_one(lambda tunnel: tunnel.blocked),
    ),
    "ikeclient_warnings": Metric(
        kind="gauge", about="How many warnings status shows.", samples=_one(lambda tunnel: len(tunnel.warnings))
    ),
    "ikeclient_received_bytes_total": Metric(
        kind="counter", about="Bytes of inner packets received.", samples=_carried("bytes_in")
    ),
    "ikeclient_sent_bytes_total": Metric(
        kind="counter", about="Bytes of inner packets sent.", samples=_carried("bytes_out")
    ),
    "ikeclient_received_packets_total": Metric(
        kind="counter", about="Inner packets received and passed on.", samples=_carried("packets_in")
    ),
    "ikeclient_sent_packets_total": Metric(
        kind="counter", about="Inner packets sent.", samples=_carried("packets_out")
    ),
    "ikeclient_dropped_packets_total": Metric(
        kind="counter",
        about="Packets and datagrams that were dropped, in a Child SA or outside of them, by reason.",
        samples=_dropped,
        labels=("where", "kind"),
    ),
    "ikeclient_reconnects_total": Metric(
        kind="counter", about="Connections made again.", samples=_one(lambda tunnel: tunnel.reconnects)
    ),
    "ikeclient_roams_total": Metric(
        kind="counter", about="Moves to another pair of addresses.", samples=_one(lambda tunnel: tunnel.roams)
    ),
    "ikeclient_rekeys_total": Metric(kind="counter", about="SAs with new keys.", samples=_rekeys, labels=("sa",)),
    "ikeclient_rekey_in_seconds": Metric(
        kind="gauge", about="Time until the next rekey.", samples=_rekey_in, labels=("sa",)
    ),
    "ikeclient_child_sas": Metric(
        kind="gauge", about="Child SAs in use.", samples=_one(lambda tunnel: len(tunnel.children))
    ),
    "ikeclient_rtt_seconds": Metric(
        kind="gauge",
        about="How long the gateway took to answer when it was asked last.",
        samples=_one(lambda tunnel: _seconds(tunnel.ike.rtt_ms) if tunnel.ike is not None else None),
    ),
    "ikeclient_connect_seconds": Metric(
        kind="gauge",
        about="How long the last connection took to be made.",
        samples=_one(lambda tunnel: _seconds(tunnel.connect_ms)),
    ),
    "ikeclient_mtu_bytes": Metric(
        kind="gauge", about="The longest packet that enters the tunnel whole.", samples=_one(lambda tunnel: tunnel.mtu)
    ),
    "ikeclient_path_mtu_bytes": Metric(
        kind="gauge",
        about="The longest packet that the path to the gateway carries.",
        samples=_one(lambda tunnel: tunnel.path_mtu),
    ),
    "ikeclient_cpu_seconds_total": Metric(
        kind="counter",
        about="Processor time of the tunnel's process.",
        samples=_one(lambda tunnel: _seconds(tunnel.totals.cpu_ms) if tunnel.totals is not None else None),
    ),
    "ikeclient_certificate_expiry_seconds": Metric(
        kind="gauge",
        about="When a certificate that was shown expires, as Unix time.",
        samples=_certificates,
        labels=("side", "subject", "serial"),
    ),
}


def render(tunnels: Iterable[TunnelStatus]) -> str:
    """Return the metrics of these tunnels as text."""
    listed = list(tunnels)
    lines: list[str] = []
    for name, metric in METRICS.items():
        samples = [
            f"{name}{_labels({'tunnel': tunnel.name, **labels})} {_number(value)}"
            for tunnel in listed
            for labels, value in metric.samples(tunnel)
            if value is not None
        ]
        if samples:
            lines += [f"# HELP {name} {metric.about}", f"# TYPE {name} {metric.kind}", *samples]
    return "".join(line + "\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
