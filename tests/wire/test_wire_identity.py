import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.recordings import RECORDINGS

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import AuthMethod, CertEncoding, IdType


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("01000000 c0000201", "192.0.2.1"),
        ("05000000 20010db8000000000000000000000001", "2001:db8::1"),
        ("02000000 76706e", "vpn"),
        ("02000000 76001b5b324a", r"v\x00\x1b[2J"),  # NUL and ESC
        ("03000000 fffe40", r"\xff\xfe@"),
        ("0b000000 0102", "KEY_ID:0102"),
        ("ff000000 0102", "IdType_255:0102"),
        ("09000000 3000", "DER_ASN1_DN:3000"),
    ],
)
def test_an_identity_is_shown_harmlessly(body: str, shown: str) -> None:
    """K10, K15: FQDN with NUL, unknown type, DN garbage."""
    assert str(Identity.parse(Reader(bytes.fromhex(body)))) == shown


def test_a_huge_identity_is_shown_briefly() -> None:
    for type_ in (IdType.FQDN, IdType.KEY_ID, IdType(200)):
        assert len(str(Identity(type=type_, data=b"A" * 65000))) <= 256


@pytest.mark.parametrize(("type_", "right"), [(1, 4), (5, 16)])
def test_an_address_of_another_length_is_refused(type_: int, right: int) -> None:
    """K10: IPv4 with 3 bytes."""
    for size in {0, 3, 4, 5, 15, 16, 17, 32} - {right}:
        with pytest.raises(ParseError, match=f"identity of {size} bytes"):
            Identity.parse(Reader(bytes((type_, 0, 0, 0)) + bytes(size)))
    Identity.parse(Reader(bytes((type_, 0, 0, 0)) + bytes(right)))


@pytest.mark.parametrize("size", range(4))
def test_an_identity_without_its_fixed_part_is_refused(size: int) -> None:
    with pytest.raises(ParseError):
        Identity.parse(Reader(bytes(size)))


@given(st.binary(min_size=3, max_size=3), st.sampled_from((IdiPayload, IdrPayload)))
def test_reserved_bytes_mean_nothing_but_are_signed_as_they_came(
    reserved: bytes, kind: type[IdiPayload] | type[IdrPayload]
) -> None:
    """N8: the identity is the same one, and AUTH covers RestOfIDPayload with the reserved bytes (section 2.15)."""
    body = bytes((IdType.FQDN,)) + reserved + b"vpn.example"
    identity = kind.parse(Reader(body)).identity
    assert identity == Identity(type=IdType.FQDN, data=b"vpn.example")
    assert identity.body() == body
    assert Identity(type=IdType.FQDN, data=b"vpn.example").body()[1:4] == bytes(3)


def test_the_three_opaque_payloads_of_sections_3_6_to_3_8() -> None:
    for payload, body in (
        (CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=b"DER"), "04 444552"),
        (CertReqPayload(encoding=CertEncoding.X509_SIGNATURE, authorities=b"H" * 20), "04" + "48" * 20),
        (AuthPayload(method=AuthMethod.SHARED_KEY, data=b"mac"), "02 000000 6d6163"),
    ):
        writer = Writer()
        payload.emit(writer)
        assert writer.bytes() == bytes.fromhex(body)
        assert type(payload).parse(Reader(writer.bytes())) == payload


def test_reserved_bytes_of_auth_are_ignored() -> None:
    """N8."""
    assert AuthPayload.parse(Reader(b"\x02\xff\xff\xffmac")) == AuthPayload(method=AuthMethod.SHARED_KEY, data=b"mac")


@pytest.mark.parametrize("parse", [CertPayload.parse, CertReqPayload.parse, AuthPayload.parse])
def test_payloads_without_their_fixed_part_are_refused(parse: object) -> None:
    with pytest.raises(ParseError):
        parse(Reader(b""))  # type: ignore[operator]


def test_auth_data_does_not_show_in_a_repr() -> None:
    """F12."""
    payload = AuthPayload(method=AuthMethod.SHARED_KEY, data=b"S3cr3t-CANARY")
    assert "CANARY" not in repr(payload)


def test_a_recorded_certificate_request_names_authorities_by_their_hashes() -> None:
    """RFC 7296 section 3.7: 20 bytes for each."""
    payloads = Message.parse(RECORDINGS["cert-frag"].messages[1].data).payloads
    (request,) = (p for p in payloads if isinstance(p, CertReqPayload))
    assert request.encoding == CertEncoding.X509_SIGNATURE
    assert len(request.authorities) == 20
