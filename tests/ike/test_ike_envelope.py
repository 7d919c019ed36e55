"""SK and SKF: what we seal opens at the other end, and nothing else does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ike_sealing import MESSAGE, SUITE_NAMES, Forger, blob, ends, header, keys_of, opened, stream, suite_of
from vectors.recordings import RECORDINGS, in_words
from vectors.wireshark import dissect, needs_wireshark

from ikeclient.crypto.algorithms.ciphers import payload_cipher
from ikeclient.errors import IntegrityError, ParseError
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Message, RawPayload, emit_chain
from ikeclient.wire.registry import NotifyType, PayloadType, ProtocolId

KEYED = sorted(name for name, recording in RECORDINGS.items() if recording.keys)
SAMPLES = ["aes128gcm16", "aes256ccm16", "chacha20poly1305", "aes128-sha1", "aes256-sha512"]


def inner_type(datagram: bytes) -> PayloadType:
    (payload,) = Message.parse(datagram).payloads
    assert isinstance(payload, EncryptedPayload | EncryptedFragmentPayload)
    return payload.inner


# There and back


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_what_one_end_seals_the_other_end_opens(name: str) -> None:
    initiator, responder = ends(name)
    for message in ((), MESSAGE, *(blob(size) for size in range(5, 40)), blob(4000)):
        for sender, receiver, ours in ((initiator, responder, True), (responder, initiator, False)):
            (datagram,) = sender.seal(header(initiator=ours), message, limit=5000)
            assert opened(receiver, datagram) == message
            with pytest.raises(IntegrityError):  # each direction has its own keys
                opened(sender, datagram)


@pytest.mark.parametrize("name", SUITE_NAMES)
@given(size=st.integers(4, 3000), limit=st.integers(200, 1500), order=st.randoms())
@settings(max_examples=10)
def test_fragments_in_any_order_open_to_the_whole(name: str, size: int, limit: int, order: random.Random) -> None:
    initiator, responder = ends(name)
    datagrams = initiator.seal(header(), blob(size), limit=limit)
    order.shuffle(datagrams)
    results = [opened(responder, datagram) for datagram in datagrams]
    assert results == [None] * (len(datagrams) - 1) + [blob(size)]


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_no_datagram_is_larger_than_the_limit_and_none_is_needlessly_small(name: str) -> None:
    block = suite_of(name).encryption.block_length
    initiator, _ = ends(name)
    for limit in (*range(160, 180), 548, 1248):
        for size in (*range(40, 200), limit * 2, 4000):
            datagrams = initiator.seal(header(), blob(size), limit=limit)
            lengths = [len(datagram) for datagram in datagrams]
            assert max(lengths) <= limit
            assert all(length > limit - block for length in lengths[:-1])
            if len(datagrams) > 1:  # then one would have been too large, or its padding might have made it so
                (whole,) = ends(name, fragment=False)[0].seal(header(), blob(size), limit=limit)
                assert len(whole) > limit - block


def test_a_message_that_fits_exactly_stays_whole() -> None:
    """28 of IKE header, 4 of generic header, 8 of IV, 1 of pad length, 16 of ICV."""
    initiator, _ = ends("aes256gcm16")
    (datagram,) = initiator.seal(header(), blob(1000), limit=1057)
    assert len(datagram) == 1057
    first, second = initiator.seal(header(), blob(1001), limit=1057)
    assert len(first) == 1057
    assert len(second) == 28 + 4 + 4 + 8 + (1001 - (1057 - 61)) + 1 + 16


def test_only_the_first_fragment_names_what_is_inside() -> None:
    """RFC 7383 section 2.5: Next Payload is zero in the others."""
    datagrams = ends("aes256gcm16")[0].seal(header(), blob(500), limit=200)
    assert [inner_type(datagram) for datagram in datagrams] == [
        PayloadType.VENDOR_ID,
        *[PayloadType.NONE] * (len(datagrams) - 1),
    ]


def test_without_fragmentation_a_large_message_goes_out_whole() -> None:
    initiator, responder = ends("aes256gcm16", fragment=False)
    (datagram,) = initiator.seal(header(), blob(3000), limit=576)
    assert len(datagram) > 3000
    assert opened(responder, datagram) == blob(3000)


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_a_limit_without_room_for_a_fragment_is_the_callers_fault(name: str) -> None:
    initiator, _ = ends(name)
    for limit in (0, 60):
        with pytest.raises(ValueError, match=f"into {limit} bytes"):
            initiator.seal(header(), blob(100), limit=limit)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_initialisation_vector_comes_twice(name: str) -> None:
    """RFC 5282 section 3.1 for the AEADs, where a repeated one gives the keys away; entropy for CBC."""
    initiator, _ = ends(name)
    length = Forger(name).cipher.iv_length
    datagrams = [d for n in range(50) for d in initiator.seal(header(n), blob(500), limit=300)]
    vectors = [d[(36 if d[16] == PayloadType.ENCRYPTED_FRAGMENT else 32) :][:length] for d in datagrams]
    assert len(datagrams) > 100
    assert len(set(vectors)) == len(vectors)


def test_the_vector_of_cbc_is_fresh_entropy() -> None:
    initiator, _ = ends("aes256-sha256")
    take = stream("initiator")
    for _ in range(3):
        (datagram,) = initiator.seal(header(), MESSAGE, limit=2000)
        assert datagram[32:48] == take(16)


# Forgeries


@pytest.mark.parametrize("name", SUITE_NAMES)
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_flipped_bit_anywhere_is_noticed_and_harms_nothing(name: str, fragmented: bool) -> None:
    """K1: one bit flipped anywhere, headers included; the genuine message still opens afterwards."""
    initiator, responder = ends(name)
    message = blob(150) if fragmented else MESSAGE
    first, *others = initiator.seal(header(), message, limit=180 if fragmented else 2000)
    assert bool(others) == fragmented
    for bit in range(8 * len(first)):
        forged = bytearray(first)
        forged[bit // 8] ^= 1 << bit % 8
        try:
            read = Message.parse(bytes(forged))
        except ParseError:  # a length or a type that makes no sense
            continue
        with pytest.raises(IntegrityError):
            responder.open(bytes(forged), read, 0.0)
        assert not responder.genuine(bytes(forged), read)
    assert responder.genuine(first, Message.parse(first))
    for datagram in (first, *others[:-1]) if fragmented else ():
        assert opened(responder, datagram) is None
    assert opened(responder, others[-1] if fragmented else first) == message


@pytest.mark.parametrize("name", SAMPLES)
def test_a_changed_end_is_noticed(name: str) -> None:
    """K1, K2: every truncation, and bytes added, with lengths that agree."""
    initiator, responder = ends(name)
    (datagram,) = initiator.seal(header(), MESSAGE, limit=2000)
    for size in range(32, len(datagram) + 40):
        if size == len(datagram):
            continue
        body = (datagram + bytes(40))[32:size]
        forged = Message(header=header(), payloads=(EncryptedPayload(inner=PayloadType.NOTIFY, body=body),))
        with pytest.raises(IntegrityError):
            responder.open(forged.emit(), Message.parse(forged.emit()), 0.0)


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_a_body_that_no_cipher_made_is_dropped(name: str) -> None:
    """K2: shorter than IV and ICV, not a multiple of the block."""
    _, responder = ends(name)
    for size in range(100):
        forged = Message(header=header(), payloads=(EncryptedPayload(inner=PayloadType.NONE, body=bytes(size)),)).emit()
        with pytest.raises(IntegrityError):
            opened(responder, forged)
        part = EncryptedFragmentPayload(inner=PayloadType.NONE, number=1, total=1, body=bytes(size))
        with pytest.raises(IntegrityError):
            opened(responder, Message(header=header(), payloads=(part,)).emit())


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_padding_longer_than_the_message_is_dropped(name: str) -> None:
    """K2: pad length > data, although the integrity check passes."""
    initiator, _ = ends(name)
    forger = Forger(name)
    block = forger.cipher.block_length
    for pad in (block, 16, 100, 255):
        plaintext = bytes(block - 1) + bytes((pad,))
        if pad < len(plaintext):
            continue
        with pytest.raises(IntegrityError, match="padding"):
            opened(initiator, forger.seal(plaintext))
    longest = bytes(255) + b"\xff" if block == 16 else bytes(255 - 5) + b"\xff"
    if block == 16:
        assert (
            opened(initiator, forger.seal(longest)) == ()
        )  # 255 bytes of padding and nothing else is an empty message
    else:
        with pytest.raises(IntegrityError, match="padding"):
            opened(initiator, forger.seal(longest))


@pytest.mark.parametrize("name", [name for name in SUITE_NAMES if "-" not in name])
def test_an_aead_message_without_plaintext_is_dropped(name: str) -> None:
    """K2: GCM with 0 plaintext: even an empty message has its pad length."""
    initiator, _ = ends(name)
    with pytest.raises(IntegrityError):
        opened(initiator, Forger(name).seal(b""))
    assert opened(initiator, Forger(name).seal(b"\0")) == ()


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_genuine_but_malformed_inside_is_the_peers_fault(name: str) -> None:
    """K2: inner chain malformed after a good ICV is another error than a forgery, so that it can be answered."""
    forger = Forger(name)
    for text, inner in (
        (b"\x29\x00\x00\x03", PayloadType.NOTIFY),
        (b"\x00\x00\xff\xff", PayloadType.NOTIFY),
        (b"leftover", PayloadType.NONE),
        (b"", PayloadType.NOTIFY),
        (bytes((43, 0, 0, 4)) * 300, PayloadType.VENDOR_ID),
    ):
        initiator, _ = ends(name)
        with pytest.raises(ParseError):
            opened(initiator, forger.seal(forger.padded(text), inner=inner))
        with pytest.raises(ParseError):
            opened(initiator, forger.seal(forger.padded(text), inner=inner, part=(1, 1)))


def test_an_unprotected_message_is_a_forgery() -> None:
    """K3, S3: clear-text AUTHENTICATION_FAILED, DELETE, INVALID_SYNTAX."""
    initiator, _ = ends("aes256gcm16")
    for payloads in (
        (),
        (NotifyPayload(type=NotifyType.AUTHENTICATION_FAILED),),
        (NotifyPayload(type=NotifyType.INVALID_SYNTAX),),
        (DeletePayload(protocol=ProtocolId.IKE),),
    ):
        datagram = Message(header=header(initiator=False, response=True), payloads=payloads).emit()
        with pytest.raises(IntegrityError, match="unprotected"):
            opened(initiator, datagram)
        assert not initiator.genuine(datagram, Message.parse(datagram))


def test_payloads_in_front_of_the_protected_ones_are_authenticated_and_not_believed() -> None:
    """K8: they are covered by the integrity check (RFC 7296 section 3.14), and only what is inside is handed out."""
    initiator, _ = ends("aes256gcm16")
    forger = Forger("aes256gcm16")
    before = tuple(RawPayload(TYPE=PayloadType(200), critical=False, body=b"x") for _ in range(254))
    text = forger.padded(emit_chain(MESSAGE))
    for part in (None, (1, 1)):
        datagram = forger.seal(text, inner=PayloadType.NOTIFY, before=before, part=part)
        assert opened(initiator, datagram) == MESSAGE
        added = forger.seal(text, inner=PayloadType.NOTIFY, before=before[:1], part=part)
        plain = forger.seal(text, inner=PayloadType.NOTIFY, part=part)
        smuggled = added[:33] + plain[28:]  # another message's envelope behind a payload it never had
        with pytest.raises((IntegrityError, ParseError)):
            opened(initiator, smuggled[:24] + len(smuggled).to_bytes(4, "big") + smuggled[28:])
        with pytest.raises(ParseError, match="more than 255"):
            opened(initiator, forger.seal(text, inner=PayloadType.NOTIFY, before=(*before, *before), part=part))


# Other implementations


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize("receiver", ["initiator", "responder"])
def test_recorded_messages_open_to_what_strongswan_says(name: str, receiver: str) -> None:
    """Every cipher, fragments, EAP and rekeys, with the keys from the gateway's log."""
    recording = RECORDINGS[name]
    assert recording.suite is not None
    assert recording.keys is not None
    opener = Envelope(
        recording.suite, recording.keys, initiator=receiver == "initiator", entropy=stream("unused"), fragment=True
    )
    opened_some = False
    for recorded in recording.messages:
        message = Message.parse(recorded.data)
        from_initiator = message.header.initiator
        if message.header.exchange == 34 or from_initiator == (receiver == "initiator"):
            continue
        payloads = opener.open(recorded.data, message, 0.0)
        if recorded.inside is None:
            assert payloads is None
        else:
            assert payloads is not None
            assert in_words(payloads) == recorded.inside
            opened_some = True
    assert opened_some


