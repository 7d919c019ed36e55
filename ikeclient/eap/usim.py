"""What a USIM is asked and what it answers: the text protocol of `auth.sim.command`, and a card made of two keys.

    aka RAND AUTN        ->  res RES CK IK | auts AUTS | reject
    sim RAND RAND RAND   ->  sim SRES Kc SRES Kc SRES Kc | reject

One line each way, hexadecimal. `reject` is the card's word that AUTN is not from who knows its key (TS 33.102 section
6.3.3); `auts` asks the network to go on from the card's own sequence number.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Sequence
from dataclasses import field

from ikeclient.crypto.algorithms.milenage import Milenage
from ikeclient.eap.credentials import CardKeys, SimMemory
from ikeclient.lazy_dataclass import dataclass

RAND_LENGTH, AUTN_LENGTH = 16, 16
SRES_LENGTH, KC_LENGTH, KEY_LENGTH = 4, 8, 16
RES_LENGTHS = range(4, 17)
MAX_ANSWER = 512  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The card's answer to a challenge that it believes."""

    res: bytes = field(repr=False)
    ck: bytes = field(repr=False)
    ik: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfStep:
    """The challenge is genuine and its sequence number was used before."""

    auts: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The challenge is not genuine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplets:
    """SRES and Kc for each RAND, of all of them."""

    sres: tuple[bytes, ...] = field(repr=False)
    kc: tuple[bytes, ...] = field(repr=False)


UsimAnswer = Accepted | OutOfStep | Rejected | Triplets


def aka_request(rand: bytes, autn: bytes) -> str:
    """The question about an AKA challenge."""
    return f"aka {rand.hex()} {autn.hex()}"


def sim_request(rands: Sequence[bytes]) -> str:
    """The question about GSM challenges."""
    return " ".join(("sim", *(rand.hex() for rand in rands)))


def read_answer(request: str, answer: str) -> UsimAnswer:
    """What a source answered to `request`. Raises ValueError, which quotes nothing."""
    words = answer[: MAX_ANSWER + 1].split()
    if len(answer) > MAX_ANSWER or not words:
        raise ValueError("it is empty or too long")
    try:
        values = [binascii.unhexlify(word) for word in words[1:]]
    except ValueError:
        raise ValueError("it is not hexadecimal") from None
    lengths = [len(value) for value in values]
    kind, asked = words[0].lower(), request.split()
    match kind, lengths:
        case "reject", []:
            return Rejected()
        case "res", [length, 16, 16] if asked[0] == "aka" and length in RES_LENGTHS:
            return Accepted(res=values[0], ck=values[1], ik=values[2])
        case "auts", [14] if asked[0] == "aka":
            return OutOfStep(auts=values[0])
        case "sim", _ if asked[0] == "sim" and lengths == [SRES_LENGTH, KC_LENGTH] * (len(asked) - 1):
            return Triplets(sres=tuple(values[::2]), kc=tuple(values[1::2]))
    raise ValueError("it is no answer to what was asked")


def ask_card(keys: CardKeys, memory: SimMemory, request: str) -> UsimAnswer:
    """Answer as a card with Milenage does; the sequence number that it has seen lasts as long as `memory`."""
    kind, *words = request.split()
    card = Milenage(keys.k, keys.opc)
    given = [bytes.fromhex(word) for word in words]
    if kind == "sim":
        vectors = [card.f2345(rand) for rand in given]
        return Triplets(
            sres=tuple(_folded(each.res, SRES_LENGTH) for each in vectors),
            kc=tuple(_folded(each.ck + each.ik, KC_LENGTH) for each in vectors),
        )
    rand, autn = given
    vector = card.f2345(rand)
    sequence, amf = _xor(autn[:6], vector.ak), autn[6:8]
    if not hmac.compare_digest(card.f1(rand, sequence, amf)[0], autn[8:]):
        return Rejected()
    if int.from_bytes(sequence, "big") <= memory.sequence:
        ours = memory.sequence.to_bytes(6, "big")
        return OutOfStep(auts=_xor(ours, vector.ak_resync) + card.f1(rand, ours, bytes(2))[1])
    memory.advance(int.from_bytes(sequence, "big"))
    return Accepted(res=vector.res, ck=vector.ck, ik=vector.ik)


def _folded(data: bytes, length: int) -> bytes:
    """The parts of a UMTS value added up to a GSM one (TS 33.102 section 6.8.1.2)."""
    found = bytes(length)
    for at in range(0, len(data), length):
        found = _xor(found, data[at : at + length])
    return found


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
