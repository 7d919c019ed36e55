"""EAP methods over TLS against the servers of others: hostapd's and FreeRADIUS', asked without a gateway between.

The keys that the server tells the gateway must be ours, so each success compares them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from lab.gateway import PASSWORD, USER
from lab.machines import Machine
from lab.pki import Credential, Pki
from lab.radius import ACCEPT, EXPIRED, FreeRadius, Hostapd, RadiusClient, Verdict, converse

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.trust_store import TrustStore
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.eap.method import NeedCredential
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.wire.registry import EapType, IdType

SERVER = b"radius.example.org"
ANONYMOUS = "anonymous@example.com"


def credentials(pki: Pki, client: Credential | None = None, **changes: Any) -> TlsCredentials:
    server = radius_certificate(pki)
    found = TlsCredentials(
        trust=TrustStore.from_certificates(Certificate.load_many(server.authority_file.read_bytes())),
        server_name=(IdType.FQDN, SERVER),
        anonymous_identity=ANONYMOUS,
    )
    if client is not None:
        chain = tuple(Certificate.load_many(client.chain_file.read_bytes()))
        found = replace(found, chain=chain, key=FileKey.load(client.key_file.read_bytes(), None))
    return replace(found, **changes)


def radius_certificate(pki: Pki) -> Credential:
    names = [x509.DNSName(SERVER.decode())]
    return pki.issue("radius", "gateway", "ecdsa256", authority="unknown", names=names, intermediates=1)


class Login:
    """One conversation with the server: who says what, and what it led to."""

    def __init__(self, client: RadiusClient, peer: EapPeer, answers: list[str]) -> None:
        self.peer, self._answers = peer, answers
        self.asked: list[str] = []
        self.sent: list[bytes] = []
        self.verdict: Verdict = converse(client, self._respond)

    def _respond(self, packet: bytes) -> bytes | None:
        answer = self.peer.respond(packet)
        while isinstance(answer, NeedCredential):
            self.asked.append(answer.prompt)
            if not self._answers:
                answer = self.peer.decline()
                assert answer is not None
            else:
                answer = self.peer.supply(self._answers.pop(0))
        self.sent.append(answer or b"")
        return answer


Log = Callable[..., Login]


def logins(server: Hostapd | FreeRadius) -> Iterator[Log]:
    made: list[RadiusClient] = []

    def login(
        method: EapType,
        tls: TlsCredentials,
        password: str | None = PASSWORD,
        answers: tuple[str, ...] = (),
        user: str = USER,
    ) -> Login:
        client = RadiusClient(server.machine, server.port)
        made.append(client)
        peer = EapPeer(user, (method,), password, os.urandom, tls=tls, now=lambda: datetime.now(UTC))
        return Login(client, peer, list(answers))

    yield login
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(f"ikl{os.getpid()}-radius", tmp_path_factory.mktemp("radius"))
    yield made
    made.close()


@pytest.fixture(scope="module", params=[True, False], ids=["tls13", "tls12"])
def hostapd(
    request: pytest.FixtureRequest, machine: Machine, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Log]:
    directory = tmp_path_factory.mktemp("hostapd")
    server = Hostapd(machine, directory)
    own = radius_certificate(pki)
    staple = {"ocsp_stapling_response": str(staple_for(own, directory))}
    server.serve(own, client(pki).authority_file, tls13=request.param, settings=staple)
    yield from logins(server)
    server.stop()


@pytest.fixture(scope="module")
def freeradius(machine: Machine, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    server = FreeRadius(machine, tmp_path_factory.mktemp("freeradius"))
    server.serve(radius_certificate(pki), client(pki).authority_file)
    yield from logins(server)
    server.stop()


def staple_for(own: Credential, directory: Path) -> Path:
    """An OCSP response of OpenSSL's about a certificate, for its server to staple."""
    issuer = own.intermediates[0]
    key = issuer.with_suffix(".key")
    until = f"{datetime.now(UTC) + timedelta(days=9):%y%m%d%H%M%S}Z"
    number = own.certificate.serial_number
    serial = f"{number:X}".zfill(len(f"{number:X}") + len(f"{number:X}") % 2)
    (directory / "index.txt").write_text(f"V\t{until}\t\t{serial}\tunknown\t/CN=radius\n")
    made = directory / "staple.der"
    words = ["-issuer", str(issuer), "-cert", str(own.certificate_file), "-CA", str(issuer), "-rsigner", str(issuer)]
    words += ["-rkey", str(key), "-index", str(directory / "index.txt"), "-ndays", "1", "-no_nonce", "-noverify"]
    subprocess.run(["openssl", "ocsp", *words, "-respout", str(made)], check=True, capture_output=True, timeout=60)
    return made


