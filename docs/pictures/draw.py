"""Draw the pictures of how-it-works.md as SVG, from literal tables: `scripts/docs` writes them beside this file.

A sequence has its actors side by side and time running down. A path is a row of boxes with what goes from one to the
next.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

INK, LINE, NOTE, OURS = "#212121", "#616161", "#fff8e1", "#e0f2f1"
STEP, TOP, GAP = 34, 62, 210


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One arrow from an actor to another; `dashed` for what is protected by keys that both have."""

    source: str
    target: str
    text: str
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one actor does or knows at that time."""

    actor: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """What passes between actors, in order."""

    title: str
    actors: tuple[str, ...]
    steps: tuple[Message | Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Boxes in a row: for each its name and what it does, and what is handed on to the next."""

    title: str
    boxes: tuple[tuple[str, str], ...]
    between: tuple[str, ...]


def to(source: str, target: str, text: str) -> Message:
    """A message in the clear."""
    return Message(source=source, target=target, text=text)


def sealed(source: str, target: str, text: str) -> Message:
    """A message under keys."""
    return Message(source=source, target=target, text=text, dashed=True)


CONNECT = Sequence(
    title="Connecting: two round trips with a key or a certificate",
    actors=("program", "ikeclient", "gateway"),
    steps=(
        Note(actor="ikeclient", text="profile checked, helper forked, rights dropped"),
        to("ikeclient", "gateway", "IKE_SA_INIT: proposals, key share, nonce, NAT hashes"),
        to("gateway", "ikeclient", "choice, key share, nonce"),
        Note(actor="ikeclient", text="keys; port 4500 if there is a NAT"),
        sealed("ikeclient", "gateway", "IKE_AUTH: who we are, proof, address wanted, selectors"),
        sealed("gateway", "ikeclient", "certificate, proof, address, name servers, selectors"),
        Note(actor="ikeclient", text="proof, certificate, revocation checked"),
        Note(actor="ikeclient", text="device, routes, name servers: connected"),
        to("program", "ikeclient", "IP packet into the TUN device"),
        sealed("ikeclient", "gateway", "ESP in UDP"),
        Note(actor="ikeclient", text="nothing back for some seconds? echo requests, then a warning"),
    ),
)

MOVE = Sequence(
    title="Another network: the same keys, a new address (MOBIKE)",
    actors=("kernel", "ikeclient", "gateway"),
    steps=(
        to("kernel", "ikeclient", "netlink: the address is gone, another one is there"),
        Note(actor="ikeclient", text="routes of the tunnel stay: nothing leaves in the clear"),
        Note(actor="ikeclient", text="a new socket, bound to the new path"),
        sealed("ikeclient", "gateway", "INFORMATIONAL: UPDATE_SA_ADDRESSES, from the new address"),
        sealed("gateway", "ikeclient", "answer, with a cookie that only this path has seen"),
        Note(actor="ikeclient", text="ESP from the new address; connections live on"),
    ),
)

REKEY = Sequence(
    title="New keys while packets flow",
    actors=("ikeclient", "gateway"),
    steps=(
        sealed("ikeclient", "gateway", "CREATE_CHILD_SA: replaces this SA, new nonce and key share"),
        sealed("gateway", "ikeclient", "nonce, key share"),
        Note(actor="ikeclient", text="opens with both pairs, seals with the new one"),
        sealed("ikeclient", "gateway", "ESP under the new keys"),
        sealed("ikeclient", "gateway", "DELETE of the old pair"),
        sealed("gateway", "ikeclient", "DELETE of its half"),
        Note(actor="ikeclient", text="what was under way has come in; old keys wiped"),
    ),
)

UPLOAD = Row(
    title="An upload: what is one packet for the program stays one for as long as possible",
    boxes=(
        ("program", "writes to a TCP socket"),
        ("kernel's TCP", "makes segments of up to 60 KB for the device"),
        ("codec", "cuts, numbers, encrypts 44 packets in one call"),
        ("UDP socket", "sends the run in one system call"),
        ("network", "sees single datagrams"),
    ),
    between=("bytes", "one segment", "one run of ESP", "44 datagrams"),
)

