"""EAP-SIM against the conversation of RFC 4186 appendix A, and against servers that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ikeclient.eap.credentials import SimCredentials
from ikeclient.eap.method import NeedCredential
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType

IDENTITY_REQUEST, SUCCESS, FAILURE = bytes([1, 0, 0, 5, 1]), bytes([3, 2, 0, 4]), bytes([4, 2, 0, 4])
USER = "1244070100000001@eapsim.foo"
NONCE = bytes.fromhex("0123456789abcdeffedcba9876543210")
RANDS = [bytes(range(start, start + 16)).hex() for start in (0x10, 0x20, 0x30)]
CARD = "sim d1d2d3d4 a0a1a2a3a4a5a6a7 e1e2e3e4 b0b1b2b3b4b5b6b7 f1f2f3f4 c0c1c2c3c4c5c6c7"
PSEUDONYM = "w8w49PexCazWJ&xCIARmxuMKht5S1sxRDqXSEFBEg3DcZP9cIxTe5J4OyIwNGVzxeJOU1G@eapsim.foo"
FAST_IV = bytes.fromhex("cdf7ffa65de04c026b56c86b76b102ea")
MSK = bytes.fromhex(
    "39d45aeaf4e30601983e972b6cfd46d1c363773365690d09cd44976b525f47d3"
    "a60a985e955c53b090b2e4b73719196a402542968fd14a888f46b9a7886e4488"
)
FAST_MSK = bytes.fromhex(
    "6263f614973895e1335f7e30cff028ee2176f519002c9abe732fe0ef00cf167c"
    "756d9e4ced6d5ed640eb3fe38565ca076e7fb8a817cfe8d9adbce441d47c4f5e"
)
START = bytes.fromhex("01010010120a00000f02000200010000")
STARTED = bytes.fromhex("02010020120a0000070500000123456789abcdeffedcba987654321010010001")
CHALLENGE = bytes.fromhex(
    "01020118120b0000010d0000101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536373839"
    "3a3b3c3d3e3f810500009e18b0c29a652263c06efb54dd00a895822d000055f2939bbdb1b19ea1b47fc0b3e0be4cab2cf7372d98e302"
    "3c6bb92415723d58bad66ce084e101b60f5358354bd4218278aea7bf2cbace33106aeddc625b0c1d5aa67a41739ae5b57950973fc7ff"
    "8301073c6f953150fc303ea152d1e10a2d1f4f5226daa1ee9005472252bdb3b71d6f0c3a3490316c46929871bd45cdfdbca6112f07f8"
    "be717990d25f6dd7f2b7b320bf4d5a992e880331d729945aec75ae5d43c8eda5fe6233fcac494ee67a0d504d0b050000fef324ac3962"
    "b59f3bd78253ae4dcb6a"
)
PROVED = bytes.fromhex("0202001c120b00000b050000f56d6433e68ed2976ac11937fc3d1154")
FAST_IDENTITY = bytes.fromhex(
    "0200005601593234664e53727a3842503237346a4f4a614631375766784938594f3751583030704d586b39584d4d564f773762726f61"
    "4e6854637a75467135336145704f6b6b334c30646d4065617073696d2e666f6f"
)
FAST = bytes.fromhex(
    "010100a4120d000081050000d585ac7786b90336657c77b46575b9c4821d0000686291a9d2abc58caa3294b6e85b44846c44e5dcb2de"
    "8b9e80d69d49858a5db84cdc1c9bc95c01b96b6eca313474aea6d31416e19daa9df70f05008841ca8014964d3b30a49bcf43e4d3f18e"
    "86295a4a2b38d96c9705c2bbb05c4aace97d5eaff564046c8bd30bc39be5e17ace2b10a60b050000483a1799b83d7cd3d0a1e401d9ee"
    "4770"
)
FAST_PROVED = bytes.fromhex(
    "02010044120d000081050000cdf7ffa65de04c026b56c86b76b102ea82050000b6edd38279e2a1423c1afc5c455c7d560b05"
    "0000faf76b71fbe2d255b96a3566c915c617"
)


def entropy(*values: bytes) -> Callable[[int], bytes]:
    left = list(values)

    def draw(count: int) -> bytes:
        value = left.pop(0)
        assert len(value) == count
        return value

    return draw


def peer(sim: SimCredentials, *random: bytes) -> EapPeer:
    return EapPeer(USER, (EapType.SIM,), None, entropy(*random), sim=sim)


def test_the_conversation_of_the_standard() -> None:
    """Full authentication with a source of the card's answers, then a fast re-authentication."""
    sim = SimCredentials()
    eap = peer(sim, NONCE)
    said = eap.respond(IDENTITY_REQUEST)
    assert isinstance(said, bytes)
    assert said[5:] == USER.encode()
    assert eap.respond(START) == STARTED
    assert eap.respond(CHALLENGE) == NeedCredential(kind="usim", prompt=f"sim {' '.join(RANDS)}")
    assert eap.supply(CARD) == PROVED
    assert eap.respond(SUCCESS) is None
    assert eap.finished
    assert eap.msk == MSK
    assert sim.memory.pseudonyms == {EapType.SIM: PSEUDONYM}

    again = peer(sim, FAST_IV)
    assert again.respond(IDENTITY_REQUEST) == FAST_IDENTITY
    assert again.respond(FAST) == FAST_PROVED
    assert again.respond(SUCCESS) is None
    assert again.msk == FAST_MSK
    assert sim.memory.reauthentications[EapType.SIM].counter == 1


