"""`notify`: shows on a desktop what happens to tunnels."""

from __future__ import annotations

from typing import Annotated

import typer

from ikeclient.cli.block import closed


def notify(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of tunnels that come up.")] = False,
) -> None:
    """Show notifications on this user's desktop until Ctrl-C: up, lost, refused, blocked.

    Of the user's own tunnels, and of those of root and of services. Needs the session's bus, and the extra `desktop`.
    """
    import asyncio

    asyncio.run(_notify(quiet))


async def _notify(quiet: bool) -> None:
    import asyncio
    import signal

    from ikeclient.desktop.notifications import connect
    from ikeclient.desktop.notifier import Notifier

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    notifications = await connect()
    notifier = Notifier(notifications.show, _blocked, quiet=quiet)
    tasks = [asyncio.ensure_future(work) for work in (notifications.work(), notifier.run(), stopped.wait())]
    done, going = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    await notifications.close()
    for task in done:
        task.result()


def _blocked() -> set[str]:
    return {each.block.name for _, each in closed() if not each.is_open}
