"""Names that a DNS server behind a real gateway knows, asked by the stack's own resolver."""

from __future__ import annotations

import time
from pathlib import Path

from lab.capture import Capture
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import FURTHER_IPV4, FURTHER_IPV6
from lab.servers import DOMAIN
from lab.stack_users import using
from lab.world import Lab

MANY4 = [f"10.99.1.{number}" for number in range(1, 101)]
MANY6 = [f"fd99::1:{number:x}" for number in range(1, 61)]
TTL = 2  # seconds


class Dnsmasq:
    """A name server in a machine: `many.corp.example` has more addresses than a datagram holds, `one` has one."""

    def __init__(self, machine: Machine, log: Path) -> None:
        self._log = log
        names = [f"many.{DOMAIN},{address}" for address in (*MANY4, *MANY6)] + [f"one.{DOMAIN},{FURTHER_IPV4}"]
        listening = [f"--listen-address={address}" for address in (FURTHER_IPV4, FURTHER_IPV6)]
        options = ("--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root")
        log_to = ("--log-queries", f"--log-facility={log}", "--pid-file=")
        zone = (f"--local=/{DOMAIN}/", f"--local-ttl={TTL}", *(f"--host-record={name}" for name in names))
        machine.start("dnsmasq", "--keep-in-foreground", *options, *listening, *log_to, *zone)
        wait_for(lambda: log.exists() and "started" in log.read_text(), timeout=10, what="dnsmasq")

    def asked(self, name: str) -> int:
        """How often it was asked for a name of its domain."""
        return sum("query[" in line and f" {name}.{DOMAIN} from" in line for line in self._log.read_text().splitlines())


def test_a_server_s_truncated_answers_its_ttl_and_its_domain(lab: Lab, tmp_path: Path) -> None:
    """Over TCP on truncation (RFC 7766), A and AAAA, by the search domain, and from the cache until they expire."""
    machine = lab.network.add_further_machine()
    server = Dnsmasq(machine, tmp_path / "dnsmasq.log")
    capture = Capture(machine, "lan", tmp_path / "dns.pcap", expression="port 53")
    with using(lab, Offer(dns=(FURTHER_IPV4,), domains=(DOMAIN,))) as (user, _):
        with capture:
            assert sorted(user.ask("resolve", "many")) == sorted(MANY4 + MANY6)
        assert user.ask("resolve", "one") == [FURTHER_IPV4]
        before = server.asked("one")
        assert before == 2  # A and AAAA
        assert user.ask("resolve", f"one.{DOMAIN}.") == [FURTHER_IPV4]
        assert server.asked("one") == before + 1  # that there is no AAAA came without a time (RFC 2308 section 5)
        time.sleep(TTL)
        assert user.ask("resolve", "one") == [FURTHER_IPV4]
        assert server.asked("one") == before + 3
        assert isinstance(user.ask("resolve", "none"), OSError)
    assert capture.count("udp && dns.flags.truncated == 1") == 2
    answers = capture.packets("tcp && dns.flags.response == 1", "dns.qry.type", "dns.count.answers")
    assert sorted(answers) == [("1", "100"), ("28", "60")]
