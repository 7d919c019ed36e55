"""The look-up of the gateway's name over a socket of our own."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest

from ikeclient.net.dns import lookup

QUESTION = bytes.fromhex("0377777707657861 6d706c65036e6574 00 0001 0001")
# An answer of unbound: www.example.net is an alias of web.example.net, which has 203.0.113.1.
ANSWER = bytes.fromhex(
    "4d2a 8180 0001 0002 0000 0000 0377777707657861 6d706c65036e6574 00 0001 0001"
    "c00c 0005 0001 00000e10 0006 03776562c010"
    "c02d 0001 0001 00000e10 0004 cb007101"
)


def read(data: bytes, number: int = 0x4D2A) -> object:
    return lookup.read_answer(data, number, QUESTION, 1)


def test_an_alias_is_followed_to_the_address() -> None:
    assert read(ANSWER) == (0, [ip_address("203.0.113.1")])


def test_what_is_no_answer_to_our_question_is_none() -> None:
    assert read(ANSWER, 7) is None
    assert read(ANSWER[:2] + b"\x01" + ANSWER[3:]) is None  # a question
    assert read(ANSWER.replace(b"www", b"ftp")) is None


@pytest.mark.parametrize("length", range(len(ANSWER)))
def test_an_answer_cut_anywhere_is_nothing_or_less(length: int) -> None:
    assert read(ANSWER[:length]) is None


def test_a_name_that_points_at_itself_ends() -> None:
    loop = b"\xc0\x21" + bytes.fromhex("0005 0001 00000e10 0002 c021")
    assert read(ANSWER[:12] + QUESTION + loop * 2) == (0, [])


def test_stubs_on_this_machine_are_passed_over(tmp_path: Path) -> None:
    stub, real = tmp_path / "resolv.conf", tmp_path / "upstream"
    stub.write_text("nameserver 127.0.0.53\nsearch corp.example\n")
    real.write_text("nameserver 192.0.2.53\nnameserver 192.0.2.53\nnameserver ::1\n")
    assert lookup.servers([stub, real]) == (ip_address("192.0.2.53"),)
    assert lookup.servers([stub, tmp_path / "missing"]) == ()


def test_an_address_and_a_listed_host_need_no_question(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.1  gw.example.org gw # ours\nnonsense gw\n")
    assert lookup.listed("2001:db8::1", hosts) == [ip_address("2001:db8::1")]
    assert lookup.listed("GW.example.org.", hosts) == [ip_address("192.0.2.1")]
    assert lookup.listed("other", hosts) == []


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, "\udc80", ".".join(["abcdefgh"] * 40)])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    """F3: nothing leaves."""
    with pytest.raises(lookup.NoAnswerError, match="not a name"):
        asyncio.run(lookup.look_up(name, [ip_address("192.0.2.53")], 1, lambda *_: pytest.fail("asked")))


def test_without_a_server_the_error_says_so() -> None:
    with pytest.raises(lookup.NoAnswerError, match="no name server"):
        asyncio.run(lookup.look_up("gw.example.org", [], 1, lambda *_: None))
