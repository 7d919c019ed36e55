"""A gateway that follows the protocol and has a certificate of its own making, run as a program in a machine.

    python rogue.py ADDRESS AUTHORITY

It claims to be issued by the authority in the PEM file AUTHORITY, in the odd way of `certificate`.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(_TESTS / name) for name in ("sim", "eap")]

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402 - needs the path above
from sim_gateway import GatewaySetup, SimGateway  # noqa: E402

from ikeclient.crypto.pki import der  # noqa: E402
from ikeclient.crypto.pki.trust_store import Certificate  # noqa: E402
from ikeclient.crypto.sign.file_key import FileKey  # noqa: E402
from ikeclient.ike import events  # noqa: E402

MARKER = bytes(4)
PSS_WITHOUT_PARAMETERS = bytes.fromhex("300b06092a864886f70d01010a")
ED25519 = bytes.fromhex("300506032b6570")
DATES = bytes.fromhex("301e170d3230303130313030303030305a170d3430303130313030303030305a")
SUBJECT = bytes.fromhex("300c310a300806035504030c0142")


def certificate(issuer: bytes, key: Ed25519PrivateKey) -> bytes:
    """One that is signed with RSASSA-PSS without parameters, which RFC 4055 does not allow."""
    public = der.encode(der.SEQUENCE, ED25519 + der.encode(0x03, b"\0" + key.public_key().public_bytes_raw()))
    serial = bytes.fromhex("020101")
    signed = der.encode(der.SEQUENCE, serial + PSS_WITHOUT_PARAMETERS + issuer + DATES + SUBJECT + public)
    return der.encode(der.SEQUENCE, signed + PSS_WITHOUT_PARAMETERS + der.encode(0x03, bytes(65)))


def main(address: str, authority: str) -> None:
    """Answer until killed."""
    trusted = Certificate.load_many(Path(authority).read_bytes())[0]
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    chain = (certificate(trusted.subject_der, key),)
    rogue = SimGateway(GatewaySetup(auth="eap", key=FileKey(key), chain=chain), os.urandom)
    sockets = {}
    for port in (500, 4500):
        sockets[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets[port].bind((address, port))
    print("ready", flush=True)
    while True:
        for ready in select.select(list(sockets.values()), [], [])[0]:
            data, (host, port) = ready.recvfrom(65535)
            local = ready.getsockname()[1]
            if local == 4500:
                data = data.removeprefix(MARKER)
            path = events.Path(ip_address(address), local, ip_address(host), port)
            rogue.receive(data, path, time.monotonic())
            for datagram in rogue.outbox:
                out = datagram.path
                content = (MARKER if out.local_port == 4500 else b"") + datagram.data
                sockets[out.local_port].sendto(content, (str(out.remote_address), out.remote_port))
            rogue.outbox.clear()
        print(f"login {len(rogue.requests)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
