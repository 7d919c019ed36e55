"""Once a second: tell IKE about traffic, keep the NAT's mapping, rekey what has done enough, look for silence."""

from __future__ import annotations

import asyncio

from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.session import Session

TICK = 1.0
KEEPALIVE = 20.0  # RFC 3948 section 4
SILENCE = 4.0  # sending without hearing anything for this long causes a liveness check


async def housekeeping(links: Links, session: Session, roaming: Roaming, data_keeper: DataKeeper) -> None:
    """Look after the connection in use, until cancelled."""
    while True:
        await asyncio.sleep(TICK)
        if (link := links.established) is not None:
            now = session.ports.clock()
            swallowed = _look_after(link, session, now)
            roaming.look_after(link, now, swallowed=swallowed)
            data_keeper.look_after(link, now, searching=roaming.searching)


def _look_after(link: Link, session: Session, now: float) -> bool:
    """Returns whether what is sent finds no answer."""
    pump, initiator = session.pump, link.driver.initiator
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
    link.driver.flush()
    return swallowed
