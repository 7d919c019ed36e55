"""The proxy leads out and not to itself: whatever spelling a client finds for the namespace it lives in."""

from __future__ import annotations

import socket
import subprocess
from unittest import mock

import pytest
from proxy.proxy_world import (
    a_proxy,
    bound,
    connect,
    datagram_socket,
    few,
    receive,
    receive_all,
    socks_connect,
)

from ikeclient.proxy.destination import Destination
from ikeclient.proxy.itself import leads_here
from ikeclient.proxy.settings import Kind

ASSOCIATE = b"\x05\x01\x00" + b"\x05\x03\x00\x01" + bytes(6)
STRICT = few(to_itself=False)
NUMBERS = [
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "0.0.0.1",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:7f00:1",
]
NAMES = ["localhost", "LOCALHOST.", "127.1", "0x7f.1", "2130706433", "localhost.localdomain"]


def own_address() -> str:
    """An address of this machine that is not on loopback, if there is one."""
    listing = subprocess.run(["ip", "-o", "-4", "address"], capture_output=True, text=True, check=True).stdout
    found = [line.split()[3].partition("/")[0] for line in listing.splitlines() if " lo " not in line]
    if not found:
        pytest.skip("this machine has no address but loopback")
    return found[0]


@pytest.mark.parametrize("host", [*NUMBERS, "224.0.0.251", "ff02::fb"])
def test_what_stays_here_is_told_from_the_address(host: str) -> None:
    assert leads_here(host)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "10.99.0.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%lo", "128.0.0.1"]
)
def test_what_leads_out_is_not_refused(host: str) -> None:
    assert not leads_here(host)


def test_an_address_of_the_namespace_itself_leads_here() -> None:
    """O22: the inner address is as near as loopback."""
    assert leads_here(own_address())
    assert leads_here(f"::ffff:{own_address()}")


def test_no_telling_is_no_permission() -> None:
    """O13"""
    with (
        mock.patch("ikeclient.proxy.itself.socket.socket", side_effect=OSError(24, "Too many open files")),
        pytest.raises(OSError, match="Too many"),
    ):
        leads_here("192.0.2.1")


@pytest.mark.parametrize("host", [*NUMBERS, *NAMES])
def test_socks_and_http_refuse_it_in_their_words(echo_port: int, host: str) -> None:
    """O22: and no connection is made, whoever listens there."""
    with a_proxy(bound(), bound(Kind.HTTP), limits=STRICT) as (socks_port, http_port):
        connection, code = socks_connect(socks_port, host, echo_port)
        connection.close()
        assert code in (2, 4)  # not allowed, or no such name for this resolver
        where = f"[{host}]" if ":" in host else host
        for request in ("CONNECT {0}:{1} HTTP/1.1", "GET http://{0}:{1}/ HTTP/1.1"):
            with connect(http_port) as client:
                client.sendall((request.format(where, echo_port) + "\r\n\r\n").encode())
                status = receive_all(client).split(b" ")[1]
            assert status == (b"403" if code == 2 else b"502")
        assert code == 2 or host in NAMES[1:]


def test_datagrams_do_not_go_there_either() -> None:
    """O22: by address, by another family's spelling of it, and by name."""
    service = datagram_socket()
    service.settimeout(0.5)
    port = service.getsockname()[1]
    with (
        service,
        a_proxy(bound(), datagram_sockets=(datagram_socket(),), limits=STRICT) as (proxy,),
        connect(proxy) as control,
        datagram_socket() as udp,
    ):
        control.sendall(ASSOCIATE)
        answer = receive(control, 12)
        outside = (socket.inet_ntoa(answer[6:10]), int.from_bytes(answer[10:], "big"))
        for host in ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "localhost"):
            udp.sendto(b"\0\0\0\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big") + b"in", outside)
        with pytest.raises(TimeoutError):
            service.recv(10)


def test_a_name_with_an_address_here_and_one_outside_is_reached_outside(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server cannot bend a connection inwards."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.1", "192.0.2.1")]
    really = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **named: found if host == "both.example" else really(host, *more, **named),
    )
    with a_proxy(bound(), limits=few(to_itself=False, connecting=0.3)) as (port,):
        connection, code = socks_connect(port, "both.example", echo_port)
        connection.close()
    assert code != 0


def test_a_forward_to_an_address_here_is_its_owners_choice_and_to_a_name_is_not(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    explicit = bound(Kind.FORWARD, Destination.of("127.0.0.1", echo_port))
    by_name = bound(Kind.FORWARD, Destination.of("localhost", echo_port))
    with a_proxy(explicit, by_name, limits=STRICT) as (good, bad):
        with connect(good) as client:
            client.sendall(b"hello")
            assert receive(client, 5) == b"hello"
        with connect(bad) as client, pytest.raises(ConnectionResetError):
            client.recv(1)
