"""`probe`: what a gateway speaks, without a profile and without credentials."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.options import duration_option
from ikeclient.cli.view.terminal import emit, printable, say, styled, width, wrapped
from ikeclient.errors import UsageError

if TYPE_CHECKING:
    from ikeclient.tunnel.probe import Findings

SCHEMA = "ikeclient.probe/1"
NO_CERTIFICATE = "a gateway shows its certificate only to who has begun to authenticate, in IKE_AUTH"
_LABEL = 14


def probe(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The gateway's name or address.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    timeout: Annotated[
        float,
        duration_option("--timeout", 0.1, 3600, text="How long to ask a port that stays silent.", default="5s"),
    ] = 5.0,
) -> None:
    """Ask a gateway what it speaks: ports, algorithms, fragmentation, NAT, round-trip time. Exits with 5 on silence."""
    import asyncio

    from ikeclient.profile.model.values import address
    from ikeclient.tunnel.probe import probe as ask
    from ikeclient.tunnel.resolve import resolve

    try:
        address(host)
    except ValueError as error:
        raise UsageError(f"HOST {error}") from None
    (_, first), *others = asyncio.run(resolve([host], 500))
    if others:
        say(f"{host} has {len(others) + 1} addresses; this is about {first}")
    found = ask(host, first, timeout)
    if as_json:
        emit(json.dumps(document(found)))
        return
    emit(styled([("answers", "good"), (f"  {printable(host)}", "strong"), (f"  {first}", "dim")], sys.stdout))
    for label, text in _rows(found):
        for number, piece in enumerate(wrapped(text, width(sys.stdout) - _LABEL - 2, cut=True)):
            emit(styled([(f"  {'' if number else label:<{_LABEL}}", "dim"), (piece, "")], sys.stdout))


def document(found: Findings) -> dict[str, object]:
    """The findings as plain values. What an answer would have had to tell, and did not, is null."""
    return {
        "schema": SCHEMA,
        "host": found.host,
        "address": found.address,
        "ports": [
            {
                "port": each.port,
                "answers": each.seconds is not None,
                "rtt_ms": None if each.seconds is None else round(each.seconds * 1000, 1),
                "error": each.error,
            }
            for each in found.ports
        ],
        "suite": found.suite,
        "cookie": found.cookie,
        "fragmentation": found.fragmentation,
        "nat": None if found.nat is None else {"local": found.nat.local, "remote": found.nat.remote},
        "signature_hashes": list(found.hashes),
        "vendor_ids": list(found.vendors),
        "certificate": None,
        "certificate_requests": found.authorities,
        "accepts": {kind: list(names) for kind, names in found.accepted.items()},
        "complete": found.complete,
    }


def _rows(found: Findings) -> Iterator[tuple[str, str]]:
    for each in found.ports:
        answered = "silent" if each.seconds is None else f"{each.seconds * 1000:.1f} ms"
        yield f"port {each.port}", f"{answered}{f', {each.error}' if each.error else ''}"
    yield "suite", found.suite or ("none of ours is accepted" if found.refused else "not known")
    for kind, names in found.accepted.items():
        yield kind.replace("_", " "), " ".join(names) or "nothing that we know"
    if not found.complete:
        yield "", "(not all questions were answered: the gateway may limit how often one may ask)"
    if found.fragmentation is not None:
        yield "fragmentation", "yes" if found.fragmentation else "no"
    if found.nat is not None:
        sides = [name for name, there in (("here", found.nat.local), ("at the gateway", found.nat.remote)) if there]
        yield "NAT", " and ".join(sides) or "none"
    yield "cookie", "asked for" if found.cookie else "not asked for"
    yield "hashes", " ".join(found.hashes)
    yield "certificate", f"not visible: {NO_CERTIFICATE}"
