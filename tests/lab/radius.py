"""RADIUS servers of others, and a client that plays the gateway in front of them (RFC 2865, RFC 3579).

An EAP method is proven best against the server that decides: `RadiusClient` carries the packets of one conversation to
it directly, which takes milliseconds, and says what a gateway would learn: accepted or not, and with which keys.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.gateway import PASSWORD, USER
from lab.machines import LabError, Machine, wait_for
from lab.pki import Credential

from ikeclient.crypto.algorithms.milenage import Milenage
from ikeclient.eap.credentials import CardKeys, SimMemory
from ikeclient.eap.usim import Triplets, ask_card, sim_request

SECRET = "radius-secret"
REQUEST, ACCEPT, REJECT, CHALLENGE = 1, 2, 3, 11
_USER_NAME, _STATE, _VENDOR, _EAP_MESSAGE, _AUTHENTICATOR = 1, 24, 26, 79, 80
_MICROSOFT, _SEND_KEY, _RECEIVE_KEY = 311, 16, 17
_RANDOM = 16

# How names begin that hostapd's server takes for a card, permanent ones and those that it gives.
CARD_NAMES = dict(zip("024135678", ("AKA", "AKA", "AKA", "SIM", "SIM", "SIM", "AKA'", "AKA'", "AKA'"), strict=True))

EXPIRED = "expired"  # a user of FreeRADIUS whose password has to be changed; its own change of it crashes
PLAIN_NAMES = ("mschapv2", "gtc", "md5")  # users of hostapd's server with that method and nothing around it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the server answered: `code`, its EAP packet, and the MSK if it has one for the gateway."""

    code: int
    packet: bytes
    msk: bytes = b""


@contextmanager
def _inside(machine: Machine) -> Iterator[None]:
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{machine.name}") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
        raise LabError("cannot enter the machine's network")


class RadiusClient:
    """A network access server in `machine` that asks the RADIUS server on its loopback."""

    def __init__(self, machine: Machine, port: int) -> None:
        with _inside(machine):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(15)
        self._socket.connect(("127.0.0.1", port))
        self._state = b""
        self._number = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def ask(self, user: str, packet: bytes) -> Verdict:
        """Carry one EAP response to the server and return what it says."""
        random = os.urandom(_RANDOM)
        self._number = (self._number + 1) % 256
        body = _attribute(_USER_NAME, user.encode()) + _attribute(4, bytes([127, 0, 0, 1]))
        for at in range(0, len(packet), 253):
            body += _attribute(_EAP_MESSAGE, packet[at : at + 253])
        if self._state:
            body += _attribute(_STATE, self._state)
        body += _attribute(_AUTHENTICATOR, bytes(_RANDOM))
        head = bytes([REQUEST, self._number]) + (20 + len(body)).to_bytes(2, "big") + random
        proof = hmac.digest(SECRET.encode(), head + body, "md5")
        self._socket.send(head + body[:-_RANDOM] + proof)
        while True:
            answer = self._socket.recv(65535)
            if answer[1] == self._number:
                return self._read(answer, random)

    def _read(self, answer: bytes, random: bytes) -> Verdict:
        packet, self._state, keys = b"", b"", {}
        rest = answer[20:]
        while rest:
            kind, length = rest[0], rest[1]
            value, rest = rest[2:length], rest[length:]
            if kind == _EAP_MESSAGE:
                packet += value
            elif kind == _STATE:
                self._state = value
            elif kind == _VENDOR and int.from_bytes(value[:4], "big") == _MICROSOFT:
                keys[value[4]] = _decrypted(value[6:], random)
        return Verdict(code=answer[0], packet=packet, msk=keys.get(_RECEIVE_KEY, b"") + keys.get(_SEND_KEY, b""))


def _attribute(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value) + 2]) + value


def _decrypted(value: bytes, random: bytes) -> bytes:
    """RFC 2548 section 2.4.2."""
    salt, hidden, plain, last = value[:2], value[2:], b"", random + value[:2]
    del salt
    for at in range(0, len(hidden), 16):
        pad = hashlib.md5(SECRET.encode() + last).digest()
        last = hidden[at : at + 16]
        plain += bytes(a ^ b for a, b in zip(last, pad, strict=True))
    return plain[1 : 1 + plain[0]]


