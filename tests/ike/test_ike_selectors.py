import random
import sys
import time
from ipaddress import IPv4Address, ip_address, ip_network
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ProtocolError
from ikeclient.ike.v2.rules.selectors import ANY_IPV4, ANY_IPV6, MAX_SELECTORS, covers, hosts, intersect, narrowed
from ikeclient.wire.selector import TrafficSelector


def net(text: str) -> TrafficSelector:
    return TrafficSelector.from_network(ip_network(text))


def ts(start: str, end: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
    return TrafficSelector(
        start=ip_address(start), end=ip_address(end), protocol=protocol, start_port=ports[0], end_port=ports[1]
    )


BOTH = (ANY_IPV4, ANY_IPV6)
OFFICE = net("10.99.0.0/24")
WEB = ts("10.99.0.0", "10.99.0.255", 6, (443, 443))
OPAQUE = ts("10.99.0.0", "10.99.0.255", 6, (65535, 0))
PORTS = (ts("10.99.0.0", "10.99.0.255", 0, (0, 442)), ts("10.99.0.0", "10.99.0.255", 0, (443, 65535)))


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (BOTH, BOTH),
        (BOTH, (OFFICE,)),
        (BOTH, (OFFICE, net("fd99::/64"), WEB)),
        ((OFFICE,), (OFFICE,)),
        ((OFFICE, net("10.98.0.0/16")), (net("10.98.7.0/24"),)),
        ((OFFICE,), (WEB,)),
        ((ANY_IPV4,), (OPAQUE,)),
        ((OPAQUE,), (OPAQUE,)),
    ],
)
def test_a_narrower_answer_is_taken_as_it_is(
    asked: tuple[TrafficSelector, ...], answer: tuple[TrafficSelector, ...]
) -> None:
    """K11: narrower → accept."""
    assert narrowed("TSr", asked, answer) == answer


@pytest.mark.parametrize(
    ("asked", "answer", "taken"),
    [
        ((OFFICE,), (net("10.99.0.0/23"),), (OFFICE,)),
        ((OFFICE,), (OFFICE, net("10.98.0.0/24")), (OFFICE,)),
        ((OFFICE,), BOTH, (OFFICE,)),
        ((ANY_IPV4,), BOTH, (ANY_IPV4,)),
        ((WEB,), (OFFICE,), (WEB,)),
        ((OPAQUE,), (OFFICE,), (OPAQUE,)),
        ((net("10.99.0.0/25"), net("10.99.0.128/25")), (OFFICE,), (net("10.99.0.0/25"), net("10.99.0.128/25"))),
    ],
)
def test_of_a_wider_answer_only_what_was_asked_for_is_taken(
    asked: tuple[TrafficSelector, ...], answer: tuple[TrafficSelector, ...], taken: tuple[TrafficSelector, ...]
) -> None:
    """K11, K21: a gateway that answers with its whole policy is no reason to fail, nor to take more."""
    assert narrowed("TSr", asked, answer) == taken


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((OFFICE,), (net("10.98.0.0/24"),)),
        ((ANY_IPV4,), (net("fd99::/64"),)),
        ((WEB,), (ts("10.99.0.0", "10.99.0.255", 17, (443, 443)),)),
        ((WEB,), (OPAQUE,)),
        ((net("10.88.0.1/32"),), (net("10.88.0.2/32"), net("fd88::/64"))),
        ((OFFICE,), (OFFICE,) * 256),
    ],
)
def test_an_answer_without_anything_that_was_asked_for_is_refused(
    asked: tuple[TrafficSelector, ...], answer: tuple[TrafficSelector, ...]
) -> None:
    """K11: protocol ≠ asked, v6 in v4 SA, TSi not containing assigned IP (CVE-2023-23009)."""
    with pytest.raises(ProtocolError, match="TSr"):
        narrowed("TSr", asked, answer)


def test_an_address_is_one_selector() -> None:
    assert hosts([ip_address("10.88.0.1"), ip_address("fd88::1")]) == (net("10.88.0.1/32"), net("fd88::1/128"))


@pytest.mark.parametrize(
    ("ours", "theirs", "common"),
    [
        (BOTH, BOTH, BOTH),
        ((OFFICE,), BOTH, (OFFICE,)),
        (BOTH, (OFFICE,), (OFFICE,)),
        ((OFFICE,), (WEB,), (WEB,)),
        ((WEB,), (OFFICE,), (WEB,)),
        ((net("10.0.0.0/8"),), (ts("9.0.0.0", "10.0.0.5"),), (ts("10.0.0.0", "10.0.0.5"),)),
        (
            (ts("10.0.0.1", "10.0.0.1", 6, (1, 80)),),
            (ts("10.0.0.1", "10.0.0.1", 0, (80, 90)),),
            (ts("10.0.0.1", "10.0.0.1", 6, (80, 80)),),
        ),
        ((OFFICE,), (net("10.98.0.0/24"),), ()),
        ((WEB,), (ts("10.99.0.0", "10.99.0.255", 17, (443, 443)),), ()),
        ((WEB,), (ts("10.99.0.0", "10.99.0.255", 6, (80, 80)),), ()),
        ((ANY_IPV4,), (ANY_IPV6,), ()),
        ((OFFICE, OFFICE), (OFFICE, OFFICE), (OFFICE,)),
    ],
)
def test_what_two_ends_have_in_common(
    ours: tuple[TrafficSelector, ...], theirs: tuple[TrafficSelector, ...], common: tuple[TrafficSelector, ...]
) -> None:
    """RFC 7296 section 2.9."""
    assert intersect(ours, theirs) == common


