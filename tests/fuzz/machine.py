"""What this machine says to us: files on its disk, its kernel and daemons, other programs, and our own processes."""

from __future__ import annotations

import base64
import functools
import io
import json
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fuzz.damage import framed, packets_in
from ikeclient.control import protocol
from ikeclient.control.events import EVENTS, error_of, failed, happened
from ikeclient.control.status import TunnelStatus, unresponsive
from ikeclient.crypto.sign.schemes import SCHEME_NAMES
from ikeclient.eap.usim import aka_request, read_answer, sim_request
from ikeclient.errors import IkeclientError, KeyUnavailable
from ikeclient.ipc import messages
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.typed import Codec
from ikeclient.net.block import store
from ikeclient.net.block.state import BLOCK_TABLES, Block, ruleset, steps
from ikeclient.net.changes import journal
from ikeclient.net.changes.steps import Address, Link, ResolvConfFile, ResolvconfRecord, ResolvedLink, Route, Rule
from ikeclient.net.dns import lookup, resolv_conf
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.net.namespace import messages as inside
from ikeclient.net.transport import http, icmp_errors
from ikeclient.net.watch import netlink
from ikeclient.process.helper import channel
from ikeclient.process.helper import messages as helper
from ikeclient.signer import agent
from ikeclient.signer import messages as signer
from ikeclient.signer.messages import AgentKey
from ikeclient.signer.uri import parse_uri
from ikeclient.wire.text import printable

OWNER = journal.Owner(name="work", pid=77, start=5, boot="b", pids="4026531836", network="1")


# Files of ours


def _steps() -> list[Any]:
    network, address = ip_network("10.0.0.0/8"), ip_interface("10.88.0.1/32")
    return [
        Link(interface="ike0", index=7, mtu=1400, old_mtu=1500, was_up=False),
        Address(interface="ike0", index=7, address=address),
        Route(destination=network, table=7400, kind="unicast", interface="ike0", index=7, source=address.ip),
        Route(destination=ip_network("::/0"), table=7400, kind="unreachable"),
        Rule(version=4, priority=7400, table=7400, mark=7),
        ResolvedLink(interface="ike0", index=7, servers=(address.ip,), domains=("corp.example",), default_route=True),
        ResolvconfRecord(interface="ike0", text="nameserver 10.0.0.1\n", exclusive=True),
        ResolvConfFile(text="nameserver 10.0.0.1\n", link=None, content=b"x\n", mode=0o644, uid=0, gid=0),
    ]


def journals() -> list[bytes]:
    """Journals as they are written, of both formats."""
    owner = {"name": OWNER.name, "pid": OWNER.pid, "start": OWNER.start, "boot": OWNER.boot}
    listed = [journal.encode(step) for step in _steps()]
    return [
        json.dumps({"format": 2, **owner, "pids": OWNER.pids, "network": OWNER.network, "steps": listed}).encode(),
        *(json.dumps({"format": 1, **owner, "steps": [step]}).encode() for step in listed),
    ]


def read_journal(data: bytes) -> object:
    """What a journal says can be shown, compared and undone, or it is none (O3, O19)."""
    owner, found = journal._parse(data)
    owner.is_alive(locked=True)
    for step in found:
        assert journal.decode(json.loads(json.dumps(journal.encode(step)))) == step
        hash(step.key)
        for line in (*step.commands(), *step.undo_commands()):
            line.encode()
        if isinstance(step, ResolvConfFile):
            resolv_conf.holds(Path("/nonexistent"), step)
            step.text.encode()
    return len(found)


def _block() -> Block:
    return Block(
        name="work",
        networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        exclude=(ip_network("192.0.2.0/24"),),
        interface="ike0",
        gateways=(ip_address("203.0.113.7"), ip_address("2001:db8::7")),
        ports=(4500,),
        mark=7,
        table=BLOCK_TABLES[0],
        network="1",
    )


