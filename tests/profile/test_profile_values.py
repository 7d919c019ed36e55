from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.profile.model import values


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        ("90", None),
        ("4h", 14400),
        ("90m", 5400),
        ("1h30m", 5400),
        ("45s", 45),
        ("1d", 86400),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations_are_read_in_units_or_seconds(written: object, seconds: int | None) -> None:
    parse = values.duration(10, 7 * 86400)
    if seconds is None:
        with pytest.raises(ValueError, match="must be a duration"):
            parse(written)
    else:
        assert parse(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "4", "h", "4 h", "-4h", "30m1h", "4h4h", "4.5h", 4.5, True, None, [], -1, 9, "9s", "8d", "9" * 5000]
)
def test_other_durations_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.duration(10, 7 * 86400)(written)


def test_zero_is_a_duration_only_where_it_means_never() -> None:
    assert values.duration(5, 3600, zero=True)(0) == 0
    with pytest.raises(ValueError, match="between 5s and 1h or 0"):
        values.duration(5, 3600, zero=True)(4)


@given(st.integers(1, 10**7))
def test_a_formatted_duration_reads_back(seconds: int) -> None:
    assert values.duration(0, 10**8)(values.format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "vpn.example.com", "vpn.example.com.", "vpn", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "127.0.0.1",
        "a" * 63 + ".example", "xn--bcher-kva.example", "_vpn.example",
    ],
)  # fmt: skip
def test_host_names_and_addresses_are_gateways(written: str) -> None:
    assert values.address(written) == written


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "-oProxyCommand=x", "vpn example", "vpn\0.example", "vpn\n.example", "a" * 300, "a" * 64 + ".example",
        "http://vpn.example", "vpn.example/", "vpn.example:500", "[2001:db8::1]", "[2001:db8::1]:500",
        "user@vpn.example", "vpn..example", ".vpn", "b\u00fccher.example", "1.2.3", "1.2.3.4.5", "256.1.1.1", "0.0.0.0",
        "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1%a b", "fe80::1%" + "z" * 40, 4, None, {},
    ],
)  # fmt: skip
def test_what_is_no_gateway_is_refused(written: object) -> None:
    """F3: empty, leading dash, space, NUL, 300 characters, a URL, an impossible address or zone."""
    with pytest.raises(ValueError, match=r"^(is|has|must|cannot)"):
        values.address(written)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("https://vpn.example/", "not a URL"), ("vpn.example:500", "gateway.port"), ("[2001:db8::1]", "brackets"),
        ("b\u00fccher.example", "xn--"), ("10.1.2", "not an IPv4 address"), ("a" * 300, "300 characters"),
    ],
)  # fmt: skip
def test_a_likely_mistake_in_an_address_is_explained(written: str, said: str) -> None:
    """F3."""
    with pytest.raises(ValueError, match=said):
        values.address(written)


def test_several_addresses_are_kept_in_order_and_once() -> None:
    assert values.addresses(["b.example", "a.example", "b.example"]) == ("b.example", "a.example")
    assert values.addresses("a.example") == ("a.example",)
    for wrong in ([], [["a"]], ["a.example"] * 9):
        with pytest.raises(ValueError, match="must"):
            values.addresses(wrong)


def test_host_bits_are_cleared_with_a_warning() -> None:
    """F5."""
    warnings: list[str] = []
    assert values.networks(["10.0.0.1/8", "2001:db8::1/32"], warnings) == (
        ip_network("10.0.0.0/8"),
        ip_network("2001:db8::/32"),
    )
    assert warnings == [
        "10.0.0.1/8 has host bits set: taken as 10.0.0.0/8",
        "2001:db8::1/32 has host bits set: taken as 2001:db8::/32",
    ]


def test_networks_inside_others_are_warned_about_and_repetitions_vanish() -> None:
    """F5."""
    warnings: list[str] = []
    assert values.networks(["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"], warnings) == (
        ip_network("10.0.0.0/8"),
        ip_network("10.1.0.0/16"),
    )
    assert warnings == ["10.1.0.0/16 is inside 10.0.0.0/8, which is listed too"]


@pytest.mark.parametrize(
    "written",
    [
        "10.0.0.0/33",
        "10.0.0/8",
        "x",
        "",
        "10.0.0.0/8 ",
        "fe80::%eth0/64",
        10,
        None,
        "10.0.0.0/-1",
        "10.0.0.0/255.0.255.0",
    ],
)
def test_what_is_no_network_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"must be a network|cannot have a zone"):
        values.network(written, [])


