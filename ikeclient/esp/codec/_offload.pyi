from collections.abc import Callable, Sequence
from typing import TypeVar

from ikeclient.esp.codec.sums import Buffer, Writable

_Result = TypeVar("_Result", bound=tuple[object, ...])

SOURCES: str
VNET_HEADER: int
MAXIMUM_SLOTS: int

def examine(frame: Buffer, length: int) -> tuple[int, int, int, int, bool]: ...
def segment(
    frame: Buffer, length: int, out: Writable, at: int, stride: int, gap: int, mask: int, first: int, count: int
) -> None: ...
def stamp(
    out: Writable,
    stride: int,
    count: int,
    spi: int,
    sequence: int,
    salt: Buffer,
    nonces: Writable,
    associated: Writable,
) -> None: ...
def survey(arena: Buffer, end: int, stride: int, first: int) -> tuple[int, int, int, bool]: ...
def collect(arena: Buffer, stride: int, first: int, count: int, salt: Buffer, nonces: Writable) -> None: ...
def coalesce(
    arena: Buffer,
    end: int,
    stride: int,
    first: int,
    count: int,
    gap: int,
    icv: int,
    states: Buffer,
    out: Writable,
    udp: bool,
    lengths: list[int] = ...,
) -> tuple[list[tuple[int, int, int, int]], int, int]: ...
def review(out: Buffer, frames: list[tuple[int, int, int, int]]) -> tuple[int, int, bool, bool, int]: ...
def ones_sum(data: Buffer, little: bool) -> int: ...
def live() -> int: ...
def raised() -> bool: ...

class Library:
    version: str
    path: str
    def __init__(self, path: str) -> None: ...

class RunCipher:
    version: str
    def __init__(
        self,
        library: Library,
        cipher: str,
        key: bytes,
        salt: bytes,
        spi: int,
        esn: bool,
        sealing: bool,
        digest: str | None,
        mac_key: bytes,
        icv: int,
        entropy: Callable[[int], bytes],
    ) -> None: ...
    def seal(self, sequence: int, plaintext: Buffer, iv: Buffer | None = None) -> bytes: ...
    def open(self, sequence: int, packet: Buffer) -> bytes | None: ...
    def seal_run(self, out: Writable, stride: int, count: int, last: int, first: int) -> None: ...
    def open_run(
        self,
        arena: Writable,
        stride: int,
        first: int,
        count: int,
        last: int,
        numbers: Sequence[int],
        states: Writable,
    ) -> int: ...

class Window:
    top: int
    def __init__(self, size: int = 4096, *, extended: bool = False) -> None: ...
    def check(self, low: int) -> int: ...
    def commit(self, sequence: int) -> bool: ...

class Filter:
    def __init__(
        self,
        sources4: bytes,
        destinations4: bytes,
        sources6: bytes,
        destinations6: bytes,
        senders: bytes,
        receivers: bytes,
    ) -> None: ...
    def measure(self, packet: Buffer, available: int) -> int: ...

def open_single(
    cipher: RunCipher,
    window: Window,
    packets: Filter,
    alignment: int,
    arena: Buffer,
    at: int,
    length: int,
    judge: bool,
) -> tuple[int, bytes]: ...
def open_slots(
    cipher: RunCipher,
    window: Window,
    alignment: int,
    arena: Writable,
    end: int,
    stride: int,
    first: int,
    count: int,
    lengths: list[int],
    states: Writable,
) -> tuple[int, int, int]: ...
def send_frames(
    cipher: RunCipher,
    packets: Filter,
    mask: int,
    longest: int,
    most_packets: int,
    sequence: int,
    frame: Writable,
    length: int,
    mtu: int,
    out: Writable,
    device: int,
    transport: int,
    name: Buffer,
    most: int,
    room: int,
    runs: int,
) -> tuple[int, int, int, int, int, tuple[int, int, int, int] | None]: ...
def receive_single(
    cipher: RunCipher,
    window: Window,
    packets: Filter,
    alignment: int,
    arena: Writable,
    transport: int,
    device: int,
    judge: bool,
    clamp: bool,
) -> tuple[int, bytes, int, int, int, bytes]: ...
def send_single(
    cipher: RunCipher,
    packets: Filter,
    mask: int,
    sequence: int,
    frame: Writable,
    length: int,
    mtu: int,
    device: int,
    transport: int,
    name: Buffer,
) -> tuple[int, int, bytes, int]: ...
def write_frames(device: int, out: Buffer, frames: list[tuple[int, int, int, int]], first: int) -> int: ...
def relay(
    poll: int, timeout: int, calls: dict[int, Callable[[], _Result]]
) -> tuple[list[tuple[int, int]], dict[int, _Result], bool]: ...
def pack(
    packets: Filter,
    out: Writable,
    stride: int,
    gap: int,
    mask: int,
    icv: int,
    tos: int,
    most: int,
    longest: int,
    count: int,
    frame: Buffer,
    length: int,
    mtu: int,
) -> tuple[int, int, int]: ...
