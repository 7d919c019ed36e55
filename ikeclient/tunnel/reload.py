"""What it takes to go on with another profile: nothing, a change here, or a new connection."""

from __future__ import annotations

from enum import StrEnum

from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.compiled import CompiledProfile


class Effect(StrEnum):
    """What going on with another profile takes."""

    NOTHING = "nothing changed"
    APPLIED = "applied"
    RECONNECT = "connecting anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The `effect` of a changed profile, and the keys that only the next start of the tunnel can change."""

    effect: Effect
    later: tuple[str, ...] = ()


def difference(old: CompiledProfile, new: CompiledProfile) -> Difference:
    """Return what the change takes; only what the gateway was told needs a new connection."""
    later = []
    if old.network.interface != new.network.interface:
        later.append("network.interface")
    if old.session.offload != new.session.offload:
        later.append("session.offload")
    if old.session.kill_switch != new.session.kill_switch:
        later.append("session.kill_switch")
    if _told(old) != _told(new):
        return Difference(effect=Effect.RECONNECT, later=tuple(later))
    same = (old.network, old.session) == (new.network, new.session)
    return Difference(effect=Effect.NOTHING if same else Effect.APPLIED, later=tuple(later))


def _told(profile: CompiledProfile) -> tuple[object, ...]:
    return profile.ike, profile.gateways, profile.port, profile.identity_is_address
