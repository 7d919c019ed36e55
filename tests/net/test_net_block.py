"""What a kill switch closes: as a value, and on a machine that is looked at before, meanwhile and afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

import pytest
from net_lab import Lan, sh

from ikeclient.errors import PlatformError
from ikeclient.net.block.files import SUFFIX
from ikeclient.net.block.firewall import Copy, Nft
from ikeclient.net.block.state import BLOCK_TABLES, Block, collapsed, firewall_table, ruleset, steps
from ikeclient.net.block.store import Blocks
from ikeclient.net.changes.steps import Route, Rule
from ikeclient.net.changes.surroundings import network_namespace
from ikeclient.net.machine.machine import remove_leftovers, repair
from ikeclient.process.helper.block_keeper import BlockKeeper
from ikeclient.process.helper.messages import CloseMachine

MARK = 0x1CE
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def block(**changed: object) -> Block:
    here = Block(name="work", networks=EVERYTHING, mark=MARK, table=BLOCK_TABLES[0], network=network_namespace())
    return replace(here, **changed)  # type: ignore[arg-type]


def closed(text: str, of: Block) -> bool:
    """Whether the longest prefix that an address lies in is closed."""
    found = [(net.prefixlen, kind) for net, kind in of.verdicts().items() if ip_address(text) in net]
    return max(found, default=(0, "throw"))[1] == "unreachable"


def test_everything_but_what_is_excluded_is_closed() -> None:
    full = block(exclude=(ip_network("192.0.2.0/24"),))
    assert closed("8.8.8.8", full)
    assert closed("2001:db8::1", full)
    assert not closed("192.0.2.9", full)
    assert not closed("8.8.8.8", block(networks=(ip_network("10.99.0.0/24"),)))


def test_the_lan_takes_nothing_away_that_the_tunnel_names() -> None:
    """O6: a LAN that is on the tunnel's network, or around it, gets nothing of it."""
    split = block(networks=(ip_network("10.99.0.0/24"),), exclude_lan=True, lan=(ip_network("10.0.0.0/8"),))
    assert closed("10.99.0.1", split)
    full = block(exclude_lan=True, lan=(ip_network("10.0.0.0/8"),))
    assert not closed("10.99.0.1", full)
    assert closed("239.1.1.1", full)
    assert not closed("224.0.0.251", full)
    assert closed("224.0.0.251", block())


def test_a_rule_comes_when_its_table_is_complete() -> None:
    kinds = [type(step) for step in steps(block(gateways=(ip_address("192.0.2.1"),), ports=(4500,)), filtered=True)]
    assert kinds == sorted(kinds, key=lambda kind: kind is Rule)
    assert kinds.count(Route) == 3  # both families, and DHCP's broadcast
    assert kinds.count(Rule) == 3  # both families, and the gateway's answers


@pytest.mark.parametrize(
    "wrong", [{"name": "../work"}, {"interface": 'ike0" accept'}, {"table": 254}, {"ports": (70000,)}, {"mark": 0}]
)
def test_a_block_that_could_not_be_ours_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        block(**wrong)


def test_networks_inside_others_are_left_out() -> None:
    assert collapsed([*EVERYTHING, ip_network("10.0.0.0/8")]) == EVERYTHING


# On a machine


def everything() -> str:
    commands = ("ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all", "nft list ruleset")
    return "\n".join(sh(command) for command in commands)


def way(to: str) -> str:
    """How the kernel would send a packet."""
    return sh(f"ip route get {to} 2>&1", check=False).replace("No route to host", "unreachable")


