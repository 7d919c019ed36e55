"""Goes over to a profile that was read again, and back if the gateway does not take it."""

from __future__ import annotations

from typing import Protocol

from ikeclient.errors import IkeclientError
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.gateway import Gateway
from ikeclient.tunnel.reload import Difference, Effect, difference
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.script import Script
from ikeclient.tunnel.session import Session


class Tunnel(Protocol):
    """What this needs of a tunnel."""

    session: Session

    @property
    def gateway(self) -> Gateway:
        """What is known about the gateway."""

    def look_up(self, profile: CompiledProfile) -> Script[Known]:
        """Find the addresses of the profile's gateways. Raises NoResponse."""

    def stop_reauthenticating(self) -> None:
        """Keep the link in use."""

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile from now on."""

    def fit(self) -> None:
        """Make the machine fit the profile, if a link is up; raises PlatformError after rolling back."""

    def renew(self) -> bool:
        """Begin a connection that takes the place of the one in use once it is up; false if there is none."""

    def reconnect(self) -> None:
        """End the connection in use, and make another."""


class Reconfiguration:
    """Changes of one tunnel's profile. The former one is kept until there is a connection with the new one."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._former: tuple[CompiledProfile, Known] | None = None
        self._pending: CompiledProfile | None = None

    def adopt(self, profile: CompiledProfile) -> Script[None]:
        """Go on with a profile as gently as what changed allows; before the first connection is up, afterwards.

        Raises IkeclientError, and then the tunnel goes on as before.
        """
        tunnel = self._tunnel
        if not tunnel.session.arrangement.applied:
            self._pending = profile
            return
        change = difference(tunnel.session.profile, profile)
        if change.effect is Effect.RECONNECT:
            yield from self._connect_anew(profile)
        elif change.effect is Effect.APPLIED:
            former = tunnel.session.profile
            tunnel.use(profile)
            try:
                tunnel.fit()
            except IkeclientError:
                tunnel.use(former)
                raise
        self._tell(change)

    def _connect_anew(self, profile: CompiledProfile) -> Script[None]:
        """Connect in parallel if the gateway can keep the two apart, else in the place of the link in use; routes stay.

        Two connections of one client that differ in their networks make gateways forget the way back to it.
        """
        tunnel = self._tunnel
        former = (tunnel.session.profile, tunnel.gateway.known)
        moved = (former[0].gateways, former[0].port) != (profile.gateways, profile.port)
        if moved:  # the tunnel's name server is still there
            tunnel.gateway.learn((yield from tunnel.look_up(profile)))
        self._former = self._former or former
        tunnel.use(profile)
        tunnel.stop_reauthenticating()
        old, new = former[0].ike.child, profile.ike.child
        same = (old.request, old.remote_selectors) == (new.request, new.remote_selectors)
        if moved or not same or not tunnel.renew():
            tunnel.reconnect()

    def _tell(self, change: Difference) -> None:
        emit = self._tunnel.session.events.emit
        emit("reloaded", effect=change.effect.value)
        for key in change.later:
            emit("notice", text=f"key '{key}' changes with the next start of the tunnel")

    def catch_up(self) -> Script[None]:
        """Go on with the profile that was read before the first connection was up, if there is one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                yield from self.adopt(pending)
            except IkeclientError as error:
                self._tunnel.session.events.emit("notice", text=f"the profile was not loaded again: {error.message}")

    def connected(self) -> None:
        """Forget the former profile: there is a connection with the present one."""
        self._former = None

    def failed(self, error: IkeclientError) -> bool:
        """Go back to the profile that worked, because this one did not; false if there is no other one."""
        if self._former is None:
            return False
        profile, known = self._former
        self._former = None
        self._tunnel.gateway.learn(known)
        self._tunnel.use(profile)
        self._tunnel.session.events.emit("notice", text=f"going back to the former profile: {error.message}")
        return True
