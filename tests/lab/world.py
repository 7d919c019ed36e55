"""The whole lab in one object: network, certificates, gateway, servers and both kinds of client."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias

from lab.capture import Capture
from lab.charon import PROGRAM
from lab.client import Client, Connection
from lab.gateway import Gateway, Offer, StrongSwanClient
from lab.machines import LabError, make_directory, sweep
from lab.network import Network, Topology
from lab.pki import Pki
from lab.servers import Servers

MakeLab: TypeAlias = "Callable[[Topology], Lab]"
TOOLS = (
    "ip",
    "nft",
    "setpriv",
    "nsenter",
    "swanctl",
    "tcpdump",
    "tshark",
    "ping",
    "curl",
    "sysctl",
    "ssh",
    "git",
    "dropbear",
    "dnsmasq",
)


def obstacles() -> list[str]:
    """Why no lab can be built here; empty when it can."""
    found = [f"no {tool} on the PATH" for tool in TOOLS if shutil.which(tool, path=_search_path()) is None]
    if os.geteuid() != 0:
        found.insert(0, "not root")
    if not Path(PROGRAM).exists():
        found.append(f"no {PROGRAM}")
    if not Path("/dev/net/tun").exists():
        found.append("no /dev/net/tun")
    return found


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Lab:
    """A lab with all its parts; `connected(Offer(...), network={...})` makes a tunnel. A context manager.

    The parts: `network` with the machines `network.gateway` and `network.client`, `gateway` (strongSwan), `client`
    (ikeclient), `servers` behind the gateway and, made when first asked for, `strongswan`, the client to compare with.
    """

    def __init__(self, topology: Topology | None = None, *, pki: Pki, prefix: str = "ikl") -> None:
        self.network = Network(topology, prefix=prefix)
        try:
            folder = self.network.subdirectory
            self.gateway = Gateway(self.network.gateway, folder("gw"), pki, self.network.gateway_listen)
            self.client = Client(self.network.client, folder("cl"))
            self.servers = Servers(self.network.gateway, folder("srv"))
        except BaseException:
            self.close()
            raise

    @cached_property
    def strongswan(self) -> StrongSwanClient:
        """strongSwan as the client, not yet started."""
        return StrongSwanClient(self.network.client, self.network.subdirectory("sw"))

    def prepare(self, offer: Offer | None = None, **profile: Mapping[str, object]) -> None:
        """Make the gateway answer as `offer` says, and write the profile `work` that fits it.

        Each keyword is a table of the profile: its keys replace those that fit the offer, None removes a key.
        """
        self.gateway.serve(offer)
        self.client.write_profile(self.gateway, profile)

    def start(
        self,
        offer: Offer | None = None,
        *options: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        **profile: Mapping[str, object],
    ) -> Connection:
        """Prepare, and start `ikeclient connect work` with `options`; whether it connects is for the test to judge."""
        self.prepare(offer, **profile)
        return self.client.start("work", *options, env=env, prefix=prefix)

    def connected(
        self, offer: Offer | None = None, *options: str, timeout: float = 30.0, **profile: Mapping[str, object]
    ) -> Connection:
        """Prepare, start `ikeclient connect work` with `options`, and wait until the tunnel is up."""
        self.prepare(offer, **profile)
        return self.client.connect("work", *options, timeout=timeout)

    def status(self, name: str | None = None) -> dict[str, Any]:
        """The status of the tunnel of that name, or of the only one; `LabError` if it does not run."""
        status = self.client.status(name)
        if status is None:
            raise LabError(f"no tunnel {name or ''} runs")
        return status

    def capture(self, name: str = "wire", *, interface: str = "wan", expression: str = "") -> Capture:
        """Record the client's outside interface (or another one of the client machine)."""
        return Capture(self.network.client, interface, self.network.directory / f"{name}.pcap", expression=expression)

    def story(self) -> dict[str, str]:
        """Everything the parts said, for the report of a failed test."""
        words = {"charon (gateway)": self.gateway.log}
        if "strongswan" in self.__dict__:
            words["charon (client)"] = self.strongswan.log
        for number, connection in enumerate(self.client.connections):
            words[f"ikeclient connect #{number}"] = connection.stderr + connection.stdout
        return words

    def close(self) -> None:
        """Stop and remove everything."""
        self.network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clean_start(prefix: str) -> Path:
    """Remove what killed runs left and return a directory for this run's certificates."""
    sweep(prefix)
    return make_directory(prefix)