def test_closing_and_opening_leaves_everything_as_it_was(lan: Lan, tmp_path: Path) -> None:
    """O20: what is closed is no leftover, with or without a journal; `open` undoes all of it."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        before = everything()
        result = blocks.close(block(interface="v0x", gateways=(ip_address("8.8.8.8"),)))
        assert result is not None
        assert result.firewall
        assert result.problem is None
        assert all("unreachable" in way(to) for to in ("203.0.113.7", "2001:db8:ffff::7"))
        assert " dev v0 " in way("203.0.113.7 mark 0x1ce")
        assert repair(tmp_path) == []
        assert remove_leftovers() == []
        assert blocks.strays() == []
        assert "unreachable" in way("203.0.113.7")
        assert [each.name for each in Blocks(tmp_path).all()] == ["work"]
        assert blocks.open("work") is True
        assert blocks.open("work") is False
        assert everything() == before

    lan.inside(body)


@pytest.mark.parametrize(
    ("taken", "word"),
    [
        ("ip rule delete priority 20020", "rules"),
        ("ip -6 route flush table 7528", "routes"),
        ("nft flush ruleset", "the firewall"),
        ("nft flush chain inet ikeclient_7528 leave", "the firewall"),
        ("nft insert rule inet ikeclient_7528 leave accept", "the firewall"),
    ],
)
def test_what_others_take_away_is_put_back(lan: Lan, tmp_path: Path, taken: str, word: str) -> None:
    """O18: also a chain that was emptied, or a rule in front of ours."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        blocks.close(block())
        before = sh("ip rule; ip -6 route show table 7528; nft list ruleset")
        sh(taken)
        assert blocks.uphold() == [word]
        assert blocks.uphold() == []
        assert sh("ip rule; ip -6 route show table 7528; nft list ruleset") == before

    lan.inside(body)


class Counted(Nft):
    """The real firewall; how often the program ran, which may be gone since."""

    def __init__(self) -> None:
        self.runs = 0

    def load(self, text: str) -> None:
        self.runs += 1
        super().load(text)


@pytest.mark.parametrize(
    "taken",
    ["nft flush ruleset", "nft delete table inet ikeclient_7528", "nft insert rule inet ikeclient_7528 leave accept"],
)
def test_a_firewall_is_put_back_as_it_was_without_a_program(lan: Lan, tmp_path: Path, taken: str) -> None:
    """O18: sets, intervals and all, for several tunnels; a change of ours is for the program again."""

    def body() -> None:
        firewall = Counted()
        blocks = Blocks(tmp_path, firewall=firewall)
        many = tuple(ip_network(f"10.{number}.0.0/16") for number in range(1, 250, 2))
        blocks.close(block(exclude=(*many, ip_network("10.2.0.0/16"), ip_network("fd00::/8"))))
        other = block(name="other", networks=(ip_network("8.8.8.0/24"), ip_network("8.8.9.0/24")), interface="v9")
        blocks.close(replace(other, table=blocks.free_table()))
        before, runs = sh("nft list ruleset"), firewall.runs
        sh(taken)
        assert sh("nft list ruleset") != before
        assert blocks.uphold_firewall() == ["the firewall"]
        assert (sh("nft list ruleset"), firewall.runs) == (before, runs)
        assert blocks.uphold_firewall() == []
        blocks.close(block(gateways=(ip_address("192.0.2.77"),)))
        assert firewall.runs == runs + 1
        assert "192.0.2.77" in sh("nft list ruleset")

    lan.inside(body)


def test_what_belongs_to_another_tunnel_passes_and_no_longer_when_that_has_gone(lan: Lan, tmp_path: Path) -> None:
    def body() -> None:
        blocks = Blocks(tmp_path)
        blocks.close(block())
        other = block(name="other", networks=(), interface="v9", gateways=(ip_address("192.0.2.77"),))
        blocks.close(replace(other, table=blocks.free_table()))
        assert "192.0.2.77" in sh("nft list ruleset")
        assert '"v9"' in sh("nft list ruleset")
        assert len(Nft().tables()) == 1
        blocks.open("other")
        assert "192.0.2.77" not in sh("nft list ruleset")
        assert Nft().fingerprint(firewall_table(block())) is not None

    lan.inside(body)


def test_two_switches_close_each_its_own_networks(lan: Lan, tmp_path: Path) -> None:
    def body() -> None:
        blocks = Blocks(tmp_path)
        blocks.close(block(networks=(ip_network("203.0.113.0/24"),)))
        blocks.close(replace(block(name="other", networks=(ip_network("8.8.8.0/24"),)), table=blocks.free_table()))
        assert all("unreachable" in way(to) for to in ("203.0.113.7", "8.8.8.8"))
        assert " dev v0 " in way("1.1.1.1")
        blocks.open("work")
        assert " dev v0 " in way("203.0.113.7")
        assert "unreachable" in way("8.8.8.8")

    lan.inside(body)


