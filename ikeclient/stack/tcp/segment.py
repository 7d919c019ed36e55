"""One TCP segment that arrived, as the connection looks at it (RFC 9293 section 3.1).

One such object is filled again and again. Timestamps in the form that everybody sends are read at once; whatever else
stands among the options waits in `options` until somebody asks.
"""

from __future__ import annotations

from struct import Struct

from ikeclient.stack.tcp.options import Options, parse

HEADER = 20

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80

_header = Struct(">4xIIHH").unpack_from
_stamped = Struct(">III").unpack_from
_STAMPED_WORD = 0x0101080A
_NO_DATA = memoryview(b"")


class Segment:
    """Its fields as on the wire. `length` counts data, SYN and FIN (SEG.LEN); `count` the segments merged in it."""

    __slots__ = (
        "_options",
        "acknowledgment",
        "count",
        "data",
        "ecn",
        "flags",
        "length",
        "sequence",
        "size",
        "stamped",
        "value_and_echo",
        "window",
    )

    def __init__(self) -> None:
        self.sequence = self.acknowledgment = self.flags = self.window = self.length = self.count = 0
        self.ecn = self.size = 0
        self.stamped = False
        self.value_and_echo = (0, 0)
        self.data = _NO_DATA
        self._options: Options | None = None

    def read(self, view: memoryview, ecn: int, size: int) -> bool:
        """Take a TCP header and its data; false if they are none."""
        end = len(view)
        if end < HEADER:
            return False
        self.sequence, self.acknowledgment, word, self.window = _header(view)
        head = (word >> 12) * 4
        if head < HEADER or head > end:
            return False
        self.flags = flags = word & 0xFF
        self.ecn = ecn
        self.stamped = False
        self._options = None
        if head > HEADER:
            if head == 32:
                word, value, echo = _stamped(view, HEADER)
                if word == _STAMPED_WORD:
                    self.stamped = True
                    self.value_and_echo = value, echo
                else:
                    self._examine(view[HEADER:head])
            else:
                self._examine(view[HEADER:head])
        self.length = length = end - head
        self.data = view[head:] if length else _NO_DATA
        self.count = -(-length // size) if size else 1
        self.size = size or length
        if flags & (SYN | FIN):
            self.length = length + (flags & FIN) + (flags >> 1 & 1)
        return True

    def _examine(self, text: memoryview) -> None:
        self._options = options = parse(text)
        if options.timestamps is not None:
            self.stamped = True
            self.value_and_echo = options.timestamps

    @property
    def options(self) -> Options:
        """All of them."""
        return self._options or Options(timestamps=self.value_and_echo if self.stamped else None)

    @property
    def has_blocks(self) -> bool:
        """Whether there are SACK blocks."""
        options = self._options
        return options is not None and bool(options.blocks)

    def release(self) -> None:
        """Let go of the data."""
        self.data = _NO_DATA
