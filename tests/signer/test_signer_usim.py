"""SIM cards in readers: a card that answers as TS 31.102 says, with the keys of TS 35.208's test sets."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from sim_card import OPC, K, SimCard, autn_of

from ikeclient.eap.credentials import CardKeys, SimMemory
from ikeclient.eap.usim import Accepted, OutOfStep, Rejected, Triplets, aka_request, read_answer, sim_request
from ikeclient.errors import KeyUnavailable, ProfileError
from ikeclient.signer import reader
from ikeclient.signer.keeper import Keeper
from ikeclient.signer.messages import AskCard, CardReader, CardSaid, PinRefused, Refused, pack_reference
from ikeclient.signer.reader import ReaderCard
from ikeclient.signer.usim import Usim

# TS 35.208 section 4.3.1, test set 1.
SET = {
    "k": "465b5ce8b199b49faa5f0a2ee238a6bc",
    "opc": "cd63cb71954a9f4e48a5994e37a02baf",
    "rand": "23553cbe9637a89d218ae64dae47bf35",
    "sqn": "ff9bb4d0b607",
    "amf": "b9b9",
    "f1": "4a9ffac354dfafb3",
    "res": "a54211d5e3ba50bf",
    "ck": "b40ba9a3c58b2a05bbf0d987b21bf8cb",
    "ik": "f769bcd751044604127672711c6d3441",
    "ak": "aa689c648370",
}
RAND = bytes(range(32, 48))
AUTN = autn_of(K, OPC, RAND, (64).to_bytes(6, "big"))


def bits(name: str) -> bytes:
    return bytes.fromhex(SET[name])


def test_the_card_of_the_standard_answers_its_challenge() -> None:
    """And the commands are those of TS 31.102 section 7.1.2: 34 bytes, RAND and AUTN each with its length."""
    card = SimCard(keys=CardKeys(k=bits("k"), opc=bits("opc")))
    hidden = bytes(a ^ b for a, b in zip(bits("sqn"), bits("ak"), strict=True))
    autn = hidden + bits("amf") + bits("f1")
    answer = Usim(card.transmit).answer(aka_request(bits("rand"), autn))
    assert answer == f"res {SET['res']} {SET['ck']} {SET['ik']}"
    sent = bytes.fromhex("0088008122") + b"\x10" + bits("rand") + b"\x10" + autn
    assert card.heard[-2:] == [sent, bytes.fromhex("00c0000035")]


@pytest.mark.parametrize("directory", [True, False], ids=["EF_DIR", "by the beginning of its name"])
def test_the_application_is_found(directory: bool) -> None:
    card = SimCard(directory=directory)
    question = aka_request(RAND, AUTN)
    assert isinstance(read_answer(question, Usim(card.transmit).answer(question)), Accepted)


def test_what_a_card_says_to_a_wrong_network_and_to_an_old_challenge() -> None:
    usim = Usim(SimCard(memory=SimMemory(sequence=1000)).transmit)
    assert isinstance(read_answer(aka_request(RAND, AUTN), usim.answer(aka_request(RAND, AUTN))), OutOfStep)
    forged = AUTN[:-1] + bytes([AUTN[-1] ^ 1])
    assert isinstance(read_answer(aka_request(RAND, forged), usim.answer(aka_request(RAND, forged))), Rejected)


@pytest.mark.parametrize("usim", [True, False], ids=["USIM", "SIM of GSM"])
def test_challenges_of_gsm(usim: bool) -> None:
    question = sim_request([RAND, RAND[::-1], bytes(16)])
    answer = read_answer(question, Usim(SimCard(usim=usim).transmit).answer(question))
    assert isinstance(answer, Triplets)
    assert len(set(answer.kc)) == 3


def test_a_card_of_gsm_does_no_aka() -> None:
    with pytest.raises(KeyUnavailable, match="SIM of GSM"):
        Usim(SimCard(usim=False).transmit).answer(aka_request(RAND, AUTN))


def test_a_pin_is_shown_only_to_a_card_that_wants_it() -> None:
    card = SimCard()
    Usim(card.transmit).answer(aka_request(RAND, AUTN), b"1234")
    assert not [command for command in card.heard if command[1] == 0x20]
    card = SimCard(pin=b"1234")
    assert Usim(card.transmit).tries() == 3
    assert Usim(card.transmit).answer(aka_request(RAND, AUTN), b"1234").startswith("res")
    assert [command for command in card.heard if command[1] == 0x20][-1].hex() == "002000010831323334ffffffff"


@pytest.mark.parametrize(
    ("pin", "tries", "shown", "words"),
    [
        (None, 3, 0, "wants its PIN"),
        (b"4321", 3, 1, "refused its PIN"),
        (b"1234", 1, 0, "one try left"),
        (b"1234", 0, 0, "locked"),
        (b"12", 3, 0, "4 to 8 digits"),
    ],
)
def test_a_pin_is_never_guessed(pin: bytes | None, tries: int, shown: int, words: str) -> None:
    """One try, and none if the card would lock itself."""
    card = SimCard(pin=b"1234", tries=tries)
    with pytest.raises(PinRefused, match=words):
        Usim(card.transmit).answer(aka_request(RAND, AUTN), pin)
    assert len([command for command in card.heard if command[1] == 0x20 and len(command) > 5]) == shown


@pytest.mark.parametrize("said", [b"", b"\x90", b"\x90\x00", b"\x61\x02", b"\xdb\x90\x00", b"\xdb\x40AA\x90\x00"])
def test_a_card_that_talks_nonsense(said: bytes) -> None:
    with pytest.raises(KeyUnavailable):
        Usim(lambda _: said).answer(aka_request(RAND, AUTN))


# Readers


class Connection:
    """pyscard's, with a card behind it."""

    def __init__(self, card: SimCard) -> None:
        self.card = card

    def connect(self, **_: object) -> None:
        self.card.selected = b""

    def getProtocol(self) -> int:
        return 1

    def transmit(self, command: list[int]) -> tuple[list[int], int, int]:
        *data, high, low = self.card.transmit(bytes(command))
        return data, high, low

    def disconnect(self) -> None:
        pass


