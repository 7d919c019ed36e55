"""Compare data planes on this machine: run everybody in turn, several times, and print medians and ratios.

Absolute figures say little: compare inside one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench import stack, stack_report
from bench.long import curve, soak
from bench.occasions import medians, merge
from bench.peers import Peer, peers
from bench.proxy import compare
from bench.report import Document, markdown, sentence, text
from bench.targets import CONNECTED_35, OURS_35, ratios
from bench.world import Figures, Meter, World, pss_mib, resident_mib

FULL = frozenset({"ours", "wireguard-go", "strongswan", "ours-strongswan", OURS_35, CONNECTED_35})
CONNECTED = frozenset({"ours-strongswan", CONNECTED_35})
IDLE = 60.0  # seconds

BY_HAND = "## Where the time goes"


def measure(world: World, peer: Peer, seconds: float, *, first: bool) -> Figures:
    """All figures of one peer, once; those that take long the `first` time only."""
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
                figures["help_s"] = help_seconds()
                if first:
                    figures["wakeups_min"] = meter.wakeups(IDLE)
        finally:
            meter.close()
    return figures


def help_seconds() -> float:
    """How long the command line takes to say what it can do."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "ikeclient", "--help"], check=True, capture_output=True)
    return time.monotonic() - begin


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
    parser.add_argument(
        "--only", metavar="NAME,...", help="measure these only; with --stack, rows by the beginnings of their names"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write everything there, for people")
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        type=Path,
        metavar="FILE",
        help="show a former run; the median of several",
    )
    parser.add_argument("--curve", action="store_true", help="also: packets of 64 to 1400 bytes, 1 to 64 flows, 8 SAs")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="also: full speed for so long, twice")
    parser.add_argument("--stack", action="store_true", help="instead: the in-process stack beside a device")
    parser.add_argument("--proxy", type=int, metavar="MB", help="also: a download of MB by connect, exec and proxy")
    options = parser.parse_args()
    former = [json.loads(source.read_text()) for source in options.sources or ()]
    written = options.markdown.read_text() if options.markdown and options.markdown.exists() else ""
    if options.stack or any("stack" in document for document in former):
        document = stack_report.merge(former or [stack.run(options, machine())])
        shown, said = stack_report.replaced(written, document), stack_report.text(document)
    else:
        document = merge(former or [run(options)])
        _, found, by_hand = written.partition(BY_HAND)  # what people wrote about it stays
        rest = [part for part in (stack_report.kept(written), found + by_hand) if part]
        shown, said = "\n".join([markdown(document), *rest]), f"{text(document)}\n\n{sentence(document)}"
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(shown)
    print(said)


def run(options: argparse.Namespace) -> Document:
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
    document: Document = {"machine": machine(), "missing": missing, "peers": words}
    rounds: dict[str, list[Figures]] = defaultdict(list)
    world = World()
    try:
        for number in range(options.rounds):
            for peer in present:
                figures = measure(world, peer, options.seconds, first=number == 0)
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
    found = medians(rounds)
    document |= {"seconds": options.seconds, "rounds": rounds, "medians": found}
    document["ratios"] = ratios(found, document.get("curve", ()))
    return document


if __name__ == "__main__":
    main()