def test_a_file_that_is_gone_or_damaged_opens_nothing(lan: Lan, tmp_path: Path) -> None:
    """O20: what is closed is found by its shape then, and opened only by order."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        before = everything()
        blocks.close(block())
        for damaged in ('{"is": "Block", "name": "work"}', "[" * 200_000, "", "\0" * 300):
            (tmp_path / f"work{SUFFIX}").write_text(damaged)
            assert blocks.all() == []
            assert blocks.is_damaged("work")
        assert "unreachable" in way("203.0.113.7")
        assert blocks.strays() == blocks.open_strays() != []
        assert everything() == before

    lan.inside(body)


def test_what_a_damaged_file_told_of_is_taken_over_by_what_closes_as_much(lan: Lan, tmp_path: Path) -> None:
    """O3, O20: else the tunnel would be kept out by its own firewall of before, which no file tells of."""

    def body() -> None:
        Blocks(tmp_path).close(block(networks=(ip_network("0.0.0.0/0"),)))
        for networks, left in ((("10.0.0.0/8",), True), (("0.0.0.0/0",), False)):
            (tmp_path / f"work{SUFFIX}").write_text("damaged")
            blocks = Blocks(tmp_path)
            table = blocks.free_table()
            blocks.close(replace(block(), networks=tuple(map(ip_network, networks)), table=table))
            assert "unreachable" in way("10.9.9.9")
            assert ("unreachable" in way("8.8.8.8")) is True
            assert bool(blocks.strays()) is left
        assert [name for name in Nft().tables() if name != firewall_table(blocks.all()[0])] == []

    lan.inside(body)


def test_what_a_kill_left_half_done_is_put_right(lan: Lan, tmp_path: Path) -> None:
    """O3: the file was written and the kernel not yet changed, or changed and the file not; nothing old stays open."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        before = everything()
        blocks.close(block(exclude=(ip_network("203.0.113.0/24"),)))
        assert " dev v0 " in way("203.0.113.7")
        wide, narrow = block(), block(networks=(ip_network("198.51.100.0/24"),))
        blocks._write(wide)  # and killed here
        assert Blocks(tmp_path).uphold() == ["routes"]
        assert "unreachable" in way("203.0.113.7")
        blocks._write(narrow)
        assert Blocks(tmp_path).open("work")
        assert everything() == before

    lan.inside(body)