def blocks() -> list[bytes]:
    """The file of a kill switch."""
    return [json.dumps(Codec().encode(_block())).encode()]


def read_block(data: bytes) -> object:
    """What a kill switch remembers closes something that can be closed, or it is passed over (O3)."""
    path = _scratch() / "work.block.json"
    path.write_bytes(data)
    block = store._read(path.parent, path.name)
    if block is None:
        return None
    text = ruleset(block, [block])
    assert text.isascii()
    assert text.count("{") == text.count("}")
    return len(steps(block))


RESOLVER = b"# by hand\nnameserver 10.1.0.53\nnameserver fd01::53\nsearch a.example b.example\noptions ndots:2 rotate\n"


@functools.cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="ikeclient-fuzz-"))


def read_resolver(data: bytes) -> object:
    """A resolver's configuration that others wrote is read, kept, and served from (O10)."""
    found = resolv_conf.servers_in(data)
    path = _scratch() / "resolv.conf"
    path.write_bytes(data)
    config = DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",), mode="split")
    step, _ = resolv_conf.ResolvConf(path, OWNER).prepare(config, None)
    if step is not None:
        assert step.content == data
        for line in step.text.encode().splitlines():
            assert line.split()[0] in (b"#", b"nameserver", b"search", b"options")
        assert journal.decode(json.loads(json.dumps(journal.encode(step)))) == step
    return len(found)


HOSTS = b"127.0.0.1 localhost\n203.0.113.7 vpn.example.com vpn # ours\n2001:db8::7 vpn.example.com\n"


def read_hosts(data: bytes) -> object:
    """The file of hosts gives addresses only."""
    path = _scratch() / "hosts"
    path.write_bytes(data)
    return len(lookup.listed("vpn.example.com", path))


# Our own processes