@pytest.mark.parametrize("name", KEYED)
def test_what_is_inside_recorded_messages_is_written_as_it_was_read(name: str) -> None:
    recording = RECORDINGS[name]
    suite, keys = recording.suite, recording.keys
    assert suite is not None
    assert keys is not None
    for recorded in recording.messages:
        message = Message.parse(recorded.data)
        match message.payloads[-1]:
            case EncryptedPayload(body=body):
                ours = (keys.ei, keys.ai) if message.header.initiator else (keys.er, keys.ar)
                cipher = payload_cipher(suite.encryption, suite.integrity, *ours)
                padded = cipher.open(body, recorded.data[: -len(body)])
                text = padded[: -1 - padded[-1]]
                opener = Envelope(
                    suite, keys, initiator=not message.header.initiator, entropy=stream("unused"), fragment=True
                )
                payloads = opener.open(recorded.data, message, 0.0)
                assert payloads is not None
                assert emit_chain(payloads) == text


_ENCRYPTION = {
    "aes128gcm16": "AES-GCM-128 with 16 octet ICV [RFC5282]",
    "aes256gcm16": "AES-GCM-256 with 16 octet ICV [RFC5282]",
    "aes128": "AES-CBC-128 [RFC3602]",
    "aes256": "AES-CBC-256 [RFC3602]",
}
_INTEGRITY = {
    "": "NONE [RFC4306]",
    "sha1": "HMAC_SHA1_96 [RFC2404]",
    "sha256": "HMAC_SHA2_256_128 [RFC4868]",
    "sha384": "HMAC_SHA2_384_192 [RFC4868]",
    "sha512": "HMAC_SHA2_512_256 [RFC4868]",
}


