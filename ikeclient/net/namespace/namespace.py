"""A user, network and mount namespace of our own, seen from outside: its TUN device, its configuration, the way in.

Any user may have one where the kernel allows user namespaces. The TUN device is opened inside and its descriptor passed
out, so the tunnel stays outside with its sockets while the interface is the only way out of the namespace.
"""

from __future__ import annotations

import contextlib
import os
import socket

from ikeclient.errors import IkeclientError, PlatformError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import fork
from ikeclient.ipc.messages import HEADER, body, pack, receive
from ikeclient.net.device import vnet
from ikeclient.net.device.tun import TunCounters, TunDevice
from ikeclient.net.model import IPAddress, MachineConfig
from ikeclient.net.namespace.handle import NAMESPACES, NamespaceHandle
from ikeclient.net.namespace.init import run_init
from ikeclient.net.namespace.messages import CODEC, Answer, First, inside
from ikeclient.net.namespace.rootless import NamespaceRefusal
from ikeclient.net.rights.privileges import Fact

PATIENCE = 30.0  # seconds for one answer of its init


class PassedTun(TunDevice):
    """A TUN device that was opened in another network namespace; its name means nothing in this one."""

    def __init__(self, descriptor: int, name: str, *, with_headers: bool) -> None:
        self.name = name
        self.vnet = with_headers
        self.merges_udp = False
        self.lost = False
        self.counters = TunCounters()
        self._plain = not with_headers
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)

    def enable_offload(self) -> bool:
        """Enable it as for every TUN device; the namespace's init has bounded the bursts already."""
        if self._plain:
            return False
        enabled, self.merges_udp = vnet.enable(self.descriptor)
        return enabled

    def reopen(self) -> bool:
        """Return False: only the namespace's init could."""
        return False

    def keep_plain(self) -> None:
        """Refuse large packets from now on."""
        self._plain = True

    def close(self) -> None:
        """Close the descriptor. With its last copy the interface is gone."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Namespace:
    """A namespace that lasts while somebody has this object or runs in it. Made by `make`.

    Also the `MachineAdapter` of a tunnel that serves it. `init` is its process ID, `warnings` are for people.
    """

    def __init__(self, init: int, channel: socket.socket, tun: PassedTun, handle: NamespaceHandle) -> None:
        self.init = init
        self.tun = tun
        self.handle = handle
        self.warnings: list[str] = []
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []
        self.making: list[str] = []  # what was worth a warning when it was made
        self._channel = channel

    @classmethod
    def make(cls, interface: str) -> Namespace:
        """Make one with a TUN device called `interface` in it, of which `%d` becomes a number.

        Forks; call it from a process with one thread, before it reads a secret or gives up core dumps. Raises
        NoNamespace, which names the missing right and how to grant it, or PlatformError.
        """
        ours, theirs = socket.socketpair()
        pid = fork(lambda: run_init(theirs, interface))
        theirs.close()
        ours.settimeout(PATIENCE)
        try:
            header, descriptors, _, _ = socket.recv_fds(ours, HEADER.size, 1 + len(NAMESPACES), socket.MSG_CMSG_CLOEXEC)
            first: First = CODEC.decode(First, body(header, ours.recv))  # type: ignore[arg-type]  # a union
        except (OSError, ValueError) as error:  # silence, or the end without a word
            ours.close()
            raise PlatformError("cannot make a network of its own", reason="its process gave no answer") from error
        if isinstance(first, NamespaceRefusal):
            ours.close()
            os.waitpid(pid, 0)
            raise first.error()
        tun, *others = descriptors
        device = PassedTun(tun, first.interface, with_headers=first.vnet)
        made = cls(pid, ours, device, NamespaceHandle(tuple(others)))
        made.making = list(first.warnings)
        return made

    def fileno(self) -> int:
        """Return a descriptor that becomes readable between calls when its init is gone."""
        return self._channel.fileno()

    @property
    def descriptors(self) -> list[int]:
        """Return every descriptor that the process of the tunnel needs."""
        return [self._channel.fileno(), self.tun.fileno(), *self.handle.spaces]

    def plan(self, config: MachineConfig) -> list[str]:  # noqa: ARG002 - nothing outside is changed
        """Return no command line: this machine is not changed."""
        return []

    def apply(self, config: MachineConfig) -> None:
        """Make the inside look like `config`, as far as it is about the inside. Raises PlatformError."""
        self.warnings = []
        try:
            self._channel.sendall(pack(CODEC.encode(inside(config))))
            answer: Answer = CODEC.decode(Answer, receive(self._channel.recv))  # type: ignore[arg-type]  # a union
        except (OSError, ValueError) as error:
            raise _gone() from error
        if isinstance(answer, Failure):
            raise answer.error(PlatformError)
        self.warnings = [*self.making, *answer.warnings]
        self.servers = answer.servers
        if config.dns is None:
            self.warnings.append(
                "names cannot be resolved in it: the gateway named no server, or the profile wants none"
            )

    def renew(self) -> None:
        """Do nothing: no process in there may delete the interface."""

    def revert(self) -> None:
        """Do nothing: the outside was not changed, and the inside ends by itself."""

    def leave(self) -> None:
        """Close everything in this process but the way in; for one that does not carry the tunnel."""
        self._channel.close()
        self.tun.close()

    def close(self) -> None:
        """Close everything, and wait for its init if that is our child."""
        self.leave()
        self.handle.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.init, 0)


def fact() -> Fact:
    """Find out for `doctor` whether `exec` and `proxy` work here, by making a namespace and closing it."""
    try:
        Namespace.make("ike%d").close()
    except IkeclientError as error:
        return Fact("rootless", False, f"{error.message}: {error.reason}", error.hint)
    return Fact("rootless", True, "`exec` and `proxy` work: a command can have a network of its own")


def _gone() -> IkeclientError:
    return PlatformError("the process that holds the namespace is gone", hint="connect again")
