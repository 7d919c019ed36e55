"""Compare data planes on this machine: run everybody in turn, several times, and print medians and ratios.

Absolute figures say little: compare inside one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench.long import curve, soak
from bench.peers import Peer, peers
from bench.proxy import compare
from bench.report import markdown, text
from bench.world import Figures, Meter, World, pss_mib, resident_mib

OURS_35 = "ours-openssl35"
FULL = frozenset({"ours", "wireguard-go", "strongswan", "ours-strongswan", OURS_35, "ours-strongswan-openssl35"})
CONNECTED = frozenset({"ours-strongswan", "ours-strongswan-openssl35"})
IDLE = 20.0  # seconds

BY_HAND = "## Where the time goes"
TARGETS: tuple[tuple[str, str, str, str, str, float | None], ...] = (  # without a target: for orientation
    ("TCP up / wireguard-go", "ours", "wireguard-go", "tcp_up", ">=", 1.2),
    ("TCP down / wireguard-go", "ours", "wireguard-go", "tcp_down", ">=", 1.2),
    ("TCP up / wireguard-go, OpenSSL 3.5", OURS_35, "wireguard-go", "tcp_up", ">=", 1.5),
    ("TCP down / wireguard-go, OpenSSL 3.5", OURS_35, "wireguard-go", "tcp_down", ">=", 1.5),
    ("TCP both ways at once / wireguard-go", "ours", "wireguard-go", "tcp_both", ">=", 1.2),
    ("64-byte packets / wireguard-go", "ours", "wireguard-go", "udp64_kpps", ">=", 1.0),
    ("TCP up, ChaCha20-Poly1305 / AES-GCM", "ours-chacha", "ours", "tcp_up", "", None),
    ("TCP down, ChaCha20-Poly1305 / AES-GCM", "ours-chacha", "ours", "tcp_down", "", None),
    ("TCP up, AES-CBC with HMAC-SHA-256 / AES-GCM", "ours-cbc", "ours", "tcp_up", "", None),
    ("TCP down, AES-CBC with HMAC-SHA-256 / AES-GCM", "ours-cbc", "ours", "tcp_down", "", None),
    ("TCP up / with `cryptography`", "ours", "ours-cryptography", "tcp_up", ">=", 1.0),
    ("TCP down / with `cryptography`", "ours", "ours-cryptography", "tcp_down", ">=", 1.0),
    ("TCP up / strongSwan", "ours", "strongswan", "tcp_up", ">=", 6.0),
    ("TCP down / strongSwan", "ours", "strongswan", "tcp_down", ">=", 6.0),
    *(
        (
            f"client CPU per GB {way} / strongSwan's{words}",
            peer,
            "strongswan",
            f"tcp_{way}_client_cpu_s_per_gb",
            "<=",
            most,
        )
        for words, peer, most in (("", "ours-strongswan", 0.20), (", OpenSSL 3.5", "ours-strongswan-openssl35", 0.18))
        for way in ("up", "down")
    ),
    ("idle ping / wireguard-go", "ours", "wireguard-go", "ping_ms", "<=", 1.0),
    ("UDP flood delivered / wireguard-go", "ours", "wireguard-go", "udp_flood", ">=", 4.0),
    ("plain codec TCP up / strongSwan", "ours-plain", "strongswan", "tcp_up", ">=", 1.5),
    ("plain codec TCP down / strongSwan", "ours-plain", "strongswan", "tcp_down", ">=", 1.5),
    ("resident MiB, connected", "ours-strongswan", "", "client_mib", "<=", 80.0),
    ("memory of all processes (PSS), MiB", "ours-strongswan", "", "pss_mib", "<=", 45.0),
    ("wakeups a minute, idle", "ours-strongswan", "", "wakeups_min", "<=", 8.0),
    ("`connect --detach`, start to exit, s", "ours-strongswan", "", "detach_s", "<=", 0.4),
    ("connect to first ping, s", "ours-strongswan", "", "connect_s", "<=", 0.6),
    ("`ikeclient --help`, s", "ours-strongswan", "", "help_s", "<=", 0.25),
    ("loaded ping / idle ping", "ours", "ours", "ping_loaded_ms/ping_ms", "<=", 3.0),
)


def measure(world: World, peer: Peer, seconds: float) -> Figures:
    """All figures of one peer, once."""
    figures: Figures = {}
    with peer.start(world) as tunnel:
        meter = Meter(world, tunnel)
        try:
            for name, options in (("tcp_up", ()), ("tcp_down", ("-R",))):
                result = meter.iperf(seconds, *options)
                figures[name] = result.pop("mbit_s")
                figures |= {f"{name}_{key}": value for key, value in result.items()}
            if peer.name in FULL:
                figures["tcp4_up"] = meter.iperf(seconds, "-P", "4")["mbit_s"]
                figures["tcp4_down"] = meter.iperf(seconds, "-P", "4", "-R")["mbit_s"]
                figures["tcp_both"] = meter.iperf(seconds, "--bidir")["mbit_s"]
                figures["udp64_kpps"] = meter.small_packets(seconds)
                figures["udp_flood"] = meter.iperf(seconds, "-u", "-b", "0", "-l", "1300")["mbit_s"]
                time.sleep(0.5)
                figures["ping_ms"] = meter.ping()
                figures["ping_loaded_ms"] = meter.loaded_ping(2)
            figures["client_mib"] = resident_mib(tunnel.client_pid)
            if tunnel.connect_seconds is not None:
                figures["connect_s"] = tunnel.connect_seconds
            if tunnel.detach_seconds is not None:
                figures["detach_s"] = tunnel.detach_seconds
            if peer.name in CONNECTED:
                figures["pss_mib"] = pss_mib(tunnel.client_pid)
                figures["wakeups_min"] = meter.wakeups(min(IDLE, 4 * seconds))
                figures["help_s"] = help_seconds()
        finally:
            meter.close()
    return figures


def help_seconds() -> float:
    """How long the command line takes to say what it can do."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "ikeclient", "--help"], check=True, capture_output=True)
    return time.monotonic() - begin


