"""Text from the other side made fit to show.

Whatever a gateway sends as text (a banner, an EAP notification, the message of a failure) is hostile until every
character that could move a cursor, forge a line or reverse the reading order has been replaced by a visible escape.
"""

from __future__ import annotations

_ELLIPSIS = "\u2026"


def printable(text: bytes | str, limit: int = 256) -> str:
    """`text` as one line of at most `limit` characters that is safe on a terminal, in a log and in JSON.

    Bytes are read as UTF-8. Control and format characters, line separators, lone surrogates and bytes that are not
    UTF-8 become escapes such as `\\x1b`; longer text ends in an ellipsis. The work done depends on `limit`, not on
    the length of `text`. Never raises.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode("utf-8", "surrogateescape")  # no character has more than four bytes
    if len(text) <= limit and text.isprintable():
        return text
    pieces: list[str] = []
    length = 0
    for character in text[: limit + 1]:
        piece = character if character.isprintable() else _escape(character)
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            break
    if length <= limit:
        return "".join(pieces)
    while pieces and length > limit - len(_ELLIPSIS):
        length -= len(pieces.pop())
    return "".join(pieces) + _ELLIPSIS


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how surrogateescape keeps a byte that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
