"""A helper answers for a kill switch that nobody has without loading one, and as the one that it loads would."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from ikeclient.net.block.files import SUFFIX
from ikeclient.process.helper import closing
from ikeclient.process.helper.block_keeper import BlockKeeper
from ikeclient.process.helper.closing import Closing
from ikeclient.process.helper.messages import Blocked, CloseMachine, LookAtMachine, OpenMachine

PASS = CloseMachine(
    networks=(), granted=False, exclude=(), exclude_lan=False, interface="ike0", gateways=(), asked=(), ports=()
)
CLOSE = replace(PASS, networks=(ip_network("10.0.0.0/8"),))
LOOK, OPEN = LookAtMachine(), OpenMachine(seconds=0)
CLOSED = Blocked(closed=True, means="routes", networks=(), put_back=(), problem=None)


class Keeper:
    """In the place of one that closes: says that it did."""

    is_closed = True

    def close(self, _: CloseMachine) -> Blocked:
        return CLOSED


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of tunnels beside ours."""
    monkeypatch.setattr(closing, "system_directories", lambda: [tmp_path / "elsewhere"])
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def made(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Closing:
    found = Closing(tmp_path, "work", lambda: None)
    monkeypatch.setattr(found, "_make", Keeper)
    return found


@pytest.mark.parametrize("requests", [[PASS, LOOK, PASS, OPEN], [OPEN, PASS, CLOSE, LOOK, OPEN], [LOOK, OPEN]])
def test_where_nothing_is_closed_the_answers_are_those_of_a_keeper(
    tmp_path: Path, made: Closing, requests: list[CloseMachine | LookAtMachine | OpenMachine]
) -> None:
    """What was opened for good stays open, whatever is asked for afterwards."""
    keeper = BlockKeeper(tmp_path, "work")
    asks = {CloseMachine: keeper.close, OpenMachine: keeper.open, LookAtMachine: lambda _: keeper.look()}
    for request in requests:
        assert made.answer(request) == asks[type(request)](request)  # type: ignore[operator]
    assert not made.has_to_watch


def test_a_kill_switch_is_a_keepers(made: Closing) -> None:
    assert made.answer(CLOSE) == CLOSED
    assert made.has_to_watch


@pytest.mark.parametrize("name", ["work", "other"])
@pytest.mark.parametrize("place", [".", "elsewhere"])
def test_so_is_a_tunnel_beside_one_that_closes_the_machine(
    tmp_path: Path, made: Closing, place: str, name: str
) -> None:
    """Also if the file cannot be read, or is of another namespace: that is for a keeper to judge."""
    assert not made.answer(PASS).closed
    (tmp_path / place / (name + SUFFIX)).write_text("no block")
    assert made.answer(PASS) == CLOSED