def medians(rounds: dict[str, list[Figures]]) -> dict[str, Figures]:
    """The median of each figure over the rounds."""
    names = {peer: sorted({key for figures in runs for key in figures}) for peer, runs in rounds.items()}
    return {
        peer: {key: statistics.median(f[key] for f in rounds[peer] if key in f) for key in keys}
        for peer, keys in names.items()
    }


def ratios(found: dict[str, Figures]) -> list[dict[str, object]]:
    """Every target with what was reached."""
    rows: list[dict[str, object]] = []
    for words, peer, other, key, sign, target in TARGETS:
        upper, _, lower = key.partition("/")
        value = found.get(peer, {}).get(upper)
        base = found.get(other, {}).get(lower or upper) if other else 1.0
        reached = value / base if value is not None and base else None
        if target is None:
            rows.append({"figure": words, "reached": reached, "target": "-", "met": None})
            continue
        met = None if reached is None else (reached >= target if sign == ">=" else reached <= target)
        rows.append({"figure": words, "reached": reached, "target": f"{sign} {target:g}", "met": met})
    return rows


def machine() -> dict[str, str]:
    """What it ran on."""
    import cryptography

    from ikeclient.dataplane.cipher import choose_cipher, describe
    from ikeclient.esp.codec.choice import ACTIVE

    choose_cipher()
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "codec": ACTIVE,
        "cipher": describe()[0],
        "load_before": " ".join(f"{n:.2f}" for n in os.getloadavg()),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs, of which medians are shown")
    parser.add_argument("--seconds", type=float, default=5, help="length of each iperf3 run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--only", metavar="NAME,...", help="measure these only")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write everything there, for people")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show a former run")
    parser.add_argument("--curve", action="store_true", help="also: packets of 64 to 1400 bytes, 1 to 64 flows, 8 SAs")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="also: full speed for so long, twice")
    parser.add_argument("--proxy", type=int, metavar="MB", help="also: a download of MB by connect, exec and proxy")
    options = parser.parse_args()
    document = json.loads(options.source.read_text()) if options.source else run(options)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.markdown:
        former = options.markdown.read_text() if options.markdown.exists() else ""
        _, found, by_hand = former.partition(BY_HAND)  # what people wrote about it stays
        options.markdown.write_text(markdown(document) + (f"\n{found}{by_hand}" if found else ""))
    print(text(document))


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure everybody who is wanted and present."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ikeclient-bench"
    cache.mkdir(parents=True, exist_ok=True)
    everybody = peers(cache)
    wanted = options.only.split(",") if options.only else [peer.name for peer in everybody]
    present = [peer for peer in everybody if peer.name in wanted and not peer.missing]
    missing = {peer.name: peer.missing for peer in everybody if peer.missing}
    for name, reason in missing.items():
        print(f"MISSING: {name}: {reason}", file=sys.stderr)
    words = {peer.name: peer.words for peer in present}
    document: dict[str, object] = {"machine": machine(), "missing": missing, "peers": words}
    rounds: dict[str, list[Figures]] = defaultdict(list)
    world = World()
    try:
        for number in range(options.rounds):
            for peer in present:
                figures = measure(world, peer, options.seconds)
                rounds[peer.name].append(figures)
                said = f"{figures['tcp_up']:.0f} up, {figures['tcp_down']:.0f} down"
                print(f"round {number + 1}: {peer.name}: {said}", file=sys.stderr, flush=True)
        if options.curve:
            document["curve"] = curve(world, min(options.seconds, 3), max(options.rounds, 1))
        if options.soak:
            document["soak"] = soak(world, options.soak)
        if options.proxy:
            document["proxy"] = compare(world, options.proxy)
    finally:
        world.close()
    document |= {"seconds": options.seconds, "rounds": rounds, "medians": medians(rounds)}
    document["ratios"] = ratios(medians(rounds))
    return document


if __name__ == "__main__":
    main()
