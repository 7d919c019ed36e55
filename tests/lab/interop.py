"""What ikeclient does with each gateway that can be had here; `scripts/interop` runs it and writes docs/interop.md.

A row is a gateway and a way to log in. Each column is judged by its effect: packets that came back through the tunnel
(in the clear nothing of the inner networks is reachable), counters of the client's status, and what is left at the end.
The machine may be busy and two gateways run in an emulated processor, so nothing is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.client import REPOSITORY, Client, toml
from lab.gateway import PASSWORD, PSK, USER, Offer
from lab.guest import Guest
from lab.machines import LabError, Machine, make_directory, wait_for
from lab.network import GATEWAY_IPV4, GATEWAY_NAME, INSIDE_IPV4, INSIDE_IPV6, SECOND_GATEWAY_IPV4
from lab.pki import CLIENT_NAME, Pki
from lab.tools import programs
from lab.trixie import TrixieGateway
from lab.world import Lab

PAGE = REPOSITORY / "docs" / "interop.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
COLUMNS = ("connect", "IPv4", "IPv6", "new keys", "IKE rekey", "move", "gateway restarts", "end")
SHORT = {"session": {"rekey_child": "15s", "rekey_ike": "40s", "liveness": "5s"}}
FLUSH = "ip xfrm state flush; ip xfrm policy flush; sh /cfg/run.sh"


@dataclass(kw_only=True)
class Stage:
    """A gateway that runs, and the client's machine with a profile that fits."""

    client: Client
    move: Callable[[], None]
    restart: Callable[[], None] | None = None
    inside: tuple[str, ...] = (INSIDE_IPV4, INSIDE_IPV6)
    reached: Callable[[Machine, str], bool] | None = None
    words: Callable[[], str] = lambda: ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One row: what is run, and how; `without` names columns that the gateway does not have, with the reason."""

    name: str
    version: str
    esp: str
    auth: str
    make: Callable[[Subject, Path, Pki], contextlib.AbstractContextManager[Stage]]
    without: dict[str, str] = field(default_factory=dict)


# strongSwan, with ESP in its own process --------------------------------------------------------------------------


@contextlib.contextmanager
def _strongswan(subject: Subject, folder: Path, pki: Pki) -> Iterator[Stage]:
    with Lab(pki=pki) as lab:
        if subject.version.startswith("6"):
            machine = lab.network.gateway
            lab.gateway = TrixieGateway(
                machine, lab.network.subdirectory("gw6"), lab.gateway.pki, lab.network.gateway_listen
            )
        lab.network.add_second_path()
        lab.prepare(Offer(auth=subject.auth, mobike=True), **SHORT)

        def restart() -> None:
            lab.gateway.kill()
            lab.gateway.serve(lab.gateway.offer)

        yield Stage(
            client=lab.client, move=lab.network.use_second_path, restart=restart, words=lambda: lab.gateway.log[-2000:]
        )


# Gateways with the kernel's ESP, in a virtual machine ---------------------------------------------------------------


@contextlib.contextmanager
def _in_a_guest(
    subject: Subject, folder: Path, pki: Pki, files: dict[str, str | bytes], script: str, *, restart: str, log: str
) -> Iterator[Stage]:
    machine = Machine(f"ikg{os.getpid()}cl", folder)
    guest = None
    try:
        client = Client(machine, folder / "client")
        guest = Guest(machine, folder, files, script)
        client.profiles.joinpath("work.toml").write_text(toml({**_profile(subject, client, pki), **SHORT}))
        running = guest

        def move() -> None:
            machine.ip("route", "replace", "default", "via", SECOND_GATEWAY_IPV4, "dev", "wan2")
            machine.set_link("wan", up=False)

        def again() -> None:  # from whichever side the machine is reached
            running.run(restart, timeout=60)

        yield Stage(client=client, move=move, restart=again, words=lambda: running.run(f"tail -40 {log}"))
    finally:
        if guest is not None:
            guest.close()
        machine.close()


def _profile(subject: Subject, client: Client, pki: Pki) -> dict[str, dict[str, Any]]:
    gateway = pki.credential("gateway", "ecdsa256")
    tables: dict[str, dict[str, Any]] = {"gateway": {"address": GATEWAY_IPV4, "identity": GATEWAY_NAME}}
    auth: dict[str, Any] = {"method": subject.auth, "identity": CLIENT_NAME}
    if subject.auth != "psk":
        tables["gateway"]["ca"] = [str(gateway.authority_file)]
    match subject.auth:
        case "psk":
            auth["psk"] = {"file": str(client.secret_file("psk", PSK))}
        case "certificate":
            own = pki.credential("client", "ecdsa256")
            auth |= {"certificate": str(own.chain_file), "key": str(own.key_file)}
        case _:
            auth |= {"user": USER, "password": {"file": str(client.secret_file("password", PASSWORD))}}
    if subject.name == "OpenIKED":
        tables["crypto"] = {"esp": ["aes256-sha1"]}
    return {**tables, "auth": auth}


@contextlib.contextmanager
def _strongswan_with_the_kernel(subject: Subject, folder: Path, pki: Pki) -> Iterator[Stage]:
    gateway = pki.credential("gateway", "ecdsa256")
    remote = {
        "psk": f"auth = psk\nid = {CLIENT_NAME}",
        "certificate": f"auth = pubkey\nid = {CLIENT_NAME}\ncacerts = ca.crt",
    }
    local = "auth = psk" if subject.auth == "psk" else "auth = pubkey\ncerts = gw.crt"
    ike = "aes256gcm16-prfsha384-ecp384,aes256gcm16-prfsha256-x25519"
    connection = f"""connections {{
rw {{
version = 2
local_addrs = 10.1.0.1,10.2.0.1
pools = p4,p6
proposals = {ike}
local {{
{local}
id = {GATEWAY_NAME}
}}
remote {{
{remote.get(subject.auth, "auth = eap-mschapv2" + chr(10) + "eap_id = %any")}
}}
children {{
net {{
local_ts = 10.99.0.0/24,fd99::/64
esp_proposals = aes256gcm16,aes128gcm16
}}
}}
}}
}}
pools {{
p4 {{
addrs = 10.88.0.0/24
}}
p6 {{
addrs = fd88::/112
}}
}}
secrets {{
ike-alice {{
id = {CLIENT_NAME}
secret = {PSK}
}}
eap-alice {{
id = {USER}
secret = {PASSWORD}
}}
}}
"""
    plugins = (
        "random nonce aes sha1 sha2 hmac kdf md5 md4 pem pkcs1 pkcs8 pubkey x509 constraints openssl curve25519 gcm"
    )
    plugins += " mgf1 gmp kernel-netlink socket-default vici eap-identity eap-mschapv2 updown"
    settings = f"charon {{\nload = {plugins}\nplugins {{\nvici {{\nsocket = unix:///run/vici\n}}\n}}\n"
    settings += "filelog {\nf {\npath = /run/log\ndefault = 1\nflush_line = yes\n}\n}\n}\n"
    settings += "swanctl {\nload = pem pkcs1 pkcs8 x509 openssl\n}\n"
    files: dict[str, str | bytes] = {
        "strongswan.conf": settings,
        "swanctl.conf": connection,
        "private/gw.key": gateway.key_file.read_bytes(),
        "x509/gw.crt": gateway.certificate_file.read_bytes(),
        "x509ca/ca.crt": gateway.authority_file.read_bytes(),
        "run.sh": """export STRONGSWAN_CONF=/cfg/strongswan.conf SWANCTL_DIR=/cfg