def client(pki: Pki) -> Credential:
    return pki.credential("client", "ecdsa256")


def accepted(login: Login) -> None:
    assert login.verdict.code == ACCEPT
    assert login.peer.finished
    assert login.peer.msk is not None
    assert login.verdict.msk == login.peer.msk[: len(login.verdict.msk)]
    assert len(login.verdict.msk) == 64


def test_eap_tls_with_hostapd(hostapd: Log, pki: Pki) -> None:
    accepted(hostapd(EapType.TLS, credentials(pki, client(pki)), None))


@pytest.mark.parametrize("inner", ["mschapv2", "eap-mschapv2", "gtc", "md5", "pap"])
def test_ttls_with_hostapd(hostapd: Log, pki: Pki, inner: str) -> None:
    accepted(hostapd(EapType.TTLS, credentials(pki, inner=inner)))


@pytest.mark.parametrize("method", [EapType.TTLS, EapType.PEAP])
def test_the_account_is_anonymous_outside_of_tls_by_default(hostapd: Log, pki: Pki, method: EapType) -> None:
    """E2: the server knows nobody called alice outside of TLS."""
    login = hostapd(method, credentials(pki, anonymous_identity=None))
    accepted(login)
    assert login.sent[0][5:] == b"anonymous"
    assert not [packet for packet in login.sent if USER.encode() in packet]


@pytest.mark.parametrize("method", [EapType.TTLS, EapType.PEAP])
def test_an_anonymous_identity_is_enough_for_freeradius(freeradius: Log, pki: Pki, method: EapType) -> None:
    accepted(freeradius(method, credentials(pki, anonymous_identity=None)))


@pytest.mark.parametrize("inner", ["mschapv2", "gtc", "md5"])
def test_peap_with_hostapd(hostapd: Log, pki: Pki, inner: str) -> None:
    accepted(hostapd(EapType.PEAP, credentials(pki, inner=inner)))


def test_what_hostapd_staples_tells_about_it(hostapd: Log, pki: Pki) -> None:
    """RFC 6066 section 8; C8: without anybody else being asked."""
    login = hostapd(EapType.TTLS, credentials(pki, inner="pap", check_revocation=True))
    assert login.verdict.code == ACCEPT
    (query,) = login.peer.take_queries()
    assert str(query.statuses[0]) == "good (OCSP)"


@pytest.mark.parametrize("method", [EapType.TTLS, EapType.PEAP])
def test_a_certificate_inside_of_the_tunnel(hostapd: Log, pki: Pki, method: EapType) -> None:
    """RFC 9190 section 2.5: inside, hostapd says nothing behind the handshake, which the tunnel protects."""
    accepted(hostapd(method, credentials(pki, client(pki), inner="tls"), None, user="carol"))


@pytest.mark.parametrize("method", [EapType.TTLS, EapType.PEAP])
def test_a_wrong_certificate_inside_of_the_tunnel_is_no_word_about_a_password(
    hostapd: Log, pki: Pki, method: EapType
) -> None:
    stranger = pki.issue("client-stranger", "client", "ecdsa256", authority="unknown")
    with pytest.raises(AuthenticationFailed, match="refused our certificate"):
        hostapd(method, credentials(pki, stranger, inner="tls"), None, user="carol")


