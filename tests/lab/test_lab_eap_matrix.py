"""Every way to log in with EAP, with everything that can be wrong, as a person meets it.

Each line of MATRIX is one method with who serves it: strongSwan itself, or hostapd or FreeRADIUS behind it, with TLS
1.2 or 1.3. Each is tried as it should be, and then with one thing wrong at a time. Of the many only those of ORDINARY
are run without `--extended`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from lab.charon import PLUGINS, Conf
from lab.gateway import PASSWORD, USER, Auth, Offer
from lab.network import INSIDE_IPV4, Topology
from lab.pki import CLIENT_NAME, Credential, Pki
from lab.radius import SECRET, FreeRadius, Hlr, Hostapd
from lab.traffic import ping
from lab.world import Lab

K, OPC = bytes(range(16)), bytes(range(16, 32))
SERVER_NAME = "radius.example.org"
ANONYMOUS = "anonymous@example.com"
IMSI = "232010000000000@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to log in. `auth` are the profile's keys; `certified`, `typed` and `card` say what proves us.

    `over_tls` is one where the authentication server has a certificate of its own. `offer` is strongSwan's word.
    """

    auth: Mapping[str, Any]
    offer: Auth = "eap-ttls"
    settings: Conf | None = None  # of strongSwan's plugin
    over_tls: bool = False
    certified: bool = False
    typed: bool = False
    card: bool = False


def tunnelled(method: str, inner: str, *, phase2: str = "") -> Way:
    settings: Conf | None = {"plugins": {"eap-ttls": {"phase2_method": phase2}}} if phase2 else None
    user = "carol" if inner == "tls" else USER
    auth = {"method": method, "inner": inner, "user": user, "anonymous_identity": ANONYMOUS}
    certified = inner == "tls"
    return Way(auth=auth, settings=settings, over_tls=True, certified=certified, typed=not certified)


def plain(method: Auth, user: str = USER) -> Way:
    return Way(auth={"method": method, "user": user}, offer=method, typed=True)


def card(method: str, digit: int) -> Way:
    return Way(auth={"method": method, "user": f"{digit}{IMSI}", "identity": None}, card=True)