rm -f /run/vici
/usr/lib/ipsec/charon --use-syslog no >/run/charon.out 2>&1 </dev/null &
echo $! >/run/charon.own
for i in $(seq 200); do [ -S /run/vici ] && break; sleep 0.1; done
swanctl --load-all --file /cfg/swanctl.conf --uri unix:///run/vici
""",
    }
    restart = f"kill -9 $(cat /run/charon.own); sleep 1; {FLUSH}"
    with _in_a_guest(subject, folder, pki, files, "sh /cfg/run.sh", restart=restart, log="/run/log") as stage:
        yield stage


@contextlib.contextmanager
def _libreswan(subject: Subject, folder: Path, pki: Pki) -> Iterator[Stage]:
    gateway = pki.credential("gateway", "ecdsa256")
    how = {
        "psk": f"\tauthby=secret\n\tleftid=@{GATEWAY_NAME}\n\trightid={CLIENT_NAME}\n",
        "certificate": f"\tauthby=ecdsa\n\tleftcert=gw\n\tleftid=@{GATEWAY_NAME}\n\tleftsendcert=always\n"
        f"\trightid={CLIENT_NAME}\n\trightca=%any\n",
    }[subject.auth]
    connection = (
        "config setup\n\tlogfile=/run/pluto.log\n\tuniqueids=no\n\nconn rw\n\tikev2=insist\n\tleft=10.1.0.1\n"
        "\tleftsubnet=10.99.0.0/24\n\tright=%any\n\trightaddresspool=10.88.0.10-10.88.0.200\n\tmobike=yes\n"
        f"\tmodecfgdns=10.99.0.53\n\tauto=add\n{how}"
    )
    bundle = folder / "gw.p12"
    subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-in", str(gateway.certificate_file), "-inkey", str(gateway.key_file)),
            *("-certfile", str(gateway.authority_file), "-name", "gw", "-out", str(bundle), "-passout", "pass:x"),
        ],
        check=True,
        timeout=60,
    )
    files: dict[str, str | bytes] = {
        "ipsec.conf": connection,
        "ipsec.secrets": f'@{GATEWAY_NAME} {CLIENT_NAME} : PSK "{PSK}"\n',
        "gw.p12": bundle.read_bytes(),
        "ca.crt": gateway.authority_file.read_bytes(),
        "once.sh": """mkdir -p /run/pluto /run/nss /var/lib/ipsec/nss