def _typed(codec: Codec, kind: Any, *samples: object) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Return seeds and the check for one declared kind of message."""

    def check(data: bytes) -> object:
        message = messages.receive(io.BytesIO(messages.HEADER.pack(len(data)) + data).read)
        value = codec.decode(kind, message)
        with suppress(RecursionError):  # what is handed on as it came may be deep
            assert codec.decode(kind, json.loads(json.dumps(codec.encode(value)))) == value or value != value  # a NaN
        return type(value).__name__

    return [json.dumps(codec.encode(sample)).encode() for sample in samples], check


def helper_requests() -> tuple[list[bytes], Callable[[bytes], object]]:
    """What a tunnel asks of its helper."""
    step = journal.encode(_steps()[-1])
    addresses = (IPv4Address("10.99.0.53"), IPv6Address("fd99::53"))
    prepare = helper.PrepareDns(
        servers=addresses, domains=("corp.example",), mode="split", interface="ike0", previous=step
    )
    return _typed(
        channel.CODEC,
        helper.Request | helper.RunHook | helper.AskCard,
        helper.WriteJournal(steps=(0, *map(journal.encode, _steps()))),
        prepare,
        helper.ApplyDns(step=step),
        helper.WriteCrash(text="a"),
        helper.Remove(file="log"),
        helper.RunHook(number=1, reason="up", command=("/bin/true",), variables={"A": "b"}),
        helper.AskCard(number=1, challenge="aka 00 00"),
    )


def helper_answers() -> tuple[list[bytes], Callable[[bytes], object]]:
    """What a helper answers."""
    return _typed(
        channel.CODEC,
        helper.Answer | helper.HookEnded | helper.CardAnswer,
        helper.Done(warnings=("a",), step=journal.encode(_steps()[-1])),
        helper.HookEnded(number=None, problem="no"),
        helper.CardAnswer(number=1, problem=Failure(message="m", reason=None, hint="h", exit_code=4)),
    )


def namespace_requests() -> tuple[list[bytes], Callable[[bytes], object]]:
    """What the init of a namespace is asked, and what it answers."""
    config = MachineConfig(
        interface="ike0",
        mtu=1400,
        addresses=(ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128")),
        routes=(ip_network("0.0.0.0/0"),),
        blocked=frozenset({6}),
        gateway=(ip_address("203.0.113.7"),),
        ports=(4500,),
        mark=7,
        table=7400,
        dns=DnsConfig(servers=(ip_address("10.99.0.53"),)),
    )
    return _typed(
        inside.CODEC,
        MachineConfig | inside.First | inside.Answer,
        config,
        inside.Ready(interface="ike0", vnet=True, warnings=()),
        inside.Applied(warnings=("a",), servers=(ip_address("10.99.0.53"),)),
    )


def signer_messages() -> tuple[list[bytes], Callable[[bytes], object]]:
    """What the keeper of keys and its workers say to each other."""
    key = AgentKey(socket="/run/agent", fingerprint="SHA256:abc")
    schemes = tuple(SCHEME_NAMES.values())
    return _typed(
        signer.CODEC,
        signer.Request | signer.Answer | signer.TokenKey | AgentKey,
        key,
        signer.Look(reference=b"r"),
        signer.Sign(number=1, reference=b"r", octets=b"o", schemes=schemes, public_key=b"k"),
        signer.Signed(number=1, scheme=schemes[0], signature=b"s"),
    )


def typed() -> dict[str, tuple[list[bytes], Callable[[bytes], object]]]:
    """Every kind of message between our processes."""
    return {
        "helper request": helper_requests(),
        "helper answer": helper_answers(),
        "namespace": namespace_requests(),
        "signer": signer_messages(),
    }


FRAMES = [messages.pack({"a": 1}), messages.pack({"a": [1] * 40}) + messages.pack({}), b"\0\0\0\0", b"\xff" * 8]


def read_frames(data: bytes) -> object:
    """Frames of a pipe between processes."""
    source, count = io.BytesIO(data), 0
    while messages.receive(source.read) is not None:
        count += 1
    return min(count, 9)


# What a tunnel says to the command line


def replies() -> list[bytes]:
    """The status of a tunnel, and events."""
    status = unresponsive("work", 77).to_json()
    return [
        json.dumps(status).encode(),
        *(json.dumps(happened(name, "work", host="a", gateway="b")).encode() for name in EVENTS),
        json.dumps(failed(IkeclientError("m", reason="r", hint="h"), "work")).encode(),
    ]


def read_reply(data: bytes) -> object:
    """Whatever a tunnel says of itself is a status of the right types, or an error to show (O15)."""
    document = protocol.decode(data)
    found = TunnelStatus.from_json(document)
    assert TunnelStatus.from_json(found.to_json()) == found
    json.dumps(found.to_json())
    assert all(error_of(document).lines())
    return found.state in ("connected", "unresponsive")


# The kernel


def _link(index: int, name: bytes) -> bytes:
    information = netlink.attribute(18, netlink.attribute(1, b"tun\0"))
    attributes = netlink.attribute(3, name + b"\0") + netlink.attribute(4, struct.pack("=I", 1500)) + information
    return _message(16, struct.pack("=BxHiII", 0, 1, index, 0x10041, 0) + attributes)


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def netlink_messages() -> list[bytes]:
    """Links, addresses and routes, as the kernel describes them."""
    address = struct.pack("=BBBBI", 2, 24, 0, 0, 7) + netlink.attribute(2, bytes((10, 1, 0, 2)))
    hops = b"".join(struct.pack("=HBBi", 16, 0, 0, n) + netlink.attribute(5, bytes((10, 1, 0, n))) for n in (7, 8))
    route = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)
    via = netlink.attribute(18, b"\x0a\0" + bytes(16)) + netlink.attribute(4, struct.pack("=I", 7))
    return [
        _link(7, b"eth0") + _link(8, b"wlan0"),
        _message(20, address),
        _message(24, route + netlink.attribute(5, bytes((10, 1, 0, 1))) + netlink.attribute(4, struct.pack("=I", 7))),
        _message(24, route + netlink.attribute(9, hops)) + _message(24, route + via),
        _message(2, struct.pack("=i", -2) + bytes(16)),
    ]


class _Answers(netlink.Netlink):
    """A socket that holds one answer to everything."""

    def __init__(self, found: list[tuple[int, memoryview]]) -> None:
        self._found = found

    def dump(self, kind: int, body: bytes) -> list[tuple[int, memoryview]]:
        """See `Netlink`."""
        return [each for each in self._found if each[0] == kind - 2]


# The fixed part of what a message is about: the kernel always sends it whole.
_FIXED = {16: 16, 20: 8, 24: 12}


def read_netlink(data: bytes) -> object:
    """What the kernel may say, as far as its messages hold their fixed parts; attributes may be anything."""
    found = []
    for kind, _, _, message in netlink._messages(memoryview(data)):
        if len(message) >= _FIXED.get(kind & ~3, 0):
            found.append((kind, message))
            netlink._concerns(kind, message, 7, {254})
    answers = _Answers(found)
    links = {each.index: each.name for each in answers._interfaces()}
    for name in links.values():
        printable(name)
    return len(list(answers._addresses(links))) + len([*answers.defaults(4, links), *answers.defaults(6, links)])


ERRORS = [struct.pack("=IBBBxII", number, 2, 3, 4, mtu, 0) for number in (111, 90, 113, 1, 5) for mtu in (0, 68, 1300)]


def read_icmp(data: bytes) -> object:
    """Errors of the path are hints with a usable MTU, at most one a second of each kind (N24)."""
    told: list[icmp_errors.PathHint] = []
    hints = icmp_errors.Hints(4 if len(data) % 2 else 6, told.append, lambda: 1.0)
    queue = deque(data[at : at + 17] for at in range(0, len(data), 17))
    hints.drain(_ErrorQueue(queue, 4 if len(data) % 2 else 6))  # type: ignore[arg-type]
    assert all(hint.mtu is None or hint.mtu >= 576 for hint in told)
    assert len({hint.kind for hint in told}) == len(told)
    return tuple(hint.kind for hint in told)


class _ErrorQueue:
    def __init__(self, queue: deque[bytes], version: int) -> None:
        self._queue = queue
        self._place = (0, 11) if version == 4 else (41, 25)

    def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        """See `socket.recvmsg`."""
        if not self._queue:
            raise BlockingIOError
        return b"", [(*self._place, self._queue.popleft())], 0, None


# Servers of the network


QUESTION = b"\3vpn\7example\3com\0" + struct.pack("!HH", 1, 1)


def dns_answers() -> list[bytes]:
    """Answers with aliases and addresses."""
    head = struct.pack("!6H", 7, 0x8180, 1, 2, 0, 0) + QUESTION
    alias = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, 4) + b"\1a\xc0\x10"
    address = b"\xc0\x2d" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes((203, 0, 113, 7))
    return [head + alias + address, head[:3] + b"\x83" + head[4:], head + address * 40]


def read_dns(data: bytes) -> object:
    """A DNS answer gives at most 64 addresses, or is none."""
    found = lookup.read_answer(data, 7, QUESTION, 1)
    assert found is None or len(found[1]) <= 64
    return None if found is None else (found[0], min(len(found[1]), 3))


class _Connection:
    """A server that has said all it will."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def settimeout(self, _: float) -> None:
        """See `socket`."""

    def recv_into(self, buffer: Any) -> int:
        """See `socket`."""
        return self._data.readinto(buffer)


