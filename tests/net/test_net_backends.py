"""Which program is told about name servers, with which words, and what becomes of its errors."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from ikeclient.errors import PlatformError
from ikeclient.net.changes.journal import this_process
from ikeclient.net.changes.steps import ResolvConfFile, ResolvconfRecord, ResolvedLink
from ikeclient.net.dns.backends import Dns, acceptable
from ikeclient.net.model import DnsConfig

SPLIT = DnsConfig(
    servers=(ip_address("10.99.0.53"), ip_address("fd99::53")), domains=("corp.example", "lab.example"), mode="split"
)
ALL = replace(SPLIT, mode="all")


class Host:
    """A made-up machine: programs that write down how they were called, and a resolver configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin, self.resolved, self.conf = root / "bin", root / "resolve", root / "resolv.conf"
        self.bin.mkdir()
        self.conf.write_text("nameserver 192.0.2.1\n")
        self.dns = Dns(this_process("work"), self.conf, directories=(self.bin,), resolved=self.resolved)

    def install(self, program: str, body: str = "") -> None:
        path = self.bin / program
        path.write_text(
            f'#!/bin/sh\n{body}\n{{ echo "{program} $*"; env | sort | sed "s/^/  env /"; sed "s/^/  in /"; }} '
            f">> {self.root}/calls\n"
        )
        path.chmod(0o755)

    def run_resolved(self) -> None:
        self.resolved.mkdir()
        (self.resolved / "stub-resolv.conf").write_text("nameserver 127.0.0.53\n")
        self.conf.unlink()
        self.conf.symlink_to(self.resolved / "stub-resolv.conf")
        self.install("resolvectl")

    def calls(self) -> list[str]:
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def commands(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("  ")]


def test_resolved_is_used_where_the_configuration_leads_to_it(host: Host) -> None:
    host.run_resolved()
    host.install("resolvconf")
    assert host.dns.backend() == "systemd-resolved"
    host.conf.unlink()
    host.conf.write_text("nameserver 127.0.0.53\n")
    assert host.dns.backend() == "systemd-resolved"
    host.conf.write_text("nameserver 192.0.2.1\n")
    assert host.dns.backend() == "resolvconf", "nobody asks resolved then"


def test_resolved_that_does_not_answer_is_passed_over(host: Host) -> None:
    host.run_resolved()
    host.install("resolvectl", "exit 1")
    assert host.dns.backend() == "resolv.conf"


@pytest.mark.parametrize(
    ("says", "expected"),
    [("openresolv 3.12.0", "openresolv"), ("Debian resolvconf 1.91", "resolvconf"), ("", "resolvconf")],
)
def test_the_two_kinds_of_resolvconf_are_told_apart(host: Host, says: str, expected: str) -> None:
    host.install("resolvconf", f'[ "$1" = --version ] && echo "{says}" && exit 0')
    assert host.dns.backend() == expected


def test_resolvconf_that_is_resolvectl_by_another_name_needs_resolved(host: Host) -> None:
    host.install("resolvectl")
    (host.bin / "resolvconf").symlink_to(host.bin / "resolvectl")
    assert host.dns.backend() == "resolv.conf"


def test_split_sends_resolved_only_the_domains(host: Host) -> None:
    host.run_resolved()
    step, warnings = host.dns.prepare(SPLIT, "lo", None)
    assert isinstance(step, ResolvedLink)
    assert warnings == []
    host.calls()
    host.dns.apply(step)
    host.dns.undo(step)
    assert commands(host.calls()) == [
        "resolvectl dns lo 10.99.0.53 fd99::53",
        "resolvectl domain lo ~corp.example ~lab.example",
        "resolvectl default-route lo no",
        "resolvectl revert lo",
    ]


def test_all_sends_resolved_everything(host: Host) -> None:
    host.run_resolved()
    step, _ = host.dns.prepare(ALL, "lo", None)
    assert step
    assert step.commands() == [
        "resolvectl dns lo 10.99.0.53 fd99::53",
        "resolvectl domain lo '~.' corp.example lab.example",
        "resolvectl default-route lo yes",
    ]


def test_split_without_domains_is_worth_a_warning(host: Host) -> None:
    host.run_resolved()
    _, warnings = host.dns.prepare(replace(SPLIT, domains=()), "lo", None)
    assert warnings == ["the gateway's name servers are not used: it named no domains for them"]


def test_a_link_that_went_takes_its_settings_along(host: Host) -> None:
    host.run_resolved()
    step, _ = host.dns.prepare(SPLIT, "lo", None)
    assert isinstance(step, ResolvedLink)
    host.calls()
    assert host.dns.undo(replace(step, index=step.index + 1)) == []
    assert host.dns.undo(replace(step, interface="nolink0")) == []
    assert host.calls() == []