cp /cfg/ipsec.secrets /etc/ipsec.secrets; chmod 600 /etc/ipsec.secrets; cp /cfg/ipsec.conf /etc/ipsec.conf
certutil -N -d sql:/run/nss --empty-password
pk12util -i /cfg/gw.p12 -d sql:/run/nss -W x -K ''
certutil -A -n ca -t CT,, -d sql:/run/nss -i /cfg/ca.crt
""",
        "run.sh": """cd /run/pluto
/usr/libexec/ipsec/pluto --config /etc/ipsec.conf --nssdir /run/nss --rundir /run/pluto --logfile /run/pluto.log
for i in $(seq 200); do [ -S /run/pluto/pluto.ctl ] && break; sleep 0.1; done
sleep 1; /usr/libexec/ipsec/whack --rundir /run/pluto --listen
/usr/libexec/ipsec/addconn --ctlsocket /run/pluto/pluto.ctl --config /etc/ipsec.conf rw
""",
    }
    restart = f"kill -9 $(cat /run/pluto/pluto.pid); sleep 1; rm -f /run/pluto/*; {FLUSH}"
    script = "sh /cfg/once.sh; sh /cfg/run.sh"
    with _in_a_guest(subject, folder, pki, files, script, restart=restart, log="/run/pluto.log") as stage:
        stage.inside = (INSIDE_IPV4,)
        yield stage


@contextlib.contextmanager
def _openiked(subject: Subject, folder: Path, pki: Pki) -> Iterator[Stage]:
    gateway = pki.credential("gateway", "ecdsa256")
    how = {"psk": f'psk "{PSK}"', "eap-mschapv2": 'eap "mschap-v2"', "certificate": ""}[subject.auth]
    user = f'user "{USER}" "{PASSWORD}"\n' if subject.auth == "eap-mschapv2" else ""
    policy = (
        f'{user}ikev2 "rw" passive esp from 10.99.0.0/24 to dynamic local any peer any '
        "ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group ecp256 group modp2048 "
        "childsa enc aes-256 auth hmac-sha1 "
        f"srcid {GATEWAY_NAME} {how} config address 10.88.0.0/24 config name-server 10.99.0.53\n"
    )
    files: dict[str, str | bytes] = {
        "iked.conf": policy,
        "gw.key": gateway.key_file.read_bytes(),
        "gw.crt": gateway.certificate_file.read_bytes(),
        "ca.crt": gateway.authority_file.read_bytes(),
        "once.sh": f"""mkdir -p /run/iked /var/empty
