"""Upheavals in random order around one tunnel with a kill switch, with a seed and a verdict.

`scripts/chaos 200` runs two hundred of them. While they happen, everything that could leave the client's machine is
tried all the time (`lab.leaks`), and every packet on its cables is recorded. After each upheaval the tunnel has to
carry packets again; at the end nothing may have left but what is allowed, no process of ours may hold more descriptors
than at first, and the machine has to be as it was. The seed makes the same upheavals again, though not the same
moments.

What is not here: the clock cannot be set for one machine of the lab alone (`tests/sim` has its jumps), and a firewall
that is flushed lets some packets out until it is put back, as SECURITY.md says.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab.client import Connection
from lab.gateway import Offer
from lab.leaks import MAIN_RULES, Traffic
from lab.machines import LabError, descendants, wait_for
from lab.network import GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_NAME, INSIDE_IPV4, Topology
from lab.pki import Pki
from lab.traffic import ping
from lab.world import Lab, clean_start, obstacles

PREFIX = "ikc"
FULL = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"))
PATIENCE = 120.0  # seconds until a tunnel carries packets again
OURS = ("rules", "rules6", "firewall", "resolver")  # the rest follows the cables
MORE_DESCRIPTORS = 3  # than at first, which a moment may need


class Chaos:
    """The tunnel, and what can happen to it."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        self.lab = lab
        self.chance = random.Random(seed)
        self._say = say
        lab.network.add_second_path()
        lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, network={"routes": "all"}, session={"kill_switch": True})
        self._before = lab.client.traces()
        self.traffic = Traffic(lab)
        self.tunnel: Connection = lab.client.connect()
        self._on_second = False
        self._descriptors = self._open_descriptors()

    def run(self, number: int, *, quick: bool = False) -> list[str]:
        """Have `number` upheavals happen; returns what went wrong."""
        wrong = []
        names = [name for name in UPHEAVALS if not (quick and name in SLOW)]
        with contextlib.ExitStack() as stack:
            captures = [
                stack.enter_context(self.traffic.capture(f"chaos-{interface}", interface=interface))
                for interface in ("wan", "wan2")
            ]
            for turn in range(number):
                name = self.chance.choice(names)
                started = time.monotonic()
                UPHEAVALS[name](self)
                try:
                    self._recover()
                except LabError as error:
                    wrong.append(f"after {name} (number {turn + 1}): {error}")
                    break
                self._say(f"{turn + 1:4} {name}: carries again after {time.monotonic() - started:.1f} s")
        if leaks := self.traffic.leaks(*captures):
            wrong.append(f"left the machine: {dict(leaks)}")
        wrong += self._end()
        return wrong

    def _recover(self) -> None:
        if self.tunnel.process.poll() is not None:
            self.start()
        wait_for(self._carries, timeout=PATIENCE, what="the tunnel to carry packets again", interval=0.2)

    def _carries(self) -> bool:
        if self.tunnel.process.poll() is not None:
            raise LabError(f"the tunnel ended with {self.tunnel.process.returncode}: {self.tunnel.stderr[-500:]}")
        return bool(ping(self.lab.network.client, INSIDE_IPV4, count=1))

    def start(self) -> None:
        """Start the tunnel again."""
        self.tunnel = self.lab.client.start()

    def pause(self, longest: float) -> None:
        """Let a random time pass, up to `longest` seconds."""
        time.sleep(self.chance.uniform(0.0, longest))

    def shell(self, command: str) -> None:
        """Run a command in the client's machine, whatever comes of it."""
        self.lab.network.client.run("sh", "-c", command, check=False)

    @property
    def processes(self) -> list[int]:
        """The tunnel and its helper."""
        return [self.tunnel.process.pid, *sorted(descendants(self.tunnel.process.pid))]

    def _open_descriptors(self) -> int:
        return max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.processes)

    def move(self) -> None:
        """Pull the cable in use; the other one has the default route."""
        network = self.lab.network
        if self._on_second:
            network.use_first_path()
            self.shell(f"ip address replace fd01::2/64 dev wan nodad; ip -6 route replace default via {GATEWAY_IPV6}")
        else:
            network.use_second_path()
        self._on_second = not self._on_second

    def _end(self) -> list[str]:
        """Everything has to be given back."""
        wrong = []
        if self.tunnel.process.poll() is None and (more := self._open_descriptors()) > (
            self._descriptors + MORE_DESCRIPTORS
        ):
            wrong.append(f"{more} descriptors are open, {self._descriptors} were at first")
        if self._on_second:
            self.move()
        done = self.lab.client.run("disconnect")
        self.lab.client.run("unblock", "--all")
        self.lab.client.run("repair")
        after = self.lab.client.traces()
        for what, lines in self._before.items():
            if what in OURS and sorted(lines) != sorted(after[what]):
                differ = set(lines) ^ set(after[what])
                wrong.append(f"{what} are not as before: {sorted(differ)}")
        if done.returncode:
            wrong.append(f"disconnect: {done.stderr.strip()}")
        return wrong


