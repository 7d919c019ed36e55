"""Metrics: one table, the text that Prometheus reads, and what an endpoint answers."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ikeclient.control.http_listener import LONGEST_HEAD, MOST_CLIENTS, bound, parse_address, served
from ikeclient.control.metrics import METRICS, render
from ikeclient.control.status import (
    STATES,
    AuthStatus,
    ChildCounters,
    ChildStatus,
    Drops,
    GatewayStatus,
    IkeStatus,
    LocalStatus,
    Totals,
    TunnelStatus,
    blocked,
    unresponsive,
)
from ikeclient.errors import PlatformError, UsageError

MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
LINE = re.compile(
    r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\} (?P<value>-?\d+(?:\.\d+)?(?:e[+-]\d+)?)'
)

FULL = TunnelStatus(
    name="work",
    state="connected",
    since="2026-11-23T23:44:13Z",
    connect_ms=71,
    interface="ike0",
    mtu=1438,
    path_mtu=1500,
    mode="tun",
    cipher="OpenSSL 3.0.19",
    gateway=GatewayStatus(
        address="10.1.0.1",
        identity="gw.example.org",
        auth=(AuthStatus(method="certificate", subject="CN=gw", serial="1d7e", expires="2027-11-23T12:00:00Z"),),
    ),
    local=LocalStatus(auth=(AuthStatus(method="psk"),)),
    ike=IkeStatus(rtt_ms=23, rekey_in=13542, rekeys=2),
    children=(ChildStatus(rekey_in=3212), ChildStatus(rekey_in=12)),
    totals=Totals(counters=ChildCounters(bytes_in=7, replays=3), ike_rekeys=2, child_rekeys=5, cpu_ms=412),
    drops=Drops(unrouted=4),
    roams=1,
    reconnects=6,
    warnings=("something",),
)


def values(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            found[f"{match['name']}{{{match['labels']}}}"] = float(match["value"])
    return found


def test_everything_that_is_known_is_told() -> None:
    found = values(render([FULL]))
    assert {name.partition("{")[0] for name in found} == set(METRICS)
    assert found['ikeclient_up{tunnel="work"}'] == 1
    assert [found[f'ikeclient_state{{tunnel="work",state="{state}"}}'] for state in STATES].count(1) == 1
    assert found['ikeclient_received_bytes_total{tunnel="work"}'] == 7
    assert found['ikeclient_dropped_packets_total{tunnel="work",where="child-sa",kind="replays"}'] == 3
    assert found['ikeclient_dropped_packets_total{tunnel="work",where="outside",kind="unrouted"}'] == 4
    assert found['ikeclient_rekey_in_seconds{tunnel="work",sa="child"}'] == 12
    assert found['ikeclient_rtt_seconds{tunnel="work"}'] == 0.023
    assert found['ikeclient_cpu_seconds_total{tunnel="work"}'] == 0.412
    expiry = 'ikeclient_certificate_expiry_seconds{tunnel="work",side="gateway",subject="CN=gw",serial="1d7e"}'
    assert found[expiry] == 1826971200


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    found = values(render([TunnelStatus(name="new", state="connecting")]))
    assert found['ikeclient_up{tunnel="new"}'] == 0
    assert not any("rtt" in name or "bytes_total" in name or "expiry" in name for name in found)


def test_each_metric_stands_once_with_all_tunnels() -> None:
    """The format wants the samples of a metric together."""
    lines = render([FULL, unresponsive("old", 7), blocked("shut", "routes", is_open=False)]).splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))
    names = [line.partition("{")[0] for line in lines if not line.startswith("#")]
    assert sum(before != after for before, after in itertools.pairwise(names)) == len(set(names)) - 1
    assert 'ikeclient_blocked{tunnel="shut"} 1' in lines


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "é", "\ud800", 'x"} 1\nfake_metric 1'])
def test_text_of_a_gateway_stays_inside_its_label(text: str) -> None:
    """K21: an identity cannot make a line of its own."""
    shown = render([TunnelStatus(name="work", gateway=GatewayStatus(identity=text))])
    assert not any(line.startswith("fake") for line in shown.splitlines())
    values(shown.encode(errors="replace").decode())


def test_dashboard_and_rules_name_metrics_that_exist() -> None:
    for path in MONITORING.iterdir():
        named = set(re.findall(r"ikeclient_[a-z_]+", path.read_text()))
        assert named <= set(METRICS), path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9142", ("127.0.0.1", 9142)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("0.0.0.0:9142", ("0.0.0.0", 9142)),
        ("[::1]:9142", ("::1", 9142)),
    ],
)
def test_where_to_listen(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "0", "65536", "99999999", "x", "host:9142", "::1:9142", ":9142", "9142:", "١٢"])
def test_what_is_no_place_to_listen(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_a_port_that_is_taken_is_named() -> None:
    with bound(("127.0.0.1", 0)) as first:
        assert first is not None
        port = first.getsockname()[1]
        with pytest.raises(PlatformError, match=f"127.0.0.1:{port}") as caught, bound(("127.0.0.1", port)):
            pass
        assert "another port" in (caught.value.hint or "")


Ask = Callable[[bytes], Awaitable[bytes]]


def serving(talk: Callable[[Ask], Awaitable[None]], status: TunnelStatus = FULL) -> None:
    """Run `talk` with what sends a request and returns all that comes back."""

    async def main() -> None:
        with bound(("127.0.0.1", 0)) as listening:
            assert listening is not None
            port = listening.getsockname()[1]

            async def ask(request: bytes) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                try:
                    return await reader.read()
                except ConnectionResetError:
                    return b""
                finally:
                    writer.close()

            with served(listening, lambda: status):
                await talk(ask)

    asyncio.run(main())


def get(path: str, host: str = "localhost:9142") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_what_the_paths_answer() -> None:
    async def talk(ask: Ask) -> None:
        metrics = await ask(get("/metrics"))
        assert metrics.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
        head, _, body = metrics.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        assert body.decode() == render([FULL])
        assert (await ask(get("/healthz"))).endswith(b"\r\n\r\nok\n")
        assert (await ask(get("/readyz?x=1"))).startswith(b"HTTP/1.1 200")
        assert (await ask(get("/secrets"))).startswith(b"HTTP/1.1 404")
        assert (await ask(b"HEAD /metrics HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")
        assert (await ask(b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")

    serving(talk)


def test_a_tunnel_without_a_connection_is_not_ready_and_says_why() -> None:
    async def talk(ask: Ask) -> None:
        answer = await ask(get("/readyz"))
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b"reconnecting: the gateway does not answer\n")
        assert (await ask(get("/healthz"))).startswith(b"HTTP/1.1 200")

    serving(talk, TunnelStatus(name="work", state="reconnecting", last_error="the gateway does not answer"))


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * (LONGEST_HEAD + 1)])
def test_nonsense_is_told_so(request_: bytes) -> None:
    async def talk(ask: Ask) -> None:
        assert (await ask(request_)).startswith(b"HTTP/1.1 400")

    serving(talk)


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:1", 200), ("[::1]", 200), ("localhost", 200), ("evil.example", 403)]
)
def test_a_page_in_a_browser_does_not_reach_it_by_a_name_of_its_own(host: str, status: int) -> None:
    async def talk(ask: Ask) -> None:
        assert (await ask(get("/metrics", host))).startswith(f"HTTP/1.1 {status}".encode())

    serving(talk)


def test_those_who_are_too_many_are_cut_off_and_the_rest_is_served() -> None:
    async def main() -> None:
        with bound(("127.0.0.1", 0)) as listening:
            assert listening is not None
            port = listening.getsockname()[1]
            with served(listening, lambda: FULL):
                held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CLIENTS)]
                await asyncio.sleep(0.05)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b""
                writer.close()
                held[0][1].write(get("/healthz"))
                assert (await held[0][0].read()).endswith(b"ok\n")
                for _, each in held:
                    each.close()

    asyncio.run(main())