def challenged(change: Callable[[bytes], bytes] = lambda packet: packet, card: str = CARD) -> tuple[EapPeer, bytes]:
    eap = peer(SimCredentials(), NONCE)
    eap.respond(IDENTITY_REQUEST)
    eap.respond(START)
    answer = eap.respond(change(CHALLENGE))
    if isinstance(answer, NeedCredential):
        answer = eap.supply(card)
    assert isinstance(answer, bytes)
    return eap, answer


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda packet: packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "AT_MAC": flipped(len(CHALLENGE) - 1),
    "hidden": flipped(100),
    "RAND": flipped(20),
    "same RAND": lambda packet: packet[:28] + packet[12:28] + packet[44:],
    "length 0": lambda packet: packet[:9] + b"\0" + packet[10:],
    "length beyond the end": lambda packet: packet[:9] + b"\xff" + packet[10:],
    "unknown": lambda packet: packet[:8] + b"\x63" + packet[9:],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_challenge_that_is_wrong_is_answered_once_with_client_error(what: str) -> None:
    """E10: nothing is agreed, and the Success that follows counts for nothing."""
    eap, answer = challenged(WRONG[what])
    assert answer[5:] == bytes.fromhex("0e000016010000")
    assert eap.msk is None
    with pytest.raises(AuthenticationFailed, match="broke the protocol"):
        eap.respond(SUCCESS)


def test_wrong_answers_of_the_card_are_told() -> None:
    eap = peer(SimCredentials(), NONCE)
    eap.respond(IDENTITY_REQUEST)
    eap.respond(START)
    eap.respond(CHALLENGE)
    with pytest.raises(AuthenticationFailed, match="none that can be used"):
        eap.supply("sim d1d2d3d4 a0a1a2a3a4a5a6a7")


def test_a_name_that_led_to_nothing_is_said_once() -> None:
    """The server may have forgotten what it gave us."""
    sim = SimCredentials()
    sim.memory.pseudonyms[EapType.SIM] = PSEUDONYM
    eap = peer(sim)
    said = eap.respond(IDENTITY_REQUEST)
    assert isinstance(said, bytes)
    assert said[5:] == PSEUDONYM.encode()
    with pytest.raises(AuthenticationFailed):
        eap.respond(FAILURE)
    assert not sim.memory.pseudonyms
