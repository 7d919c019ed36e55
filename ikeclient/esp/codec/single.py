"""A packet that comes alone, carried by the compiled module with one call.

Inbound that goes from the replay window to the selectors, outbound from the frame to the sealed packet. A super-packet
that makes a run by itself is sealed with one call as well (`SealSuper`), and a run of equal packets grows with one by
all frames that are waiting (`Pack`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ikeclient.crypto.algorithms.esp_ciphers import HEADER_LENGTH, EspLayout
from ikeclient.esp.codec.run import LONGEST_RUN, MOST_SEGMENTS
from ikeclient.esp.codec.sums import Buffer, Writable

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Filter, RunCipher, Window

# What became of a packet. UNJUDGED: it is genuine and new, and its plaintext, with the trailer, needs a longer look.
ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED = range(5)


OpenSingle = Callable[[Buffer, int, int, bool], tuple[int, bytes]]
SealSingle = Callable[[int, Buffer, int, int], tuple[bytes, int] | None]
SealSuper = Callable[[int, Buffer, int, int, Writable], tuple[int, int, int, int, int] | None]
Pack = Callable[[int, Writable, int, int, int, int], tuple[int, int, int, int, int, int]]


def single_opener(
    cipher: RunCipher, packets: Filter, alignment: int, size: int, *, esn: bool
) -> tuple[Window, OpenSingle]:
    """The replay window of an SA, of `size` numbers, and what opens its single packets.

    `open(buffer, at, length, judge)` returns what became of the packet there, and the packet or its plaintext. With
    `judge` it accepts plain TCP, UDP and pings; all other judgement is left to the caller.
    """
    from ikeclient.esp.codec._offload import Window, open_single

    window = Window(size, extended=esn)
    return window, partial(open_single, cipher, window, packets, alignment)


class FrameSealer(NamedTuple):
    """What seals frames of one SA.

    - `single(sequence, frame, length, mtu)` returns the UDP payload for the packet of a frame, and its TOS octet. None
      if the frame is not one plain packet of TCP or UDP, or a ping, inside the selectors and within the MTU: nothing
      was sealed then, and the sequence number is not used.
    - `super(sequence, frame, length, mtu, out)` writes the packets of a super-packet into slots of one stride, and
      returns how many there are, the stride, the length of the last one, their TOS octet, and the bytes of the inner
      packets. None if they do not fit into one run, or are not plain as for `single`; no sequence number is used then.
    """

    single: SealSingle
    super: SealSuper


def frame_sealer(cipher: RunCipher, packets: Filter, alignment: int) -> FrameSealer:
    """What seals frames of an SA."""
    from ikeclient.esp.codec._offload import seal_single, seal_super

    mask = alignment - 1
    return FrameSealer(
        partial(seal_single, cipher, packets, mask),
        partial(seal_super, cipher, packets, mask, MOST_SEGMENTS, LONGEST_RUN),
    )


def packer(packets: Filter | None, out: Writable, stride: int, tos: int, room: int, layout: EspLayout) -> Pack | None:
    """What appends frames to a run in the first `room` slots of `out`, if there is a compiled module.

    `pack(count, frame, length, mtu, descriptor, most)` writes the packets of a frame into the slots from number `count`
    on, and goes on with those of at most `most` frames that it reads from a descriptor into the same buffer, which is
    all that anything here reads. It stops before a frame of which a packet is not plain, as for `FrameSealer`, or has
    another TOS octet or size, and if there is no room for all of them; and after a packet that is shorter.

    It returns how many packets were added, their bytes, and how long the last one will be when sealed; how many frames
    and bytes were read; and the length of the frame that it stopped before, which is in the buffer, 0 if there is none,
    or -1 if none is waiting.
    """
    if packets is None:
        return None
    from ikeclient.esp.codec._offload import pack

    gap = HEADER_LENGTH + layout.iv_length
    return partial(pack, packets, out, stride, gap, layout.alignment - 1, layout.icv_length, tos, room)
