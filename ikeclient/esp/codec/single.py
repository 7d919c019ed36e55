"""Packets carried by the compiled module, with one call as far as that goes.

Inbound that goes from the socket to the device, outbound from the device to the socket: these calls are where `esp`
reads and writes by itself. A packet that comes alone crosses with one call in either direction. Frames that wait leave
as runs with one call (`FrameSealer`); what has come as a run is opened with one (`Opener`), and written with another
(`frame_writer`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ikeclient.crypto.algorithms.esp_ciphers import HEADER_LENGTH, EspLayout
from ikeclient.esp.codec.choice import ACTIVE
from ikeclient.esp.codec.run import LONGEST_RUN, MOST_SEGMENTS
from ikeclient.esp.codec.sums import Buffer, Writable

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Filter, RunCipher, Window

# What became of a packet. UNJUDGED: it is genuine and new, and its plaintext, with the trailer, needs a longer look.
# CARRIED: it was accepted, and has been written or sent. UNOPENED: what has come is for others to look at.
ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED, CARRIED, UNOPENED, NOTHING = range(8)

OpenSlots = Callable[[Writable, int, int, int, int, list[int], Writable], tuple[int, int, int]]
OpenSingle = Callable[[Buffer, int, int, bool], tuple[int, bytes]]
Received = tuple[int, bytes, int, int, int, bytes]
ReceiveSingle = Callable[[Writable, int, int, bool, bool], Received]
Sent = tuple[int, int, bytes, int]
SendSingle = Callable[[int, Writable, int, int, int, int, Buffer], Sent]
Unsent = tuple[int, int, int, int]
SendFrames = Callable[
    [int, Writable, int, int, Writable, int, int, Buffer, int, int, int],
    tuple[int, int, int, int, int, Unsent | None],
]
WriteFrames = Callable[[int, Buffer, list[tuple[int, int, int, int]], int], int]
_Result = TypeVar("_Result", bound=tuple[object, ...])
Pack = Callable[[int, Buffer, int, int], tuple[int, int, int]]


class Opener(NamedTuple):
    """What opens and what receives the packets of an SA, and their replay window.

    `open(buffer, at, length, judge)` returns what became of the packet there, and the packet or its plaintext. With
    `judge` it accepts plain TCP, UDP and pings; all other judgement is left to the caller.

    `receive(buffer, transport, device, judge, clamp)` does the same with the next datagram of a descriptor, unless it
    is marked with ECN, and writes an accepted packet to the other descriptor, if that is one; with `clamp` no SYN. It
    returns what became of the packet, the packet or its plaintext; and of the datagram, which is in the buffer, length,
    size and TOS octet as `net.transport.udp.UdpSocket.receive_into`, and its source as a struct sockaddr.

    `slots(arena, end, stride, first, count, lengths, states)` opens the packets of a run where they are, and writes
    what became of each into `states`: ACCEPTED, which is 0, MISSHAPEN, REPLAYED or FORGED. It returns how many came to
    each of the latter three. Arena and lengths are as for `offload.coalesce`.
    """

    window: Window
    open: OpenSingle
    receive: ReceiveSingle
    slots: OpenSlots


def make_opener(cipher: RunCipher, packets: Filter, alignment: int, size: int, *, esn: bool) -> Opener:
    """Make it, with a window of `size` numbers."""
    from ikeclient.esp.codec._offload import Window, open_single, open_slots, receive_single

    window = Window(size, extended=esn)
    fixed = cipher, window, packets, alignment
    return Opener(
        window,
        partial(open_single, *fixed),
        partial(receive_single, *fixed),
        partial(open_slots, cipher, window, alignment),
    )


class FrameSealer(NamedTuple):
    """What seals frames of one SA.

    `single(sequence, frame, length, mtu, device, transport, name)` takes the packet of a frame of `length` bytes, or if
    that is 0 of one that it reads from the descriptor `device`. It sends the UDP payload by the descriptor `transport`
    to the struct sockaddr `name`. It returns what became of it, the frame's length, the payload and the TOS octet.
    ACCEPTED: the payload has not been sent, since a descriptor is -1, or the kernel did not take it. UNOPENED: the
    frame is not one plain packet of TCP or UDP, or a ping, inside the selectors and within the MTU, or it has length 0
    and none is waiting; nothing was sealed then, and the sequence number is not used.

    `run(sequence, frame, length, mtu, out, device, transport, name, most, room, runs)` takes a frame of `length` bytes,
    or if that is 0 one that it reads, and goes on with those that wait behind it. It writes their packets into slots
    of one stride, as long as they are alike, sends them with one call, and begins the next run. It stops before a frame
    whose packets do not fit into one run, or are not plain as for `single`; after `most` frames, `room` bytes of them,
    or that many runs; and after packets that were not sent, since a descriptor is -1, or the kernel did not take them.
    It returns how many packets were sealed and the bytes of these inner packets; how many frames that was and their
    bytes; the length of the frame that it stopped before, which is in the buffer, 0 if there is none, or -1 if none is
    waiting. And for packets not sent their number, the stride, the length of the last one, and their TOS octet.
    """

    single: SendSingle
    run: SendFrames


def frame_sealer(cipher: RunCipher, packets: Filter, alignment: int) -> FrameSealer:
    """What seals frames of an SA."""
    from ikeclient.esp.codec._offload import send_frames, send_single

    mask = alignment - 1
    return FrameSealer(
        partial(send_single, cipher, packets, mask),
        partial(send_frames, cipher, packets, mask, LONGEST_RUN, MOST_SEGMENTS),
    )


def frame_writer() -> WriteFrames | None:
    """What writes frames of a buffer to a descriptor, if there is a compiled module.

    `write(device, out, frames, first)` writes those from number `first` on, which are as `offload.coalesce` gives them.
    It returns the number of the first that was not taken, or how many there are.
    """
    if ACTIVE != "compiled":
        return None
    from ikeclient.esp.codec._offload import write_frames

    return write_frames


def packer(packets: Filter | None, out: Writable, stride: int, tos: int, layout: EspLayout) -> Pack | None:
    """What appends frames to a run in slots of `out`, if there is a compiled module.

    `pack(count, frame, length, mtu)` writes the packets of a frame into the slots from number `count` on, unless one is
    not plain, as for `FrameSealer`, or has another TOS octet or size, and if there is room for all of them. It returns
    how many packets were added, their bytes, and how long the last one will be when sealed.
    """
    if packets is None:
        return None
    from ikeclient.esp.codec._offload import pack

    gap = HEADER_LENGTH + layout.iv_length
    fixed = packets, out, stride, gap, layout.alignment - 1, layout.icv_length, tos, MOST_SEGMENTS, LONGEST_RUN
    return partial(pack, *fixed)


def relay(
    poll: int, timeout: int, calls: dict[int, Callable[[], _Result]]
) -> tuple[list[tuple[int, int]], dict[int, _Result], bool]:
    """Wait as epoll_wait(2), and carry a packet that comes alone, and the one that answers it, before anything else.

    If one descriptor alone is ready, its call is made, each once at the most. If the packet was CARRIED, a millisecond
    is waited for what that causes, as long as there is a call left. Returns the descriptors and events that are left,
    what the calls returned, and whether nothing was ready right after one of them. Compiled only.
    """
    from ikeclient.esp.codec import _offload

    return _offload.relay(poll, timeout, calls)
