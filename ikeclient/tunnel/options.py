"""How one run of a tunnel differs from another with the same profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Literal

from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.commands import Ask

Mode = Literal["tun", "netns", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """`timeout` is for the first connection, in seconds; `keylog` a directory for keys in Wireshark's formats.

    `retry_first` tries the first connection again until there is one, each time for `timeout` (`tunnel.retries`).
    `reread` gives the profile as it is now, with its secrets, or raises IkeclientError; it is called in a thread after
    SIGHUP. Without it a SIGHUP ends the tunnel.
    `ask` puts a question of the gateway's to the person at the terminal; None if nobody is there during the login.
    `mode` is where the TUN device is, on this machine or in a network namespace of its own, or that there is none.
    `metrics` is the address and the port at which metrics are told over HTTP; None: nowhere.
    """

    name: str
    timeout: float
    retry_first: bool = False
    keylog: Path | None
    runtime_directory: Path
    verbosity: int = 0
    reread: Callable[[], CompiledProfile] | None = field(default=None, repr=False)
    ask: Ask | None = field(default=None, repr=False)
    mode: Mode = "tun"
    metrics: tuple[str, int] | None = None
