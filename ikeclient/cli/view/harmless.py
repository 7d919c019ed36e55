"""Text from others, made harmless before it is shown."""

from __future__ import annotations

from ikeclient.wire import text as wire_text


def printable(text: object, limit: int = 1024) -> str:
    """Return `text` as one line that cannot steer a terminal: control and format characters are escaped."""
    return wire_text.printable(str(text), limit)