def test_routes_are_a_word_or_a_list_that_is_not_empty() -> None:
    assert values.routes("all", []) == "all"
    assert values.routes("gateway", []) == "gateway"
    assert values.routes(["10.0.0.0/8"], []) == (ip_network("10.0.0.0/8"),)
    for wrong in ([], "some", "10.0.0.0/8", 5, ["10.0.0.0/8"] * 300):
        with pytest.raises(ValueError, match=r"must|empty|at most"):
            values.routes(wrong, [])


def test_exclusions_know_the_word_lan() -> None:
    assert values.exclusions(["lan", "10.0.0.0/8"], []) == (ip_network("10.0.0.0/8"), "lan")
    assert values.exclusions([], []) == ()
    for wrong in ("lan", ["wan"]):
        with pytest.raises(ValueError, match="must be"):
            values.exclusions(wrong, [])


def test_name_servers_are_addresses_and_domains_are_names() -> None:
    assert [str(each) for each in values.name_servers(["10.99.0.53", "fd99::53", "10.99.0.53"])] == [
        *("10.99.0.53", "fd99::53"),
    ]
    assert values.domains(["Corp.Example.", "lab.example", "corp.example"]) == ("corp.example", "lab.example")
    for bad in (["dns.example"], ["10.0.0.0/8"], ["127.0.0.1"], ["0.0.0.0"], ["fe80::1%eth0"], "10.99.0.53", [1]):
        with pytest.raises(ValueError, match=r"must|cannot"):
            values.name_servers(bad)
    for other in ([""], ["a b"], ["."], ["-a.example"], "corp.example", [1], ["a" * 64]):
        with pytest.raises(ValueError, match="must"):
            values.domains(other)


@pytest.mark.parametrize("written", ["ike%d", "work", "a.b-c_d", "%d", "abcdefghijklmno", "abcdefghijklmn%d"])
def test_interface_names_fit_the_kernel(written: str) -> None:
    assert values.interface(written) == written


@pytest.mark.parametrize(
    "written",
    [
        "",
        "ike%s",
        "ike%d%d",
        "%",
        "a/b",
        "a b",
        "a:b",
        ".",
        "..",
        "lo",
        "all",
        "default",
        "abcdefghijklmnop",
        "abcdefghijklmno%d",
        "i\0",
        "\u00fc",
        5,
    ],
)
def test_other_interface_names_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        values.interface(written)


def test_commands_are_lists_of_words() -> None:
    assert values.commands([["a", "b c"], ["d"]]) == (("a", "b c"), ("d",))
    for wrong in ("a", ["a"], [[]], [[""]], [["a", 1]], [["a\0"]], [["a"]] * 20, [["a"] * 100]):
        with pytest.raises(ValueError, match="command"):
            values.commands(wrong)


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (values.integer(1, 65535), [1, 65535], [0, 65536, True, "500", 1.5, 10**4000]),
        (values.integer(576, 9000, zero=True), [0, 576, 9000], [20, 9001, -1]),
        (values.retry, ["forever", 0, 5], [-1, 1001, True, "never", None]),
        (values.version, [1], [0, 2, True, "1", None]),
        (values.text, ["a", "EXAMPLE\\alice", "J\u00f6rg"], ["", "a\nb", "a\0", "x" * 257, 5, "\u202e"]),
        (values.path, ["a", "~/x"], ["", "a\0b", "x" * 5000, 5]),
        (values.paths, ["a", ["a", "b"]], [[], ["a", 5], 5, ["a"] * 100]),
    ],
)
def test_each_parser_takes_its_own_and_refuses_the_rest(
    parse: Callable[[object], object], good: list[object], bad: list[object]
) -> None:
    for value in good:
        parse(value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^(is|has|must|holds) "):
            parse(value)


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    )
)
def test_no_parser_raises_anything_but_a_value_error_on_one_line(value: object) -> None:
    """F2: wrong types and impossible values."""
    parsers: list[Callable[[object], object]] = [
        values.text, values.path, values.paths, values.address, values.addresses, values.interface, values.retry,
        values.version, values.commands, values.command, values.integer(1, 9), values.duration(1, 9),
        lambda v: values.routes(v, []), lambda v: values.exclusions(v, []), lambda v: values.network(v, []),
    ]  # fmt: skip
    for parse in parsers:
        said = refusal(parse, value)
        assert said.isprintable()
        assert len(said) < 300


def refusal(parse: Callable[[object], object], value: object) -> str:
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return ""