HTTP_ERRORS = (http.HttpError, HTTPException, OSError, ValueError)  # what `exchange` makes an HttpError of
HTTP = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://a.example/b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nConnection: close\r\n\r\nno",
]


def read_http(data: bytes) -> object:
    """Answers of a web server with revocation data (C11)."""
    answer = http._answer(_Connection(data), 1e12, 20_000)  # type: ignore[arg-type]
    assert len(answer.body) <= 20_000
    if answer.location is not None:
        http.Url.parse(answer.location)
    return answer.status // 100


URLS = [b"http://ocsp.example.com/a?b", b"http://[2001:db8::1]:8080", b"http://192.0.2.1:80/", b"ldap://a/b"]


def read_url(data: bytes) -> object:
    """URLs of certificates: plain HTTP to a host, and nothing in a request but one line each."""
    url = http.Url.parse(data.decode("utf-8", "surrogateescape"))
    sent = http.HttpRequest(url=url, body=b"x", content_type="a/b", by_proxy=len(data) % 2 == 0).encode()
    assert sent.count(b"\r\n") == sent.count(b"\n") == 8
    with suppress(http.HttpError):
        http.proxy_for(url, {"http_proxy": data.decode("ascii", "replace"), "no_proxy": "a.example,.b"})
    return url.port == 80


