"""Which links a tunnel has, and who gets what arrives."""

from __future__ import annotations

from typing import Any

from tunnel_fakes import FakeLink

from ikeclient.ike.events import ChildClosed, Progress
from ikeclient.tunnel.links import Links


def made(*leaving: FakeLink, current: FakeLink | None = None, parallel: FakeLink | None = None) -> Links:
    nothing: Any = None
    links: Any = Links(nothing, nothing, nothing)
    links.current, links.parallel = current, parallel
    links.leaving = list(leaving)
    return links  # type: ignore[no-any-return]


def test_only_a_link_that_is_up_carries_traffic() -> None:
    assert made().established is None
    assert made(current=FakeLink(established=False)).established is None
    up = FakeLink()
    assert made(current=up).established is up  # type: ignore[comparison-overlap]


def test_the_links_are_the_one_in_use_the_one_beside_it_and_those_that_leave() -> None:
    current, parallel, leaving = FakeLink(), FakeLink(), FakeLink()
    assert list(made(leaving, current=current, parallel=parallel)) == [current, parallel, leaving]
    assert list(made()) == []


def test_of_a_link_that_leaves_only_its_child_sas_matter() -> None:
    leaving: Any = FakeLink()
    links, up = made(leaving), Progress(step="authenticating")
    assert not links.concerns(leaving, up)
    assert links.concerns(leaving, ChildClosed(spi_in=1, replaced=False))
    assert links.concerns(FakeLink(), up)  # type: ignore[arg-type]


def test_a_link_leaves_when_the_gateway_knows_and_sends_no_esp_until_then() -> None:
    link = FakeLink()
    links: Any = made(current=link)
    links.leave(link)
    links.tidy()
    assert (links.current, links.leaving) == (None, [link])
    assert link.calls == [("retire",)]
    link.done = True
    links.tidy()
    assert links.leaving == []
    assert link.calls == [("retire",), ("release",)]


def test_a_link_that_was_given_up_beside_the_one_in_use_leaves_it_alone() -> None:
    current, parallel = FakeLink(), FakeLink()
    links: Any = made(current=current, parallel=parallel)
    assert list(links) == [current, parallel]
    links.leave(parallel)
    assert (links.current, links.parallel, links.leaving) == (current, None, [parallel])
    assert list(links) == [current, parallel]


def test_who_borrows_the_sockets_of_a_link_inherits_them_before_it_closes_them() -> None:
    """K20"""
    link, other, heir = FakeLink(), FakeLink(), FakeLink()
    link.heirs = [heir]
    links = made(link, other, heir)
    links.release(link)  # type: ignore[arg-type]
    assert heir.asked("inherit") == [(link,)]
    assert other.calls == []
    links.release(link)  # type: ignore[arg-type]
    assert link.asked("release") == [()], "once"


def test_the_link_that_was_opened_in_parallel_takes_the_place_of_the_one_in_use() -> None:
    old, new = FakeLink(), FakeLink(established=False)
    links: Any = made(current=old, parallel=new)
    assert links.replace(new) is old
    assert (links.current, links.parallel) == (new, None)
    assert new.established
    assert new.asked("take_over") == [(old,)]
