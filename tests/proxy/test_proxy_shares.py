"""One user cannot shut out the others: shares of connections and associations, and who they are counted for."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.proxy_world import (
    PATIENCE,
    a_proxy,
    bound,
    connect,
    datagram_socket,
    few,
    receive,
    socks_connect,
)

from ikeclient.proxy.peers import Peers
from ikeclient.proxy.settings import Kind
from ikeclient.proxy.shares import FEWEST, Shares

EVE, ALICE = 54321, 54322
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

# As another user: opens connections, says something on each, tells how many, and holds them until its input ends.
HOLD = """
import os, socket, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
held = []
for _ in range(int(sys.argv[3])):
    one = socket.create_connection(("127.0.0.1", int(sys.argv[2])), 20)
    with_words = bytes.fromhex(sys.argv[4])
    if with_words:
        one.sendall(with_words)
    held.append(one)
answers = []
for one in held if sys.argv[5] != "0" else ():
    data = b""
    try:
        while len(data) < int(sys.argv[5]) and (more := one.recv(int(sys.argv[5]) - len(data))):
            data += more
    except OSError:
        pass
    answers.append(data.hex())
print(*answers, len(held), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(user: int, port: int, count: int, words: bytes = b"", answer: int = 0) -> Iterator[list[str]]:
    """So many connections of another user; yields what came back on each, and their number."""
    arguments = [str(user), str(port), str(count), words.hex(), str(answer)]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().split()
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


@only_root
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_the_kernel_tells_which_user_connected(host: str) -> None:
    """O22: over both families; nobody can say anything about it themselves."""
    peers = Peers.open()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        program = HOLD.replace("127.0.0.1", host)
        arguments = [str(EVE), str(listener.getsockname()[1]), "1", "", "0"]
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE)
        accepted, _ = listener.accept()
        with accepted:
            assert peers.of(accepted) == EVE
        with connect(listener.getsockname()[1], host), listener.accept()[0] as own:
            assert peers.of(own) == os.getuid()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE)
    peers.close()


def test_where_the_kernel_does_not_tell_addresses_count() -> None:
    """As for clients that are on other machines."""
    with socket.create_server(("127.0.0.1", 0)) as listener, connect(listener.getsockname()[1]) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert Peers(None).of(accepted) == "127.0.0.1"
            silent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            silent.setblocking(False)
            with silent:
                assert Peers(silent).of(accepted) == "127.0.0.1"
            with mock.patch("socket.socket", side_effect=OSError(93, "Protocol not supported")):
                made = Peers.open()
            assert made.of(accepted) == "127.0.0.1"
            client.close()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=300), st.integers(1, 64))
def test_nobody_has_more_than_half_and_all_is_accounted_for(steps: list[tuple[str, bool]], places: int) -> None:
    shares: Shares[str] = Shares(places)
    for user, takes in steps:
        if takes and shares.may_take(user):
            shares.take(user)
        elif not takes and shares.held(user):
            shares.give_back(user)
        assert shares.taken == sum(shares.held(each) for each in "abcd") <= places
        assert places < FEWEST or max(shares.held(each) for each in "abcd") <= places // 2


def test_three_users_who_take_all_they_can_leave_a_place_for_the_fourth() -> None:
    shares: Shares[str] = Shares(64)
    for user in "abc":
        while shares.may_take(user):
            shares.take(user)
    assert [shares.held(user) for user in "abc"] == [32, 16, 16]
    other: Shares[str] = Shares(64)
    for user in "ab":
        while other.may_take(user):
            other.take(user)
    assert other.may_take("c")


@only_root
@pytest.mark.parametrize("words", [b"", b"\x05", b"\x05\x01\x00"], ids=["silent", "begun", "greeted"])
def test_one_users_idle_connections_do_not_shut_the_others_out(echo_port: int, words: bytes) -> None:
    """O22: as many as the user likes, at whatever point before the request they are."""
    limits = few(connections=32, refusing=4, handshake=60.0)
    with a_proxy(bound(), limits=limits) as (port,), held(EVE, port, 60, words):
        opened = [socks_connect(port, "127.0.0.1", echo_port) for _ in range(8)]
        assert {code for _, code in opened} == {0}
        for connection, _ in opened:
            connection.sendall(b"mine")
            assert receive(connection, 4) == b"mine"
            connection.close()


