"""What a tunnel tells about itself: the document `ikeclient.status/1`, one frozen dataclass a level.

The tunnel fills these in, the commands read them, and nothing else says which fields there are: JSON, text form, JSON
Schema and the tables of the documentation are made from the definitions here. A field may be added; none is renamed or
taken away, and none changes its meaning, without another number in `SCHEMA`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ikeclient.control.record import Record, item
from ikeclient.lazy_dataclass import dataclass

SCHEMA = "ikeclient.status/1"

STATES: dict[str, str] = {
    "connecting": "the first connection is being made, and the machine is as before",
    "connected": "packets flow",
    "reconnecting": "the connection is lost and is made again; routes stay, so that nothing leaves past the tunnel",
    "blocked": "there is no connection and none is being made, and the kill switch lets nothing out",
    "disconnected": "the tunnel has ended, and its process is about to; without a process (`pid` 0) `watch` has it "
    "down, or its kill switch was opened for a while",
    "unresponsive": "its process is there but does not answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadStatus(Record):
    """What carries the packets."""

    fast: bool = item("packets travel in runs; otherwise one at a time", False)
    codec: str | None = item("`compiled`, or `plain` for the Python twin")
    tun_udp: bool = item("the TUN device takes UDP super-packets", False)
    udp_segments: bool = item("the kernel cuts runs of datagrams (UDP_SEGMENT)", False)
    udp_merges: bool = item("the kernel merges received datagrams (UDP_GRO)", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthStatus(Record):
    """How one side proved who it is."""

    method: str | None = item("as a profile names it: `psk`, `certificate`, `eap-mschapv2`, ...")
    subject: str | None = item("the subject of its certificate")
    serial: str | None = item("the serial number of its certificate, in hexadecimal")
    expires: str | None = item("when its certificate expires")
    signature: str | None = item("the scheme that it signed with")
    key: str | None = item("where our private key is, if it is on a token or with ssh-agent")
    revocation: str | None = item(
        "whether its certificate, or one above it, is revoked: `good`, or `unknown` and why; with EAP over TLS of the "
        "authentication server's"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus(Record):
    """The far end of the tunnel."""

    address: str | None = item("the gateway's address")
    port: int | None = item("the gateway's UDP port")
    identity: str | None = item("the identity that the gateway has proven")
    auth: tuple[AuthStatus, ...] = item("how it has proven that", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatus(Record):
    """Our end of the tunnel, outside."""

    address: str | None = item("our address on the path to the gateway")
    port: int | None = item("our UDP port")
    behind_nat: bool | None = item("a NAT stands before us")
    auth: tuple[AuthStatus, ...] = item("how we proved who we are, each authentication in order", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsStatus(Record):
    """Name resolution through the tunnel."""

    servers: tuple[str, ...] = item("the name servers in use", ())
    domains: tuple[str, ...] = item("the domains that are asked from them, or searched", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeStatus(Record):
    """The IKE SA."""

    spi_i: str | None = item("the initiator's SPI")
    spi_r: str | None = item("the responder's SPI")
    suite: str | None = item("the algorithms, in swanctl's keywords")
    established: str | None = item("when the IKE SA, or the last one by a rekey, was made")
    rekey_in: int | None = item("seconds until its keys are made anew")
    rekeys: int = item("how often that was done", 0)
    mobike: bool = item("the gateway follows a change of address (RFC 4555)", False)
    rtt_ms: int | None = item("milliseconds in which the gateway answered when it was asked last")
    fragmentation: bool = item("long IKE messages are sent in fragments (RFC 7383)", False)
    ppk: bool = item("a post-quantum key is mixed into its keys (RFC 8784)", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCounters(Record):
    """What a Child SA has carried and dropped since it was made."""

    bytes_in: int = item("bytes of inner packets received", 0)
    bytes_out: int = item("bytes of inner packets sent", 0)
    packets_in: int = item("packets received and passed on", 0)
    packets_out: int = item("packets sent", 0)
    replays: int = item("dropped: came twice, or too late", 0, dropped="replayed")
    auth_failures: int = item("dropped: forged or damaged", 0, dropped="forged or damaged")
    selector_drops: int = item(
        "dropped: outside the traffic selectors, or what only a neighbour on a link may send (redirects, router "
        "advertisements, link-local and multicast addresses)",
        0,
        dropped="outside the selectors",
    )
    malformed: int = item("dropped: makes no sense after decryption", 0, dropped="malformed")
    congested: int = item(
        "dropped: marked ECN CE by a router although that cannot be (RFC 6040); if every packet is, the marks are "
        "ignored, with a warning",
        0,
        dropped="with impossible congestion marks",
    )
    dummies: int = item("dropped, as they are meant to be (RFC 4303 section 2.6)", 0)
    exhausted: int = item(
        "not sent: the sequence numbers are used up until the rekey", 0, dropped="without a sequence number"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Record):
    """What a tunnel has done since it was started, under all its connections."""

    counters: ChildCounters = item("", ChildCounters(), flat=True)
    ike_rekeys: int = item("how often an IKE SA was rekeyed", 0)
    child_rekeys: int = item("how often a Child SA was rekeyed", 0)
    cpu_ms: int = item("milliseconds of processor time of its process", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStatus(Record):
    """One Child SA."""

    spi_in: str | None = item("the SPI of what is received")
    spi_out: str | None = item("the SPI of what is sent")
    suite: str | None = item("the algorithms, in swanctl's keywords")
    local_ts: tuple[str, ...] = item("the traffic selectors at our end", ())
    remote_ts: tuple[str, ...] = item("the traffic selectors at the gateway's end", ())
    rekey_in: int | None = item("seconds until its keys are made anew")
    rekeys: int = item("how often that was done", 0)
    counters: ChildCounters = item("", ChildCounters(), flat=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops(Record):
    """Packets and datagrams that never reached a Child SA or never left, since the tunnel was started."""

    unrouted: int = item("packets that no Child SA accepts", 0, dropped="that no Child SA accepts")
    no_path: int = item("packets that came while there was no path", 0, dropped="without a path")
    too_big: int = item("packets that were answered as too big", 0, dropped="answered as too big")
    not_sent: int = item("packets that the kernel did not take", 0, dropped="not taken by the kernel")
    malformed: int = item("datagrams that are neither ESP nor IKE", 0, dropped="neither ESP nor IKE")
    unknown_spi: int = item("ESP with an SPI that is not ours", 0, dropped="with an unknown SPI")
    unknown_ike: int = item(
        "IKE messages with SPIs that are not ours or that nothing asked for", 0, dropped="IKE messages unasked for"
    )
    receive_overflows: int = item(
        "datagrams for which the sockets had no room", 0, dropped="beyond the receive buffers"
    )
    not_delivered: int = item("packets that the interface did not take", 0, dropped="not taken by the interface")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStatus(Record):
    """What `ikeclient watch` has decided for a tunnel."""

    action: str | None = item("`connect`, `disconnect`, or `keep`: up or down, as it is")
    reason: str | None = item("why: which rule, and which network")
    trouble: str | None = item("what keeps it from having the tunnel so")
    since: str | None = item("when it decided, or the trouble began or ended")
    pid: int = item("the process that watches", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelStatus(Record):
    """One entry of `tunnels`. The defaults are what is said of a tunnel of which nothing is known."""

    name: str = item("the tunnel's name", "?")
    pid: int = item("its process; 0: in another PID namespace", 0)
    user: str | None = item("the user who may control it, beside root")
    state: str = item("; ".join(f"`{state}`: {meaning}" for state, meaning in STATES.items()), "unknown")
    since: str | None = item("when this state began")
    connect_ms: int | None = item(
        "milliseconds from the start until packets flowed; after a loss, until they did again"
    )
    interface: str | None = item("the TUN device; null if there is none")
    mtu: int | None = item("the longest packet that enters the tunnel whole, in bytes")
    path_mtu: int | None = item("the longest packet that the path to the gateway carries, in bytes")
    mode: str | None = item("`tun`; `netns` for `exec` and `proxy`; `stack` for those without any device")
    blocked: bool = item("the kill switch is closed and there is no connection, so nothing leaves the machine", False)
    kill_switch: str | None = item(
        "what the kill switch closes with: `routes and firewall`, or `routes` without nft(8); `open until` a time "
        "after `unblock --for`; null: there is none, or it was opened"
    )
    offload: OffloadStatus | None = item("what carries the packets")
    cipher: str | None = item(
        "what encrypts packets: the OpenSSL that the compiled codec uses, or `cryptography`, which is slower"
    )
    gateway: GatewayStatus = item("the far end", GatewayStatus())
    local: LocalStatus = item("our end, outside", LocalStatus())
    remote_behind_nat: bool | None = item("a NAT stands before the gateway")
    addresses: tuple[str, ...] = item("the inner addresses with their prefix lengths", ())
    dns: DnsStatus = item("name resolution through the tunnel", DnsStatus())
    dns_names: str | None = item(
        "what those servers are asked for: `all` names, or `split` for those in `dns.domains` only; null: name "
        "resolution is as without the tunnel"
    )
    p_cscf: tuple[str, ...] = item("the operator's servers for calls that the gateway named (RFC 7651)", ())
    routes: tuple[str, ...] = item("the networks that are reached through the tunnel", ())
    ike: IkeStatus | None = item("the IKE SA")
    children: tuple[ChildStatus, ...] = item("the Child SAs", ())
    idle: bool | None = item("the gateway has deleted the only Child SA, and nothing had to be sent since")
    totals: Totals | None = item("what all Child SAs together have carried and dropped since the tunnel was started")
    drops: Drops | None = item("what was dropped outside of the Child SAs")
    roams: int = item("how often the tunnel moved to another pair of addresses", 0)
    reconnects: int = item("how often the connection was made again", 0)
    watch: WatchStatus | None = item("what `ikeclient watch` has decided; null if it does not watch the tunnel")
    warnings: tuple[str, ...] = item("what is not as it should be, the last 16", ())
    last_error: str | None = item("the last error, even if it is over")


def unresponsive(name: str, pid: int, *, stopped: bool = False) -> TunnelStatus:
    """Return the entry of a tunnel whose process is there but does not answer, with every key."""
    why = f"its process is stopped; `kill -CONT {pid}` lets it go on" if stopped else "the process does not answer"
    return TunnelStatus(
        name=name,
        pid=pid,
        state="unresponsive",
        offload=OffloadStatus(),
        ike=IkeStatus(),
        totals=Totals(),
        drops=Drops(),
        last_error=why,
    )


def blocked(name: str, means: str, *, is_open: bool) -> TunnelStatus:
    """Return the entry of a tunnel that has no process, and whose kill switch is in force."""
    return TunnelStatus(
        name=name,
        pid=0,
        state="disconnected" if is_open else "blocked",
        mode="tun",
        blocked=not is_open,
        kill_switch=means,
    )


def down(name: str, watch: WatchStatus) -> TunnelStatus:
    """Return the entry of a tunnel that is watched and has no process."""
    return TunnelStatus(name=name, state="disconnected", since=watch.since, watch=watch)


def document(tunnels: Iterable[TunnelStatus]) -> dict[str, object]:
    """Return the document of `status --json`."""
    return {"schema": SCHEMA, "tunnels": [tunnel.to_json() for tunnel in tunnels]}


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "type": "object",
        "required": ["schema", "tunnels"],
        "properties": {"schema": {"const": SCHEMA}, "tunnels": {"type": "array", "items": TunnelStatus.schema()}},
    }
