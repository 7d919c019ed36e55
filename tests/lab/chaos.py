"""Upheavals in random order around one tunnel with a kill switch, with a seed and a verdict.

`scripts/chaos 200` runs two hundred of them. While they happen, everything that could leave the client's machine is
tried all the time (`lab.leaks`), and every packet on its cables is recorded. After each upheaval the tunnel has to
carry packets again, and its status has to say what a ping says: connected when packets pass, and not for long when they
do not. At the end nothing may have left but what is allowed, no process of ours may hold more descriptors or memory
than at first, and the machine has to be as it was. The seed makes the same upheavals again, though not the same
moments.

The kernel has no time of day for each namespace, so the tunnel's processes, and nothing else, get theirs from a small
library (`clock.c`) if there is a compiler: the time of day that somebody sets, or all clocks at once as after a virtual
machine's sleep.

What is not here: a firewall that is flushed lets some packets out until it is put back, as SECURITY.md says.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
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
BELIEVED = 30.0  # seconds for which status may say connected while no packet passes
AGREEMENT = 10.0  # seconds after a ping until status says connected
OURS = ("rules", "rules6", "firewall", "resolver")  # the rest follows the cables
MORE_DESCRIPTORS = 3  # than at first, which a moment may need
MORE_MEMORY = 24 << 10  # KiB that a process may grow by
_DAY = 86_400


class Chaos:
    """The tunnel, and what can happen to it."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        self.lab = lab
        self.chance = random.Random(seed)
        self._say = say
        lab.network.add_second_path()
        lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, network={"routes": "all"}, session={"kill_switch": True})
        self._before = lab.client.traces()
        lab.client.write_profile(lab.gateway, {"gateway": {"address": "10.1.0.99"}}, name="other")
        self.traffic = Traffic(lab)
        self._library = _clock_library(lab.client.directory)
        self._clock = lab.client.directory / "clock"
        self._clock.write_bytes(bytes(16))
        self.tunnel: Connection
        self.start()
        self.tunnel.wait_connected()
        self.on_second = False
        self._descriptors, self._memory = self._open_descriptors(), self._resident()

    def run(self, number: int, *, quick: bool = False) -> list[str]:
        """Have `number` upheavals happen; returns what went wrong."""
        wrong = []
        left_out = (SLOW if quick else frozenset()) | (frozenset() if self._library else CLOCKS)
        if not self._library:
            self._say("without a compiler clocks are not set")
        names = [name for name in UPHEAVALS if name not in left_out]
        with contextlib.ExitStack() as stack:
            captures = [
                stack.enter_context(self.traffic.capture(f"chaos-{interface}", interface=interface))
                for interface in ("wan", "wan2")
            ]
            for turn in range(number):
                name = self.chance.choice(names)
                started = time.monotonic()
                try:
                    UPHEAVALS[name](self)
                    self._recover()
                except (LabError, OSError, subprocess.TimeoutExpired) as error:
                    wrong.append(f"after {name} (number {turn + 1}): {error}")
                    for what, lines in self.lab.client.traces().items():
                        self._say("\n".join((f"--- {what}", *lines)))
                    break
                self._say(f"{turn + 1:4} {name}: carries again after {time.monotonic() - started:.1f} s")
        if leaks := self.traffic.leaks(*captures):
            wrong.append(f"left the machine: {dict(leaks)}")
        wrong += self._end()
        return wrong

    def _recover(self) -> None:
        """Wait until the tunnel carries packets, and look whether its status says so."""
        deadline = time.monotonic() + PATIENCE
        believed: float | None = None
        while not self.carries():
            now = time.monotonic()
            if self.tunnel.process.poll() is not None:
                self.start()
            believed = (believed or now) if self._state() == "connected" else None
            if believed is not None and now - believed > BELIEVED:
                raise LabError(f"status says connected, and for {BELIEVED:g} s no packet has passed")
            if now > deadline:
                raise LabError(f"waited {PATIENCE:g} s in vain for it to carry packets; {self.tunnel.stderr[-500:]}")
        wait_for(lambda: self._state() == "connected", timeout=AGREEMENT, what="status to say that packets pass")

    def carries(self) -> bool:
        """Whether a packet passes the tunnel."""
        return bool(ping(self.lab.network.client, INSIDE_IPV4, count=1))

    def _state(self) -> str:
        status = self.lab.client.status("work")
        return str(status["state"]) if status else "none"

    def start(self) -> None:
        """Start the tunnel again."""
        clocks = {"LD_PRELOAD": self._library, "LAB_CLOCK": str(self._clock)} if self._library else {}
        self.tunnel = self.lab.client.start(env=clocks)

    def set_clock(self, day: int, since_start: int = 0) -> None:
        """Set the time of day, and move on the other clocks of the tunnel's processes, by so many seconds."""
        with self._clock.open("r+b", buffering=0) as file:
            _, before = struct.unpack("qq", file.read(16))
            file.seek(0)
            file.write(struct.pack("qq", day, before + since_start))

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

    def _resident(self) -> int:
        """KiB of memory of the largest process."""
        sizes = []
        for pid in self.processes:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                sizes += [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
        return max(sizes, default=0)

    def move(self) -> None:
        """Pull the cable in use; the other one has the default route."""
        network = self.lab.network
        if self.on_second:
            network.use_first_path()
        else:
            network.use_second_path()
        self.on_second = not self.on_second
        self.restore_path()

    def restore_path(self) -> None:
        """Give the cable in use what the kernel has taken from it while it was out."""
        if self.on_second:
            self.shell("ip route replace default via 10.2.0.1 dev wan2")
        else:
            self.shell(f"ip address replace fd01::2/64 dev wan nodad; ip -6 route replace default via {GATEWAY_IPV6}")
            self.shell(f"ip route replace default via {GATEWAY_IPV4} dev wan")

    def _end(self) -> list[str]:
        """Everything has to be given back."""
        wrong = []
        if self.tunnel.process.poll() is None and (more := self._open_descriptors()) > (
            self._descriptors + MORE_DESCRIPTORS
        ):
            wrong.append(f"{more} descriptors are open, {self._descriptors} were at first")
        if self.tunnel.process.poll() is None and (grown := self._resident() - self._memory) > MORE_MEMORY:
            wrong.append(f"a process has grown by {grown >> 10} MiB")
        if self.on_second:
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
        f"unshare --net env -i {environment} {program} repair; unshare --net env -i {environment} {program} status;"
        f"unshare --pid --fork --mount-proc env -i {environment} {program} connect other --timeout 1s"
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


def _fill_the_disk_of_settings(chaos: Chaos) -> None:
    chaos.shell("mount -o remount,size=16m /etc; dd if=/dev/zero of=/etc/full bs=4k 2>/dev/null")
    chaos.lab.client.run("reconnect")
    chaos.pause(2.0)
    chaos.shell("rm -f /etc/full")


def _start_on_a_full_disk(chaos: Chaos) -> None:
    chaos.shell("mount -o remount,size=4m /run; dd if=/dev/zero of=/run/full bs=4k 2>/dev/null")
    chaos.tunnel.kill()
    chaos.start()
    chaos.pause(4.0)
    chaos.shell("rm -f /run/full")


def _damage_files(chaos: Chaos) -> None:
    """A power loss leaves files cut short, empty or full of something else."""
    chaos.tunnel.kill()
    damage = chaos.chance.choice(("truncate -s 0", "truncate -s 40", "dd if=/dev/urandom bs=300 count=1 of="))
    for suffix in ("undo", "block"):
        file = f"/run/ikeclient/work.{suffix}.json"
        chaos.shell(f"test -e {file} && {damage}{'' if damage.endswith('=') else ' '}{file}")


def _set_the_clock(chaos: Chaos) -> None:
    """The clock of the day goes wrong, the tunnel connects anew, and the clock is put right."""
    chaos.set_clock(chaos.chance.choice((-3650 * _DAY, -_DAY, -1, _DAY, 3650 * _DAY)))
    chaos.lab.client.run("reconnect")
    chaos.pause(5.0)
    chaos.set_clock(0)


def _sleep_of_a_virtual_machine(chaos: Chaos) -> None:
    """All clocks go on by hours at once."""
    hours = chaos.chance.choice((600, 8 * 3600, 3 * _DAY))
    chaos.set_clock(hours, hours)


def _lose_answers(chaos: Chaos) -> None:
    rules = chaos.lab.network.client.add_rules("input", "udp sport { 500, 4500 } drop")
    chaos.pause(12.0)
    rules.remove()


def _change_the_profile(chaos: Chaos) -> None:
    chaos.lab.prepare(
        FULL,
        gateway={"address": GATEWAY_NAME},
        network={"routes": "all", "mtu": chaos.chance.choice((1280, 1350, 1400))},
        session={"kill_switch": True, "rekey_child": chaos.chance.choice(("30m", "40m"))},
    )
    chaos.tunnel.process.send_signal(signal.SIGHUP)


def _flap(chaos: Chaos) -> None:
    device = "wan2" if chaos.on_second else "wan"
    for _ in range(chaos.chance.randint(2, 12)):
        chaos.shell(f"ip link set {device} down")
        chaos.pause(0.2)
        chaos.shell(f"ip link set {device} up")
        chaos.pause(0.3)
    chaos.restore_path()


def _restart_gateway(chaos: Chaos) -> None:
    chaos.lab.gateway.restart()


def _lose_gateway(chaos: Chaos) -> None:
    chaos.lab.gateway.kill()
    chaos.pause(5.0)
    chaos.lab.gateway.serve(FULL)


def _clock_library(directory: Path) -> str | None:
    """Make the library that sets clocks; None if there is no compiler."""
    made = directory / "clock.so"
    compile_ = ("gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(Path(__file__).with_name("clock.c")))
    try:
        return str(made) if subprocess.run(compile_, check=False, capture_output=True).returncode == 0 else None
    except FileNotFoundError:
        return None


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
    "full disk below /etc": _fill_the_disk_of_settings,
    "start on a full disk": _start_on_a_full_disk,
    "damaged files": _damage_files,
    "clock set": _set_the_clock,
    "a virtual machine's sleep": _sleep_of_a_virtual_machine,
    "answers lost": _lose_answers,
    "profile changed": _change_the_profile,
    "link flapping": _flap,
    "link down": lambda chaos: chaos.shell("ip link set ike0 down"),
    "addresses flushed": lambda chaos: chaos.shell("ip address flush dev ike0"),
    "IPv6 disabled": lambda chaos: chaos.shell(
        "sysctl -qw net.ipv6.conf.ike0.disable_ipv6=1; sleep 0.5; sysctl -qw net.ipv6.conf.ike0.disable_ipv6=0"
    ),
    "resolver rewritten": lambda chaos: chaos.shell("echo nameserver 203.0.113.53 > /etc/resolv.conf"),
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
CLOCKS = frozenset({"clock set", "a virtual machine's sleep"})
SLOW = CLOCKS | {
    *("gateway restarted", "gateway gone", "loss", "full disk", "SIGKILL while it starts", "standstill"),
    *(
        "full disk below /etc",
        "start on a full disk",
        "answers lost",
        "commands in another namespace",
    ),
}


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
