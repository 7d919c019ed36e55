"""`watch`: has tunnels up on the networks that their profiles say."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.view.terminal import Priority, say
from ikeclient.errors import ProfileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ikeclient.process.service_notify import Reporter
    from ikeclient.when.decide import Rules
    from ikeclient.when.watch import Watched

Profiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROFILE",
        help="Profiles with a section [when].",
        show_default="all that have one",
        autocompletion=profile_names,
    ),
]


def watch(profiles: Profiles = None) -> None:
    """Connect and disconnect by network, as [when] of each profile says, until Ctrl-C.

    Without PROFILE those that cannot be used are named and left out.
    """
    import asyncio

    from ikeclient.process.service_notify import Reporter
    from ikeclient.process.service_socket import Service

    found = _named(profiles) if profiles else _all()
    reporter = Reporter(Service())  # before tunnels are started: what they tell is not about us
    asyncio.run(_watch([_watched(*each) for each in found], reporter))


async def _watch(tunnels: Sequence[Watched], reporter: Reporter) -> None:
    from ikeclient.when.watch import Watcher

    reporter.start()
    try:
        await Watcher(tunnels, reporter.ready, reporter.stopping).run()
    finally:
        reporter.close()


def _named(references: Sequence[str]) -> list[tuple[str, str, Rules]]:
    """Return the name, the reference and the rules of each profile.

    Raises ProfileError, ProfileNotFound, UsageError.
    """
    found = {}
    for reference in references:
        name, rules = _read(reference)
        if rules is None:
            raise UsageError(f"profile '{name}' has no section [when]", hint="docs/profile.md describes it")
        found[name] = (name, reference, rules)
    return list(found.values())


def _all() -> list[tuple[str, str, Rules]]:
    """Return the name, the reference and the rules of each profile that has any and can be used.

    Raises the last one's error if there are only such that cannot be used, UsageError if there are none.
    """
    from ikeclient.profile.load.lookup import list_profiles

    found = []
    unusable: list[tuple[str, ProfileError | UsageError]] = []
    for entry in list_profiles():
        try:
            name, rules = _read(entry.name)
        except (ProfileError, UsageError) as error:
            unusable.append((entry.name, error))
            continue
        if rules is not None:
            found.append((name, entry.name, rules))
    failure = unusable.pop()[1] if unusable and not found else None  # told as our own
    for left_out, fault in unusable:
        reason = f" ({fault.reason})" if fault.reason else ""
        _tell(f"profile '{left_out}' is left out: {fault.message}{reason}", Priority.WARNING)
    if not found:
        raise failure or UsageError("no profile has a section [when]", hint="docs/profile.md describes it")
    return found


def _read(reference: str) -> tuple[str, Rules | None]:
    """Return the name of a profile and its rules, if it has any; then it can connect without being asked anything.

    Raises ProfileError, ProfileNotFound, UsageError.
    """
    from ikeclient.profile.load.check import check_profile, typed_secret
    from ikeclient.profile.load.load import load_profile
    from ikeclient.when.rules import rules_of

    loaded = load_profile(reference)
    if loaded.profile.when is None:
        return loaded.name, None
    check_profile(loaded).require()
    if (typed := typed_secret(loaded)) is not None:
        key, what = typed
        raise UsageError(
            f"profile '{loaded.name}' asks for its {what}, and `watch` starts it when nobody is there",
            hint=f"set {key} to a file, command, keyring or credential",
        )
    return loaded.name, rules_of(loaded.profile.when)


def _watched(name: str, reference: str, rules: Rules) -> Watched:
    """Return what is watched. Raises UsageError if another process does it."""
    from ikeclient.control import automatic
    from ikeclient.control.client import runtime_directory
    from ikeclient.when.rules import weak
    from ikeclient.when.watch import Watched

    other = automatic.decision(runtime_directory(), name)
    if other is not None:
        raise UsageError(f"tunnel '{name}' is watched by process {other.pid} already")
    for match in weak(rules):
        _tell(f"{name}: anybody can make a network that is like this ({match}): add its gateway_mac")
    return Watched(name, reference, rules, _program(), _tell, runtime_directory())


def _tell(text: str, priority: Priority = Priority.NOTICE) -> None:
    say(text, priority=priority)


def _program() -> list[str]:
    """Return the command line that runs us."""
    own = os.path.abspath(sys.argv[0])
    if own.endswith(".py") or not os.access(own, os.X_OK):
        return [sys.executable, "-m", "ikeclient"]
    return [own]
