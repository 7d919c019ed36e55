"""The heads of HTTP requests as bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ParseError
from ikeclient.proxy import http
from ikeclient.proxy.destination import Destination

CONNECT = b"CONNECT git.corp.example:443 HTTP/1.1\r\nHost: git.corp.example:443\r\nUser-Agent: git/2.39\r\n\r\n"
GET = b"GET http://www.corp.example/a?b=c HTTP/1.1\r\nHost: www.corp.example\r\nAccept: */*\r\n\r\n"


def read(data: bytes) -> http.Head:
    found = http.parse_head(data)
    assert found is not None
    return found[0]


def request(line: bytes, *fields: bytes) -> http.Head:
    return read(b"\r\n".join((line, *fields)) + b"\r\n\r\n")


def test_connect_leads_to_its_target() -> None:
    head = read(CONNECT)
    assert (head.method, head.minor) == (b"CONNECT", 1)
    assert http.tunnel_destination(head) == Destination(host="git.corp.example", port=443)
    assert http.tunnel_destination(request(b"CONNECT [fd99::1]:22 HTTP/1.0")) == Destination(host="fd99::1", port=22)


@pytest.mark.parametrize("target", [b"host", b"http://host/", b"/", b"*", b"host:0", b"a:b:1", b"u@host:1", b"%65:1"])
def test_connect_needs_a_host_and_a_port(target: bytes) -> None:
    with pytest.raises(ParseError):
        http.tunnel_destination(request(b"CONNECT " + target + b" HTTP/1.1"))


@pytest.mark.parametrize("data", [CONNECT, GET, b"\r\n" + GET])
def test_half_a_head_waits_for_the_rest(data: bytes) -> None:
    assert all(http.parse_head(data[:length]) is None for length in range(len(data)))
    found = http.parse_head(data + b"\x16\x03\x01early")
    assert found is not None
    assert found[1] == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x01\x00",
        b"\x16\x03\x01",
        b" GET",
        b"GET  http://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1 \r\n\r\n",
        b"GET http://a/ HTTP/2.0\r\n\r\n",
        b"GET http://a/ HTTP/1.2\r\n\r\n",
        b"GET http://a/\r\n\r\n",
        b"GET http://a/\xff HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n folded\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nA: b\0\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n: b\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n",
    ],
)
def test_a_malformed_head_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        http.parse_head(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_head_a_wait_or_a_parse_error(data: bytes) -> None:
    for start in (b"", b"CONNECT ", b"GET http://a/ HTTP/1.1\r\n"):
        try:
            found = http.parse_head(start + data + b"\r\n\r\n")
            if found is not None:
                http.credentials(found[0])
                http.forward(found[0])
        except ParseError:
            continue


def test_a_plain_request_goes_on_in_origin_form() -> None:
    """RFC 9112 section 3.2.2: the target's host replaces what Host says. RFC 9110 section 7.6.1: ours stays here."""
    head = request(
        b"POST http://www.corp.example:8080?q HTTP/1.1",
        b"Host: elsewhere.example",
        b"Proxy-Authorization: Basic c2VjcmV0",
        b"Connection: keep-alive, X-Own, Content-Length",
        b"X-Own: 1",
        b"Keep-Alive: 5",
        b"Content-Length: 4",
        b"Accept:  */*",
    )
    assert http.forward(head) == http.Forward(
        destination=Destination(host="www.corp.example", port=8080),
        head=b"POST /?q HTTP/1.1\r\nhost: www.corp.example:8080\r\ncontent-length: 4\r\naccept: */*\r\n"
        b"via: 1.1 ikeclient\r\nconnection: close\r\n\r\n",
        body=4,
    )


@pytest.mark.parametrize(
    ("line", "path", "port"),
    [
        (b"GET http://a HTTP/1.1", b"/", 80),
        (b"GET HTTP://[fd99::1]:81/x HTTP/1.0", b"/x", 81),
        (b"OPTIONS http://a HTTP/1.1", b"*", 80),
        (b"OPTIONS http://a/ HTTP/1.1", b"/", 80),
    ],
)
def test_the_path_is_what_follows_the_host(line: bytes, path: bytes, port: int) -> None:
    found = http.forward(request(line))
    assert found.head.split(b" ")[1] == path
    assert found.destination.port == port


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/etc/passwd",
        b"*",
        b"https://a/",
        b"ftp://a/",
        b"http://",
        b"http://u:p@a/",
        b"http://a:0/",
        b"http://a/#b",
    ],
)
def test_other_targets_are_refused(target: bytes) -> None:
    """A page in a browser can send origin-form here; it must lead nowhere."""
    with pytest.raises(ParseError):
        http.forward(request(b"GET " + target + b" HTTP/1.1"))


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((), 0),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 17",), 17),
        ((b"Transfer-Encoding: Chunked",), None),
    ],
)
def test_the_length_of_the_body_is_known(fields: tuple[bytes, ...], body: int | None) -> None:
    assert http.forward(request(b"PUT http://a/ HTTP/1.1", *fields)).body == body


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 1", b"Content-Length: 1"),
        (b"Content-Length: 1, 1",),
        (b"Content-Length: +1",),
        (b"Content-Length: 0x1",),
        (b"Content-Length:",),
        (b"Content-Length: 9999999999999999999",),
        (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    ],
)
def test_a_length_that_can_be_understood_in_two_ways_is_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(ParseError):
        http.forward(request(b"POST http://a/ HTTP/1.1", *fields))


def test_chunks_do_not_exist_in_http_1_0() -> None:
    with pytest.raises(ParseError):
        http.forward(request(b"POST http://a/ HTTP/1.0", b"Transfer-Encoding: chunked"))


def test_basic_credentials_are_read() -> None:
    encoded = base64.b64encode(b"alice:pass:word")
    assert http.credentials(request(b"CONNECT a:1 HTTP/1.1", b"Proxy-Authorization: bAsIc " + encoded)) == (
        b"alice",
        b"pass:word",
    )


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"Proxy-Authorization: Basic",),
        (b"Proxy-Authorization: Basic !!!",),
        (b"Proxy-Authorization: Basic YWxpY2U=",),
        (b"Proxy-Authorization: Bearer YTpi",),
        (b"Proxy-Authorization: Basic YTpi", b"Proxy-Authorization: Basic YTpi"),
        (b"Authorization: Basic YTpi",),
    ],
)
def test_other_credentials_are_none(fields: tuple[bytes, ...]) -> None:
    assert http.credentials(request(b"CONNECT a:1 HTTP/1.1", *fields)) is None


def test_a_password_is_in_no_representation() -> None:
    head = request(b"GET http://a/ HTTP/1.1", b"Proxy-Authorization: Basic c2VjcmV0", b"Authorization: Basic c2VjcmV0")
    assert "c2VjcmV0" not in repr(head) + repr(http.forward(head))


@given(st.sampled_from([400, 407, 408, 431, 501, 502, 503, 504]), st.text(max_size=50))
def test_a_refusal_is_a_whole_response(status: int, text: str) -> None:
    head, _, body = http.refusal(status, text).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert (b"Proxy-Authenticate: Basic" in head) == (status == 407)
