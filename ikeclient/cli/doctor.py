"""`doctor`: what this machine can do for a tunnel, and what to do about what it cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated, NamedTuple

import typer

from ikeclient.cli.block import closed
from ikeclient.cli.version import details
from ikeclient.cli.view.terminal import emit, printable, styled, symbol, width, wrapped
from ikeclient.control import client
from ikeclient.errors import IkeclientError, PrivilegeError

SCHEMA = "ikeclient.doctor/1"
_LABEL = 15  # columns of a finding's name


class Finding(NamedTuple):
    """One thing that was looked at: whether it is fine, what was found, and what to do if it is not."""

    name: str
    ok: bool
    text: str
    hint: str | None


class Purpose(StrEnum):
    """What `--for` can ask about."""

    CONNECT = "connect"
    EXEC = "exec"
    PROXY = "proxy"


# What can be installed beside us: the module, the package, and what it is for.
_OPTIONAL = {
    "pkcs11": ("python-pkcs11", "keys on tokens"),
    "smartcard": ("pyscard", "SIM cards in readers"),
    "keyring": ("keyring", "secrets in the desktop's keyring"),
}

# The findings without which a command cannot work; of several in a line one is enough.
_NEEDED: dict[Purpose, tuple[tuple[str, ...], ...]] = {
    Purpose.CONNECT: (("TUN device",), ("CAP_NET_ADMIN", "own device")),
    Purpose.EXEC: (("rootless",),),
    Purpose.PROXY: (("rootless",),),
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    purpose: Annotated[
        Purpose | None, typer.Option("--for", help="Exit with 11 unless this command can work here.")
    ] = None,
) -> None:
    """Check this machine: TUN, rights, DNS, libraries, the compiled codec."""
    found = findings()
    if as_json:
        emit(json.dumps({"schema": SCHEMA, "findings": [each._asdict() for each in found]}))
    else:
        for finding in found:
            mark = symbol("\u2713", "+", sys.stdout) if finding.ok else symbol("\u2717", "-", sys.stdout)
            first, *rest = plain(finding, width(sys.stdout))
            emit(styled([(f"{mark} ", "good" if finding.ok else "bad"), (first[2:], "")], sys.stdout))
            for line in rest:
                emit(line)
    if purpose is not None:
        _require(found, purpose)


def findings() -> list[Finding]:
    """Look at everything."""
    return [*_software(), *_machine()]


def plain(finding: Finding, columns: int) -> list[str]:
    """Return a finding as lines: name and text, then what to do if it is not fine."""
    indent = " " * (_LABEL + 4)
    first, *rest = wrapped(printable(finding.text), columns - len(indent))
    if finding.hint and not finding.ok:
        rest += wrapped(printable(finding.hint), columns - len(indent))
    return [f"{'+' if finding.ok else '-'} {finding.name:<{_LABEL}}  {first}", *(indent + line for line in rest)]


def _require(found: Iterable[Finding], purpose: Purpose) -> None:
    """Raise PrivilegeError for the first thing that the command lacks."""
    by_name = {finding.name: finding for finding in found}
    for names in _NEEDED[purpose]:
        known = [by_name[name] for name in names if name in by_name]
        if known and not any(finding.ok for finding in known):
            raise PrivilegeError(f"`{purpose}` cannot work here", reason=known[0].text, hint=known[0].hint)


def _software() -> Iterator[Finding]:
    about = details()
    yield Finding("ikeclient", True, f"{about['version']}, Python {about['python']}, {about['system']}", None)
    dependencies = about["dependencies"]
    assert isinstance(dependencies, dict)
    missing = [name for name, version in dependencies.items() if version is None]
    present = ", ".join(f"{name} {version}" for name, version in dependencies.items() if version is not None)
    yield Finding("libraries", not missing, present, f"install {', '.join(missing)}" if missing else None)
    yield Finding("optional", True, "; ".join(_optional()), None)
    from ikeclient.esp.codec import choice as codec

    hint = None if codec.ACTIVE == "compiled" else "install again where there is a C compiler, for a faster one"
    yield Finding("codec", not codec.STALE, codec.describe(), hint)
    from ikeclient.dataplane import cipher

    cipher.choose_cipher()
    text, hint = cipher.describe()
    yield Finding("cipher", True, text, hint)


def _optional() -> Iterator[str]:
    for module, (package, purpose) in _OPTIONAL.items():
        there = "is there" if find_spec(module) else f"is not installed: pip install {package}"
        yield f"{package} ({purpose}) {there}"


def _machine() -> Iterator[Finding]:
    for name, probe in (
        ("rights", _rights),
        ("kill switch", _kill_switch),
        ("network", _network),
        ("revocation", _revocation),
    ):
        try:
            yield from probe()
        except (ImportError, OSError, IkeclientError) as error:  # a broken machine is what doctors are for
            yield Finding(name, False, f"cannot be examined: {error}", None)


def _rights() -> Iterator[Finding]:
    from ikeclient.net.changes.journal import this_process
    from ikeclient.net.device import offloads
    from ikeclient.net.dns.backends import Dns
    from ikeclient.net.namespace import namespace
    from ikeclient.net.rights.privileges import describe

    for fact in (*describe(Dns(this_process("doctor")).backend()), namespace.fact(), *offloads.describe()):
        yield Finding(fact.name, fact.ok, fact.text, fact.hint)


def _kill_switch() -> Iterator[Finding]:
    """What keeps this machine closed now, and what would."""
    from ikeclient.net.block import firewall
    from ikeclient.net.block.store import Blocks

    found = list(closed())
    running = client.list_tunnels()
    strays = Blocks(client.runtime_directory()).strays(frozenset(each.block.table for _, each in found))
    missing = firewall.lacks()
    can = "routes and firewall" if missing is None else f"routes only ({missing})"
    shut = [
        f"closed by {each.block.name} ({each.means}, {'running' if each.block.name in running else 'not running'})"
        for _, each in found
    ]
    left = [f"closed by a tunnel that is not known any more ({len(strays)} rules and routes)"] if strays else []
    fine = not left and all(each.block.name in running for _, each in found)
    hint = f"`ikeclient unblock {'--all' if left or len(found) != 1 else found[0][1].block.name}` opens it"
    yield Finding("kill switch", fine, "; ".join([*shut, *left]) or f"nothing is closed; it would be by {can}", hint)


def _network() -> Iterator[Finding]:
    from ikeclient.net.machine.listing import default_gateways, local_addresses

    addresses = ", ".join(f"{each.address} on {each.interface}" for each in local_addresses())
    yield Finding("addresses", bool(addresses), addresses or "none but loopback", "connect this machine to a network")
    gateways = ", ".join(f"{each.address} on {each.interface}" for each in default_gateways().values())
    hint = "only hosts on attached networks can be reached"
    yield Finding("gateways", bool(gateways), gateways or "no default gateway", hint)


def _revocation() -> Iterator[Finding]:
    """Where is kept what was learnt about revoked certificates, and how it is asked for."""
    import os

    from ikeclient.net.rights.drop_privileges import future_user
    from ikeclient.net.transport.http import HttpError, Url, proxy_for
    from ikeclient.tunnel.revocation_cache import RevocationCache, cache_directory

    directory = cache_directory()
    future = future_user()  # whose it is from root's first tunnel on
    used = RevocationCache(directory, future[0] if future is not None else None).usage()
    if used is None:
        there = os.path.lexists(directory)
        text = f"{directory} cannot be used" if there else f"nothing is kept yet; it would be in {directory}"
        yield Finding("revocation", not there, text, "it has to be a directory of yours alone (0700): remove it")
    else:
        files, size = used
        yield Finding("revocation", True, f"{files} answers ({size >> 10} KiB) are kept in {directory}", None)
    try:
        proxy = proxy_for(Url.parse("http://ocsp.invalid/"))
        how = f"through the proxy {proxy}" if proxy is not None else "directly"
        how = f"authorities are asked {how}, by plain HTTP, outside of the tunnel"
        yield Finding("OCSP and CRLs", True, how, None)
    except HttpError as error:
        yield Finding("OCSP and CRLs", False, f"authorities cannot be asked: {error}", "correct http_proxy")
