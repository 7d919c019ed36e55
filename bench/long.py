"""What takes longer than a round: the cost curve of our engine, and soaks at full speed."""

from __future__ import annotations

import statistics
from contextlib import AbstractContextManager

from bench.peers import CLIENTS, INSIDES, MANY, ours, ours_to_strongswan
from bench.world import Figures, Meter, Tunnel, World, resident_mib

SIZES = (64, 256, 512, 1024, 1400)
FLOWS = (1, 4, 16, 64)
PARTS = 10
FULL_SEGMENT = 1348  # of TCP with timestamps and an MTU of 1400
UDP_HEADERS = 28


def curve(world: World, seconds: float, rounds: int) -> list[Figures]:
    """What small packets, many flows and many Child SAs cost, with our engine at both ends; medians."""
    runs = [_curve(world, seconds) for _ in range(rounds)]
    return [{key: statistics.median(row[key] for row in same) for key in same[0]} for same in zip(*runs, strict=True)]


def _curve(world: World, seconds: float) -> list[Figures]:
    rows: list[Figures] = []
    with ours()(world) as tunnel:
        meter = Meter(world, tunnel)
        try:
            for size in SIZES:
                result = meter.iperf(seconds, "-u", "-b", "0", "-l", str(size - UDP_HEADERS))
                rows.append(_row("udp", size, result))
            rows += (_row("tcp", 1400, meter.iperf(seconds, "-P", str(flows)), flows=flows) for flows in FLOWS)
        finally:
            meter.close()
    for option, sas in (("--many", 1), ("--sas", MANY)):
        with ours(option)(world) as tunnel:
            meter = Meter(world, tunnel)
            try:
                result = meter.many(seconds, list(zip(CLIENTS, INSIDES, strict=True)))
                rows.append(_row("tcp", 1400, result, flows=MANY, sas=sas))
            finally:
                meter.close()
    return rows


def _row(kind: str, size: int, result: Figures, *, flows: int = 1, sas: int = 1) -> Figures:
    packet_gb = (size - UDP_HEADERS if kind == "udp" else FULL_SEGMENT) / 1e9
    ends = (("sender", "client"), ("receiver", "gateway"))
    costs = {
        f"{role}_{part}_us_per_packet": result.get(f"{end}_{part}_s_per_gb", 0.0) * packet_gb * 1e6
        for role, end in ends
        for part in ("cpu", "kernel")
    }
    return costs | {
        "tcp": float(kind == "tcp"),
        "inner_bytes": size,
        "flows": flows,
        "sas": sas,
        "mbit_s": result["mbit_s"],
    }


def soak(world: World, seconds: float) -> dict[str, dict[str, object]]:
    """Full speed for a long time: between our own ends, and through `ikeclient connect` with rekeys meanwhile."""
    session = {"rekey_child": 20, "rekey_ike": 30, "liveness": 10}
    return {
        "engine": _soak(world, ours()(world), seconds),
        "connect": _soak(world, ours_to_strongswan(world, **session), seconds),
    }


def _soak(world: World, way: AbstractContextManager[Tunnel], seconds: float) -> dict[str, object]:
    """Parts of equal length, up and down in turn, each with a ping beside it."""
    parts: list[Figures] = []
    with way as tunnel:
        meter = Meter(world, tunnel)
        try:
            idle = meter.ping()
            for part in range(PARTS):
                figures = meter.loaded(seconds / PARTS, *(("-R",) if part % 2 else ()))
                figures |= {"client_mib": resident_mib(tunnel.client_pid), "down": float(part % 2)}
                figures |= _state(tunnel)
                parts.append(figures)
        finally:
            meter.close()
    return {"idle_ping_ms": idle, "parts": parts, "verdict": _verdict(parts, idle)}


def _state(tunnel: Tunnel) -> Figures:
    """What IKE has been doing meanwhile."""
    status = tunnel.status()
    if status is None:
        return {}
    rekeys = (status["children"] or [{"rekeys": -1}])[0]["rekeys"]
    return {
        "connected": float(status["state"] == "connected"),
        "reconnects": status["reconnects"],
        "child_rekeys": rekeys,
        "ike_rekeys": status["ike"]["rekeys"],
    }


def _verdict(parts: list[Figures], idle: float) -> Figures:
    """Growth of memory in MiB, drift of throughput as last over first, loaded ping as a multiple of idle."""
    drifts = []
    for down in (0.0, 1.0):
        speeds = [part["mbit_s"] for part in parts if part["down"] == down]
        half = len(speeds) // 2
        drifts.append(statistics.mean(speeds[-half:]) / statistics.mean(speeds[:half]))
    last = parts[-1]
    verdict = {
        "memory_growth_mib": last["client_mib"] - parts[1]["client_mib"],
        "drift_up": drifts[0],
        "drift_down": drifts[1],
        "loaded_over_idle_ping": statistics.median(part["ping_ms"] for part in parts) / idle,
        "pings_lost": sum(part["ping_lost"] for part in parts),
    }
    if "reconnects" in last:
        verdict |= {key: last[key] for key in ("reconnects", "child_rekeys", "ike_rekeys")}
    return verdict