# Programs that hold keys


@functools.cache
def _agent_keys() -> tuple[tuple[bytes, str], ...]:
    keys = (
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)),
        ec.derive_private_key(7, ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    )
    blobs = []
    for key in keys:
        written = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        blob = base64.b64decode(written.split()[1])
        blobs.append((blob, agent.fingerprint(blob)))
    return tuple(blobs)


def agent_answers() -> list[bytes]:
    """A list of keys and a signature for each key, one after the other."""
    text = agent._string
    listed = b"\x0c" + struct.pack(">I", 3) + b"".join(text(blob) + text(b"comment") for blob, _ in _agent_keys())
    signatures = (
        text(b"ssh-ed25519") + text(bytes(64)),
        text(b"ecdsa-sha2-nistp256") + text(text(b"\1" * 32) + text(b"\2" * 32)),
        text(b"rsa-sha2-256") + text(bytes(256)),
    )
    return [framed((listed, b"\x0e" + text(signature))) for signature in signatures]


def read_agent(data: bytes) -> object:
    """Answers of ssh-agent: a signature, or the key cannot be used."""
    found = 0
    for number, (_, name) in enumerate(_agent_keys()):
        answers = iter(packets_in(data))
        with suppress(KeyUnavailable):
            place = AgentKey(socket="/nonexistent", fingerprint=name)
            key = agent.AgentSigner(place, lambda _, answers=answers: next(answers, b"\5"))  # type: ignore[misc]
            key.sign(b"octets", tuple(SCHEME_NAMES.values()))
            found |= 1 << number
    return found


CARD = [
    b"res " + b"11" * 8 + b" " + b"22" * 16 + b" " + b"33" * 16,
    b"auts " + b"44" * 14,
    b"reject",
    b"sim " + b" ".join([b"55" * 4, b"66" * 8] * 3),
]


def read_card(data: bytes) -> object:
    """What the command that stands for a USIM prints."""
    text = data.decode("utf-8", "replace")
    requests: Sequence[str] = (aka_request(bytes(16), bytes(16)), sim_request([bytes(16)] * 3))
    found = []
    for request in requests:
        with suppress(ValueError):
            found.append(type(read_answer(request, text)).__name__)
    return tuple(found)


TOKENS = [
    b"pkcs11:token=work;object=vpn%20key;id=%01%02?module-path=/usr/lib/a.so",
    b"pkcs11:slot-id=3;type=private;serial=12;manufacturer=m?module-name=opensc",
]


def read_token(data: bytes) -> object:
    """PKCS#11 URIs."""
    uri = parse_uri(data.decode("utf-8", "surrogateescape"))
    assert str(uri).isprintable()
    return uri.id is not None


def read_text(data: bytes) -> object:
    """Text of anybody is one line that moves no cursor (K15)."""
    for text in (data, data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        shown = printable(text, 64)
        assert shown.isprintable()
        assert len(shown) <= 64
        assert "\n" not in shown
    return None
