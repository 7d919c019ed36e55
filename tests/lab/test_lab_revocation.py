"""Revocation, and certificates by their URLs: strongSwan as the gateway, beside OpenSSL's responder and a web server.

The authentication server behind EAP is hostapd's.
"""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AuthorityInformationAccessOID
from lab.charon import PLUGINS, Conf
from lab.gateway import PASSWORD, USER, Offer
from lab.machines import wait_for
from lab.network import GATEWAY_IPV4, INSIDE_IPV4
from lab.pki import Credential, Pki
from lab.radius import SECRET, Hostapd
from lab.traffic import ping
from lab.world import Lab

OCSP_PORT, WEB_PORT = 8888, 8889
DAY = datetime.timedelta(days=1)


def certificate(
    pki: Pki,
    name: str,
    *,
    responder: bool = False,
    listed: bool = False,
    names: list[x509.GeneralName] | None = None,
    role: str = "gateway",
) -> Credential:
    """A certificate of the gateway, or of another server, that says where to ask."""
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if responder:
        where = x509.UniformResourceIdentifier(f"http://{GATEWAY_IPV4}:{OCSP_PORT}/")
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
        extensions.append((x509.AuthorityInformationAccess([access]), False))
    if listed:
        where = x509.UniformResourceIdentifier(f"http://{GATEWAY_IPV4}:{WEB_PORT}/{name}.crl")
        point = x509.DistributionPoint([where], None, None, None)
        extensions.append((x509.CRLDistributionPoints([point]), False))
    return pki.issue(name, role, "ecdsa256", names=names, extensions=extensions)


