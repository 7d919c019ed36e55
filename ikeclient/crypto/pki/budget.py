"""What judging one unproven peer may cost.

A peer chooses how many certificates, names and name constraints we look at, and they multiply. Everything that
multiplies is paid for from one budget, in units of a microsecond or two, and where it ends the peer is refused.
"""

from __future__ import annotations

from ikeclient.errors import GatewayNotAuthenticated

UNITS = 50_000
COMPARISON = 1  # of a name with a subtree
STEP = 50  # from a certificate to one of its issuers
PATH = 500  # checking a complete path
SIGNATURE = 500  # verifying a signature with a key of ordinary size


class Budget:
    """Units left to spend on one peer."""

    __slots__ = ("_left",)

    def __init__(self, units: int = UNITS) -> None:
        self._left = units

    def spend(self, units: int) -> None:
        """Pay before the work is done; raises GatewayNotAuthenticated if nothing is left."""
        self._left -= units
        if self._left < 0:
            raise GatewayNotAuthenticated(
                "the gateway's certificate cannot be checked",
                reason="the certificates it sent have too many names, name constraints or paths to an authority",
                hint="let the gateway send its own certificate and the intermediate ones, nothing else",
            )
