import pytest
from hypothesis import given
from wire_values import IKE_PROPOSAL, PAYLOADS, u8

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import EncryptionId, ProtocolId, TransformType
from ikeclient.wire.sa import Proposal, SaPayload, Transform

# Two proposals, written out by hand from the figures of RFC 7296 sections 3.3.1, 3.3.2 and 3.3.5.
VECTOR = bytes.fromhex(
    "02 00 002c 01 01 00 04"  # proposal 1 of several, 44 bytes, IKE, no SPI, four transforms
    "03 00 000c 01 00 000c 800e0100"  # encryption 12, Key Length 256
    "03 00 0008 02 00 0005"
    "03 00 0008 03 00 000c"
    "00 00 0008 04 00 000e"
    "00 00 001c 02 03 04 01 c0ffee00"  # the last one, ESP, SPI of four bytes, one transform
    "00 00 0010 01 00 0014 800e0080 800f1234"  # an attribute that nobody knows
)
PAYLOAD = SaPayload(
    proposals=(
        IKE_PROPOSAL,
        Proposal(
            number=2,
            protocol=ProtocolId.ESP,
            spi=bytes.fromhex("c0ffee00"),
            transforms=(
                Transform(
                    type=TransformType.ENCRYPTION,
                    id=EncryptionId.AES_GCM_16,
                    key_bits=128,
                    other=bytes.fromhex("800f1234"),
                ),
            ),
        ),
    )
)


def read(body: bytes) -> SaPayload:
    reader = Reader(body)
    payload = SaPayload.parse(reader)
    reader.finish()
    return payload


def written(payload: SaPayload) -> bytes:
    writer = Writer()
    payload.emit(writer)
    return writer.bytes()


def one_transform(attributes: bytes) -> bytes:
    """A payload with one proposal of one transform with these attributes."""
    transform = (
        bytes.fromhex("0000") + (8 + len(attributes)).to_bytes(2, "big") + bytes.fromhex("0100000c") + attributes
    )
    return bytes.fromhex("0000") + (8 + len(transform)).to_bytes(2, "big") + bytes.fromhex("01010001") + transform


def transform_of(attributes: bytes) -> Transform:
    return read(one_transform(attributes)).proposals[0].transforms[0]


def test_the_figures_of_section_3_3() -> None:
    assert read(VECTOR) == PAYLOAD
    assert written(PAYLOAD) == VECTOR


def test_transforms_are_named_as_people_know_them() -> None:
    assert [str(t) for t in PAYLOAD.proposals[0].transforms] == [
        "AES_CBC_256",
        "HMAC_SHA2_256",
        "HMAC_SHA2_256_128",
        "MODP_2048",
    ]
    assert str(Transform(type=TransformType(9), id=77)) == "TransformType_9:77"
    assert str(Transform(type=TransformType.ENCRYPTION, id=999)) == "EncryptionId_999"


@given(PAYLOADS["SaPayload"], u8)
def test_reserved_bytes_are_ignored(payload: SaPayload, reserved: int) -> None:
    """N8: one byte in each proposal, two in each transform."""
    body = bytearray(written(payload))
    at = 0
    for proposal in payload.proposals:
        body[at + 1] = reserved
        at += 8 + len(proposal.spi)
        for transform in proposal.transforms:
            body[at + 1] = body[at + 5] = reserved
            at += 8 + (0 if transform.key_bits is None else 4) + len(transform.other)
    assert read(bytes(body)) == payload


@pytest.mark.parametrize(
    "attributes",
    [
        "80",  # half of a type
        "800e",  # no value
        "800e00",
        "00",
        "0005 0001",  # a length of 1, nothing there
        "0005 0003 6162",  # one byte more than there is
        "0005 ffff 61626364",
        "800e0080 0011 0004 616263",  # the second one overruns
        "800e0080 8000",
    ],
)
def test_an_attribute_past_the_end_of_its_transform_is_refused(attributes: str) -> None:
    """N11: attribute length overrun."""
    with pytest.raises(ParseError):
        read(one_transform(bytes.fromhex(attributes)))


def test_only_the_first_key_length_in_short_form_is_the_key_length() -> None:
    """N11: an altered or doubled attribute makes another transform than the one offered."""
    assert transform_of(bytes.fromhex("800e0100")) == Transform(type=TransformType.ENCRYPTION, id=12, key_bits=256)
    doubled = transform_of(bytes.fromhex("800e0100 800e0080"))
    assert (doubled.key_bits, doubled.other) == (256, bytes.fromhex("800e0080"))
    long_form = transform_of(bytes.fromhex("000e 0002 0100"))
    assert (long_form.key_bits, long_form.other) == (None, bytes.fromhex("000e00020100"))
    assert transform_of(b"").key_bits is None
    assert transform_of(bytes.fromhex("800e0000")).key_bits == 0


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("a count above the transforms that are there", "00000010 01010002 00000008 0100000c"),
        ("a count below them", "00000018 01010001 03000008 0100000c 00000008 0200000c"),
        ("a last transform that says more follow", "00000010 01010001 03000008 0100000c"),
        ("a first transform that says it is the last", "00000018 01010002 00000008 0100000c 00000008 0200000c"),
        ("a transform of 7 bytes", "0000000f 01010001 00000007 010000"),
        ("a transform of 0 bytes", "00000010 01010001 00000000 0100000c"),
        ("a transform longer than its proposal", "00000010 01010001 00000009 0100000c 00"),
        ("an SPI longer than its proposal", "0000000c 01010500 c0ffee00"),
        ("a proposal of 3 bytes", "00000003 01010000"),
        ("a proposal longer than the payload", "00000009 01010000"),
        ("a last proposal that says more follow", "02000008 01010000"),
        ("a proposal after the last one", "00000008 01010000 00000008 02010000"),
        ("a proposal that starts with 1", "01000008 01010000 00000008 02010000"),
        ("no proposal", ""),
    ],
)
def test_counts_and_lengths_that_disagree_are_refused(what: str, body: str) -> None:
    """N11."""
    with pytest.raises(ParseError):
        read(bytes.fromhex(body))


def test_255_transforms_are_read() -> None:
    transforms = tuple(Transform(type=TransformType.PRF, id=n) for n in range(255))
    payload = SaPayload(proposals=(Proposal(number=1, protocol=ProtocolId.IKE, spi=b"", transforms=transforms),))
    assert read(written(payload)) == payload