WAYS: dict[str, Way] = {
    "tls": Way(auth={"method": "eap-tls", "anonymous_identity": ANONYMOUS}, over_tls=True, certified=True),
    "tls-strongswan": Way(auth={"method": "eap-tls"}, offer="eap-tls", over_tls=True, certified=True),
    "ttls-pap": tunnelled("eap-ttls", "pap"),
    "ttls-mschapv2": tunnelled("eap-ttls", "mschapv2"),
    "ttls-eap-mschapv2": tunnelled("eap-ttls", "eap-mschapv2", phase2="mschapv2"),
    "ttls-gtc": tunnelled("eap-ttls", "gtc", phase2="gtc"),
    "ttls-md5": tunnelled("eap-ttls", "md5", phase2="md5"),
    "ttls-tls": tunnelled("eap-ttls", "tls"),
    "peap-mschapv2": tunnelled("eap-peap", "mschapv2"),
    "peap-gtc": tunnelled("eap-peap", "gtc"),
    "peap-md5": tunnelled("eap-peap", "md5"),
    "peap-tls": tunnelled("eap-peap", "tls"),
    "mschapv2": plain("eap-mschapv2"),
    "gtc": plain("eap-gtc"),
    "md5": plain("eap-md5"),
    "mschapv2-hostapd": plain("eap-mschapv2", "mschapv2"),
    "gtc-hostapd": plain("eap-gtc", "gtc"),
    "md5-hostapd": plain("eap-md5", "md5"),
    "sim": card("eap-sim", 1),
    "aka": card("eap-aka", 0),
    "aka-prime": card("eap-aka-prime", 6),
    "eap-password": Way(
        auth={"method": "eap", "user": USER, "anonymous_identity": ANONYMOUS}, over_tls=True, typed=True
    ),
    "eap-mschapv2": Way(auth={"method": "eap", "user": USER}, offer="eap-mschapv2", typed=True),
    "eap-certificate": Way(auth={"method": "eap", "user": CLIENT_NAME}, offer="eap-tls", over_tls=True, certified=True),
    "eap-card": Way(auth={"method": "eap", "user": f"0{IMSI}", "identity": None}, card=True),
}
TUNNELLED = ("ttls-pap", "ttls-mschapv2", "ttls-eap-mschapv2", "ttls-gtc", "ttls-md5", "peap-mschapv2", "peap-gtc")
MATRIX: dict[str, tuple[str, ...]] = {
    "strongswan": (
        *("tls-strongswan", "ttls-eap-mschapv2", "ttls-gtc", "ttls-md5", "mschapv2", "gtc", "md5"),
        *("eap-mschapv2", "eap-certificate"),
    ),
    "hostapd-1.3": (
        *("tls", *TUNNELLED, "ttls-tls", "peap-md5", "peap-tls"),
        *("mschapv2-hostapd", "gtc-hostapd", "md5-hostapd", "sim", "aka", "aka-prime", "eap-password", "eap-card"),
    ),
    "hostapd-1.2": ("tls", *TUNNELLED, "ttls-tls", "peap-md5", "peap-tls", "eap-password"),
    "freeradius-1.2": ("tls", *TUNNELLED, "peap-md5", "mschapv2", "gtc", "md5", "eap-password"),
    "freeradius-1.3": ("tls", "peap-mschapv2", "peap-gtc"),  # Debian 12's has a fault in TTLS with TLS 1.3
}
PORTS = {"hostapd-1.3": 1812, "hostapd-1.2": 1832, "freeradius-1.2": 1822, "freeradius-1.3": 1842}
# What can be wrong: the exit code, and what a person reads.
NOT_THE_SERVER = (7, "the authentication server did not prove who it is")
NOT_THE_GATEWAY = (7, "gateway")
WRONG: dict[str, tuple[int, str]] = {
    "secret": (4, "or the password"),
    "card": (4, "card"),
    "certificate": (4, "our certificate"),
    "authority": NOT_THE_SERVER,
    "name": NOT_THE_SERVER,
    "gateway's authority": NOT_THE_GATEWAY,
    "gateway's name": NOT_THE_GATEWAY,
    "silence": (4, ""),
}
ORDINARY = {
    ("strongswan", "ttls-md5", "secret"),
    ("hostapd-1.3", "tls", "silence"),
    ("hostapd-1.3", "eap-card", "nothing"),
    ("hostapd-1.3", "peap-mschapv2", "silence"),
}


def faults(server: str, way: Way) -> Iterator[str]:
    """What is tried with one line of the matrix."""
    yield "nothing"
    yield from (
        what for what, given in (("secret", way.typed), ("card", way.card), ("certificate", way.certified)) if given
    )
    yield from ("authority", "name") if way.over_tls else ()
    yield from ("gateway's authority", "gateway's name")
    if server != "strongswan":
        yield "silence"


CASES = [
    pytest.param(server, name, fault, marks=[] if (server, name, fault) in ORDINARY else pytest.mark.extended)
    for server, names in MATRIX.items()
    for name in names
    for fault in faults(server, WAYS[name])
]


def radius_certificate(pki: Pki) -> Credential:
    names = [x509.DNSName(SERVER_NAME)]
    return pki.issue("radius", "gateway", "ecdsa256", authority="unknown", names=names, intermediates=1)