class _Server:
    """A server process in `machine`, its files in `directory`."""

    ready = ""
    port = 1812

    def __init__(self, machine: Machine, directory: Path, port: int | None = None) -> None:
        self.machine = machine
        self.port = port or self.port
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> str:
        """What it wrote so far."""
        with suppress(FileNotFoundError):
            return (self.directory / "log").read_text("utf-8", "replace")
        return ""

    def launch(self, *argv: str) -> None:
        """Start it and wait until it takes requests."""
        with (self.directory / "log").open("wb") as log:
            self._process = self.machine.start(*argv, stdout=log, stderr=log)
        wait_for(self._is_ready, timeout=30, what=f"{argv[0]} to be ready")

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"the server ended: {self.log}")
        return re.search(self.ready, self.log) is not None

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None


class Hostapd(_Server):
    """hostapd's RADIUS server: `alice` with whatever is inside, and the client certificate's name for EAP-TLS."""

    ready = "RADIUS SRV|setup complete|AP-ENABLED"

    def serve(self, server: Credential, client_authority: Path, *, tls13: bool, settings: Mapping[str, str]) -> None:
        """Answer with `server` as the certificate, and demand client certificates of `client_authority`."""
        own = self.directory
        chain = own / "server.pem"
        chain.write_bytes(server.chain_file.read_bytes())
        (own / "clients").write_text(f"127.0.0.1 {SECRET}\n")
        (own / "users").write_text(
            '"alice@example.com" TLS\n"anonymous@example.com" PEAP,TTLS,TLS\n"anonymous" PEAP,TTLS\n'
            + "".join(f'"{name}" {name.upper()} "{PASSWORD}"\n' for name in PLAIN_NAMES)
            + '"alice" PEAP,TTLS\n'
            + f'"alice" MSCHAPV2,GTC,MD5,TTLS-MSCHAPV2,TTLS-PAP "{PASSWORD}" [2]\n"carol" TLS [2]\n'
            + "".join(f'"{digit}"* {method}\n' for digit, method in CARD_NAMES.items())
        )
        lines = {
            "interface": "lo",
            "driver": "none",
            "eap_server": "1",
            "eap_user_file": f"{own}/users",
            "ca_cert": str(client_authority),
            "server_cert": str(chain),
            "private_key": str(server.key_file),
            "radius_server_clients": f"{own}/clients",
            "radius_server_auth_port": str(self.port),
            "tls_flags": f"[{'ENABLE' if tls13 else 'DISABLE'}-TLSv1.3]",
            "fragment_size": "900",
            **settings,
        }
        (own / "hostapd.conf").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        self.launch("hostapd", "-dd", f"{own}/hostapd.conf")


class Hlr:
    """A home location register on a Unix socket, as hostapd asks for one: knows one card, by its own Milenage."""

    def __init__(self, path: Path, k: bytes, opc: bytes) -> None:
        self.sequence = 32
        self.k = k
        self._opc = opc
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(1000)
            except OSError:
                return
            if not data:
                return
            answer = self._answer(data.decode().split())
            if answer and sender:
                self._socket.sendto(answer.encode(), sender)

    def _answer(self, words: list[str]) -> str:
        card = Milenage(self.k, self._opc)
        match words:
            case ["AKA-REQ-AUTH", imsi]:
                self.sequence += 32
                return " ".join(("AKA-RESP-AUTH", imsi, *(part.hex() for part in self._vector(card))))
            case ["AKA-AUTS", _, auts, rand]:
                hidden = bytes.fromhex(auts)[:6]
                mask = card.f2345(bytes.fromhex(rand)).ak_resync
                self.sequence = int.from_bytes(bytes(a ^ b for a, b in zip(hidden, mask, strict=True)), "big")
            case ["SIM-REQ-AUTH", imsi, count]:
                triplets = []
                for _ in range(int(count)):
                    rand = os.urandom(16)
                    answer = ask_card(CardKeys(k=self.k, opc=self._opc), SimMemory(), sim_request([rand]))
                    assert isinstance(answer, Triplets)
                    triplets.append(f"{answer.kc[0].hex()}:{answer.sres[0].hex()}:{rand.hex()}")
                return " ".join(("SIM-RESP-AUTH", imsi, *triplets))
        return ""

    def _vector(self, card: Milenage) -> tuple[bytes, ...]:
        rand, at, amf = os.urandom(16), self.sequence.to_bytes(6, "big"), b"\x80\x00"
        vector = card.f2345(rand)
        autn = bytes(a ^ b for a, b in zip(at, vector.ak, strict=True)) + amf + card.f1(rand, at, amf)[0]
        return rand, autn, vector.ik, vector.ck, vector.res