@needs_wireshark
@pytest.mark.parametrize("name", [name for name in SUITE_NAMES if name.partition("-")[0] in _ENCRYPTION])
def test_wireshark_decrypts_what_we_seal(name: str, tmp_path: Path) -> None:
    """Whole messages and fragments; it checks the ICV of CBC suites too. It does not know ChaCha20 or 16-byte CCM."""
    initiator, _ = ends(name)
    keys = keys_of(suite_of(name))
    encryption, _, integrity = name.partition("-")
    hexadecimal = ("11" * 8, "22" * 8, keys.ei.hex(), keys.er.hex())
    table = [*hexadecimal, f'"{_ENCRYPTION[encryption]}"', keys.ai.hex(), keys.ar.hex(), f'"{_INTEGRITY[integrity]}"']
    options = ["-o", "uat:ikev2_decryption_table:" + ",".join(table)]
    whole = initiator.seal(header(1), MESSAGE, limit=2000)
    fields = ["_ws.malformed", "_ws.expert.message", "isakmp.typepayload", "isakmp.notify.msgtype", "isakmp.vid_bytes"]
    (found,) = dissect(tmp_path, whole, fields, options)
    assert found == {
        "_ws.malformed": "",
        "_ws.expert.message": "",
        "isakmp.typepayload": "46 41 42 43",
        "isakmp.notify.msgtype": "16384",
        "isakmp.vid_bytes": bytes(range(50)).hex(),
    }
    parts = initiator.seal(header(2), blob(600), limit=300)
    rows = dissect(tmp_path, parts, [*fields, "isakmp.frag.number"], options)
    assert [row["isakmp.frag.number"] for row in rows] == [str(n + 1) for n in range(len(parts))]
    assert "".join(row["_ws.malformed"] + row["_ws.expert.message"] for row in rows) == ""
