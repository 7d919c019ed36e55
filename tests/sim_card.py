"""A SIM card for tests: the commands of TS 31.102 and TS 102 221 on Milenage, as a card with T=0 answers them.

    python sim_card.py HOST PORT PIN SEQUENCE

is the card in a virtual reader of vsmartcard's driver: each message has its length in two bytes in front.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from ikeclient.crypto.algorithms.milenage import Milenage
from ikeclient.eap.credentials import CardKeys, SimMemory
from ikeclient.eap.usim import Accepted, OutOfStep, Rejected, Triplets, UsimAnswer, aka_request, ask_card, sim_request

K, OPC = bytes(range(16)), bytes(range(16, 32))
USIM_NAME = bytes.fromhex("a0000000871002ffffffff8907090000")
ISIM_NAME = bytes.fromhex("a0000000871004ffffffff8907090000")
ATR = bytes.fromhex("3b9f95801fc38031e073fe21135712291102010000c2")  # T=0
OK, NOT_FOUND, NO_RECORD, NOT_NOW, WRONG_MAC = (
    bytes.fromhex(word) for word in ("9000", "6a82", "6a83", "6982", "9862")
)
UNKNOWN = bytes.fromhex("6d00")


@dataclass(slots=True)
class SimCard:
    """One card. `pin` None: it wants none. `usim` False: it is a SIM of GSM. `heard` are the commands."""

    keys: CardKeys = field(default_factory=lambda: CardKeys(k=K, opc=OPC))
    pin: bytes | None = None
    usim: bool = True
    directory: bool = True
    memory: SimMemory = field(default_factory=SimMemory)
    tries: int = 3
    unlocked: bool = False
    selected: bytes = b""
    left: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    def transmit(self, command: bytes) -> bytes:
        """Answer one command: what is longer than nothing has to be fetched."""
        self.heard.append(command)
        instruction, length = command[1], command[4] if len(command) > 4 else 0
        if (command[0] == 0xA0) is self.usim:
            return bytes.fromhex("6e00")
        if instruction == 0xC0:
            found, self.left = self.left, b""
            return found[:length] + OK if length == len(found) else bytes([0x6C, len(found)])
        data = command[5 : 5 + length]
        handlers: dict[int, Callable[[bytes, bytes], bytes]] = {
            0xA4: self._select,
            0xB2: self._read,
            0x20: self._verify,
            0x88: self._authenticate,
        }
        handler = handlers.get(instruction)
        return UNKNOWN if handler is None else handler(command[:5], data)

    def _fetched(self, data: bytes) -> bytes:
        self.left = data
        return bytes([0x61 if self.usim else 0x9F, len(data)])

    def _select(self, head: bytes, data: bytes) -> bytes:
        names = [USIM_NAME] if self.directory else []
        files = [b"\x3f\x00", *([b"\x2f\x00"] if self.directory else []), *([] if self.usim else [b"\x7f\x20"])]
        wanted = names if head[2] == 0x04 else files
        partial = not self.directory and head[2] == 0x04 and USIM_NAME.startswith(data)
        if data not in wanted and not partial:
            return NOT_FOUND
        self.selected = USIM_NAME if head[2] == 0x04 else data
        return self._fetched(b"\x62\x02\x82\x00")

    def _read(self, head: bytes, data: bytes) -> bytes:
        del data
        records = [b"\x61\x12\x4f\x10" + name + b"\xff" * 18 for name in (ISIM_NAME, USIM_NAME)]
        if self.selected != b"\x2f\x00" or head[2] > len(records):
            return NO_RECORD
        record = records[head[2] - 1]
        return record + OK if head[4] == len(record) else bytes([0x6C, len(record)])

    def _verify(self, head: bytes, data: bytes) -> bytes:
        assert head[3] == 1
        if self.pin is None or (self.unlocked and not data):
            return OK
        if self.tries == 0:
            return bytes.fromhex("6983")
        if not data:
            return bytes([0x63, 0xC0 + self.tries])
        if data == self.pin.ljust(8, b"\xff"):
            self.unlocked, self.tries = True, 3
            return OK
        self.tries -= 1
        return bytes([0x63, 0xC0 + self.tries])

    def _authenticate(self, head: bytes, data: bytes) -> bytes:
        if self.usim and self.selected != USIM_NAME:
            return NOT_NOW
        if self.pin is not None and not self.unlocked:
            return NOT_NOW
        if head[3] == 0x81:
            assert (len(data), data[0], data[17]) == (34, 16, 16)
            return self._umts(ask_card(self.keys, self.memory, aka_request(data[1:17], data[18:])))
        answer = ask_card(self.keys, self.memory, sim_request([data[1:] if self.usim else data]))
        assert isinstance(answer, Triplets)
        sres, kc = answer.sres[0], answer.kc[0]
        return self._fetched(b"\x04" + sres + b"\x08" + kc if self.usim else sres + kc)

    def _umts(self, answer: UsimAnswer) -> bytes:
        match answer:
            case Rejected():
                return WRONG_MAC
            case OutOfStep(auts=auts):
                return self._fetched(b"\xdc" + bytes([len(auts)]) + auts)
            case Accepted(res=res, ck=ck, ik=ik):
                values = (res, ck, ik, bytes(8))
                return self._fetched(b"\xdb" + b"".join(bytes([len(value)]) + value for value in values))
        raise AssertionError(answer)


def autn_of(k: bytes, opc: bytes, rand: bytes, sequence: bytes, amf: bytes = b"\x80\x00") -> bytes:
    """What a network that knows the card's key says."""
    card = Milenage(k, opc)
    hidden = bytes(a ^ b for a, b in zip(sequence, card.f2345(rand).ak, strict=True))
    return hidden + amf + card.f1(rand, sequence, amf)[0]


def main(host: str, port: str, pin: str, sequence: str) -> None:
    """Be in the reader until it goes away."""
    card = SimCard(pin=pin.encode() or None, memory=SimMemory(sequence=int(sequence)))
    with socket.create_connection((host, int(port))) as reader:
        print("inserted", flush=True)
        while head := reader.recv(2, socket.MSG_WAITALL):
            command = reader.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            match command:
                case b"\x00" | b"\x01" | b"\x02":  # off, on, reset
                    card.unlocked, card.selected = False, b""
                    continue
                case b"\x04":
                    answer = ATR
                case _:
                    answer = card.transmit(command)
            reader.sendall(len(answer).to_bytes(2, "big") + answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