for name in ca certs private pubkeys/fqdn crls; do mkdir -p /etc/iked/$name; done
cp /cfg/ca.crt /etc/iked/ca/; cp /cfg/gw.crt /etc/iked/certs/{GATEWAY_NAME}.crt
cp /cfg/gw.key /etc/iked/private/local.key; cp /cfg/iked.conf /etc/iked.conf
chmod 600 /etc/iked/private/local.key /etc/iked.conf
grep -q _iked /etc/passwd || echo '_iked:x:990:990::/var/empty:/usr/sbin/nologin' >>/etc/passwd
grep -q _iked /etc/group || echo '_iked:x:990:' >>/etc/group
""",
        "run.sh": "iked -dvv -f /etc/iked.conf >/run/iked.log 2>&1 </dev/null &\necho $! >/run/iked.own; sleep 2\n",
    }
    restart = "kill $(cat /run/iked.own); sleep 2; sh /cfg/run.sh"
    with _in_a_guest(
        subject, folder, pki, files, "sh /cfg/once.sh; sh /cfg/run.sh", restart=restart, log="/run/iked.log"
    ) as stage:
        stage.inside = (INSIDE_IPV4,)
        yield stage


# pvpn: a responder in Python, which ends TCP itself ------------------------------------------------------------------


@contextlib.contextmanager
def _pvpn(subject: Subject, folder: Path, pki: Pki) -> Iterator[Stage]:
    program = programs("interop", f"pvpn=={subject.version}") / "pvpn"
    with Lab(pki=pki) as lab:
        lab.prepare(Offer(auth="psk"))
        lab.gateway.kill()
        profile = lab.client.profile_tables(lab.gateway)
        profile["gateway"]["identity"] = "%any"
        profile["crypto"] = {"ike": ["aes256-sha256-modp2048"], "esp": ["aes256-sha256-noesn"]}
        lab.client.profiles.joinpath("work.toml").write_text(toml({**profile, "network": {"routes": ["10.99.0.0/24"]}}))
        log = folder / "pvpn.log"
        with log.open("w") as output:
            environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
            command = (str(program), "-p", PSK, "-v")
            lab.network.gateway.start(*command, stdout=output, stderr=output, env=environment)
        wait_for(lambda: "4500" in log.read_text(), timeout=20, what=f"pvpn: {log.read_text()}")

        def fetched(machine: Machine, address: str) -> bool:
            done = machine.run("curl", "-sS", "--max-time", "10", f"http://{address}/peer", check=False, timeout=20)
            return done.returncode == 0

        yield Stage(
            client=lab.client,
            move=lambda: None,
            inside=(INSIDE_IPV4,),
            reached=fetched,
            words=lambda: log.read_text()[-2000:],
        )


NO_IPV6 = {"IPv6": "not configured there"}
SUBJECTS = (
    *(
        Subject(name="strongSwan", version=version, esp="userspace", auth=auth, make=_strongswan)
        for version in ("5.9.8", "6.0.1")
        for auth in ("psk", "certificate", "eap-mschapv2")
    ),
    *(
        Subject(name="strongSwan", version="6.0.1", esp="kernel", auth=auth, make=_strongswan_with_the_kernel)
        for auth in ("psk", "certificate", "eap-mschapv2")
    ),
    *(
        Subject(name="libreswan", version="5.2", esp="kernel", auth=auth, make=_libreswan, without=NO_IPV6)
        for auth in ("psk", "certificate")
    ),
    *(
        Subject(name="OpenIKED", version="7.4", esp="kernel", auth=auth, make=_openiked, without=NO_IPV6)
        for auth in ("psk", "certificate", "eap-mschapv2")
    ),
    Subject(
        name="pvpn",
        version="0.2.5",
        esp="userspace",
        auth="psk",
        make=_pvpn,
        without={
            **NO_IPV6,
            **dict.fromkeys(("new keys", "IKE rekey"), "it makes no new keys"),
            "move": "no MOBIKE",
            "gateway restarts": "not tried",
        },
    ),
)


def pinged(machine: Machine, address: str) -> bool:
    """Whether an echo comes back."""
    return machine.run("ping", "-c", "1", "-W", "2", address, check=False, timeout=15).returncode == 0


class Trial:
    """One row, judged column by column; what was not reached because of a failure before says so."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._machine = stage.client.machine
        self._reached = stage.reached or pinged

    def reaches(self, address: str, patience: float = 20.0) -> bool:
        """Whether the inside answers within that time."""
        deadline = time.monotonic() + patience
        while not self._reached(self._machine, address):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def status(self) -> dict[str, Any]:
        """The tunnel's status; LabError if there is none."""
        status = self._stage.client.status("work")
        if status is None:
            raise LabError("the tunnel has ended")
        return status

    def connect(self) -> str:
        """A tunnel that is up."""
        self._before = self._stage.client.traces()
        self._connection = self._stage.client.connect("work", "-v", timeout=60)
        return "yes"

    def told(self) -> str:
        """The last lines that the client said with `-v`."""
        return "\n".join(self._connection.stderr.splitlines()[-40:])

    def new_keys(self) -> str:
        """Child SAs replaced at least twice, and packets all the while."""
        return self._rekeyed("child", 2)

    def ike_rekey(self) -> str:
        """The IKE SA replaced, and packets all the while."""
        return self._rekeyed("ike", 1)

    def _rekeyed(self, kind: str, wanted: int) -> str:
        deadline, lost, asked = time.monotonic() + 120, 0, 0
        while (status := self.status())["totals"][f"{kind}_rekeys"] < wanted:
            if time.monotonic() > deadline:
                return "no: none in two minutes"
            asked += 1
            lost += not self._reached(self._machine, self._stage.inside[0])
            time.sleep(0.3)
        if status["reconnects"]:
            return "no: the connection was made anew"
        return "yes" if lost <= 1 else f"yes; {lost} of {asked} echoes lost"

    def move(self) -> str:
        """Another network, by MOBIKE or by a new connection."""
        before = self.status()
        self._stage.move()

        def moved() -> bool:
            now = self.status()
            return now["roams"] > before["roams"] or now["reconnects"] > before["reconnects"]

        wait_for(moved, timeout=90, what="the move", interval=0.3)
        if not self.reaches(self._stage.inside[0], 60):
            return "no: nothing comes back"
        return "yes" if self.status()["reconnects"] == before["reconnects"] else "by a new connection"

    def gateway_restarts(self) -> str:
        """A gateway that has forgotten everything: a new connection, by itself."""
        assert self._stage.restart is not None
        before = self.status()["reconnects"]
        self._stage.restart()
        wait_for(lambda: self.status()["reconnects"] > before, timeout=120, what="a new connection", interval=0.3)
        return "yes" if self.reaches(self._stage.inside[0], 60) else "no: nothing comes back"

    def end(self) -> str:
        """The machine as before."""
        done = self._stage.client.disconnect("work")
        if done.returncode:
            return f"no: exit code {done.returncode}"
        left = {name for name, lines in self._stage.client.traces().items() if self._strange(name, lines)}
        return "yes" if not left else f"no: {', '.join(sorted(left))} differ"

    def _strange(self, name: str, lines: list[str]) -> list[str]:
        """What is there now and was not before, but for what the move itself has changed."""
        return [
            line for line in lines if line not in self._before[name] and ("ike" in line or name.startswith("rules"))
        ]


