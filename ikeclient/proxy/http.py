"""The head of an HTTP request to a proxy, as bytes: CONNECT, and absolute-form for plain `http://`. No sockets here.

The head is read strictly (RFC 9112), because what two readers understand differently is how requests are smuggled. A
plain request is forwarded alone: we ask the server to close after the answer, so that a connection never carries
requests for two servers and the answer needs no reading.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import field

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy.destination import Destination

LONGEST_HEAD = 32 << 10  # bytes; tokens of some login systems are long
MAXIMUM_FIELDS = 100

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"(?i:http)://([^/?#@]+)(/[^#]*|\?[^#]*)?")
# RFC 9110 section 7.6.1, and what only concerns the proxy. Transfer-Encoding stays: the body passes as it is.
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade"}
_NEVER_DROPPED = {b"content-length", b"transfer-encoding", b"host"}

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request line and its fields, names in lower case."""

    method: bytes
    target: bytes
    minor: int
    fields: tuple[tuple[bytes, bytes], ...] = field(repr=False)  # one of them may hold the password

    def all(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [value for known, value in self.fields if known == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A plain request: where it goes, what to send there first, and how many bytes of body follow.

    `body` is None for chunks: they are not read, so whatever else the client sends goes to the same server.
    """

    destination: Destination
    head: bytes = field(repr=False)
    body: int | None


def parse_head(data: bytes) -> tuple[Head, int] | None:
    """The head of a request and its length in bytes; None while it is not all there. Raises ParseError."""
    start = 2 if data.startswith(b"\r\n") else 0  # RFC 9112 section 2.2: an empty line before it is to be ignored
    if len(data) > start and data[start : start + 1] != b"\r" and not _TOKEN.match(data, start, start + 1):
        raise ParseError("not a request of HTTP")
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        return None
    first, *lines = data[start:end].split(b"\r\n")
    request = _LINE.fullmatch(first)
    if request is None:
        raise ParseError("the request line is malformed")
    if len(lines) > MAXIMUM_FIELDS:
        raise ParseError("too many fields")
    head = Head(
        method=request[1], target=request[2], minor=int(request[3]), fields=tuple(_field(line) for line in lines)
    )
    return head, end + 4


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ParseError("a field is malformed")
    return name.lower(), value.strip(b" \t")


def tunnel_destination(head: Head) -> Destination:
    """Where CONNECT is to lead: authority-form, with a port (RFC 9112 section 3.2.3). Raises ParseError."""
    return Destination.parse(head.target.decode("ascii"))


def forward(head: Head) -> Forward:
    """The plain request to send on (RFC 9112 section 3.2.2, RFC 9110 section 7.6). Raises ParseError."""
    absolute = _ABSOLUTE.fullmatch(head.target)
    if absolute is None:
        raise ParseError("this is a proxy: it takes CONNECT host:port, and http://host/path for other methods")
    authority, path = absolute[1], absolute[2] or b""
    destination = Destination.parse(authority.decode("ascii"), 80)
    if not path.startswith(b"/"):
        path = b"*" if head.method == b"OPTIONS" and not path else b"/" + path
    dropped = (
        _HOP_BY_HOP
        | {name.strip().lower() for value in head.all(b"connection") for name in value.split(b",")} - _NEVER_DROPPED
    )
    lines = [b"%s %s HTTP/1.%d" % (head.method, path, head.minor), b"host: " + authority]
    lines += [name + b": " + value for name, value in head.fields if name not in dropped and name != b"host"]
    lines += [b"via: 1.%d ikeclient" % head.minor, b"connection: close"]
    return Forward(destination=destination, head=b"\r\n".join(lines) + b"\r\n\r\n", body=_body(head))


def _body(head: Head) -> int | None:
    """How many bytes of body follow (RFC 9112 section 6.3); None where its chunks tell."""
    lengths, codings = head.all(b"content-length"), head.all(b"transfer-encoding")
    if codings:
        if lengths or head.minor == 0 or [coding.lower() for coding in codings] != [b"chunked"]:
            raise ParseError("the length of the body is ambiguous")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise ParseError("the length of the body is ambiguous")
    return int(lengths[0])


def credentials(head: Head) -> tuple[bytes, bytes] | None:
    """User name and password of Basic authentication (RFC 7617); None where there are none that can be read."""
    values = head.all(b"proxy-authorization")
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def refusal(status: int, text: str) -> bytes:
    """A whole response that says why there is no connection, after which we close."""
    body = f"ikeclient proxy: {text}\n".encode()
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    if status == 407:
        lines.append('Proxy-Authenticate: Basic realm="ikeclient"')
    lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
