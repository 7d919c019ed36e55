"""`ping` and `resolve`: echoes and names through a running tunnel of any kind."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from dataclasses import field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.complete import tunnel_names
from ikeclient.cli.options import duration, duration_option
from ikeclient.cli.view.terminal import emit, printable, say, styled
from ikeclient.control import client
from ikeclient.errors import Interrupted, NoResponse, NoSuchTunnel, UsageError
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.control.answers import PingAnswer
    from ikeclient.process.inside import Inside

PING_SCHEMA = "ikeclient.ping/1"
RESOLVE_SCHEMA = "ikeclient.resolve/1"
_MOST_ANSWERS = 1000  # that --json tells, the last ones
_SIZES = (16, 8192)

Tunnel = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The tunnel.", show_default=False, autocompletion=tunnel_names),
]


@dataclass(slots=True)
class _Tally:
    """What came of the echoes so far."""

    sent: int = 0
    received: int = 0
    least: float = float("inf")  # milliseconds, as all of them
    most: float = 0.0
    total: float = 0.0
    answers: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=_MOST_ANSWERS))

    def add(self, answer: PingAnswer) -> None:
        self.sent += 1
        self.answers.append({"sequence": self.sent, **answer.to_json()})
        if answer.rtt_ms is not None:
            self.received += 1
            self.least = min(self.least, answer.rtt_ms)
            self.most = max(self.most, answer.rtt_ms)
            self.total += answer.rtt_ms

    @property
    def summary(self) -> dict[str, float] | None:
        if not self.received:
            return None
        return {"min": self.least, "avg": round(self.total / self.received, 3), "max": self.most}


def ping(
    name: Tunnel,
    host: Annotated[str, typer.Argument(metavar="HOST", help="An address, or a name that the tunnel's servers know.")],
    count: Annotated[int, typer.Option("--count", "-c", metavar="N", help="How many to send; 0: until Ctrl-C.")] = 4,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            "-W",
            metavar="TIME",
            parser=duration(0.05, 60),
            help="How long to wait for each answer.",
            show_default="2s",
        ),
    ] = 2.0,
    interval: Annotated[
        float,
        duration_option("--interval", 0.05, 3600, text="How long from one to the next.", default="1s"),
    ] = 1.0,
    size: Annotated[int, typer.Option("--size", "-s", metavar="BYTES", help="Data in each, 16 to 8192.")] = 56,
    ipv4: Annotated[bool, typer.Option("--ipv4", "-4", help="Only IPv4.")] = False,
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Only IPv6.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document at the end.")] = False,
) -> None:
    """Ping a host through a running tunnel. Exits with 5 if nothing answered."""
    version = _version(ipv4=ipv4, ipv6=ipv6)
    _require_sane(count, size)
    inside = _inside(name)
    address = _address(inside, host, version)
    tally = _Tally()
    interrupted = False
    try:
        while not count or tally.sent < count:
            began = time.monotonic()
            answer = inside.ping(address, timeout=wait, size=size)
            tally.add(answer)
            if not as_json:
                emit(styled(_line(address, tally.sent, answer), sys.stdout))
            if not count or tally.sent < count:
                time.sleep(max(0.0, began + interval - time.monotonic()))
    except KeyboardInterrupt:
        interrupted = True
    if as_json:
        emit(json.dumps(_document(name, host, address, tally)))
    else:
        emit(_summary(host, tally))
    if interrupted and count:
        raise typer.Exit(Interrupted.exit_code)
    if not tally.received:
        raise typer.Exit(NoResponse.exit_code)


def _require_sane(count: int, size: int) -> None:
    if count < 0:
        raise UsageError(f"--count {count} is not a number of echoes")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise UsageError(f"--size {size} is not from {_SIZES[0]} to {_SIZES[1]}")


def _version(*, ipv4: bool, ipv6: bool) -> int | None:
    if ipv4 and ipv6:
        raise UsageError("-4 and -6 exclude each other")
    return 4 if ipv4 else 6 if ipv6 else None


def _line(address: str, number: int, answer: PingAnswer) -> list[tuple[str, str]]:
    if answer.rtt_ms is not None:
        return [(address, "strong"), (f"  {number}  {answer.rtt_ms:.1f} ms", "")]
    return [(address, "strong"), (f"  {number}  ", ""), (printable(answer.error or "no answer"), "bad")]


def _summary(host: str, tally: _Tally) -> str:
    text = f"{printable(host)}: {tally.sent} sent, {tally.received} answered"
    if (times := tally.summary) is not None:
        text += f", {times['min']:.1f}/{times['avg']:.1f}/{times['max']:.1f} ms least/mean/most"
    return text


def _document(name: str, host: str, address: str, tally: _Tally) -> dict[str, object]:
    return {
        "schema": PING_SCHEMA,
        "tunnel": name,
        "host": host,
        "address": address,
        "sent": tally.sent,
        "received": tally.received,
        "rtt_ms": tally.summary,
        "answers": list(tally.answers),
    }


def resolve(
    name: Tunnel,
    names: Annotated[list[str], typer.Argument(metavar="HOST...", help="The names to look up.", show_default=False)],
    ipv4: Annotated[bool, typer.Option("--ipv4", "-4", help="Only IPv4 addresses.")] = False,
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Only IPv6 addresses.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Look names up with the servers of a running tunnel. Exits with 5 if one of them has no address."""
    version = _version(ipv4=ipv4, ipv6=ipv6)
    inside = _inside(name)
    found: list[dict[str, object]] = []
    failed = False
    for each in names:
        addresses, error = _lookup(inside, each, version)
        failed = failed or not addresses
        found.append({"name": each, "addresses": addresses, "error": error})
        if as_json:
            continue
        for address in addresses:
            emit(f"{printable(each)}  {address}")
        if error is not None:
            say(f"{printable(each)}: {printable(error)}")
    if as_json:
        emit(json.dumps({"schema": RESOLVE_SCHEMA, "tunnel": name, "names": found}))
    if failed:
        raise typer.Exit(NoResponse.exit_code)


def _inside(name: str) -> Inside:
    from ikeclient.process.inside import open_inside

    try:
        return open_inside(client.resolve(name))
    except NoSuchTunnel as error:
        error.try_also(f"`ikeclient connect {name}` starts it, `proxy` and `exec` do without root")
        raise


def _lookup(inside: Inside, host: str, version: int | None) -> tuple[list[str], str | None]:
    """Return the addresses of a host, or why there are none."""
    try:
        found = [str(ip_address(host))]
        error = None
    except ValueError:
        answer = inside.resolve(host)
        found, error = list(answer.addresses), answer.error
    addresses = [address for address in found if version is None or ip_address(address).version == version]
    if not addresses and error is None:
        error = f"it has no IPv{version} address" if version is not None else "it has no address"
    return addresses, error


def _address(inside: Inside, host: str, version: int | None) -> str:
    addresses, error = _lookup(inside, host, version)
    if not addresses:
        raise NoResponse(f"{printable(host)} cannot be pinged", reason=error)
    return addresses[0]