class FreeRadius(_Server):
    """FreeRADIUS with everything it needs in one directory; the login inside is in the server `inside`."""

    ready = "Ready to process requests"
    port = 1822

    def serve(self, server: Credential, client_authority: Path, *, tls13: bool = False) -> None:
        """Answer with `server` as the certificate, and demand client certificates of `client_authority`."""
        own = self.directory
        (own / "users").write_text(
            f'{USER} Cleartext-Password := "{PASSWORD}"\n'
            f'{EXPIRED} Cleartext-Password := "{PASSWORD}", SMB-Account-Ctrl-Text := "[Ue]"\n'
        )
        versions = ("1.3", "1.3") if tls13 else ("1.2", "1.2")
        (own / "radiusd.conf").write_text(_freeradius_conf(own, self.port, versions, server, client_authority))
        self.launch("freeradius", "-fxx", "-l", "stdout", "-d", str(own))


def _freeradius_conf(own: Path, port: int, versions: tuple[str, str], server: Credential, authority: Path) -> str:
    return f"""
prefix = /usr
name = freeradius
confdir = {own}
logdir = {own}
run_dir = {own}
raddbdir = {own}
libdir = /usr/lib/freeradius
pidfile = {own}/pid
security {{
  reject_delay = 0
  allow_vulnerable_openssl = yes
}}
modules {{
  pap {{ }}
  mschap {{ }}
  files {{
    usersfile = {own}/users
  }}
  eap {{
    default_eap_type = peap
    md5 {{ }}
    gtc {{
      challenge = "Token 4711: "
      auth_type = PAP
    }}
    mschapv2 {{
      send_error = yes
    }}
    tls-config common {{
      private_key_file = {server.key_file}
      certificate_file = {server.chain_file}
      ca_file = {authority}
      cipher_list = "DEFAULT"
      ecdh_curve = ""
      tls_min_version = "{versions[0]}"
      tls_max_version = "{versions[1]}"
      fragment_size = 800
      cache {{
        enable = no
      }}
    }}
    tls {{
      tls = common
    }}
    ttls {{
      tls = common
      default_eap_type = md5
      virtual_server = inside
    }}
    peap {{
      tls = common
      default_eap_type = mschapv2
      virtual_server = inside
    }}
  }}
}}
client lab {{
  ipaddr = 127.0.0.1
  secret = {SECRET}
}}
server default {{
  listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
  }}
  authorize {{
    files
    eap
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type MS-CHAP {{
      mschap
    }}
    eap
  }}
}}
server inside {{
  authorize {{
    files
    mschap
    eap
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
    Auth-Type MS-CHAP {{
      mschap
    }}
    eap
  }}
}}
"""


def converse(client: RadiusClient, respond: Callable[[bytes], bytes | None]) -> Verdict:
    """Carry a whole conversation, beginning with our identity, and return the server's last word."""
    packet = respond(bytes([1, 0, 0, 5, 1]))
    assert packet is not None
    user = packet[5:].decode()
    while True:
        verdict = client.ask(user, packet)
        if not verdict.packet:
            return verdict
        answer = respond(verdict.packet)
        if answer is None or verdict.code != CHALLENGE:
            return verdict
        packet = answer
