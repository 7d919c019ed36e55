"""How SIGHUPs are taken: one after the other, and what goes wrong costs a sentence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from compiled_profiles import compiled

from ikeclient.errors import ProfileError
from ikeclient.process.hangup import Reloader
from ikeclient.profile.compiled import CompiledProfile


def run(reread: Callable[[], CompiledProfile], hangups: int) -> tuple[list[CompiledProfile], list[str]]:
    adopted: list[CompiledProfile] = []
    said: list[str] = []

    async def adopt(profile: CompiledProfile) -> None:
        adopted.append(profile)

    async def play() -> None:
        reloader = Reloader(reread, adopt, said.append)
        for _ in range(hangups):
            reloader.hangup()
        await reloader.settled()

    asyncio.run(play())
    return adopted, said


def test_many_hangups_at_once_are_one_reading_in_a_thread_of_its_own() -> None:
    """O4"""
    profile, read, threads = compiled(), [], set()

    def reread() -> CompiledProfile:
        read.append(1)
        threads.add(threading.current_thread() is threading.main_thread())
        return profile

    adopted, said = run(reread, 5)
    assert (len(read), adopted, said, threads) == (1, [profile], [], {False})


def test_a_hangup_while_the_profile_is_read_causes_one_more_reading() -> None:
    """O4: or a change made just then would be missed."""
    profile, read = compiled(), []
    adopted: list[CompiledProfile] = []

    async def adopt(profile: CompiledProfile) -> None:
        adopted.append(profile)

    async def play() -> None:
        loop = asyncio.get_running_loop()

        def reread() -> CompiledProfile:
            read.append(1)
            if len(read) < 3:
                loop.call_soon_threadsafe(reloader.hangup)
            return profile

        reloader = Reloader(reread, adopt, lambda text: None)
        reloader.hangup()
        await reloader.settled()

    asyncio.run(play())
    assert (len(read), len(adopted)) == (3, 3)


@pytest.mark.parametrize("error", [ProfileError("a.toml:3: key 'x' is unknown"), ValueError("S3cr3t-CANARY")])
def test_what_goes_wrong_is_one_sentence_without_secrets(error: Exception) -> None:
    """O4, F12"""

    def reread() -> CompiledProfile:
        raise error

    adopted, [said] = run(reread, 1)
    assert adopted == []
    assert said.startswith("the profile was not loaded again: ")
    assert "CANARY" not in said
