"""`connect --dry-run`: negotiate for real, change nothing, and tell what would have been changed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ikeclient.esp.sa.pair import Packet
from ikeclient.net.device.tun import TunCounters
from ikeclient.net.model import IPAddress, MachineAdapter, MachineConfig


class NullTun:
    """A device that does not exist: nothing comes out of it and everything vanishes in it."""

    def __init__(self, pattern: str) -> None:
        self.name = pattern.replace("%d", "0")
        self.lost = False
        self.counters = TunCounters()
        self._ends = os.pipe()

    def fileno(self) -> int:
        """A descriptor that never becomes readable."""
        return self._ends[0]

    def read_batch(self, limit: int) -> Sequence[Packet]:
        """No packets, whatever the limit."""
        return [][:limit]

    def write_batch(self, packets: Sequence[Packet]) -> int:
        """Every packet is taken, and lost."""
        return len(packets)

    def frames(self) -> None:
        """No frames either."""

    def source(self) -> None:
        """There are no packets to tell of."""

    def reopen(self) -> bool:
        """It is never lost."""
        return True

    def close(self) -> None:
        """Close the descriptors."""
        for end in self._ends:
            os.close(end)


class PlanningMachine:
    """Stands in for the machine and writes down what the real one would do."""

    def __init__(self, machine: MachineAdapter) -> None:
        self._machine = machine
        self.warnings: list[str] = []
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []
        self.lines: list[str] = []

    def plan(self, config: MachineConfig) -> list[str]:
        """What the machine says."""
        return self._machine.plan(config)

    def apply(self, config: MachineConfig) -> None:
        """Only write down what would be done."""
        self.lines = [f"ip tuntap add dev {config.interface} mode tun", *self._machine.plan(config)]
        self.warnings, self.servers = list(self._machine.warnings), self._machine.servers

    def renew(self) -> None:
        """There is nothing in force."""

    def revert(self) -> None:
        """There is nothing to undo."""
