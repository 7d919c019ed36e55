"""A USIM or SIM, asked in its own commands: TS 31.102 section 7.1 and TS 102 221; GSM's cards by TS 51.011.

The application is found in EF_DIR, or else by the beginning of its name, and AUTHENTICATE is given the challenge.
Questions and answers are in the text protocol of a profile's `auth.sim.command` (docs/profile.md), whether a reader or
a command is asked.

A PIN is shown to the card only if it asks for one, and once: a card locks itself after three that are wrong. The last
try is left to people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ikeclient.errors import KeyUnavailable
from ikeclient.signer.messages import PinRefused

Transmit = Callable[[bytes], bytes]  # a command to the card, and what it says with the two bytes of its status word

_MASTER_FILE, _DIRECTORY, _GSM = b"\x3f\x00", b"\x2f\x00", b"\x7f\x20"
_USIM = bytes.fromhex("a0000000871002")  # how the names of USIM applications begin (TS 101 220 annex E)
_MAX_APPLICATIONS, _MAX_PARTS = 10, 8
_BY_ID, _BY_NAME = 0x00, 0x04
_THREE_G, _TWO_G = 0x81, 0x80
_ACCEPTED, _OUT_OF_STEP = 0xDB, 0xDC
_DONE, _WRONG_MAC, _NO_PIN_YET, _PIN_LOCKED = 0x9000, 0x9862, 0x6982, 0x6983
_MORE, _MORE_GSM, _OTHER_LENGTH, _TRIES = 0x61, 0x9F, 0x6C, 0x63C0
_PIN, _PIN_LENGTH = 0x01, 8
_RES_LENGTHS = range(4, 17)
_AUTS, _KEY, _SRES, _KC = 14, 16, 4, 8


class Usim:
    """One card behind `transmit`. `with_length` tells that a command says how much may come back, as with T=1.

    Raises KeyUnavailable for whatever the card does not do, PinRefused if that is for want of its PIN.
    """

    def __init__(self, transmit: Transmit, *, with_length: bool = False) -> None:
        self._transmit = transmit
        self._with_length = with_length
        self._gsm = False  # a SIM, which knows GSM's challenges only
        self._select_application()

    def tries(self) -> int | None:
        """How often its PIN may be tried; None if it wants none."""
        if self._gsm:
            return None
        _, status = self._exchange(bytes([0x00, 0x20, 0x00, _PIN, 0x00]))
        if status == _PIN_LOCKED:
            return 0
        return status & 0xF if status & 0xFFF0 == _TRIES else None

    def unlock(self, pin: bytes | None) -> None:
        """Show it the PIN if it wants one."""
        left = self.tries()
        if left is None:
            return
        if left == 0:
            raise PinRefused("the card's PIN is locked", hint="unlock it in a phone, with the PUK")
        if pin is None:
            raise PinRefused(
                "the card wants its PIN", hint="set sim.pin in the profile, or switch the PIN off in a phone"
            )
        if left == 1:
            raise PinRefused(
                "the card's PIN has one try left before it locks, which is kept for a person",
                hint="unlock it in a phone",
            )
        if not 4 <= len(pin) <= _PIN_LENGTH or not pin.isdigit():
            raise PinRefused("the card's PIN is not 4 to 8 digits", reason="it was not tried")
        _, status = self._command(0x20, 0x00, _PIN, pin.ljust(_PIN_LENGTH, b"\xff"))
        if status != _DONE:
            raise PinRefused(
                "the card refused its PIN", reason=f"{left - 1} tries are left", hint="it is not tried again"
            )

    def answer(self, question: str, pin: bytes | None = None) -> str:
        """Answer a challenge, in words."""
        kind, *words = question.split()
        values = [bytes.fromhex(word) for word in words]
        match kind, values:
            case "aka", [rand, autn] if not self._gsm:
                return self._third_generation(rand, autn, pin)
            case "sim", [_, *_]:
                return " ".join(("sim", *(part for rand in values for part in self._second_generation(rand, pin))))
        raise KeyUnavailable("the card is a SIM of GSM", reason="it can do EAP-SIM only, no EAP-AKA")

    # Challenges

    def _third_generation(self, rand: bytes, autn: bytes, pin: bytes | None) -> str:
        given = bytes([len(rand)]) + rand + bytes([len(autn)]) + autn
        data, status = self._authenticate(_THREE_G, given, pin)
        if status == _WRONG_MAC:
            return "reject"
        if status != _DONE:
            raise _unable("AUTHENTICATE", status)
        fields = list(_fields(data[1:]))
        match data[:1], [len(field) for field in fields]:
            case b"\xdc", [14]:
                return f"auts {fields[0].hex()}"
            case b"\xdb", [length, 16, 16, *_] if length in _RES_LENGTHS:
                res, ck, ik = fields[:3]
                return f"res {res.hex()} {ck.hex()} {ik.hex()}"
        raise KeyUnavailable("the card's answer is none that TS 31.102 knows")

    def _second_generation(self, rand: bytes, pin: bytes | None) -> tuple[str, str]:
        if self._gsm:
            data, status = self._command(0x88, 0x00, 0x00, rand)
            fields = [data[:_SRES], data[_SRES:]]
        else:
            data, status = self._authenticate(_TWO_G, bytes([len(rand)]) + rand, pin)
            fields = list(_fields(data))
        if status != _DONE:
            raise _unable("AUTHENTICATE", status)
        if [len(field) for field in fields] != [_SRES, _KC]:
            raise KeyUnavailable("the card's answer to a challenge of GSM is none")
        return fields[0].hex(), fields[1].hex()

    def _authenticate(self, context: int, given: bytes, pin: bytes | None) -> tuple[bytes, int]:
        data, status = self._command(0x88, 0x00, context, given)
        if status != _NO_PIN_YET:
            return data, status
        self.unlock(pin)
        return self._command(0x88, 0x00, context, given)

    # Applications

    def _select_application(self) -> None:
        for name in (*self._names(), _USIM):
            _, status = self._command(0xA4, _BY_NAME, 0x04, name)
            if status == _DONE:
                return
        self._gsm = True
        for file in (_MASTER_FILE, _GSM):
            _, status = self._command(0xA4, 0x00, 0x00, file)
            if status != _DONE:
                raise KeyUnavailable("the card is neither a USIM nor a SIM", reason=f"it says {status:04X}")

    def _names(self) -> Iterator[bytes]:
        """The full names of the USIM applications in EF_DIR; many cards know only those."""
        for file in (_MASTER_FILE, _DIRECTORY):
            if self._command(0xA4, _BY_ID, 0x04, file)[1] != _DONE:
                return
        for number in range(1, _MAX_APPLICATIONS + 1):
            record, status = self._exchange(bytes([0x00, 0xB2, number, 0x04, 0x00]))
            if status != _DONE:
                return
            name = _value(_value(record, 0x61), 0x4F)
            if name.startswith(_USIM):
                yield name

    # Commands

    def _command(self, instruction: int, p1: int, p2: int, data: bytes) -> tuple[bytes, int]:
        head = bytes([0xA0 if self._gsm else 0x00, instruction, p1, p2, len(data)])
        return self._exchange(head + data + (b"\0" if self._with_length and not self._gsm else b""))

    def _exchange(self, command: bytes) -> tuple[bytes, int]:
        """Send a command and fetch what is left of its answer; returns the answer and the status word."""
        said = self._say(command)
        if said[-2] == _OTHER_LENGTH:
            said = self._say(command[:4] + said[-1:] if len(command) == 5 else command[:-1] + said[-1:])
        data = said[:-2]
        for _ in range(_MAX_PARTS):
            if said[-2] not in (_MORE, _MORE_GSM):
                break
            said = self._say(bytes([command[0], 0xC0, 0x00, 0x00, said[-1]]))
            data += said[:-2]
        return data, int.from_bytes(said[-2:], "big")

    def _say(self, command: bytes) -> bytes:
        said = self._transmit(command)
        if len(said) < 2:
            raise KeyUnavailable("the card gave no answer")
        return said


def _fields(data: bytes) -> Iterator[bytes]:
    """Values with their lengths in front; raises KeyUnavailable for one that does not fit."""
    while data:
        length = data[0]
        if 1 + length > len(data):
            raise KeyUnavailable("the card's answer is cut off")
        yield data[1 : 1 + length]
        data = data[1 + length :]


def _value(data: bytes, tag: int) -> bytes:
    """The value of the first object, if it has that tag; b"" otherwise."""
    if len(data) < 2 or data[0] != tag or data[1] > 0x7F:
        return b""
    return data[2 : 2 + data[1]]


def _unable(command: str, status: int) -> KeyUnavailable:
    return KeyUnavailable(f"the card does not do {command}", reason=f"it says {status:04X}")
