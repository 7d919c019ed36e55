"""Certificates that are malformed or odd, from somebody who has proven nothing: a failed candidate, never more.

Each is sent by a rogue gateway that otherwise follows the protocol, and claims to be issued by the authority we trust.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from sim_certificates import NOW, authority, gateway_certificate
from sim_gateway import GatewaySetup, SimGateway
from sim_world import Sent, Weather, World, client_config, reverse

from ikeclient.crypto.pki import der
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.errors import GatewayNotAuthenticated

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PSS = bytes.fromhex("06092a864886f70d01010a")
ED25519 = bytes.fromhex("300506032b6570")


def certificate(
    extensions: tuple[x509.ExtensionType, ...] = (),
    start: datetime.datetime = NOW - datetime.timedelta(days=1),
    end: datetime.datetime = NOW + datetime.timedelta(days=1),
    serial: int = 7,
) -> bytes:
    """One of the gateway's name that only pretends to be issued by the authority."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Simulated CA")]))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("vpn.example.com")]), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, None).public_bytes(Encoding.DER)


def algorithm(identifier: bytes) -> bytes:
    """A certificate whose signature claims to be made with that algorithm, inside and outside."""
    encoded = certificate()
    tbs, rest = der.content(der.only(encoded, der.SEQUENCE), der.SEQUENCE)
    version, serial = der.element(tbs), der.element(der.element(tbs)[3])
    after = der.element(serial[3])
    assert after[2] == ED25519
    tbs = version[2] + serial[2] + identifier + after[3]
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, tbs) + identifier + der.element(rest)[3])


def pss(parameters: bytes) -> bytes:
    return algorithm(der.encode(der.SEQUENCE, PSS + parameters))


def replaced(old: bytes, new: bytes) -> bytes:
    encoded = certificate()
    assert len(old) == len(new)
    assert old in encoded
    return encoded.replace(old, new)


SHA224 = bytes.fromhex("300d06096086480165030402040500")
ODD: dict[str, Callable[[], bytes]] = {
    "PSS without parameters": lambda: pss(b""),
    "PSS with NULL parameters": lambda: pss(b"\5\0"),
    "PSS with empty parameters": lambda: pss(b"\x30\0"),
    "PSS with an unknown hash": lambda: pss(bytes.fromhex("3009a0073005060329010a")),
    "PSS with SHA-224": lambda: pss(der.encode(der.SEQUENCE, der.encode(0xA0, SHA224))),
    "PSS with a negative salt": lambda: pss(bytes.fromhex("3005a2030201ff")),
    "PSS with a huge salt": lambda: pss(bytes.fromhex("3009a20702057fffffffff")),
    "PSS with another mask": lambda: pss(bytes.fromhex("300da10b300906052b0e03021a0500")),
    "an unknown algorithm": lambda: algorithm(bytes.fromhex("30050603290102")),
    "RSA with SHA-224": lambda: algorithm(bytes.fromhex("300d06092a864886f70d01010e0500")),
    "ECDSA of an Ed25519 size": lambda: algorithm(bytes.fromhex("300a06082a8648ce3d040302")),
    "MD5": lambda: algorithm(bytes.fromhex("300d06092a864886f70d0101040500")),
    "a negative serial number": lambda: replaced(bytes.fromhex("020107"), bytes.fromhex("020187")),
    "the serial number 0": lambda: replaced(bytes.fromhex("020107"), bytes.fromhex("020100")),
    "dates without digits": lambda: replaced(b"260531120000Z", b"2605311200x0Z"),
    "the last second of all": lambda: certificate(
        start=datetime.datetime(9999, 12, 31, 23, 59, 58, tzinfo=datetime.UTC),
        end=datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),
    ),
    "a subject of another tag": lambda: replaced(b"\x0c\x07gateway", b"\x03\x07gateway"),
    "a subject that is no UTF-8": lambda: replaced(b"\x0c\x07gateway", b"\x0c\x07gat\xff\xfeay"),
    "a host that is no ASCII": lambda: replaced(b"\x82\x0fvpn.example.com", b"\x82\x0fvpn.ex\xff\xfeple.com"),
    "an address of five bytes": lambda: replaced(b"\x82\x0fvpn.example.com", b"\x87\x05abcde\x82\x08mple.com"),
    "an indefinite length": lambda: b"\x30\x80" + certificate()[4:] + b"\0\0",
    "nothing": lambda: b"",
    "an authority's constraints": lambda: certificate(
        (x509.NameConstraints(permitted_subtrees=[x509.DNSName("a")], excluded_subtrees=None),)
    ),
    "a key of another kind": lambda: replaced(b"\x2b\x65\x70\x03\x21\0", b"\x2b\x65\x6e\x03\x21\0"),
}


def rogue_world(auth: str, encoded: bytes, *, genuine: bool, seed: int = 0) -> World:
    """A world in which a rogue gateway, which has `encoded` and its key, answers faster than the genuine one."""
    world = World(
        seed=seed,
        config=client_config(auth),
        setup=GatewaySetup(auth=auth),
        weather=Weather(delay=0.1),
    )
    setup = replace(world.setup, chain=(encoded, authority().der), key=FileKey(KEY))
    rogue = SimGateway(setup, world._chance.randbytes)

    def answer(sent: Sent) -> bool:
        if not sent.to_gateway:
            return False
        rogue.receive(sent.data, reverse(sent.path), world.now)
        for datagram in rogue.outbox:
            path = reverse(datagram.path)
            world.at(world.now + 0.005, lambda data=datagram.data, path=path: world.to_client(data, path))  # type: ignore[misc]
        rogue.outbox.clear()
        return not genuine

    world.drop = answer
    return world


@pytest.mark.parametrize("auth", ["certificate", "eap"])
@pytest.mark.parametrize("kind", ODD)
def test_a_rogue_gateway_with_an_odd_certificate_is_a_failed_candidate(kind: str, auth: str) -> None:
    """C12, C17: alone it makes connecting fail with exit code 7; beside the genuine gateway it is not noticed."""
    encoded = ODD[kind]()
    world = rogue_world(auth, encoded, genuine=False)
    world.start()
    assert world.run(60, World.finished)
    assert isinstance(world.error, GatewayNotAuthenticated)
    assert world.error.exit_code == 7
    assert 1 <= len(world.error.lines()) <= 3
    world = rogue_world(auth, encoded, genuine=True)
    world.connect()
    assert world.gateway.connected


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_certificate_beside_the_genuine_one_does_no_harm(kind: str) -> None:
    """C4, C17: whatever else the gateway sends, its own certificate and its authority's are enough."""
    world = World(config=client_config("certificate"), setup=GatewaySetup(auth="certificate"))
    world.setup.chain = (gateway_certificate().der, ODD[kind](), authority().der)
    world.connect()


def test_the_certificates_are_odd_in_nothing_else() -> None:
    """The rogue's certificate without an oddity fails for its signature alone, and the genuine one does not fail."""
    world = rogue_world("certificate", certificate(), genuine=False)
    world.start()
    assert world.run(60, World.finished)
    assert isinstance(world.error, GatewayNotAuthenticated)
    assert world.error.reason == "it is not signed by the key of its issuer CN=Simulated CA"
    assert gateway_certificate().issued_by(authority())
