"""An answer is exactly one of the choices that were offered, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from ike_proposals import AEAD, CBC, ESP, SPI, A, E, K, N, P, algorithms, t
from ike_sealing import stream
from vectors.recordings import RECORDINGS

from ikeclient.errors import ProtocolError
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.ike.v2.rules.negotiate import accept_esp, accept_ike, offer_esp, offer_ike
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import (
    EncryptionId,
    IntegrityId,
    KeyExchangeId,
    PrfId,
    ProtocolId,
    SequenceNumbers,
)
from ikeclient.wire.sa import Proposal, SaPayload, Transform

OFFER = offer_ike([AEAD, CBC])

GCM = t(E, EncryptionId.AES_GCM_16, 256)
GOOD = (GCM, t(P, PrfId.HMAC_SHA2_256), t(K, KeyExchangeId.CURVE25519))
GOOD_CBC = (
    t(E, EncryptionId.AES_CBC, 128),
    t(P, PrfId.HMAC_SHA2_256),
    t(A, IntegrityId.HMAC_SHA2_256_128),
    t(K, KeyExchangeId.MODP_2048),
)
ESN, SHORT = t(N, SequenceNumbers.EXTENDED), t(N, SequenceNumbers.SHORT)


def answer(
    transforms: Sequence[Transform], number: int = 1, protocol: int = ProtocolId.IKE, spi: bytes = b""
) -> SaPayload:
    proposal = Proposal(number=number, protocol=ProtocolId(protocol), spi=spi, transforms=tuple(transforms))
    return SaPayload(proposals=(proposal,))


def esp_answer(transforms: Sequence[Transform], spi: bytes = b"\xaa\xbb\xcc\xdd", **fields: int) -> SaPayload:
    return answer(transforms, spi=spi, **{"protocol": ProtocolId.ESP, **fields})


# Offers


def test_an_offer_lists_proposals_by_number_and_transforms_by_preference() -> None:
    assert [proposal.number for proposal in OFFER.proposals] == [1, 2]
    assert {proposal.protocol for proposal in OFFER.proposals} == {ProtocolId.IKE}
    assert {proposal.spi for proposal in OFFER.proposals} == {b""}
    assert [str(transform) for transform in OFFER.proposals[0].transforms] == [
        "AES_GCM_16_256",
        "AES_GCM_16_128",
        "HMAC_SHA2_384",
        "HMAC_SHA2_256",
        "ECP_384",
        "CURVE25519",
    ]
    assert {transform.type for transform in OFFER.proposals[1].transforms} == {E, P, A, K}


def test_a_cipher_with_one_key_length_is_offered_without_it() -> None:
    """RFC 7634 section 4: no Key Length attribute for ChaCha20-Poly1305."""
    (proposal,) = offer_ike([algorithms("chacha20poly1305-prfsha256-x25519")]).proposals
    assert proposal.transforms[0] == t(E, EncryptionId.CHACHA20_POLY1305)


def test_esp_is_offered_with_sequence_numbers_and_in_ike_auth_without_key_exchange() -> None:
    """RFC 7296 sections 1.2 and 3.3.3."""
    for esn, expected in ((True, [ESN, SHORT]), (False, [SHORT])):
        offer = offer_esp(ESP, SPI, esn=esn, key_exchange=False)
        for proposal in offer.proposals:
            assert [transform for transform in proposal.transforms if transform.type == N] == expected
            assert not any(transform.type == K for transform in proposal.transforms)
            assert (proposal.protocol, proposal.spi) == (ProtocolId.ESP, SPI.to_bytes(4, "big"))
    offer = offer_esp(ESP, SPI, esn=True, key_exchange=True)
    assert all(t(K, KeyExchangeId.ECP_256) in proposal.transforms for proposal in offer.proposals)


# Answers to IKE offers


@pytest.mark.parametrize(
    ("transforms", "number", "name"),
    [
        (GOOD, 1, "aes256gcm16-prfsha256-x25519"),
        (tuple(reversed(GOOD)), 1, "aes256gcm16-prfsha256-x25519"),
        (GOOD_CBC, 2, "aes128-sha256-modp2048"),
        ((*GOOD, t(A, IntegrityId.NONE)), 1, "aes256gcm16-prfsha256-x25519"),  # "none" said aloud
        (GOOD, 2, "aes256gcm16-prfsha256-x25519"),  # the algorithms count, not the number
        (GOOD_CBC, 1, "aes128-sha256-modp2048"),
    ],
)
def test_an_answer_that_was_offered_becomes_a_suite(transforms: Sequence[Transform], number: int, name: str) -> None:
    suite, spi = accept_ike(OFFER, answer(transforms, number))
    assert suite.name == name
    assert spi == b""


def without(type_: int) -> tuple[Transform, ...]:
    return tuple(transform for transform in GOOD if transform.type != type_)


def instead(transform: Transform) -> tuple[Transform, ...]:
    return (*without(transform.type), transform)


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ("two proposals", SaPayload(proposals=answer(GOOD).proposals * 2)),
        ("two proposals of which one is good", SaPayload(proposals=(*answer(GOOD).proposals, *OFFER.proposals[1:]))),
        ("no proposal", SaPayload(proposals=())),
        ("everything that was offered", SaPayload(proposals=OFFER.proposals[:1])),
        ("a number never sent", answer(GOOD, 3)),
        ("number 0", answer(GOOD, 0)),
        ("transforms of both proposals", answer((*GOOD_CBC[:1], *GOOD[1:]), 1)),
        ("transforms of both proposals", answer((*GOOD_CBC[:1], *GOOD[1:]), 2)),
        ("another protocol", answer(GOOD, protocol=ProtocolId.ESP)),
        ("no protocol", answer(GOOD, protocol=0)),
        ("an SPI where there is none", answer(GOOD, spi=bytes(8))),
        ("no transform", answer(())),
        ("another key length", answer(instead(t(E, EncryptionId.AES_GCM_16, 192)))),
        ("no key length", answer(instead(t(E, EncryptionId.AES_GCM_16)))),
        ("key length 0", answer(instead(t(E, EncryptionId.AES_GCM_16, 0)))),
        ("the key length twice", answer(instead(replace(GCM, other=bytes.fromhex("800e0100"))))),
        ("two key lengths", answer(instead(replace(GCM, other=bytes.fromhex("800e0080"))))),
        (
            "the key length in long form",
            answer(instead(replace(GCM, key_bits=None, other=bytes.fromhex("000e00020100")))),
        ),
        ("an attribute nobody sent", answer(instead(replace(GCM, other=bytes.fromhex("800f0001"))))),
        ("an attribute on the PRF", answer(instead(t(P, PrfId.HMAC_SHA2_256, 256)))),
        ("integrity beside an AEAD", answer((*GOOD, t(A, IntegrityId.HMAC_SHA2_256_128)))),
        ("none with an attribute", answer((*GOOD, t(A, IntegrityId.NONE, 128)))),
        ("no encryption", answer(without(E))),
        ("no PRF", answer(without(P))),
        ("no key exchange", answer(without(K))),
        ("the key exchange NONE", answer(instead(t(K, KeyExchangeId.NONE)))),
        ("CBC without integrity", answer(GOOD_CBC[:2] + GOOD_CBC[3:], 2)),
        ("CBC with the integrity NONE", answer((*GOOD_CBC[:2], *GOOD_CBC[3:], t(A, IntegrityId.NONE)), 2)),
        ("one transform twice", answer((*GOOD, GOOD[1]))),
        ("two PRFs", answer((*GOOD, t(P, PrfId.HMAC_SHA2_384)))),
        ("a type that nobody knows", answer((*GOOD, t(6, 1)))),
        ("extended sequence numbers", answer((*GOOD, ESN))),
    ],
)
def test_every_other_answer_is_refused(what: str, bad: SaPayload) -> None:
    """N11: never the closest match."""
    with pytest.raises(ProtocolError):
        accept_ike(OFFER, bad)


@pytest.mark.parametrize(
    "weak",
    [
        t(K, KeyExchangeId.MODP_1024),
        t(K, 1),
        t(E, EncryptionId.TRIPLE_DES),
        t(E, EncryptionId.NULL),
        t(E, EncryptionId.AES_GCM_8, 256),
        t(P, PrfId.HMAC_MD5),
        t(P, PrfId.HMAC_SHA1),
    ],
    ids=str,
)
def test_a_weak_algorithm_that_was_not_offered_is_called_a_downgrade(weak: Transform) -> None:
    """N12: from a man in the middle."""
    with pytest.raises(ProtocolError, match=f"{weak}, which was not offered: possible downgrade"):
        accept_ike(OFFER, answer(instead(weak)))


def test_a_rekeyed_ike_sa_needs_an_spi_of_eight_bytes() -> None:
    """RFC 7296 section 3.3.1."""
    offer = offer_ike([AEAD, CBC], b"\x11" * 8)
    assert accept_ike(offer, answer(GOOD, spi=b"\x22" * 8), spi_length=8)[1] == b"\x22" * 8
    for spi in (b"", bytes(8), b"\x22" * 4, b"\x22" * 9):
        with pytest.raises(ProtocolError, match="SPI"):
            accept_ike(offer, answer(GOOD, spi=spi), spi_length=8)


# Answers to ESP offers

ESP_OFFER = offer_esp(ESP, SPI, esn=True, key_exchange=False)
PFS_OFFER = offer_esp(ESP, SPI, esn=True, key_exchange=True)
PFS = t(K, KeyExchangeId.ECP_256)
MIXED = SaPayload(proposals=(PFS_OFFER.proposals[0], replace(ESP_OFFER.proposals[0], number=2)))
ONLY_ESN = SaPayload(
    proposals=(
        replace(ESP_OFFER.proposals[0], transforms=tuple(x for x in ESP_OFFER.proposals[0].transforms if x != SHORT)),
    )
)


@pytest.mark.parametrize(
    ("offer", "transforms", "number", "name"),
    [
        (ESP_OFFER, (GCM, SHORT), 1, "aes256gcm16"),
        (ESP_OFFER, (ESN, GCM), 1, "aes256gcm16-esn"),
        (ESP_OFFER, (GCM, SHORT, t(A, IntegrityId.NONE), t(K, KeyExchangeId.NONE)), 1, "aes256gcm16"),
        (ESP_OFFER, (t(E, 12, 256), t(A, 12), SHORT), 2, "aes256-sha256"),
        (PFS_OFFER, (GCM, ESN, PFS), 1, "aes256gcm16-ecp256-esn"),
        (ESP_OFFER, (GCM, SHORT), 2, "aes256gcm16"),  # the algorithms count, not the number
        (ESP_OFFER, (t(E, 12, 256), t(A, 12), SHORT), 1, "aes256-sha256"),
        (ESP_OFFER, (GCM,), 1, "aes256gcm16"),  # a word about sequence numbers is missing: short ones
        (offer_esp(ESP, SPI, esn=False, key_exchange=False), (GCM,), 1, "aes256gcm16"),
        (PFS_OFFER, (GCM, PFS), 1, "aes256gcm16-ecp256"),
        (MIXED, (GCM, SHORT), 1, "aes256gcm16"),  # the proposal without a key exchange, under the other one's number
    ],
)
def test_a_child_answer_that_was_offered_becomes_a_suite(
    offer: SaPayload, transforms: Sequence[Transform], number: int, name: str
) -> None:
    suite, spi = accept_esp(offer, esp_answer(transforms, number=number))
    assert suite.name == name
    assert spi == 0xAABBCCDD


@pytest.mark.parametrize(
    ("what", "offer", "bad"),
    [
        ("another cipher", ESP_OFFER, esp_answer((t(E, 28), SHORT))),
        ("another key length", ESP_OFFER, esp_answer((t(E, 20, 192), SHORT))),
        ("an unknown number", ESP_OFFER, esp_answer((GCM, SHORT), number=9)),
        ("AH", ESP_OFFER, esp_answer((GCM, SHORT), protocol=ProtocolId.AH)),
        ("IKE", ESP_OFFER, esp_answer((GCM, SHORT), protocol=ProtocolId.IKE)),
        ("no sequence numbers where short ones were not offered", ONLY_ESN, esp_answer((GCM,))),
        ("both kinds of sequence numbers", ESP_OFFER, esp_answer((GCM, SHORT, ESN))),
        ("sequence numbers of no kind", ESP_OFFER, esp_answer((GCM, t(N, 2)))),
        ("ESN when not offered", offer_esp(ESP, SPI, esn=False, key_exchange=False), esp_answer((GCM, ESN))),
        ("a key exchange when not offered", ESP_OFFER, esp_answer((GCM, SHORT, PFS))),
        ("no key exchange when offered", PFS_OFFER, esp_answer((GCM, SHORT))),
        ("the key exchange NONE when offered", PFS_OFFER, esp_answer((GCM, SHORT, t(K, KeyExchangeId.NONE)))),
        ("another key exchange", PFS_OFFER, esp_answer((GCM, SHORT, t(K, KeyExchangeId.MODP_1024)))),
        ("integrity beside an AEAD", ESP_OFFER, esp_answer((GCM, SHORT, t(A, 12)))),
        ("CBC without integrity", ESP_OFFER, esp_answer((t(E, 12, 256), SHORT), number=2)),
        ("a PRF", ESP_OFFER, esp_answer((GCM, SHORT, t(P, 5)))),
        ("two proposals", ESP_OFFER, SaPayload(proposals=esp_answer((GCM, SHORT)).proposals * 2)),
    ],
)
def test_every_other_child_answer_is_refused(what: str, offer: SaPayload, bad: SaPayload) -> None:
    """K16: proposal not offered, ESN when not offered."""
    with pytest.raises(ProtocolError):
        accept_esp(offer, bad)


@pytest.mark.parametrize(
    "spi", ["", "00000000", "00000001", "000000ff", "aabbcc", "aabbccddee", "0000000000000000", "aabbccddaabbccdd"]
)
def test_a_reserved_or_misshapen_spi_is_refused(spi: str) -> None:
    """K16: SPI 0..255 or length ≠ 4 (RFC 4303 section 2.1)."""
    with pytest.raises(ProtocolError, match="SPI"):
        accept_esp(ESP_OFFER, esp_answer((GCM, SHORT), spi=bytes.fromhex(spi)))
    assert accept_esp(ESP_OFFER, esp_answer((GCM, SHORT), spi=bytes.fromhex("00000100")))[1] == 256


# Real answers


def sa_of(payloads: Sequence[Payload]) -> SaPayload:
    (sa,) = (payload for payload in payloads if isinstance(payload, SaPayload))
    return sa


@pytest.mark.parametrize(
    ("recording", "name"),
    [
        ("psk-gcm", "aes256gcm16-prfsha384-x25519"),
        ("psk-cbc", "aes256-sha256-modp2048"),
        ("psk-chacha", "chacha20poly1305-prfsha512-ecp521"),
        ("psk-ccm", "aes128ccm16-prfsha256-ecp256"),
        ("cert-frag", "aes128gcm16-prfsha256-x25519"),
        ("cert-frag-cbc", "aes128-sha384-ecp384"),
        ("eap", "aes256-sha512-modp3072"),
        ("cookie", "aes256gcm16-prfsha384-ecp384"),
        ("invalid-ke", "aes256gcm16-prfsha384-ecp384"),
    ],
)
def test_recorded_offers_and_answers_agree(recording: str, name: str) -> None:
    *_, request, response = (
        Message.parse(recorded.data)
        for recorded in RECORDINGS[recording].messages
        if recorded.expect.startswith("IKE_SA_INIT")
    )
    suite, spi = accept_ike(sa_of(request.payloads), sa_of(response.payloads))
    assert (suite.name, spi) == (name, b"")


def test_recorded_child_and_rekey_answers_agree() -> None:
    """A Child SA in IKE_AUTH, its rekey, and the rekey of the IKE SA with SPIs of eight bytes."""
    recording = RECORDINGS["psk-gcm"]
    assert recording.suite is not None
    assert recording.keys is not None
    readers = [
        Envelope(recording.suite, recording.keys, initiator=side, entropy=stream("unused"), fragment=True)
        for side in (False, True)
    ]
    exchanges: dict[int, list[SaPayload]] = {}
    for recorded in recording.messages[2:]:
        message = Message.parse(recorded.data)
        payloads = readers[message.header.response].open(recorded.data, message, 0.0)
        assert payloads is not None
        exchanges.setdefault(message.header.message_id, []).extend(p for p in payloads if isinstance(p, SaPayload))
    names = []
    for offered, answered in (pair for pair in exchanges.values() if pair):
        if offered.proposals[0].protocol == ProtocolId.IKE:
            suite, spi = accept_ike(offered, answered, spi_length=8)
            assert Message.parse(RECORDINGS["psk-gcm-rekeyed"].messages[0].data).header.spi_r == spi
            names.append(suite.name)
        else:
            names.append(accept_esp(offered, answered)[0].name)
    assert names == ["aes128gcm16", "aes128gcm16", "aes256gcm16-prfsha384-x25519"]
