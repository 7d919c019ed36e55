"""Who answers for a SIM card: the process that keeps keys if it is in a reader, else the profile's command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.profile.secrets.command import run_for_secret
from ikeclient.tunnel.commands import Ask

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

_LARGEST_ANSWER = 512


def ask_command(command: Sequence[str], directory: Path, author: Author | None, challenge: str) -> str:
    """Have the command of a profile answer a challenge. Raises ProfileError."""
    given = f"{challenge}\n".encode()
    return run_for_secret(command, directory, _LARGEST_ANSWER, "card", author=author, given=given).decode(
        "ascii", "replace"
    )


def reader_of(profile: CompiledProfile, keys: SignerClient | None) -> Ask | None:
    """Return what asks the card in the profile's reader, None if it names none."""
    reference = profile.session.card_reader
    if reference is None or keys is None:
        return None
    return partial(keys.ask_card, reference)


def card_of(profile: CompiledProfile, keys: SignerClient | None) -> Ask | None:
    """Return what asks the profile's card from a process that has the rights to; None if it names none."""
    session = profile.session

    async def ask(challenge: str) -> str:
        return await asyncio.to_thread(ask_command, session.card, profile.base_dir, session.runs_as, challenge)

    return reader_of(profile, keys) or (ask if session.card else None)
