"""The lab for people: a tour that runs by itself (`try`) and a playground that stays (`lab`)."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from lab.client import REPOSITORY
from lab.gateway import PASSWORD, Auth, Offer
from lab.machines import LabError, Machine
from lab.network import INSIDE_IPV4, Topology
from lab.pki import Pki
from lab.servers import DOMAIN
from lab.world import Lab, clean_start, obstacles


class Tour:
    """Commands shown with their output, as a person would have typed them in the client's machine."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._machine = lab.network.client

    def install_profile(self) -> None:
        """Put profiles/lab.toml, the authority and the password where ikeclient looks for them."""
        folder = self._lab.client.profiles
        shutil.copy(REPOSITORY / "profiles" / "lab.toml", folder)
        shutil.copy(self._lab.gateway.pki.authority("ecdsa").certificate_file, folder / "lab-ca.pem")
        (folder / "lab-password").touch(mode=0o600)
        (folder / "lab-password").write_text(PASSWORD + "\n")

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command that stays, its output going straight to ours."""
        _say(f"client$ {shlex.join(argv)} &")
        return self._machine.start(*argv, stdout=sys.stdout, stderr=sys.stderr, env=self._lab.client.environment)

    def show(self, *argv: str) -> str:
        """Run a command, show it and what it says, and return its output; `LabError` when it fails."""
        _say(f"client$ {shlex.join(argv)}")
        done = self._machine.run(*argv, check=False, timeout=60, env=self._lab.client.environment)
        print(done.stdout + done.stderr, end="", flush=True)
        if done.returncode:
            raise LabError(f"{argv[0]} ended with exit code {done.returncode}")
        return done.stdout


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def run_try(lab: Lab) -> None:
    """The tour: connect, ping, download, status, disconnect; `LabError` when any step fails."""
    tour = Tour(lab)
    lab.gateway.serve(Offer(auth="eap-mschapv2", domains=[DOMAIN]))
    tour.install_profile()
    _say(f"A strongSwan gateway runs in {lab.network.gateway.name}, the client's machine is {lab.network.client.name}.")
    before = lab.client.traces()
    connection = tour.start("ikeclient", "connect", "lab")
    _wait_connected(lab, connection)
    tour.show("ping", "-n", "-c", "3", "-i", "0.2", INSIDE_IPV4)
    target = lab.network.directory / "blob"
    tour.show(
        "curl", "-sS", "-o", str(target), "-w", "%{size_download} bytes at %{speed_download} bytes/s\\n", _url("/blob")
    )
    if lab.servers.sha256 not in tour.show("sha256sum", str(target)):
        raise LabError("the download differs from the original")
    print("the same hash as at the server", flush=True)
    tour.show("ikeclient", "status")
    tour.show("ikeclient", "disconnect")
    if connection.wait(timeout=15):
        raise LabError(f"ikeclient connect ended with exit code {connection.returncode}")
    left = {what: lines for what, lines in lab.client.traces().items() if lines != before[what]}
    if left:
        raise LabError(f"the client's machine is not as it was: {left}")
    _say("The client's links, addresses, routes, rules, firewall and resolver are as they were before.")


def _url(path: str) -> str:
    return f"http://{INSIDE_IPV4}{path}"


def _wait_connected(lab: Lab, connection: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while (status := lab.client.status("lab")) is None or status["state"] != "connected":
        if connection.poll() is not None:
            raise LabError(f"ikeclient connect ended with exit code {connection.returncode}")
        if time.monotonic() > deadline:
            raise LabError("no tunnel after 30 seconds")
        time.sleep(0.2)


def run_lab(lab: Lab, offer: Offer) -> None:
    """Keep a lab with one serving gateway, tell how to use it, and wait for Ctrl-C."""
    lab.gateway.serve(offer)
    profile = lab.client.write_profile(lab.gateway)
    directory = lab.network.directory
    client = _entrance(directory / "client", lab.network.client, lab.client.environment)
    gateway = _entrance(directory / "gateway", lab.network.gateway, {})
    conf = f"SWANCTL_DIR={lab.gateway.directory} swanctl --uri unix://{lab.gateway.directory}/vici"
    _say(f"""The lab is up. Run any command on the machines by these two programs:
  {client} COMMAND...     the client, profile "work" is {profile}
  {gateway} COMMAND...    the gateway, its log is {lab.gateway.directory}/log1

For example:
  {client} ikeclient connect work
  {client} ikeclient status
  {client} ping 10.99.0.1
  {client} curl http://10.99.0.1/peer
  {gateway} tcpdump -ni wan
  {conf} --list-sas

Ctrl-C removes everything.""")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _entrance(path: Path, machine: Machine, environment: dict[str, str]) -> Path:
    """A small program that runs its arguments in a machine."""
    settings = [f"{name}={value}" for name, value in environment.items() if name != "TERM"]
    command = shlex.join(["env", *settings, *machine.command(cwd="/")])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def _lab(topology: Topology, prefix: str) -> Iterator[Lab]:
    """A lab with its own certificates, removed also on SIGTERM and SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    certificates = clean_start(prefix)
    try:
        with Lab(topology, pki=Pki(certificates), prefix=prefix) as lab:
            yield lab
    finally:
        shutil.rmtree(certificates, ignore_errors=True)


def main() -> int:
    """Run the command; exit 1 with the gateway's log when the tour fails."""
    parser = argparse.ArgumentParser(prog="lab")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("try")
    playground = commands.add_parser("lab")
    playground.add_argument("auth", nargs="?", default="psk", choices=get_args(Auth), help="how the client logs in")
    playground.add_argument("--kind", default="ecdsa256", help="the kind of certificates")
    for flag in ("gateway-nat", "client-nat", "impaired"):
        playground.add_argument(f"--{flag}", action="store_true")
    arguments = parser.parse_args()
    if missing := obstacles():
        print(f"no lab can be built here: {', '.join(missing)}", file=sys.stderr)
        return 1
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if arguments.command == "lab":
        nat = {"gateway_nat": arguments.gateway_nat, "client_nat": arguments.client_nat}
        with _lab(Topology(**nat, impaired=arguments.impaired), "ikl") as lab:
            run_lab(lab, Offer(auth=arguments.auth, kind=arguments.kind))
        return 0
    with _lab(Topology(), "try") as lab:
        try:
            run_try(lab)
        except LabError as error:
            print(f"\nfailed: {error}\n\nThe gateway's log:\n{lab.gateway.log}", file=sys.stderr)
            return 1
    _say("Done, and everything is removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