_small = st.builds(
    lambda start, size, protocol, port, ports: TrafficSelector(
        start=IPv4Address(start),
        end=IPv4Address(start + size),
        protocol=protocol,
        start_port=port,
        end_port=port + ports,
    ),
    st.integers(0, 6),
    st.integers(0, 4),
    st.sampled_from((0, 6, 17)),
    st.integers(0, 3),
    st.integers(0, 3),
)


def packets(selectors: tuple[TrafficSelector, ...]) -> set[tuple[int, int, int]]:
    return {
        (address, protocol, port)
        for s in selectors
        for address in range(int(s.start), int(s.end) + 1)
        for protocol in ((6, 17, 1) if s.protocol == 0 else (s.protocol,))
        for port in range(s.start_port, s.end_port + 1)
    }


@given(st.lists(_small, max_size=3).map(tuple), st.lists(_small, max_size=3).map(tuple))
def test_the_intersection_selects_exactly_what_both_select(
    ours: tuple[TrafficSelector, ...], theirs: tuple[TrafficSelector, ...]
) -> None:
    common = intersect(ours, theirs)
    assert packets(common) == packets(ours) & packets(theirs)
    if common:
        assert packets(narrowed("TSr", theirs, common)) == packets(narrowed("TSr", ours, common)) == packets(common)


@given(st.lists(_small, max_size=4).map(tuple), st.lists(_small, max_size=3).map(tuple))
def test_selectors_cover_what_they_select_all_together(
    selectors: tuple[TrafficSelector, ...], needed: tuple[TrafficSelector, ...]
) -> None:
    """RFC 7296 section 2.9.2."""
    assert covers(selectors, needed) == (packets(needed) <= packets(selectors))


@pytest.mark.parametrize(
    ("selectors", "needed", "covered"),
    [
        ((net("0.0.0.0/1"), net("128.0.0.0/1")), (ANY_IPV4,), True),
        ((net("128.0.0.0/1"), net("0.0.0.0/1"), ANY_IPV6), BOTH, True),
        ((net("::/1"), net("8000::/1")), (ANY_IPV6,), True),
        ((net("0.0.0.0/1"), net("128.0.0.0/2")), (ANY_IPV4,), False),
        (PORTS, (OFFICE,), True),
        ((WEB,), (OFFICE,), False),
        ((OFFICE,), (WEB, OPAQUE), True),
        ((OPAQUE,), (OPAQUE,), True),
        ((OPAQUE,), (WEB,), False),
        ((), (OFFICE,), False),
    ],
)
def test_selectors_may_be_split_and_still_cover(
    selectors: tuple[TrafficSelector, ...], needed: tuple[TrafficSelector, ...], covered: bool
) -> None:
    """RFC 7296 section 2.9.2."""
    assert covers(selectors, needed) is covered


def test_the_intersection_always_fits_into_a_payload() -> None:
    """S6: 255 selectors that all overlap 255 others would make 65,025; what does not fit is narrowed away."""
    ours = tuple(ts("10.0.0.0", f"10.0.{n}.255") for n in range(255))
    theirs = tuple(ts(f"10.0.{n}.0", "10.255.255.255") for n in range(255))
    before = time.process_time()
    common = intersect(ours, theirs)
    assert time.process_time() - before < 1.0
    assert len(common) == len(set(common)) == MAX_SELECTORS == 255
    assert all(any(wide.contains(selector) for wide in theirs) for selector in common)


def test_selectors_that_cut_each_other_to_pieces_count_as_not_covering() -> None:
    """S18: a gateway that asks for rekeys with 255 of them must not keep the event loop for seconds."""
    first, last = ip_address("10.0.0.0"), ip_address("10.255.255.255")
    ports = [ts("10.0.0.0", "10.255.255.255", ports=(2 * number, 2 * number)) for number in range(200)]
    needed = [TrafficSelector(start=first, end=last - number) for number in range(10)]
    assert not covers([*ports, net("10.0.0.0/8")], needed)
    assert covers([net("10.0.0.0/8")], needed)


def test_the_order_of_selectors_that_cover_together_does_not_matter() -> None:
    parts = [net(f"10.{number}.0.0/16") for number in range(1, 256)]
    random.Random(1).shuffle(parts)
    assert not covers(parts, [net("10.0.0.0/8")])
    assert covers([*parts, net("10.0.0.0/16")], [net("10.0.0.0/8")] * 10)


@pytest.mark.parametrize("overlapping", [True, False])
def test_two_long_lists_are_compared_without_looking_at_every_pair_closely(overlapping: bool) -> None:
    """S18: 255 selectors on both sides held the event loop for 80 ms at every rekey; counted, not timed."""
    ours = [net(f"10.{number}.0.0/16") for number in range(255)]
    theirs = ours if overlapping else [net(f"172.{number}.0.0/24") for number in range(255)]
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        common = intersect(ours, theirs)
        covered = covers(common, ours)
    finally:
        sys.setprofile(None)
    assert list(common) == (ours if overlapping else [])
    assert covered is overlapping
    assert calls < 255 * 60