def test_a_route_of_others_in_our_table_opens_nothing_for_long(lan: Lan, tmp_path: Path) -> None:
    """O18."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        blocks.close(block())
        sh("ip route add throw 203.0.113.0/24 table 7528 protocol kernel")
        assert " dev v0 " in way("203.0.113.7")
        assert blocks.uphold() == ["routes"]
        assert "unreachable" in way("203.0.113.7")
        sh("nft add table inet of_others")
        assert blocks.uphold() == []
        sh("nft add table inet ikeclient_7528 '{ flags dormant; }'")
        assert blocks.uphold() == ["the firewall"]
        assert "dormant" not in sh("nft list ruleset")

    lan.inside(body)


class Broken:
    """A firewall that fails as long as it is told to, around the real one."""

    def __init__(self) -> None:
        self.broken = True
        self._nft = Nft()

    def load(self, text: str) -> None:
        if self.broken:
            raise PlatformError("`nft -f -` failed", reason="Could not process rule: Operation not supported")
        self._nft.load(text)

    def remove(self, table: str) -> None:
        self._nft.remove(table)

    def fingerprint(self, table: str) -> bytes | None:
        return self._nft.fingerprint(table)

    def tables(self) -> list[str]:
        return self._nft.tables()

    def copy(self, table: str) -> Copy:
        return self._nft.copy(table)

    def __enter__(self) -> Self:
        self._nft.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._nft.__exit__(*exception)

    def restore(self, copies: Sequence[Copy]) -> bool:
        return not self.broken and self._nft.restore(copies)


def test_a_firewall_that_fails_is_tried_again_and_opened_without_nft(lan: Lan, tmp_path: Path) -> None:
    """O11: routes close meanwhile, and that is said; what was loaded once can go without the program that did it."""

    def body() -> None:
        firewall = Broken()
        blocks = Blocks(tmp_path, firewall=firewall)
        before = everything()
        result = blocks.close(block())
        assert result is not None
        assert (result.means, result.problem is not None) == ("routes", True)
        assert blocks.uphold() == []
        firewall.broken = False
        blocks.uphold()
        assert blocks.in_force(block()).means == "routes and firewall"
        firewall.broken = True
        assert blocks.open("work")
        assert everything() == before

    lan.inside(body)


def test_a_full_disk_keeps_it_closed_and_lets_the_gateway_through(
    lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O12: a first closing is refused without its file, a later change is not, and `open` still finds everything."""

    def full(*_: object) -> None:
        raise PlatformError("cannot write", reason="No space left on device")

    def body() -> None:
        blocks = Blocks(tmp_path)
        before = everything()
        write = Blocks._write
        monkeypatch.setattr(Blocks, "_write", full)
        with pytest.raises(PlatformError, match="cannot write"):
            blocks.close(block())
        assert everything() == before
        monkeypatch.setattr(Blocks, "_write", write)
        blocks.close(block())
        monkeypatch.setattr(Blocks, "_write", full)
        result = blocks.close(block(gateways=(ip_address("192.0.2.77"),)))
        assert result is not None
        assert "No space left" in str(result.problem)
        assert "192.0.2.77" in sh("nft list ruleset")
        assert blocks.uphold() == []
        assert "192.0.2.77" in sh("nft list ruleset")
        assert blocks.open("work")
        assert everything() == before

    lan.inside(body)


def test_what_was_opened_meanwhile_is_not_closed_again(lan: Lan, tmp_path: Path) -> None:
    def body() -> None:
        blocks = Blocks(tmp_path)
        before = everything()
        blocks.close(block())
        Blocks(tmp_path).open("work")
        assert blocks.close(block(), unless_opened=True) is None
        assert blocks.uphold() == []
        assert everything() == before

    lan.inside(body)


def test_what_is_in_force_is_looked_at(lan: Lan, tmp_path: Path) -> None:
    """O18: a file alone closes nothing, and nobody is told that it does."""

    def body() -> None:
        blocks = Blocks(tmp_path)
        blocks.close(block())
        sh("ip rule delete priority 20020")
        assert blocks.in_force(block()).means == "firewall"
        sh("nft flush ruleset")
        assert blocks.in_force(block()).is_open
        assert "removed" in blocks.in_force(block()).means
        blocks.close(block())
        sh("nft flush ruleset")
        assert blocks.in_force(block()).means == "routes"
        assert not blocks.in_force(block()).is_open

    lan.inside(body)