def _kill(chaos: Chaos) -> None:
    chaos.tunnel.kill()
    chaos.pause(0.5)


def _kill_helper(chaos: Chaos) -> None:
    os.kill(chaos.processes[-1], signal.SIGKILL)
    chaos.tunnel.wait(30)


def _kill_while_starting(chaos: Chaos) -> None:
    chaos.tunnel.kill()
    for _ in range(3):
        chaos.start()
        chaos.pause(1.2)
        chaos.tunnel.kill()


def _end_by_signal(chaos: Chaos) -> None:
    chaos.tunnel.process.send_signal(chaos.chance.choice((signal.SIGTERM, signal.SIGINT)))
    chaos.tunnel.wait(30)


def _stand_still(chaos: Chaos) -> None:
    stopped = chaos.chance.sample(chaos.processes, chaos.chance.randint(1, 2))
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    chaos.pause(3.0)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def _start_beside(chaos: Chaos) -> None:
    second = chaos.lab.client.start()
    if second.wait(30) == 0:
        raise LabError("a second tunnel of the same name came up")
    chaos.lab.client.connections.pop()


def _start_in_another_namespace(chaos: Chaos) -> None:
    program = f"{sys.executable} -m ikeclient"
    environment = " ".join(f"{name}='{value}'" for name, value in chaos.lab.client.environment.items())
    chaos.shell(
        f"unshare --net env -i {environment} {program} repair; unshare --net env -i {environment} {program} status"
    )


def _lose_packets(chaos: Chaos) -> None:
    chaos.shell("tc qdisc add dev wan root netem loss 30% delay 30ms; tc qdisc add dev wan2 root netem loss 30%")
    chaos.lab.client.run("reconnect")
    chaos.pause(3.0)
    chaos.shell("tc qdisc del dev wan root; tc qdisc del dev wan2 root")


def _fill_the_disk(chaos: Chaos) -> None:
    chaos.shell("mount -o remount,size=4m /run; dd if=/dev/zero of=/run/full bs=4k 2>/dev/null")
    chaos.lab.client.run("reconnect")
    chaos.pause(2.0)
    chaos.shell("rm -f /run/full")


def _restart_gateway(chaos: Chaos) -> None:
    chaos.lab.gateway.restart()


def _lose_gateway(chaos: Chaos) -> None:
    chaos.lab.gateway.kill()
    chaos.pause(5.0)
    chaos.lab.gateway.serve(FULL)


UPHEAVALS: dict[str, Callable[[Chaos], None]] = {
    "SIGKILL of the tunnel": _kill,
    "SIGKILL of the helper": _kill_helper,
    "SIGKILL while it starts": _kill_while_starting,
    "SIGTERM or SIGINT": _end_by_signal,
    "standstill": _stand_still,
    "a second start": _start_beside,
    "commands in another namespace": _start_in_another_namespace,
    "SIGHUP": lambda chaos: chaos.tunnel.process.send_signal(signal.SIGHUP),
    "reconnect": lambda chaos: chaos.lab.client.run("reconnect") and None,
    "move": Chaos.move,
    "loss": _lose_packets,
    "full disk": _fill_the_disk,
    "gateway restarted": _restart_gateway,
    "gateway gone": _lose_gateway,
    "interface deleted": lambda chaos: chaos.shell("ip link delete ike0"),
    "rules flushed": lambda chaos: chaos.shell(f"ip rule flush; ip -6 rule flush; {MAIN_RULES}"),
    "routes flushed": lambda chaos: chaos.shell(
        "for each in 7400 7464 7528; do ip route flush table $each; ip -6 route flush table $each; done"
    ),
    "firewalls of others": lambda chaos: chaos.shell(
        "for each in 1 2 3 4 5; do nft add table inet other$each; nft delete table inet other$each; done"
    ),
    "router changed": lambda chaos: chaos.shell(
        f"ip route replace default via {GATEWAY_IPV4} metric 50; ip route del default via {GATEWAY_IPV4} metric 50"
    ),
}
SLOW = frozenset({"gateway restarted", "gateway gone", "loss", "full disk", "SIGKILL while it starts", "standstill"})


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("number", type=int, nargs="?", default=50, help="how many upheavals (50)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="for the same ones again")
    given = parser.parse_args()
    if reasons := obstacles():
        print(f"no lab here: {', '.join(reasons)}", file=sys.stderr)
        return 2
    print(f"seed {given.seed}", flush=True)
    certificates = clean_start(PREFIX)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, certificates, ignore_errors=True)
        lab = stack.enter_context(Lab(Topology(), pki=Pki(certificates), prefix=PREFIX))
        wrong = Chaos(lab, given.seed, lambda line: print(line, flush=True)).run(given.number)
        for line in wrong:
            print(f"WRONG: {line}")
        if wrong:
            for title, text in lab.story().items():
                print(f"--- {title}\n{text[-4000:]}")
    print(f"seed {given.seed}: {'FAILED' if wrong else f'{given.number} upheavals survived, nothing left the machine'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
