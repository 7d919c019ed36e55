"""`watch`: has tunnels up on the networks that their profiles say."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.view.terminal import Priority, say
from ikeclient.errors import UsageError

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
    """Connect and disconnect by network, as [when] of each profile says, until Ctrl-C."""
    import asyncio

    from ikeclient.control.client import runtime_directory
    from ikeclient.profile.load.load import load_profile
    from ikeclient.profile.load.lookup import list_profiles
    from ikeclient.when.rules import rules_of, weak
    from ikeclient.when.watch import Watched, Watcher

    def tell(text: str) -> None:
        say(text, priority=Priority.NOTICE)

    async def work(tunnels: list[Watched]) -> None:
        await Watcher(tunnels, runtime_directory(), tell).run()

    watched = []
    for reference in profiles or [entry.name for entry in list_profiles()]:
        loaded = load_profile(reference)
        if loaded.profile.when is None:
            if profiles:
                raise UsageError(f"profile '{loaded.name}' has no section [when]", hint="docs/profile.md describes it")
            continue
        rules = rules_of(loaded.profile.when)
        for match in weak(rules):
            tell(f"{loaded.name}: anybody can make a network that is like this ({match}): add its gateway_mac")
        watched.append(Watched(loaded.name, reference, rules, _program(), tell))
    if not watched:
        raise UsageError("no profile has a section [when]", hint="docs/profile.md describes it")
    asyncio.run(work(watched))


def _program() -> list[str]:
    """Return the command line that runs us."""
    own = os.path.abspath(sys.argv[0])
    if own.endswith(".py") or not os.access(own, os.X_OK):
        return [sys.executable, "-m", "ikeclient"]
    return [own]