PICTURES: dict[str, Sequence | Row] = {"connect": CONNECT, "move": MOVE, "rekey": REKEY, "upload": UPLOAD}


def drawn(picture: Sequence | Row) -> str:
    """Return a picture as SVG."""
    lines = _sequence(picture) if isinstance(picture, Sequence) else _row(picture)
    return "\n".join(lines) + "\n"


def _begin(title: str, width: int, height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}" role="img" aria-label="{escape(title)}">'
    )
    yield f'<rect width="{width}" height="{height}" fill="#fff"/>'
    yield (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
    )


def _sequence(sequence: Sequence) -> Iterator[str]:
    gap = GAP if len(sequence.actors) > 2 else 2 * GAP
    place = {actor: 130 + gap * number * (1 if number < 2 else 1.25) for number, actor in enumerate(sequence.actors)}
    width = round(max(place.values())) + 130
    height = TOP + STEP * len(sequence.steps) + 14
    yield from _begin(sequence.title, width, height)
    for actor, x in place.items():
        yield f'<line x1="{x:.0f}" y1="44" x2="{x:.0f}" y2="{height - 6}" stroke="#bdbdbd"/>'
        yield f'<rect x="{x - 60:.0f}" y="12" width="120" height="28" rx="4" fill="{_shade(actor)}" stroke="{LINE}"/>'
        yield f'<text x="{x:.0f}" y="31" text-anchor="middle" font-weight="bold">{escape(actor)}</text>'
    for number, step in enumerate(sequence.steps):
        y = TOP + STEP * number + 10
        if isinstance(step, Note):
            x = place[step.actor]
            half = 3.35 * len(step.text) + 10
            yield (
                f'<rect x="{x - half:.0f}" y="{y - 11}" width="{2 * half:.0f}" height="22" rx="3" '
                f'fill="{NOTE}" stroke="#e0c97f"/>'
            )
            yield f'<text x="{x:.0f}" y="{y + 4}" text-anchor="middle">{escape(step.text)}</text>'
            continue
        start, end = place[step.source], place[step.target]
        dash = ' stroke-dasharray="6 3"' if step.dashed else ""
        yield (
            f'<line x1="{start:.0f}" y1="{y + 4}" x2="{end:.0f}" y2="{y + 4}" stroke="{LINE}" '
            f'marker-end="url(#tip)"{dash}/>'
        )
        middle = (start + end) / 2
        yield f'<text x="{middle:.0f}" y="{y - 2}" text-anchor="middle" font-size="11">{escape(step.text)}</text>'
    yield "</svg>"


def _shade(actor: str) -> str:
    return OURS if actor == "ikeclient" else "#f5f5f5"


def _row(row: Row) -> Iterator[str]:
    box, gap, high = 126, 92, 92
    width = len(row.boxes) * box + (len(row.boxes) - 1) * gap + 16
    yield from _begin(row.title, width, high + 24)
    for number, (name, text) in enumerate(row.boxes):
        x = 8 + number * (box + gap)
        shade = OURS if name in ("codec", "UDP socket") else "#f5f5f5"
        yield f'<rect x="{x}" y="12" width="{box}" height="{high}" rx="4" fill="{shade}" stroke="{LINE}"/>'
        yield f'<text x="{x + box / 2}" y="32" text-anchor="middle" font-weight="bold">{escape(name)}</text>'
        for line, words in enumerate(textwrap.wrap(text, 19)):
            yield (
                f'<text x="{x + box / 2}" y="{52 + 14 * line}" text-anchor="middle" font-size="11">'
                f"{escape(words)}</text>"
            )
        if number < len(row.between):
            end, middle = x + box + gap, 12 + high / 2
            yield (
                f'<line x1="{x + box}" y1="{middle:.0f}" x2="{end}" y2="{middle:.0f}" stroke="{LINE}" '
                'marker-end="url(#tip)"/>'
            )
            yield (
                f'<text x="{x + box + gap / 2}" y="{middle - 6:.0f}" text-anchor="middle" font-size="11">'
                f"{escape(row.between[number])}</text>"
            )
    yield "</svg>"
