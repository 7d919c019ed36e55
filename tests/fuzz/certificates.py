"""Fuzz targets: certificates, signatures and identities of gateways that have proven nothing.

Certificates are taken apart and put together again, so that the damage is deep inside of something whose lengths fit.
Half of them are then signed by an authority we trust, so that everything behind the signature is reached as well.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sim_certificates import NOW, authority

from fuzz.damage import Node, damaged, reshaped, tree
from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.bundles import MAX_MEMBERS, read_bundle, read_hash_and_url, read_pkcs7
from ikeclient.crypto.pki.certificate import own_first
from ikeclient.crypto.pki.identity import identity_text, parse_identity, proves
from ikeclient.crypto.pki.names import encode_name, mailboxes, name_key, name_text, normalise, same_name
from ikeclient.crypto.pki.revocation import query, read_evidence
from ikeclient.crypto.pki.revocation_status import RevocationPolicy, enforce, summary
from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, validate_gateway
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.crypto.sign.private_key import sign_auth
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme, algorithm_identifier, parse_algorithm_identifier
from ikeclient.crypto.sign.signature import verify
from ikeclient.errors import GatewayNotAuthenticated, ParseError, ProfileError, SignatureError
from ikeclient.wire.cursor import Reader
from ikeclient.wire.identity import IdrPayload
from ikeclient.wire.registry import AuthMethod, HashAlgorithm, IdType

YEAR = datetime.timedelta(days=365)
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)  # of the authority in `sim_certificates`
ED25519 = bytes.fromhex("300506032b6570")
STRING_TYPES = ("UTF8String", "PrintableString", "BMPString", "T61String", "UniversalString", "IA5String")

# RSASSA-PSS without parameters; also with wrong ones, RSA with SHA-1, SHA-224, MD5, SHA3, ECDSA, DSA, Ed448, unknown.
ALGORITHMS = tuple(
    bytes.fromhex(text)
    for text in (
        "300b06092a864886f70d01010a",
        "300d06092a864886f70d01010a0500",
        "300d06092a864886f70d01010a3000",
        "301206092a864886f70d01010a3005a2030201ff",
        "300d06092a864886f70d0101050500",
        "300d06092a864886f70d01010e0500",
        "300d06092a864886f70d0101040500",
        "300d060960864801650304030e0500",
        "300a06082a8648ce3d040302",
        "300b0609608648016503040302",
        "300506032b6571",
        "30050603290102",
        "3000",
        "30020600",
    )
)


def _odd_name(number: int) -> x509.Name:
    """Names in every string type, with several attributes in one set."""
    kind = getattr(x509.name._ASN1Type, STRING_TYPES[number % len(STRING_TYPES)])
    common = x509.NameAttribute(NameOID.COMMON_NAME, f"gate {number}", _type=kind)
    mail = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "ops@example.com")
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a, b + c \\ \u202e")
    return x509.Name([x509.RelativeDistinguishedName([common, unit]), x509.RelativeDistinguishedName([mail])])


def _extensions(number: int) -> list[tuple[x509.ExtensionType, bool]]:
    host, mail = x509.DNSName("vpn.example.com"), x509.RFC822Name("ops@example.com")
    address = x509.IPAddress(ipaddress.ip_address("203.0.113.7"))
    directory = x509.DirectoryName(_odd_name(number))
    other = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05alice")
    link = x509.UniformResourceIdentifier("ldap://[fd99::1]/CN=x?a?b?(c=d)")
    registered = x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))
    everything: list[x509.GeneralName] = [host, mail, address, directory, other, link, registered]
    trees = [x509.DNSName("example.com"), x509.DNSName(""), directory, x509.RFC822Name(".example.com")]
    networks = [x509.IPAddress(ipaddress.ip_network(text)) for text in ("203.0.113.0/24", "::/0")]
    notice = x509.UserNotice(x509.NoticeReference("organisation", [1, 2]), "read this")
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), ["https://example.com/cps", notice])
    point = x509.DistributionPoint([link], None, frozenset({x509.ReasonFlags.key_compromise}), [directory])
    access = x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, link)
    return [
        (x509.SubjectAlternativeName(everything if number % 2 else [host]), False),
        (x509.BasicConstraints(ca=number % 3 == 0, path_length=number if number % 3 == 0 else None), number % 2 == 0),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.IPSEC_IKE]), False),
        (x509.NameConstraints([*trees, *networks], [x509.DNSName(".test"), other, registered]), number % 2 == 1),
        (x509.KeyUsage(True, True, False, False, True, number % 3 == 0, False, True, False), True),
        (x509.CertificatePolicies([policy]), False),
        (x509.CRLDistributionPoints([point]), False),
        (x509.AuthorityInformationAccess([access]), False),
        (x509.IssuerAlternativeName(everything), False),
        (x509.InhibitAnyPolicy(0), True),
        (x509.PolicyConstraints(0, 1), number % 2 == 0),
        (x509.OCSPNoCheck(), False),
        (x509.TLSFeature([x509.TLSFeatureType.status_request]), False),
        (x509.SubjectKeyIdentifier(b"k" * 20), False),
        (x509.AuthorityKeyIdentifier(b"k", [directory], 1), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x30\x80\0\0"), number % 4 == 0),
    ]


@functools.cache
def keys() -> tuple[Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, ...]:
    return (
        Ed25519PrivateKey.from_private_bytes(bytes(32)),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.derive_private_key(7, ec.SECP521R1()),
    )


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Certificates that are odd but valid, of the authority's name and of others."""
    found = [authority().der]
    trusted = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Simulated CA")])
    for number in range(12):
        key = keys()[number % len(keys())]
        issuer = trusted if number % 4 else _odd_name(number)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]) if number == 5 else _odd_name(number))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(NOW - YEAR)
            .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59) if number % 2 else NOW + YEAR)
        )
        extensions = _extensions(number)
        for value, critical in extensions[: 3 + number] if number % 2 else extensions[-number:]:
            builder = builder.add_extension(value, critical)
        found.append(builder.sign(SIGNER, None).public_bytes(Encoding.DER))
        if isinstance(key, rsa.RSAPrivateKey):
            pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=number)
            found.append(builder.sign(key, hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.DER))
    return tuple(found)


