"""What a connection needs of the table that it stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ikeclient.stack.interfaces import Outlet
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.segment import Segment
from ikeclient.stack.tcp.shares import Shares
from ikeclient.stack.tcp.timestamps import Timestamps
from ikeclient.stack.tcp.window import WindowBudget

if TYPE_CHECKING:
    from ikeclient.stack.tcp.control_block import ControlBlock


class Services(Protocol):
    """The table as a connection sees it."""

    outlet: Outlet
    windows: WindowBudget
    flights: Shares

    def arm(self, connection: ControlBlock, at: float) -> None:
        """Call `expire` then, or before."""

    def opened(self, flow: Flow) -> bool:
        """One that a listener began is established; whether somebody wants it."""

    def gone(self, connection: ControlBlock) -> None:
        """There is no such connection any more."""

    def wait(self, flow: Flow, following: int, expected: int, stamps: Timestamps | None, due: bool, now: float) -> None:
        """There is only TIME-WAIT left of it: SND.NXT and RCV.NXT, and whether an ACK is due."""

    def refuse(self, flow: Flow, segment: Segment) -> None:
        """Answer a segment with a RST."""
