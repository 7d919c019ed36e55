"""What stands behind the gateway: HTTP, UDP echo and DNS in one process.

HTTP serves `/blob` (random bytes whose hash the test knows) and `/peer` (the address the request came from, which
tells whether it went through the tunnel), swallows what is put to `/sink`, answering with its hash, and serves the
files that a test puts into `files`. With a certificate it speaks HTTPS as well.

The DNS server is two, told apart by the address that was asked. 203.0.113.53 is everybody's: it knows
gw.example.org, www.example.net and what the documents name. The one at 10.99.0.53 knows these and all names below
corp.example. Every other name is NXDOMAIN.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import ipaddress
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.machines import Machine
    from lab.pki import Credential

HTTP_PORT, HTTPS_PORT, ECHO_PORT, DNS_PORT = 80, 443, 7, 53
DOMAIN = "corp.example"
PUBLIC_DNS = ipaddress.ip_address("::ffff:203.0.113.53").packed
ZONE = {
    DOMAIN: ("10.99.0.1", "fd99::1"),
    "gw.example.org": ("10.1.0.1", "fd01::1"),
    "both.example.org": ("10.1.0.1", "10.2.0.1"),
    "vpn.example.com": ("10.1.0.1", "fd01::1"),
    "www.example.net": ("203.0.113.1", "2001:db8:113::1"),
    "intranet.example.com": ("203.0.113.1", "2001:db8:113::1"),
}
RECORDS = {1: 4, 28: 6}  # A and AAAA


class Servers:
    """The servers in `machine`, on all its addresses. `/blob` has `size` bytes, the hash `sha256`, the file `path`."""

    def __init__(self, machine: Machine, directory: Path, *, size: int = 1 << 20) -> None:
        self._machine = machine
        self.files = directory / "files"
        self.files.mkdir()
        content = os.urandom(size)
        self.size = size
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.path = path = directory / "blob"
        path.write_bytes(content)
        self._start(str(path), str(self.files))

    def speak_https(self, credential: Credential) -> None:
        """Serve the files with that certificate, too."""
        self._start("https", str(self.files), str(credential.chain_file), str(credential.key_file))

    def _start(self, *arguments: str) -> None:
        process = self._machine.start(sys.executable, __file__, *arguments, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the servers did not start")


class _Handler(http.server.BaseHTTPRequestHandler):
    blob = b""
    files = Path()

    def do_GET(self) -> None:
        match self.path:
            case "/blob":
                self._reply(200, self.blob)
            case "/peer":
                self._reply(200, self._peer().encode())
            case _:
                self._reply_with_file()

    def _reply_with_file(self) -> None:
        path = (self.files / self.path.split("?")[0].lstrip("/")).resolve()
        path = path / "index.html" if path.is_dir() else path
        if path.is_relative_to(self.files.resolve()) and path.is_file():
            self._reply(200, path.read_bytes(), "text/html" if path.suffix == ".html" else "application/octet-stream")
        else:
            self._reply(404, b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(200, hashlib.sha256(body).hexdigest().encode())

    def _peer(self) -> str:
        address = ipaddress.ip_address(self.client_address[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)

    def _reply(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent: the reader of our output is the test."""


class _HttpServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # with 5 the kernel takes to SYN cookies, and resets whose first segments come reordered
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, as the base class does."""
        socketserver.TCPServer.server_bind(self)


def _serve_datagrams(port: int) -> None:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    server.bind(("::", port))
    while True:
        data, [(level, kind, info)], _, peer = server.recvmsg(65535, 256)
        answer = data if port == ECHO_PORT else _dns_answer(data, public=info[:16] == PUBLIC_DNS)
        if answer:  # leaves from the address that was asked, by whatever interface leads there
            with contextlib.suppress(OSError):  # who asked is out of reach by now
                server.sendmsg([answer], [(level, kind, info[:16] + bytes(4))], 0, peer)


def _dns_answer(query: bytes, *, public: bool) -> bytes:
    if len(query) < 17:
        return b""
    labels, position = [], 12
    while query[position]:
        labels.append(query[position + 1 : position + 1 + query[position]].decode("ascii", "replace").lower())
        position += 1 + query[position]
    question = query[12 : position + 5]
    kind = int.from_bytes(question[-4:-2], "big")
    known = DOMAIN if labels[-2:] == DOMAIN.split(".") else ".".join(labels)
    found = None if public and known == DOMAIN else ZONE.get(known)
    addresses = [ipaddress.ip_address(address) for address in found or ()]
    values = [address.packed for address in addresses if address.version == RECORDS.get(kind)]
    records = [b"\xc0\x0c" + question[-4:] + b"\0\0\0\x3c" + len(v).to_bytes(2, "big") + v for v in values]
    status = b"\x85\x80" if found else b"\x85\x83"
    return query[:2] + status + b"\0\1" + bytes((0, len(records))) + bytes(4) + question + b"".join(records)


def _main(blob: str, files: str, *certificate: str) -> None:
    _Handler.files = Path(files)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server = _HttpServer(("::", HTTPS_PORT), _Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print("ready", flush=True)
        server.serve_forever()
    _Handler.blob = Path(blob).read_bytes()
    server = _HttpServer(("::", HTTP_PORT), _Handler)
    for port in (ECHO_PORT, DNS_PORT):
        threading.Thread(target=_serve_datagrams, args=(port,), daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