@contextmanager
def asked(lab: Lab, pki: Pki, own: Credential, directory: Path, *, revoked: bool) -> Iterator[None]:
    """OpenSSL's OCSP responder, and a web server with a list, on the gateway's machine."""
    root = pki.authority("ecdsa")
    now = datetime.datetime.now(datetime.UTC)
    until, serial = f"{now + 30 * DAY:%y%m%d%H%M%S}Z", f"{own.certificate.serial_number:X}"
    serial = serial if len(serial) % 2 == 0 else f"0{serial}"
    state = f"R\t{until}\t{now - DAY:%y%m%d%H%M%S}Z,keyCompromise" if revoked else f"V\t{until}\t"
    (directory / "index.txt").write_text(f"{state}\t{serial}\tunknown\t/CN=gateway\n")
    (directory / "index.txt.attr").write_text("unique_subject = no\n")
    builder = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject)
    builder = builder.last_update(now - DAY).next_update(now + DAY)
    if revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(own.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
    made = builder.sign(root.key, hashes.SHA256())
    (directory / f"{own.name}.crl").write_bytes(made.public_bytes(serialization.Encoding.DER))
    ca, key = str(root.certificate_file), str(root.key_file)
    responder = (
        "openssl",
        "ocsp",
        "-port",
        str(OCSP_PORT),
        "-index",
        "index.txt",
        "-CA",
        ca,
        "-rsigner",
        ca,
        "-rkey",
        key,
    )
    web = (sys.executable, "-m", "http.server", str(WEB_PORT), "--bind", GATEWAY_IPV4, "--directory", str(directory))
    machine = lab.network.gateway
    started = [machine.start("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(directory), *responder)]
    with (directory / "web.log").open("w") as log:
        started.append(machine.start(*web, stderr=log))
    try:
        for port in (OCSP_PORT, WEB_PORT):
            wait_for(lambda port=port: listening(lab, port) or None, timeout=30, what=f"port {port}")  # type: ignore[misc]
        yield
    finally:
        for process in started:
            process.kill()
            process.wait(30)


def listening(lab: Lab, port: int) -> bool:
    return f":{port} " in lab.network.gateway.run("ss", "-Hltn").stdout


def offer(own: Credential) -> Offer:
    return Offer(auth="certificate", gateway_certificate=own)


@pytest.mark.parametrize("how", ["OCSP", "CRL"])
def test_a_good_certificate_connects_also_under_the_strict_policy(lab: Lab, pki: Pki, how: str, tmp_path: Path) -> None:
    """C8."""
    own = certificate(pki, f"good-{how.lower()}", responder=how == "OCSP", listed=True)
    with asked(lab, pki, own, tmp_path, revoked=False):
        lab.connected(offer(own), "--timeout", "60", timeout=70, gateway={"revocation": "strict"})
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    (proof,) = lab.status()["gateway"]["auth"]
    assert proof["revocation"] == f"good ({how})"


@pytest.mark.parametrize("how", ["OCSP", "CRL"])
def test_a_revoked_certificate_is_refused_by_default(lab: Lab, pki: Pki, how: str, tmp_path: Path) -> None:
    """C8: and the gateway is told, so that it keeps nothing of the login."""
    own = certificate(pki, f"revoked-{how.lower()}", responder=how == "OCSP", listed=True)
    with asked(lab, pki, own, tmp_path, revoked=True):
        connection = lab.start(offer(own), "--timeout", "60")
        assert connection.wait(90) == 7
    assert "has been revoked" in connection.stderr
    assert how in connection.stderr
    wait_for(lambda: lab.gateway.list_sas() == [] or None, timeout=20, what="the DELETE")


def test_what_nobody_can_tell_is_a_notice_or_a_refusal(lab: Lab, pki: Pki) -> None:
    """C8: the servers are not there."""
    own = certificate(pki, "unreachable", responder=True, listed=True)
    connection = lab.connected(offer(own), "--timeout", "60", timeout=70)
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert connection.stderr.count("is not known") == 1
    (proof,) = lab.status()["gateway"]["auth"]
    assert proof["revocation"].startswith("unknown (the OCSP responder")
    assert "connection refused" in proof["revocation"]
    lab.client.disconnect()
    for policy in ("strict", "ifuri"):
        strict = lab.start(offer(own), "--timeout", "60", gateway={"revocation": policy})
        assert strict.wait(90) == 7
        assert "nobody could tell" in strict.stderr


RADIUS_NAME = "radius.example.org"


@pytest.mark.parametrize("revoked", [True, pytest.param(False, marks=pytest.mark.extended)])
def test_the_server_behind_eap_is_asked_about_as_well(lab: Lab, pki: Pki, revoked: bool, tmp_path: Path) -> None:
    """C8, E13: hostapd behind strongSwan; no password is said to a server whose certificate is revoked."""
    own = certificate(pki, f"radius-{revoked}", responder=True, names=[x509.DNSName(RADIUS_NAME)])
    server = Hostapd(lab.network.gateway, lab.network.subdirectory("radius"))
    server.serve(own, pki.credential("client", "ecdsa256").authority_file, tls13=True, settings={})
    offer = Offer(
        auth="eap-ttls",
        settings={
            "load": f"{PLUGINS} eap-radius",
            "plugins": {"eap-radius": {"servers": {"one": {"address": "127.0.0.1", "secret": SECRET}}}},
        },
        connection={"remote": {"auth": "eap-radius", "eap_id": "%any"}},
    )
    auth = {
        "method": "eap-ttls",
        "inner": "pap",
        "identity": USER,
        "user": USER,
        "server_name": RADIUS_NAME,
        "server_ca": [str(own.authority_file)],
        "password": {"file": str(lab.client.secret_file("pw", PASSWORD))},
    }
    try:
        with asked(lab, pki, own, tmp_path, revoked=revoked):
            connection = lab.start(offer, "--timeout", "60", auth=auth)
            if revoked:
                assert connection.wait(90) == 7
                assert "the authentication server's certificate has been revoked" in connection.stderr
                assert PASSWORD not in server.log
            else:
                connection.wait_connected(70)
                (proof,) = lab.status()["local"]["auth"]
                assert (proof["method"], proof["revocation"]) == ("eap-ttls", "good (OCSP)")
    finally:
        server.stop()


def by_url(pki: Pki, directory: Path) -> tuple[Offer, Path]:
    """A gateway that may send its certificate by hash and URL, and the file that the URL leads to."""
    own = certificate(pki, "by-url", listed=True)
    der = own.certificate.public_bytes(serialization.Encoding.DER)
    file = directory / hashlib.sha1(der, usedforsecurity=False).hexdigest()
    file.write_bytes(der)
    base = f"http://{GATEWAY_IPV4}:{WEB_PORT}/"
    authorities: Conf = {"lab": {"cacert": str(own.authority_file), "cert_uri_base": base}}
    settings: Conf = {"hash_and_url": True}
    offer = Offer(auth="certificate", gateway_certificate=own, settings=settings, authorities=authorities)
    return offer, file


def test_a_gateway_may_send_a_hash_and_a_url(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    """RFC 7296 section 3.6, C11."""
    offer, file = by_url(pki, tmp_path)
    assert offer.gateway_certificate is not None
    with asked(lab, pki, offer.gateway_certificate, tmp_path, revoked=False):
        gateway = {"certificate_forms": ["hash-and-url"]}
        lab.connected(offer, "--timeout", "60", timeout=70, gateway=gateway)
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
        assert f"GET /{file.name}" in (tmp_path / "web.log").read_text()


@pytest.mark.extended
def test_what_a_url_leads_to_must_be_what_was_meant(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    """C11: and without a word in the profile no URL is sent, and none is followed."""
    offer, file = by_url(pki, tmp_path)
    assert offer.gateway_certificate is not None
    with asked(lab, pki, offer.gateway_certificate, tmp_path, revoked=False):
        file.write_bytes(file.read_bytes() + b"damaged")
        refused = lab.start(offer, "--timeout", "60", gateway={"certificate_forms": ["hash-and-url"]})
        assert refused.wait(90) == 7
        assert "the hash differs" in refused.stderr
        (tmp_path / "web.log").write_text("")
        lab.connected(offer, "--timeout", "60", timeout=70)
        assert file.name not in (tmp_path / "web.log").read_text()
