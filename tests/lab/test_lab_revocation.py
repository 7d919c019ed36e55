"""Revocation of the gateway's certificate: strongSwan as the gateway, beside OpenSSL's responder and a web server."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AuthorityInformationAccessOID
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import GATEWAY_IPV4, INSIDE_IPV4
from lab.pki import Credential, Pki
from lab.traffic import ping
from lab.world import Lab

OCSP_PORT, WEB_PORT = 8888, 8889
DAY = datetime.timedelta(days=1)


def certificate(pki: Pki, name: str, *, responder: bool = False, listed: bool = False) -> Credential:
    """A certificate of the gateway that says where to ask."""
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if responder:
        where = x509.UniformResourceIdentifier(f"http://{GATEWAY_IPV4}:{OCSP_PORT}/")
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
        extensions.append((x509.AuthorityInformationAccess([access]), False))
    if listed:
        where = x509.UniformResourceIdentifier(f"http://{GATEWAY_IPV4}:{WEB_PORT}/{name}.crl")
        point = x509.DistributionPoint([where], None, None, None)
        extensions.append((x509.CRLDistributionPoints([point]), False))
    return pki.issue(name, "gateway", "ecdsa256", extensions=extensions)


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
    started.append(machine.start(*web))
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