@only_root
def test_connections_that_give_way_take_nothing_of_others_with_them(echo_port: int) -> None:
    """O22: one user opens a thousand as fast as possible, each cutting off an older one; another is served."""
    limits = few(connections=32, idle=0.0, handshake=60.0)
    done = threading.Event()
    codes: list[int] = []

    def mine(port: int) -> None:
        while not done.is_set():
            connection, code = socks_connect(port, "127.0.0.1", echo_port)
            connection.sendall(b"mine")
            codes.append(code if receive(connection, 4) == b"mine" else -1)
            connection.close()

    with a_proxy(bound(), limits=limits) as (port,):
        working = threading.Thread(target=mine, args=(port,))
        working.start()
        with held(EVE, port, 1000, b"\x05"):
            done.set()
        working.join(PATIENCE)
    assert codes
    assert set(codes) == {0}


@only_root
def test_one_users_busy_connections_do_not_shut_the_others_out(echo_port: int) -> None:
    """O22: half of the places is what a user has alone."""
    request = b"\x05\x01\x00" + b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + echo_port.to_bytes(2, "big")
    with a_proxy(bound(), limits=few(connections=32)) as (port,), held(EVE, port, 40, request, 12) as answers:
        codes = [answer[6:8] for answer in answers[:-1]]
        assert codes == ["00"] * 16 + ["01"] * 24
        opened = [socks_connect(port, "127.0.0.1", echo_port) for _ in range(8)]
        assert {code for _, code in opened} == {0}
        for connection, _ in opened:
            connection.close()


@only_root
def test_where_all_places_are_taken_the_idle_ones_of_who_has_most_give_way(echo_port: int) -> None:
    """O22: two users together cannot shut out a third with connections that say nothing."""
    limits = few(connections=16, idle=0.05, handshake=60.0)
    with a_proxy(bound(), limits=limits) as (port,), held(EVE, port, 8), held(ALICE, port, 4):
        mine = [socks_connect(port, "127.0.0.1", echo_port) for _ in range(4)]
        time.sleep(limits.idle)
        with held(EVE + 2, port, 1, b"\x05\x01\x00", 2) as answers:
            assert answers[0] == "0500"
        for connection, code in mine:
            assert code == 0
            connection.sendall(b"still here")
            assert receive(connection, 10) == b"still here"
            connection.close()


def test_ones_own_oldest_idle_connection_gives_way_to_a_new_one(echo_port: int) -> None:
    """O22: after a moment, so that those of a busy browser do not eat each other; the requests that were made stay."""
    limits = few(connections=16, idle=0.05, handshake=60.0)
    with a_proxy(bound(), bound(Kind.HTTP), limits=limits) as (port, http):
        kept, code = socks_connect(port, "127.0.0.1", echo_port)
        assert code == 0
        idle = [connect(http) for _ in range(7)]
        time.sleep(3 * limits.idle)
        deadline = time.monotonic() + PATIENCE
        while True:
            another, code = socks_connect(port, "127.0.0.1", echo_port)
            if code == 0:
                break
            another.close()
            assert time.monotonic() < deadline
            time.sleep(limits.idle)
        with pytest.raises(ConnectionResetError):
            idle[0].recv(1)
        kept.sendall(b"kept")
        assert receive(kept, 4) == b"kept"
        for one in (kept, another, *idle):
            one.close()


@only_root
def test_one_users_associations_do_not_shut_the_others_out() -> None:
    """O22: half of the sockets for datagrams is what a user has alone, and they come back."""
    sockets = tuple(datagram_socket() for _ in range(16))
    associate = b"\x05\x01\x00" + b"\x05\x03\x00\x01" + bytes(6)
    with a_proxy(bound(), datagram_sockets=sockets) as (port,):
        for _ in range(2):
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                with held(EVE, port, 20, associate, 12) as answers:
                    if [answer[6:8] for answer in answers[:-1]] == ["00"] * 8 + ["01"] * 12:
                        with held(ALICE, port, 1, associate, 12) as theirs:
                            assert theirs[0][6:8] == "00"
                        break
            else:
                pytest.fail("the sockets did not come back")