def test_eap_tls_with_freeradius(freeradius: Log, pki: Pki) -> None:
    accepted(freeradius(EapType.TLS, credentials(pki, client(pki)), None))


@pytest.mark.parametrize("inner", ["mschapv2", "eap-mschapv2", "gtc", "md5", "pap"])
def test_ttls_with_freeradius(freeradius: Log, pki: Pki, inner: str) -> None:
    accepted(freeradius(EapType.TTLS, credentials(pki, inner=inner)))


@pytest.mark.parametrize("inner", ["mschapv2", "gtc", "md5"])
def test_peap_with_freeradius(freeradius: Log, pki: Pki, inner: str) -> None:
    accepted(freeradius(EapType.PEAP, credentials(pki, inner=inner)))


LOGINS = [(EapType.TTLS, "mschapv2"), (EapType.TTLS, "pap"), (EapType.PEAP, "mschapv2"), (EapType.PEAP, "gtc")]


@pytest.mark.parametrize(("method", "inner"), LOGINS)
def test_a_wrong_password_is_refused_by_hostapd(hostapd: Log, pki: Pki, method: EapType, inner: str) -> None:
    with pytest.raises(AuthenticationFailed, match="or the password"):
        hostapd(method, credentials(pki, inner=inner), "wrong")


@pytest.mark.parametrize(("method", "inner"), LOGINS)
def test_a_wrong_password_is_refused_by_freeradius(freeradius: Log, pki: Pki, method: EapType, inner: str) -> None:
    """E9: the server invites to another try, and nobody is there to take it."""
    with pytest.raises(AuthenticationFailed, match="or the password"):
        freeradius(method, credentials(pki, inner=inner), "wrong")


def test_a_person_gets_a_second_try_inside_of_peap(freeradius: Log, pki: Pki) -> None:
    """E9: FreeRADIUS says E=691 R=1 and takes the right password then."""
    login = freeradius(EapType.PEAP, credentials(pki, inner="mschapv2"), "wrong", (PASSWORD,))
    assert login.asked == [f"The gateway refused the password. Password for '{USER}'"]
    accepted(login)


def test_an_expired_password_is_said_to_be_expired_if_nobody_can_change_it(freeradius: Log, pki: Pki) -> None:
    """FreeRADIUS says E=648; a person would be asked for a new one."""
    with pytest.raises(AuthenticationFailed, match="'expired' has expired") as told:
        freeradius(EapType.PEAP, credentials(pki, inner="mschapv2"), PASSWORD, user=EXPIRED)
    assert "E=648" in told.value.message


def test_a_wrong_client_certificate_is_refused_in_words(hostapd: Log, pki: Pki) -> None:
    stranger = pki.issue("client-stranger", "client", "ecdsa256", authority="unknown")
    with pytest.raises(AuthenticationFailed, match="refused our certificate"):
        hostapd(EapType.TLS, credentials(pki, stranger), None)


def test_a_wrong_client_certificate_is_refused_in_words_by_freeradius(freeradius: Log, pki: Pki) -> None:
    stranger = pki.issue("client-stranger", "client", "ecdsa256", authority="unknown")
    with pytest.raises(AuthenticationFailed, match="refused our certificate"):
        freeradius(EapType.TLS, credentials(pki, stranger), None)


WRONG_SERVERS: dict[str, dict[str, Any]] = {
    "authority": {"trust": TrustStore.from_certificates([])},
    "name": {"server_name": (IdType.FQDN, b"other.example.org")},
}


@pytest.mark.parametrize("wrong", WRONG_SERVERS)
@pytest.mark.parametrize("method", [EapType.TLS, EapType.TTLS, EapType.PEAP])
def test_a_wrong_server_is_told_nothing(hostapd: Log, pki: Pki, method: EapType, wrong: str) -> None:
    """E13."""
    own = client(pki) if method == EapType.TLS else None
    with pytest.raises(GatewayNotAuthenticated, match="authentication server"):
        hostapd(method, credentials(pki, own, **WRONG_SERVERS[wrong]))
