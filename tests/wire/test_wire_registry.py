import pytest

from ikeclient.wire.registry import (
    AuthMethod,
    ConfigAttributeType,
    EncryptionId,
    ExchangeType,
    KeyExchangeId,
    NotifyType,
    OpenEnum,
    PayloadType,
    TransformType,
)


@pytest.mark.parametrize("kind", OpenEnum.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_number_is_a_value_with_a_printable_name(kind: type[OpenEnum]) -> None:
    for number in (*range(64), 255, 1024, 16383, 16384, 40960, 65535):
        value = kind(number)
        assert value == number
        assert hash(value) == hash(number)
        assert str(value).isprintable()
        assert f"{value}" == str(value)
        assert value.known == (number in {member.value for member in kind})


def test_an_unknown_number_is_named_by_its_number() -> None:
    assert str(NotifyType(40969)) == "NotifyType_40969"
    assert repr(PayloadType(99)) == "<PayloadType.PayloadType_99: 99>"
    assert not PayloadType(99).known
    assert PayloadType(99) == PayloadType(99)


@pytest.mark.parametrize("value", [-1, "SA", None, 1.5])
def test_what_is_no_number_of_the_wire_is_no_value(value: object) -> None:
    with pytest.raises(ValueError, match="PayloadType"):
        PayloadType(value)  # type: ignore[arg-type]


def test_error_notifications_are_those_below_16384() -> None:
    """RFC 7296 section 3.10.1."""
    assert NotifyType.AUTHENTICATION_FAILED.is_error
    assert NotifyType(16383).is_error
    assert not NotifyType.INITIAL_CONTACT.is_error
    assert not NotifyType(65535).is_error


@pytest.mark.parametrize(
    ("value", "number"),
    [  # a sample of each registry, from the RFCs' own tables
        (ExchangeType.CREATE_CHILD_SA, 36),  # RFC 7296 section 3.1
        (PayloadType.ENCRYPTED, 46),  # section 3.2
        (PayloadType.ENCRYPTED_FRAGMENT, 53),  # RFC 7383 section 2.5
        (TransformType.SEQUENCE_NUMBERS, 5),  # RFC 7296 section 3.3.2
        (EncryptionId.AES_GCM_16, 20),  # RFC 4106 section 8.4
        (EncryptionId.CHACHA20_POLY1305, 28),  # RFC 7634 section 5
        (KeyExchangeId.ECP_384, 20),  # RFC 5903 section 5
        (KeyExchangeId.CURVE25519, 31),  # RFC 8031 section 4
        (AuthMethod.DIGITAL_SIGNATURE, 14),  # RFC 7427 section 7
        (NotifyType.TS_UNACCEPTABLE, 38),  # RFC 7296 section 3.10.1
        (NotifyType.COOKIE2, 16401),  # RFC 4555 section 4.2.5
        (NotifyType.SIGNATURE_HASH_ALGORITHMS, 16431),  # RFC 7427 section 7
        (ConfigAttributeType.INTERNAL_DNS_DOMAIN, 25),  # RFC 8598 section 4
    ],
)
def test_numbers_are_those_of_the_standards(value: OpenEnum, number: int) -> None:
    assert value == number
