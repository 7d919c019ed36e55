"""Once a second: tell IKE about traffic, keep the NAT's mapping, rekey what has done enough, look for silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ikeclient.tunnel.attempt import Attempt
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.session import Session

TICK = 1.0
KEEPALIVE = 20.0  # RFC 3948 section 4
SILENCE = 4.0  # sending without hearing anything for this long causes a liveness check


async def upkeep(
    current: Callable[[], Attempt | None], session: Session, roaming: Roaming, data_keeper: DataKeeper
) -> None:
    """Look after the connection that is `current`, until cancelled."""
    while True:
        await asyncio.sleep(TICK)
        attempt = current()
        if attempt is not None and attempt.established:
            now = boottime()
            swallowed = _look_after(attempt, session, now)
            roaming.look_after(attempt, now, swallowed=swallowed)
            data_keeper.look_after(attempt, now, searching=roaming.searching)


def _look_after(attempt: Attempt, session: Session, now: float) -> bool:
    """Returns whether what is sent finds no answer."""
    pump, initiator = session.pump, attempt.driver.initiator
    if pump.last_inbound is not None:
        initiator.heard(pump.last_inbound)
    heard = initiator.last_heard
    swallowed = pump.last_outbound is not None and pump.last_outbound > heard + SILENCE
    if swallowed:
        initiator.check_liveness(now)
    for spi in pump.rekey_due():
        initiator.rekey_child(spi, now)
    behind_nat = session.status.ike is not None and session.status.ike.nat.local
    if behind_nat and now - (pump.last_sent or 0.0) >= KEEPALIVE:
        pump.send_keepalive()
    attempt.driver.flush()
    return swallowed