def judge(subject: Subject, only: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Run one row; a failure is its result, with the reason."""
    results = {column: subject.without.get(column, "-") for column in COLUMNS}
    folder = make_directory("interop")
    authorities = folder / "pki"
    authorities.mkdir()
    try:
        with subject.make(subject, folder, Pki(authorities)) as stage:
            trial = Trial(stage)
            steps: dict[str, Callable[[], str]] = {
                "connect": trial.connect,
                "IPv4": lambda: "yes" if trial.reaches(INSIDE_IPV4) else "no: nothing comes back",
                "IPv6": lambda: "yes" if trial.reaches(INSIDE_IPV6) else "no: nothing comes back",
                "new keys": trial.new_keys,
                "IKE rekey": trial.ike_rekey,
                "move": trial.move,
                "gateway restarts": trial.gateway_restarts,
                "end": trial.end,
            }
            for column in COLUMNS:
                if column in subject.without:
                    continue
                try:
                    results[column] = steps[column]()
                except (LabError, KeyError, AssertionError, subprocess.SubprocessError) as error:
                    results[column] = f"no: {str(error).splitlines()[0][:100]}"
                only(f"  {column}: {results[column]}")
                if results[column] != "yes":
                    only(f"{stage.words()}\n{trial.told()}")
                if results[column].startswith("no") and column == "connect":
                    break
    except (LabError, subprocess.SubprocessError, OSError) as error:
        results["connect"] = f"not run: {str(error).splitlines()[0][:100]}"
        only(f"  {error}")
    return results


def table(rows: list[dict[str, str]]) -> str:
    """The results as Markdown."""
    heads = ("gateway", "ESP", "login", *COLUMNS)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row[head] for head in heads)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the matrix, or the rows that are asked for."""
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="rows whose gateway, ESP and login have it, as 'kernel psk'"
    )
    parser.add_argument("--write", action="store_true", help="put the results into docs/interop.md")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write them there as well")
    options = parser.parse_args()
    rows = []
    for subject in SUBJECTS:
        label = f"{subject.name} {subject.version} {subject.esp} {subject.auth}"
        if not all(word in label for word in options.only.split()):
            continue
        print(label, flush=True)
        results = judge(subject, lambda text: print(text, flush=True))
        rows.append(
            {"gateway": f"{subject.name} {subject.version}", "ESP": subject.esp, "login": subject.auth, **results}
        )
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.write:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        day = datetime.datetime.now(datetime.UTC).strftime("%-d %B %Y")
        PAGE.write_text(f"{head}{BEGIN}Run on {day}.\n\n{table(rows)}{END}{rest.partition(END)[2]}")
    return 0 if rows and not any(result.startswith("no") for row in rows for result in row.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
