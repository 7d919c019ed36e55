"""What the helper notices of its tunnel's kill switch by itself, and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from ikeclient.net.block.files import SUFFIX
from ikeclient.net.block.state import Block
from ikeclient.net.block.store import Closed, now
from ikeclient.net.model import ANYWHERE
from ikeclient.process.helper import block_keeper
from ikeclient.process.helper.block_keeper import BlockKeeper
from ikeclient.process.helper.messages import CloseMachine, OpenMachine

REQUEST = CloseMachine(
    networks=tuple(ANYWHERE.values()),
    granted=False,
    exclude=(),
    exclude_lan=False,
    interface="ike0",
    gateways=(),
    asked=(),
    ports=(),
)
WAIT = 30.0


class BlocksOfValues:
    """Stands in for `Blocks`: the file is real, the kernel is not."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / f"work{SUFFIX}"
        self.block: Block | None = None
        self.put_back: list[str] = []
        self.looks = 0

    def get(self, _name: str) -> Block | None:
        return self.block if self.file.exists() else None

    def all(self) -> list[Block]:
        return [self.block] if self.block is not None else []

    def others(self) -> list[Block]:
        return []

    def keep(self, _name: str) -> bool:
        return True

    def free_table(self) -> int:
        return 7528

    def close(self, block: Block, *, unless_opened: bool = False) -> Closed | None:
        if unless_opened and not self.file.exists():
            return None
        self.block = block
        self.file.write_text("{}")
        return self.in_force(block)

    def in_force(self, block: Block) -> Closed:
        return Closed(block=block, routes=True, firewall=True)

    def open_for(self, _name: str, seconds: int) -> Closed:
        assert self.block is not None
        opened = self.close(replace(self.block, open_until=now() + seconds))
        assert opened is not None
        return opened

    def open(self, _name: str) -> None:
        self.file.unlink()

    def uphold_firewall(self) -> list[str]:
        return []

    def uphold(self) -> list[str]:
        self.looks += 1
        if self.block is not None and 0 < self.block.open_until <= now():
            self.close(replace(self.block, open_until=0.0))
        put_back, self.put_back = self.put_back, []
        return put_back


class Rig:
    """A keeper, and how often it told of something."""

    def __init__(self, directory: Path) -> None:
        self.blocks = BlocksOfValues(directory)
        self.told = 0
        self._news = asyncio.Event()
        self.keeper = BlockKeeper(directory, "work", self.blocks, self.tell)  # type: ignore[arg-type]
        self.keeper.watch(asyncio.get_running_loop())

    def tell(self) -> None:
        self.told += 1
        self._news.set()

    async def until_told(self, times: int) -> None:
        async with asyncio.timeout(WAIT):
            while self.told < times:
                self._news.clear()
                await self._news.wait()
        assert self.told == times


def kept(directory: Path, story: Callable[[Rig], Awaitable[None]]) -> None:
    """Run a story with a machine that is closed."""

    async def run() -> None:
        rig = Rig(directory)
        assert rig.keeper.close(REQUEST).closed
        await story(rig)
        if rig.blocks.file.exists():
            rig.keeper.open(OpenMachine(seconds=0))

    asyncio.run(run())


def test_unblock_of_another_process_is_told_at_once(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(0.1)  # what closing it caused
        assert rig.told == 0
        rig.blocks.file.unlink()
        await rig.until_told(1)
        assert not rig.keeper.look().closed

    kept(tmp_path, story)


def test_what_was_put_back_is_told_once(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(0.1)
        rig.blocks.put_back = ["rules"]
        rig.blocks.file.write_text("{}")
        await rig.until_told(1)
        answer = rig.keeper.look()
        assert (answer.closed, answer.put_back) == (True, ("rules",))
        rig.blocks.file.write_text("{}")
        await asyncio.sleep(0.1)
        assert rig.told == 1

    kept(tmp_path, story)


def test_a_machine_that_was_opened_for_a_moment_closes_in_time(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert not rig.keeper.open(OpenMachine(seconds=1)).closed
        await rig.until_told(1)
        assert rig.keeper.look().closed

    kept(tmp_path, story)


def test_a_closed_machine_that_nobody_touches_is_left_alone(tmp_path: Path) -> None:
    """Laptops' batteries: the next look without a reason is up to a minute away."""

    async def story(rig: Rig) -> None:
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        timer = rig.keeper._timer
        assert timer is not None
        assert timer.when() % block_keeper.PERIOD == 0.0
        assert timer.when() > loop.time()

    kept(tmp_path, story)
