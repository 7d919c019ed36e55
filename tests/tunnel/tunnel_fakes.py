"""Links and events for unit tests of what joins them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from ikeclient.crypto.algorithms.keymat import ChildKeys, DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.errors import IkeclientError
from ikeclient.ike.events import ChildEstablished, Closed, Configuration, Path
from ikeclient.wire.selector import TrafficSelector

WIFI, GATEWAY = ip_address("192.0.2.10"), ip_address("203.0.113.7")
PATH = Path(WIFI, 40000, GATEWAY, 4500)
INNER = ip_interface("10.88.0.1/32")
CHILD = ChildEstablished(
    spi_in=1000,
    spi_out=2000,
    suite=EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None),
    keys=ChildKeys(
        inbound=DirectionKeys(encryption=bytes(20), integrity=b""),
        outbound=DirectionKeys(encryption=bytes(20), integrity=b""),
    ),
    local_selectors=(TrafficSelector.from_network(ip_network("10.88.0.1/32")),),
    remote_selectors=(TrafficSelector.from_network(ip_network("10.99.0.0/24")),),
    rekey_at=1e9,
)
CONFIGURATION = Configuration(addresses=(INNER,))


@dataclass(eq=False)
class FakeLink:
    """A link whose initiator writes down what it is asked for."""

    path: Path = PATH
    established: bool = True
    awaited: bool = True
    borrowing: bool = False
    last_heard: float = 0.0
    last_esp: float = 0.0
    unanswered_since: float | None = None
    can_move: bool = True
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    heirs: list[FakeLink] = field(default_factory=list)  # who inherit from this one

    done: bool = False
    closed: Closed | None = None
    failure: IkeclientError | None = None
    logging_in: bool = False
    refused_by_gateway: bool = False

    accepted: Any = None

    @property
    def settled(self) -> bool:
        return self.established or self.failure is not None or self.closed is not None

    @property
    def ike(self) -> FakeLink:
        return self

    def establish(self) -> None:
        self.established = True

    def fail(self, error: IkeclientError) -> None:
        self.failure = error

    def give_up(self) -> None:
        self.calls.append(("give_up",))

    def asked(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def receive(self, *message: object) -> bool:
        self.calls.append(("receive", *message))
        return self.awaited

    def heard(self, at: float) -> None:
        self.last_heard = max(self.last_heard, at)

    def check_liveness(self, now: float, *, suspicious: bool = False) -> None:
        self.calls.append(("check_liveness", now))

    def rekey_child(self, spi: int, now: float) -> None:
        self.calls.append(("rekey_child", spi))

    def probe_path(self, size: int, now: float) -> None:
        self.calls.append(("probe_path", size))

    def set_path_mtu(self, mtu: int) -> None:
        self.calls.append(("set_path_mtu", mtu))

    def close(self) -> None:
        self.calls.append(("close",))

    def retire(self) -> None:
        self.calls.append(("retire",))

    def release(self) -> None:
        self.calls.append(("release",))

    def take_over(self, other: FakeLink) -> None:
        self.calls.append(("take_over", other))

    def inherit(self, other: FakeLink) -> bool:
        if self in other.heirs:
            self.calls.append(("inherit", other))
        return self in other.heirs
