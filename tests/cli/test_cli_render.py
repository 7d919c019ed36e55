"""Status and events in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
from cli_example import example
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.cli.view import render
from ikeclient.control.status import TunnelStatus, WatchStatus, blocked
from ikeclient.errors import UsageError

NOW = datetime(2026, 11, 23, 10, 14, 30, tzinfo=UTC)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def text(tunnel: dict[str, Any]) -> list[str]:
    lines = render.status_lines(TunnelStatus.from_json(tunnel), NOW)
    return ["".join(piece for piece, _ in line) for line in lines]


def fields(tunnel: dict[str, Any], names: list[str]) -> str:
    return render.fields(TunnelStatus.from_json(tunnel), names)


def test_the_text_form_tells_everything_in_a_screen() -> None:
    tunnel = example()
    tunnel["children"][0] |= {"bytes_in": 1536, "packets_in": 1234, "bytes_out": 7 * 2**30, "packets_out": 5_000_000}
    tunnel["children"][0] |= {"replays": 2, "auth_failures": 1, "selector_drops": 3, "malformed": 4, "congested": 5}
    assert text(tunnel) == [
        "connected  work  for 2 h 14 min",
        "  gateway    203.0.113.7:4500  vpn.example.com",
        "  proven by  certificate  CN=vpn  serial 1d7e  Ed25519",
        "  local      192.0.2.10:4500  behind NAT",
        "  interface  ike0  mtu 1400  tun",
        "  offload    compiled codec  without UDP_GRO",
        "  cipher     OpenSSL, a run with one call",
        "  addresses  10.88.0.1/32",
        "  dns        10.99.0.53  for corp.example, other names as without the tunnel",
        "  routes     10.99.0.0/24",
        "  ike        aes256gcm16-prfsha384-ecp384  rekey in 3 h 53 min  rtt 23 ms",
        "             mobike  frag",
        "  esp        aes256gcm16  rekey in 58 min 20 s",
        "  traffic    in 1.5 KiB (1,234 packets), out 7.0 GiB (5,000,000 packets)",
        "  dropped    2 replayed, 1 forged or damaged, 3 outside the selectors, 4",
        "             malformed, 5 with impossible congestion marks",
    ]


def test_the_text_form_shows_warnings_and_what_was_dropped_outside_of_the_child_sa() -> None:
    tunnel = example(warnings=["the gateway names no server", "a\x1bb"], roams=2, last_error="nobody answers")
    tunnel["drops"] |= {"unrouted": 12345, "receive_overflows": 3}
    assert text(tunnel)[-5:] == [
        "  dropped    12,345 that no Child SA accepts, 3 beyond the receive buffers",
        "  roams      2",
        "  warning    the gateway names no server",
        "  warning    a\\x1bb",
        "  error      nobody answers",
    ]


def test_a_tunnel_without_the_fast_lane_says_so() -> None:
    assert "  offload    none: one packet at a time" in text(example(offload={"fast": False, "codec": "plain"}))


def test_a_tunnel_that_is_not_up_shows_what_it_knows() -> None:
    tunnel = TunnelStatus(name="work", pid=7, state="connecting", last_error="nobody answers")
    assert text(tunnel.to_json()) == ["connecting  work", "  error      nobody answers"]
    closed = text(blocked("work", "routes", is_open=False).to_json())
    assert closed[0] == "blocked  work"
    assert not any(line.startswith("  interface") for line in closed), "its device went with its process"


@pytest.mark.parametrize(
    ("state", "action", "trouble", "shown"),
    [
        ("disconnected", "disconnect", None, "not connected: trusted network 'Home'"),
        ("reconnecting", "disconnect", None, "to be ended: trusted network 'Home'"),
        ("reconnecting", "connect", None, "kept up: trusted network 'Home'"),
        (
            "disconnected",
            "connect",
            "was\x1b ended",
            "to be connected: trusted network 'Home'; the tunnel was\\x1b ended",
        ),
        ("disconnected", "keep", None, "left as it is: trusted network 'Home'"),
    ],
)
def test_what_watch_has_decided_is_told(state: str, action: str, trouble: str | None, shown: str) -> None:
    watch = WatchStatus(action=action, reason="trusted network 'Home'", trouble=trouble, pid=7)
    tunnel = TunnelStatus(name="work", state=state, watch=watch)
    assert " ".join(" ".join(text(tunnel.to_json())[1:]).split()) == f"watch {shown}"


@pytest.mark.parametrize("state", ["connected", "connecting", "reconnecting", "disconnected"])
def test_the_first_word_is_the_state(state: str) -> None:
    assert text(example(state=state))[0].split()[0] == state


def test_long_values_are_wrapped_into_80_columns() -> None:
    tunnel = example(
        routes=[f"10.{number}.0.0/16" for number in range(256)],
        last_error="word " * 100,
        gateway={"address": "2001:db8::1", "port": 4500, "identity": "x" * 300},
        name="n" * 64,
    )
    lines = text(tunnel)
    assert max(map(len, lines)) <= 80
    assert "10.255.0.0/16" in "".join(lines)
    assert "[2001:db8::1]:4500" in "".join(lines)


def test_name_resolution_is_told_as_it_is() -> None:
    def row(**changes: Any) -> list[str]:
        return [line.strip() for line in text(example(**changes)) if "dns  " in line]

    nothing = {"servers": [], "domains": []}
    assert row(dns_names="all") == ["dns        10.99.0.53  for every name, searched: corp.example"]
    assert row(dns_names="all", dns={**nothing, "servers": ["::1"]}) == ["dns        ::1  for every name"]
    assert row(dns_names=None, dns=nothing) == ["dns        as without the tunnel"]


def test_the_first_line_fits_a_narrow_terminal() -> None:
    tunnel = TunnelStatus.from_json(example(name="n" * 64, state="connected"))
    for lines in (render.status_lines(tunnel, NOW, 40), render.top_lines(tunnel, None, 40, NOW)):
        assert max(sum(len(piece) for piece, _ in line) for line in lines) <= 40


@given(st.dictionaries(st.sampled_from([*example(), *example()["ike"]]), SHAPES))
@hypothesis.example({"name": "\U00018d09" * 40, "state": "\x1f" * 30, "since": "0001-01-01T00:00:00Z"})
def test_any_status_whatsoever_is_shown_in_80_columns_of_visible_text(tunnel: dict[str, Any]) -> None:
    """K15: and what the other side of a socket says is hostile too."""
    for line in text(example() | tunnel):
        assert len(line) <= 80
        assert line.isprintable()


def test_fields_are_tab_separated_and_reach_inside() -> None:
    names = ["name", "gateway.address", "mtu", "local.behind_nat", "last_error", "addresses", "children.suite", "dns"]
    line = fields(example(addresses=["10.0.0.1/32", "fd00::1/128"]), names)
    assert line.split("\t") == [
        *("work", "203.0.113.7", "1400", "true", "", "10.0.0.1/32,fd00::1/128", "aes256gcm16"),
        "servers=10.99.0.53,domains=corp.example",
    ]
    assert fields(example(), ["children.0.spi_in", "children.9.spi_in"]) == "c1a2b3c4\t"


def test_a_field_of_something_that_is_not_there_yet_is_empty() -> None:
    assert fields(example(ike=None, children=[]), ["ike.suite", "children.suite"]) == "\t"


@pytest.mark.parametrize(
    "name", ["", "bogus", "gateway.bogus", "name.x", "children.bogus", "gateway.", ".", "children.0.x"]
)
def test_an_unknown_field_is_an_error_that_names_the_known(name: str) -> None:
    with pytest.raises(UsageError, match="there is no field"):
        fields(example(), [name])


def test_a_tab_inside_a_value_does_not_make_another_column() -> None:
    assert fields(example(last_error="a\tb\nc"), ["last_error", "name"]).split("\t") == ["a\\tb\\nc", "work"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"event": "resolving", "host": "vpn.example.com"}, "resolving vpn.example.com"),
        ({"event": "negotiating", "gateway": "203.0.113.7"}, "negotiating with 203.0.113.7"),
        ({"event": "authenticating", "gateway": "203.0.113.7"}, "authenticating"),
        ({"event": "configuring", "interface": "ike0"}, "configuring ike0"),
        (
            {
                "event": "connected",
                "elapsed_ms": 412,
                "interface": "ike0",
                "addresses": ["10.0.0.1/32", "fd::1"],
                "gateway": {"address": "203.0.113.7", "port": 4500, "identity": "vpn.example.com"},
            },
            "connected in 412 ms: 10.0.0.1/32, fd::1 on ike0, gateway 203.0.113.7",
        ),
        ({"event": "connected", "elapsed_ms": 5, "addresses": []}, "connected in 5 ms"),
        ({"event": "connected"}, "connected"),
        ({"event": "reconnecting", "error": ["silence", "DPD"]}, "reconnecting: silence, DPD"),
        ({"event": "reconnecting", "error": []}, "reconnecting"),
        (
            {"event": "listening", "listeners": ["SOCKS5 127.0.0.1:1", "HTTP [::1]:2"]},
            "listening: SOCKS5 127.0.0.1:1, HTTP [::1]:2",
        ),
        ({"event": "rekeyed", "what": "child", "suite": "aes256gcm16"}, "rekeyed the child SA, aes256gcm16"),
        ({"event": "disconnected", "time": "2026-11-23T08:00:00Z"}, "disconnected"),
        ({"event": "notice", "text": "a\x1bb"}, "a\\x1bb"),
        ({"event": "moon\nphase", "time": "t", "full": True, "n\n": 3}, "moon\\nphase full=true n\\n=3"),
        ({}, "event"),
    ],
)
def test_events_are_sentences(event: dict[str, object], expected: str) -> None:
    assert render.sentence(event) == expected


@given(st.dictionaries(st.sampled_from(["event", "time", "text", "host", "error", "x"]), SHAPES))
def test_any_event_whatsoever_is_one_visible_line(event: dict[str, object]) -> None:
    assert render.event_line(event).isprintable()


@given(st.text(max_size=30))
def test_braces_in_a_value_are_only_text(value: str) -> None:
    assert render.sentence({"event": "resolving", "host": "{gateway}" + value}).startswith("resolving {gateway}")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (93784, "1 d 2 h"), (-5, "0 s")],
)
def test_durations_have_their_two_largest_units(seconds: int, expected: str) -> None:
    assert render.duration(seconds) == expected