@functools.cache
def pool() -> list[Node]:
    """Every part of every seed, to be put where it does not belong."""
    parts = [node for seed in seeds() for node in tree(seed)[0].walk()]
    return parts + [node for identifier in ALGORITHMS for node in tree(identifier)]


def odd_certificate(random: Random) -> bytes:
    """A certificate of a gateway that means no good, or whose authority has a strange taste."""
    node = tree(random.choice(seeds()))[0]
    body, algorithm = node.children[0], tree(random.choice(ALGORITHMS) if random.random() < 0.3 else ED25519)[0]
    match random.randint(0, 4):
        case 0:
            reshaped(random, node, pool())
            return damaged(random, node.encode()) if random.random() < 0.3 else node.encode()
        case 1:  # the algorithm that is in both places
            fields = body.children
            at = 2 if fields[0].tag == 0xA0 else 1
            fields[at : at + 1] = [algorithm]
            return der.encode(der.SEQUENCE, body.encode() + algorithm.encode() + node.children[2].encode())
        case 2:
            return damaged(random, node.encode())
    reshaped(random, body, pool())
    if random.random() < 0.5:  # a negative serial number
        body.children[1:2] = [Node(der.INTEGER, random.choice((b"\xff", b"\x80\0", b"\0", b"\0\0\1", b"")))]
    signed = body.encode()
    return der.encode(der.SEQUENCE, signed + ED25519 + der.encode(0x03, b"\0" + SIGNER.sign(signed)))


def _judge(chain: Sequence[Certificate], random: Random) -> None:
    trust = TrustStore.from_certificates([authority(), *random.sample(chain, random.randint(0, 1))])
    kind, value = random.choice(((IdType.FQDN, b"vpn.example.com"), (IdType.DER_ASN1_DN, chain[0].subject_der)))
    hours = datetime.timezone(datetime.timedelta(hours=random.choice((-12, 0, 14))))
    with suppress(GatewayNotAuthenticated):
        validate_gateway(chain, trust, NOW.astimezone(hours), kind, value)