@dataclass(slots=True)
class Servers:
    """The lab, and the RADIUS servers of it that run."""

    lab: Lab
    pki: Pki
    running: ExitStack
    names: set[str]

    def use(self, name: str) -> None:
        """Start that server unless it runs."""
        if name in self.names or name not in PORTS:
            return
        self.names.add(name)
        machine, directory = self.lab.network.gateway, self.lab.network.subdirectory(name)
        certificate = radius_certificate(self.pki)
        authority = self.pki.credential("client", "ecdsa256").authority_file
        tls13 = name.endswith("1.3")
        if name.startswith("freeradius"):
            freeradius = FreeRadius(machine, directory, PORTS[name])
            freeradius.serve(certificate, authority, tls13=tls13)
            self.running.callback(freeradius.stop)
            return
        hostapd = Hostapd(machine, directory, PORTS[name])
        hlr = Hlr(directory / "hlr", K, OPC)
        self.running.callback(hlr.close)
        hostapd.serve(certificate, authority, tls13=tls13, settings={"eap_sim_db": f"unix:{directory}/hlr"})
        self.running.callback(hostapd.stop)

    def offer(self, server: str, way: Way) -> Offer:
        """How the gateway has to serve."""
        if server not in PORTS:
            return Offer(auth=way.offer, settings=way.settings)
        one: Conf = {"address": "127.0.0.1", "secret": SECRET, "auth_port": PORTS[server]}
        hasty: Conf = {"servers": {"one": one}, "retransmit_tries": 2, "retransmit_timeout": 1.0}
        settings: Conf = {"load": f"{PLUGINS} eap-radius", "plugins": {"eap-radius": hasty}}
        remote: Conf = {"auth": "eap-radius", "eap_id": "%any"}
        return Offer(auth="eap-ttls", settings=settings, connection={"remote": remote})

    def tables(self, server: str, way: Way, fault: str) -> dict[str, dict[str, Any]]:
        """What the profile says beside what fits the offer."""
        lab, pki = self.lab, self.pki
        auth: dict[str, Any] = {"password": None, "certificate": None, "key": None, **way.auth}
        gateway: dict[str, Any] = {}
        unknown = str(pki.authority("ecdsa" if server in PORTS else "unknown").certificate_file)
        if way.over_tls:
            own = server not in PORTS
            right = lab.gateway.certificate(Offer()) if own else radius_certificate(pki)
            auth["server_ca"] = [unknown if fault == "authority" else str(right.authority_file)]
            if not own or fault == "name":
                auth["server_name"] = "other.example.org" if fault == "name" else SERVER_NAME
        if way.typed:
            secret = "wrong-password" if fault == "secret" else PASSWORD
            auth["password"] = {"file": str(lab.client.secret_file("matrix", secret))}
        if way.certified:
            stranger = pki.issue("client-stranger", "client", "ecdsa256", authority="unknown")
            credential = stranger if fault == "certificate" else pki.credential("client", "ecdsa256")
            auth |= {"certificate": str(credential.chain_file), "key": str(credential.key_file)}
        if way.card:
            keys = {"k": K[::-1] if fault == "card" else K, "opc": OPC}
            auth["sim"] = {
                name: {"file": str(lab.client.secret_file(name, value.hex()))} for name, value in keys.items()
            }
        if fault == "gateway's authority":
            gateway["ca"] = [str(pki.authority("unknown").certificate_file)]
        if fault == "gateway's name":
            gateway["identity"] = "other.example.org"
        return {"auth": auth, "gateway": gateway}


@pytest.fixture(scope="module")
def servers(pki: Pki) -> Iterator[Servers]:
    with Lab(Topology(), pki=pki) as lab, ExitStack() as running:
        yield Servers(lab, pki, running, set())


@pytest.mark.parametrize(("server", "name", "fault"), CASES)
def test_a_login(servers: Servers, server: str, name: str, fault: str) -> None:
    """E2, E13: whatever is wrong, neither a password nor an answer to EAP is in the gateway's log."""
    way, lab = WAYS[name], servers.lab
    servers.use(server)
    lab.prepare(servers.offer(server, way), **servers.tables(server, way, fault))
    if fault == "nothing":
        lab.client.connect("work")
        try:
            assert ping(lab.network.client, INSIDE_IPV4, count=2) >= 1
        finally:
            lab.client.disconnect()
        return
    before = len(lab.gateway.log)
    rules = None
    if fault == "silence":  # in the middle: the first packets are answered
        answered = 2 if way.over_tls else 1
        silent = f"udp dport {PORTS[server]} numgen inc mod 1000 >= {answered} counter drop"
        rules = lab.network.gateway.add_rules("input", silent)
    try:
        connection = lab.client.start("work")
        code, words = WRONG[fault]
        assert connection.wait(60) == code, connection.stderr
        assert words in connection.stderr
        if rules is not None:
            assert rules.hits() > 0
            assert "or the password" not in connection.stderr or not way.over_tls
    finally:
        if rules is not None:
            rules.remove()
    assert PASSWORD not in connection.stderr
    if fault.startswith("gateway"):
        assert "EAP/RES" not in lab.gateway.log[before:]
