"""How one run of a tunnel differs from another with the same profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ikeclient.profile.compile import CompiledProfile

Mode = Literal["tun", "netns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """`timeout` is for the first attempt, in seconds; `keylog` a directory for keys in Wireshark's formats.

    `reread` gives the profile as it is now, with its secrets, or raises IkeclientError; it is called in a thread after
    SIGHUP. Without it a SIGHUP ends the tunnel.
    `mode` is where the TUN device is: on this machine, or in a network namespace of its own.
    """

    name: str
    timeout: float
    keylog: Path | None
    runtime_directory: Path
    verbosity: int = 0
    reread: Callable[[], CompiledProfile] | None = field(default=None, repr=False)
    mode: Mode = "tun"