def read_certificate(data: bytes) -> object:
    """A certificate is refused as a whole, or everything about it can be looked at (C12, C17)."""
    one = Certificate.from_der(data)
    for text in (one.subject, one.issuer, repr(one)):
        assert text.isprintable()
    one.critical_extensions()
    for kind, value in one.identities():
        assert identity_text(kind, value).isprintable()
    signed = one.issued_by(authority())
    with suppress(GatewayNotAuthenticated):
        trust = TrustStore.from_certificates([authority()])
        validate_gateway([one], trust, NOW, IdType.FQDN, b"vpn.example.com")
    return (signed, one.is_authority, len(one.identities()) > 0)


def read_list(data: bytes) -> object:
    """A revocation list is refused, or judged about a certificate (C8)."""
    found = read_evidence((), [data])
    statuses = query((_own(), authority()), (), found, NOW).statuses
    assert all(each.detail.isprintable() for each in statuses)
    return (len(found.lists), statuses[0].state)


def read_response(data: bytes) -> object:
    """An OCSP response is refused, or judged about a certificate (C8)."""
    found = read_evidence([data], ())
    statuses = query((_own(), authority()), (), found, NOW).statuses
    assert all(each.detail.isprintable() for each in statuses)
    return (len(found.responses), statuses[0].state)


@functools.cache
def _own() -> Certificate:
    return Certificate.from_der(seeds()[1])


@functools.cache
def names() -> tuple[bytes, ...]:
    """Distinguished names in every string type."""
    return (encode_name("C=CH, O=Example Ltd, CN=vpn.example.com"), *(Certificate(s).subject_der for s in seeds()))


def read_name(data: bytes) -> object:
    """A distinguished name of anybody can be shown and compared (K10)."""
    assert name_text(data).isprintable()
    assert same_name(data, data)
    hash(name_key(data))
    assert identity_text(IdType.DER_ASN1_DN, data).isprintable()
    proves(IdType.DER_ASN1_DN, data, IdType.DER_ASN1_DN, names()[0])
    mailboxes(data)
    return len(normalise(data))


IDENTITIES = [
    b"vpn.example.com",
    b"alice@example.com",
    b"keyid:abc",
    b"C=CH, O=Example Ltd, CN=a",
    b"fqdn:#00ff",
    b"{9}:#3000",
    b"192.0.2.1",
    b"2001:db8::1",
]


def read_identity(data: bytes) -> object:
    """An identity as people write it, and any bytes as one of every type."""
    for kind in (*IdType, IdType(77)):
        assert identity_text(kind, data).isprintable()
    text = data.decode("utf-8", "replace")
    found = parse_identity(text)
    assert parse_identity(identity_text(*found))
    return found[0]


def read_scheme(data: bytes) -> object:
    """An AlgorithmIdentifier of a signature names a scheme that is known, or is refused (C13, C14)."""
    return str(parse_algorithm_identifier(data))


def pems() -> list[bytes]:
    """Certificates in PEM, with other things around them."""
    found = b"".join(_pem(data) for data in seeds()[:3])
    return [found, b"# comment\n" + found + b"-----BEGIN CERTIFICATE-----", seeds()[0]]


def read_pem(data: bytes) -> object:
    """A file of authorities (F7)."""
    return min(len(Certificate.load_many(data)), 4)


def certificate(random: Random) -> None:
    """Certificates as they come in CERT payloads: read, looked at, and judged as a path (C12, C17)."""
    chain = []
    for _ in range(random.randint(1, 4)):
        with suppress(ParseError):
            chain.append(Certificate.from_der(odd_certificate(random)))
    for one in chain:
        assert one.subject.isprintable()
        assert one.issuer.isprintable()
        assert repr(one).isprintable()
        assert one == Certificate.from_der(one.der)
        one.critical_extensions()
        for kind, value in one.identities():
            assert identity_text(kind, value).isprintable()
        assert one.issued_by(authority()) in (True, False)
    if chain:
        _judge(chain, random)
    with suppress(ProfileError):
        Certificate.load_many(
            damaged(random, b"".join(_pem(one.der) for one in chain) + b"-----BEGIN CERTIFICATE-----")
        )