class Reader:
    def __init__(self, name: str, card: SimCard | None) -> None:
        self.name, self.card = name, card

    def __str__(self) -> str:
        return self.name

    def createConnection(self) -> Connection:
        if self.card is None:
            raise RuntimeError("no card")
        return Connection(self.card)


def pyscard(*readers: Reader) -> Any:
    return SimpleNamespace(
        System=SimpleNamespace(readers=lambda: readers),
        scard=SimpleNamespace(SCARD_SHARE_EXCLUSIVE=1, SCARD_LEAVE_CARD=0),
        CardConnection=SimpleNamespace(CardConnection=SimpleNamespace(T1_protocol=2)),
    )


READERS = (Reader("Alcor Link AK9563 00 00", SimCard()), Reader("Gemalto USB 01 00", SimCard(pin=b"1234", tries=2)))


def test_a_reader_is_named_by_a_part_of_its_name() -> None:
    card = ReaderCard(CardReader(reader="alcor"), pyscard(*READERS))
    assert card.answer(sim_request([RAND])).startswith("sim ")
    seen = ReaderCard(CardReader(reader="Gemalto USB 01 00"), pyscard(*READERS)).look()
    assert (seen.wants_pin, seen.few_tries, seen.last_try) == (True, True, False)


@pytest.mark.parametrize(("name", "words"), [("0", "2 PC/SC readers"), ("Omnikey", "no PC/SC readers")])
def test_another_reader_is_told_with_those_that_there_are(name: str, words: str) -> None:
    with pytest.raises(KeyUnavailable, match=words) as told:
        ReaderCard(CardReader(reader=name), pyscard(*READERS))
    assert "'Alcor Link AK9563 00 00'" in str(told.value.reason)
    with pytest.raises(KeyUnavailable, match="no PC/SC readers"):
        ReaderCard(CardReader(reader=name), pyscard())


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    with pytest.raises(ProfileError, match="pyscard") as told:
        ReaderCard(CardReader(reader="x"))
    assert "ikeclient[pcsc]" in str(told.value.hint)


def test_the_process_that_keeps_keys_asks_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PIN that was refused is not tried again, and its words are no part of what is shown."""
    monkeypatch.setattr(reader, "_library", lambda: pyscard(*READERS, Reader("wrong", SimCard(pin=b"0000"))))
    keeper = Keeper()
    try:
        said = keeper.use(asked("alcor"))
        assert isinstance(said, CardSaid)
        assert said.text.startswith("sim ")
        assert said.text not in repr(said)
        first = keeper.use(asked("wrong", b"1234"))
        assert isinstance(first, Refused)
        assert first.pin
        second = keeper.use(asked("wrong", b"1234", 3))
        assert isinstance(second, Refused)
        assert (second.number, second.failure) == (3, first.failure)
    finally:
        keeper.close()


def asked(name: str, pin: bytes | None = None, number: int = 2) -> AskCard:
    reference = pack_reference(CardReader(reader=name, pin=pin))
    return AskCard(number=number, reference=reference, question=sim_request([RAND]))