def test_programs_get_no_shell_and_no_secret_environment(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """K13, and the environment of a client holds what no child needs."""
    monkeypatch.setenv("IKECLIENT_PASSWORD", "S3cr3t-CANARY")
    host.install("resolvconf")
    step = ResolvconfRecord(interface="ike0", text="nameserver 10.99.0.53\nsearch $(touch /tmp/x)\n", exclusive=False)
    host.dns.apply(step)
    lines = host.calls()
    names = {line.split()[1].partition("=")[0] for line in lines if line.startswith("  env ")}
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "  in search $(touch /tmp/x)" in lines


def test_resolvconf_gets_a_record_that_ranks_first(host: Host) -> None:
    host.install("resolvconf")
    step, warnings = host.dns.prepare(ALL, "ike0", None)
    assert step
    assert warnings == []
    host.calls()
    host.dns.apply(step)
    host.dns.undo(step)
    lines = host.calls()
    assert commands(lines) == ["resolvconf -a tun0.ike0.ikeclient", "resolvconf -d tun0.ike0.ikeclient -f"]
    assert [line for line in lines if line.startswith("  in")] == [
        "  in nameserver 10.99.0.53",
        "  in nameserver fd99::53",
        "  in search corp.example lab.example",
    ]


def test_openresolv_is_told_to_use_the_tunnels_servers_first_or_alone(host: Host) -> None:
    host.install("resolvconf", '[ "$1" = --version ] && echo openresolv 3.12.0 && exit 0')
    for config, alone in ((ALL, ["-x"]), (SPLIT, [])):
        step, _ = host.dns.prepare(config, "ike0", None)
        assert isinstance(step, ResolvconfRecord)
        assert step.arguments() == [*alone, "-a", "tun0.ike0.ikeclient"]


@pytest.mark.parametrize("program", ["resolvconf", None])
def test_what_cannot_route_single_domains_says_so(host: Host, program: str | None) -> None:
    if program:
        host.install(program)
    step, warnings = host.dns.prepare(SPLIT, "ike0", None)
    assert isinstance(step, ResolvconfRecord if program else ResolvConfFile)
    assert "asked for every name" in warnings[0]


def test_the_plain_file_is_the_last_resort(host: Host) -> None:
    assert host.dns.backend() == "resolv.conf"
    step, _ = host.dns.prepare(ALL, "ike0", None)
    assert isinstance(step, ResolvConfFile)
    host.dns.apply(step)
    assert "nameserver 10.99.0.53" in host.conf.read_text()
    host.dns.undo(step)
    assert host.conf.read_text() == "nameserver 192.0.2.1\n"


def test_a_program_that_fails_is_quoted_without_its_control_characters(host: Host) -> None:
    """O11."""
    host.run_resolved()
    step, _ = host.dns.prepare(SPLIT, "lo", None)
    assert step
    host.install("resolvectl", "printf 'Failed:\\033[31m no\\n such link' >&2; exit 1")
    with pytest.raises(PlatformError) as caught:
        host.dns.apply(step)
    assert caught.value.message == "`resolvectl dns lo 10.99.0.53 fd99::53` failed"
    assert caught.value.reason == "Failed:\\x1b[31m no  such link"


def test_a_program_that_vanished_is_an_error_not_a_crash(host: Host) -> None:
    step = ResolvconfRecord(interface="ike0", text="", exclusive=False)
    with pytest.raises(PlatformError, match="resolvconf"):
        host.dns.apply(step)


@pytest.mark.parametrize(
    "domain", ["corp.example", "xn--bcher-kva.example", "_msdcs.corp.example", "a", "9to5.example", "corp.example."]
)
def test_domain_names_are_kept(domain: str) -> None:
    config, warnings = acceptable(replace(SPLIT, domains=(domain,)))
    assert config.domains == (domain.rstrip("."),)
    assert warnings == []


@pytest.mark.parametrize(
    "domain",
    ["", ".", "..", "a..b", ".a", "-a", "~a", "a b", "a\nb", "a\0b", "a;b", "$(a)", "é.example", "x" * 64, "a." * 200],
)
def test_what_is_no_domain_name_is_dropped_with_a_warning(domain: str) -> None:
    """K13."""
    config, warnings = acceptable(replace(SPLIT, domains=(domain,)))
    assert config.domains == ()
    assert len(warnings) == 1
    assert warnings[0].isprintable()
    assert len(warnings[0]) < 600


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.53", "0.0.0.0", "::", "::1", "224.0.0.251", "fe80::1"])
def test_servers_that_are_nobody_or_ourselves_are_dropped_with_a_warning(server: str) -> None:
    """K14."""
    config, warnings = acceptable(replace(SPLIT, servers=(ip_address(server),)))
    assert config.servers == ()
    assert server in warnings[0]


@pytest.mark.skipif(shutil.which("resolvectl") is None, reason="systemd-resolved is not installed")
def test_the_real_resolvectl_knows_the_words_we_use() -> None:
    text = subprocess.run(["resolvectl", "--help"], capture_output=True, text=True).stdout
    assert all(word in text for word in ("dns", "domain", "default-route", "revert"))