def _pem(encoded: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(encoded) + b"-----END CERTIFICATE-----\n"


def signature(random: Random) -> None:
    """AUTH data of every method, with AlgorithmIdentifiers that are damaged or belong to others (C13, C14, C16)."""
    key = FileKey(random.choice(keys()))
    peer = None if random.random() < 0.3 else frozenset(HashAlgorithm(number) for number in range(1, 6))
    octets = b"octets"
    try:
        schemes = random.choice(((), tuple(SCHEME_NAMES.values())))
        made = sign_auth(key, octets, peer, allow_sha1=True, schemes=schemes)
        method, data = made.method, made.data
    except SignatureError:
        method, data = AuthMethod.RSA_SIGNATURE, bytes(256)
    original = data
    scheme = random.choice(
        (*SCHEME_NAMES.values(), Scheme(family=Family.RSA_PSS, hash=HashAlgorithm.SHA1, salt_length=20))
    )
    identifier = algorithm_identifier(scheme)
    node = tree(random.choice((identifier, *ALGORITHMS)))[0]
    reshaped(random, node, pool())
    odd = node.encode()
    with suppress(SignatureError):
        parse_algorithm_identifier(odd)
    match random.randint(0, 3):
        case 0:
            data = damaged(random, data)
        case 1 if method == AuthMethod.DIGITAL_SIGNATURE:
            data = bytes((len(odd) & 0xFF,)) + odd + data[1 + data[0] :]
        case 2:
            method = AuthMethod(random.choice((0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 255)))
        case _:
            data = random.randbytes(random.randint(0, 600))
    with suppress(SignatureError):
        verify(key.public_key, method, data, octets, allow_sha1=random.random() < 0.5)
        assert data == original or method == AuthMethod.DIGITAL_SIGNATURE


def identity(random: Random) -> None:
    """ID payloads and the distinguished names in them (K10)."""
    names = [encode_name("C=CH, O=Example Ltd, CN=vpn.example.com"), *(Certificate(s).subject_der for s in seeds()[:4])]
    node = tree(random.choice(names))[0]
    reshaped(random, node, pool())
    name = node.encode() if random.random() < 0.7 else damaged(random, node.encode())
    assert name_text(name).isprintable()
    assert same_name(name, name)
    for read in (normalise, mailboxes):
        with suppress(ParseError):
            read(name)
    hash(name_key(name))
    kind = IdType(random.choice((*IdType, 0, 77)))
    values = (name, damaged(random, b"vpn.example.com"), damaged(random, bytes(4)), damaged(random, bytes(16)))
    value = random.choice(values)
    assert identity_text(kind, value).isprintable()
    proves(kind, random.choice(values), kind, value)
    with suppress(ParseError):
        assert str(IdrPayload.parse(Reader(damaged(random, bytes((kind, 0, 0, 0)) + value))).identity).isprintable()
    with suppress(ValueError):
        assert parse_identity(identity_text(*parse_identity(value.decode("utf-8", "replace"))))


@functools.cache
def revocation_seeds() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Revocation lists and OCSP responses of the authority, about its gateway; odd but valid."""
    issuer = x509.load_der_x509_certificate(authority().der)
    subject = x509.load_der_x509_certificate(seeds()[1])
    point = x509.IssuingDistributionPoint([x509.DNSName("a")], None, True, False, None, False, False)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.CRLNumber(7), False),
        (point, True),
        (x509.DeltaCRLIndicator(6), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), True),
    ]
    lists = []
    for number in range(5):
        listed = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        listed = listed.last_update(NOW - YEAR).next_update(NOW + YEAR)
        for serial in range(number):
            entry = x509.RevokedCertificateBuilder().serial_number(serial + 1).revocation_date(NOW - YEAR)
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), serial % 2 == 0)
            listed = listed.add_revoked_certificate(entry.build())
        for value, critical in extensions[:number]:
            listed = listed.add_extension(value, critical)
        lists.append(listed.sign(SIGNER, None).public_bytes(Encoding.DER))
    responses = [
        ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)
    ]
    for status in ocsp.OCSPCertStatus:
        moment = NOW - YEAR if status is ocsp.OCSPCertStatus.REVOKED else None
        builder = ocsp.OCSPResponseBuilder().add_response(
            subject, issuer, hashes.SHA256(), status, NOW - YEAR, NOW + YEAR, moment, None
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, issuer).certificates([subject])
        builder = builder.add_extension(x509.OCSPNonce(b"nonce"), False)
        responses.append(builder.sign(SIGNER, None).public_bytes(Encoding.DER))
    return tuple(lists), tuple(responses)


def _signed_again(random: Random, encoded: bytes) -> bytes:
    """A structure damaged inside, whose signature is right again."""
    node = tree(encoded)[0]
    if len(node.children) != 3:
        return damaged(random, encoded)
    reshaped(random, node.children[0], pool())
    signed = node.children[0].encode()
    return der.encode(der.SEQUENCE, signed + ED25519 + der.encode(0x03, b"\0" + SIGNER.sign(signed)))


def revocation(random: Random) -> None:
    """Revocation lists and OCSP responses: read, verified, and judged about a certificate and its issuer (C8)."""
    lists, responses = revocation_seeds()
    own = Certificate.from_der(seeds()[1])
    odd_lists, odd_responses = [], []
    for _ in range(random.randint(1, 3)):
        seed = random.choice(lists)
        odd_lists.append(_signed_again(random, seed) if random.random() < 0.7 else damaged(random, seed))
        node = tree(random.choice(responses))[0]
        reshaped(random, node, pool())
        odd_responses.append(node.encode() if random.random() < 0.7 else damaged(random, random.choice(responses)))
    evidence = read_evidence(odd_responses, odd_lists)
    found = query((own, authority()), (), evidence, NOW)
    assert all(each.detail for each in found.statuses)
    for policy in RevocationPolicy:
        with suppress(GatewayNotAuthenticated):
            enforce(policy, found.statuses)
    assert summary(found.statuses).isprintable()


@functools.cache
def bundle_seeds() -> tuple[bytes, ...]:
    """PKCS#7 and CertBundles with the certificates of the other targets, and what CERT payloads with a URL hold."""
    members = [x509.load_der_x509_certificate(each) for each in (authority().der, seeds()[1])]
    tagged = b"".join(der.encode(0xA0, each.public_bytes(Encoding.DER)) for each in members)
    listed = der.encode(0xA1, der.only(revocation_seeds()[0][0], der.SEQUENCE))
    return (
        pkcs7.serialize_certificates(members, Encoding.DER),
        der.encode(der.SEQUENCE, tagged),
        der.encode(der.SEQUENCE, tagged + listed),
        bytes(20) + b"http://data.example/gateway",
    )


def bundles(random: Random) -> None:
    """Certificates in other forms: PKCS#7, bundles, hashes with URLs, and who is the gateway's own among them."""
    seed = random.choice(bundle_seeds())
    data = damaged(random, seed)
    if seed[:1] == b"\x30" and random.random() < 0.7:
        node = tree(seed)[0]
        reshaped(random, node, pool())
        data = node.encode()
    for read in (read_pkcs7, read_bundle):
        with suppress(ParseError):
            found = read(data)
            assert len(found.certificates) + len(found.lists) <= 2 * MAX_MEMBERS
            ordered = own_first(found.certificates, (IdType.FQDN, b"vpn.example.com"))
            assert sorted(ordered) == sorted(found.certificates)
    with suppress(ParseError):
        assert read_hash_and_url(data, bundle=random.random() < 0.5).url.isascii()