def test_tunnels_of_several_services_pass_each_other(lan: Lan, tmp_path: Path) -> None:
    """Each service has a directory of its own; neither takes the other's notes for an attack, or opens its table."""

    def body() -> None:
        places = [tmp_path / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
        before = everything()
        one, two = (Blocks(place, lambda: places) for place in places)
        one.close(block(name="one", interface="v8", gateways=(ip_address("192.0.2.71"),)))
        table = two.free_table()
        assert table != BLOCK_TABLES[0]
        two.close(block(name="two", table=table, interface="v9", gateways=(ip_address("192.0.2.72"),)))
        for number in (BLOCK_TABLES[0], table):
            text = sh(f"nft list table inet ikeclient_{number}")
            assert all(each in text for each in ('"v8"', '"v9"', "192.0.2.71", "192.0.2.72"))
        assert one.uphold() == two.uphold() == []
        assert two.strays() == []
        assert one.open("one")
        assert two.uphold() == []
        assert "192.0.2.71" not in sh("nft list ruleset")
        assert "unreachable" in way("203.0.113.7")
        assert two.open("two")
        assert everything() == before

    lan.inside(body)


def test_a_file_that_names_anothers_table_does_not_open_it(lan: Lan, tmp_path: Path) -> None:
    """F14: what an ordinary user may write leads nobody to open what root closed."""

    def body() -> None:
        root, user = tmp_path / "root", tmp_path / "user"
        for place in (root, user):
            place.mkdir()
        Blocks(root).close(block())
        theirs = Blocks(user, lambda: [root])
        theirs._write(block(name="mine"))
        assert theirs.open("mine")
        assert "unreachable" in way("203.0.113.7")
        assert Nft().fingerprint(firewall_table(block())) is not None

    lan.inside(body)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of another user")
@pytest.mark.parametrize("kind", ["hard link", "fifo"])
def test_root_gives_no_file_of_its_own_away_for_a_lock(lan: Lan, tmp_path: Path, kind: str) -> None:
    """F14, O23: what root opens for a user in that user's directory may be a link to a file of root's."""
    secret = tmp_path / "secret"
    secret.write_text("of root's")
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)

    def body() -> None:
        blocks = Blocks(theirs)
        assert blocks.close(block()) is not None
        os.chown(theirs, 1001, 1001)
        lock = theirs / ".block.lock"
        lock.unlink()
        if kind == "fifo":
            os.mkfifo(lock)
        else:
            os.link(secret, lock)
        with pytest.raises(PlatformError, match=r"\.block\.lock is no file of its own"):
            blocks.open("work")
        assert secret.stat().st_uid == 0
        lock.unlink()
        assert blocks.open("work") is True
        assert lock.stat().st_uid == 1001

    lan.inside(body)


def test_one_process_keeps_the_switch_of_a_tunnel(lan: Lan, tmp_path: Path) -> None:
    """F16: a second start must not change what the first one closes."""

    def body() -> None:
        first, second = (BlockKeeper(tmp_path, "work") for _ in range(2))
        asked = CloseMachine(
            networks=EVERYTHING,
            granted=False,
            exclude=(),
            exclude_lan=False,
            interface="",
            gateways=(),
            asked=(),
            ports=(),
        )
        assert first.close(asked).closed
        with pytest.raises(PlatformError, match="already running"):
            second.close(replace(asked, networks=(), interface="v9"))
        assert "unreachable" in way("203.0.113.7")

    lan.inside(body)


def test_a_profile_without_a_switch_does_not_open_what_it_closed_before(lan: Lan, tmp_path: Path) -> None:
    def body() -> None:
        Blocks(tmp_path).close(block())
        asked = CloseMachine(
            networks=(),
            granted=False,
            exclude=(),
            exclude_lan=False,
            interface="v9",
            gateways=(),
            asked=(),
            ports=(),
        )
        with pytest.raises(PlatformError, match="no kill switch any more") as caught:
            BlockKeeper(tmp_path, "work").close(asked)
        assert "unblock work" in str(caught.value.hint)
        assert "unreachable" in way("203.0.113.7")

    lan.inside(body)


def test_the_answers_of_the_gateway_pass_a_reverse_path_filter(lan: Lan, tmp_path: Path) -> None:
    def body() -> None:
        sh("sysctl -qw net.ipv4.conf.v0.rp_filter=1")
        blocks = Blocks(tmp_path)
        blocks.close(block(gateways=(ip_address("8.8.8.8"),), ports=(45000,)))
        assert " dev v0 " in way("8.8.8.8 ipproto udp sport 45000")
        assert "unreachable" in way("8.8.8.8 ipproto udp sport 45001")

    lan.inside(body)


def test_the_firewall_says_what_it_means() -> None:
    text = ruleset(block(gateways=(ip_address("192.0.2.1"), ip_address("2001:db8::1"))), [], seconds=60)
    assert "ipv4 timeout 60s" in text
    assert text.index("accept") < text.index("drop")
    own = ruleset(block(), [block(gateways=(ip_address("192.0.2.1"),), asked=(ip_address("192.0.2.53"),))])
    assert "meta iif 0 meta mark 0x1ce meta l4proto udp ip daddr { 192.0.2.1 } accept" in own
    assert "meta iif 0 meta mark 0x1ce udp dport 53 ip daddr { 192.0.2.53 } accept" in own
