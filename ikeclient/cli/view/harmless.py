"""Text from others, made harmless before it is shown."""

from __future__ import annotations


def printable(text: object, limit: int = 1024) -> str:
    """Return `text` as one line that cannot steer a terminal: control and format characters are escaped."""
    string = str(text)
    shown = string[:limit] + ("..." if len(string) > limit else "")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in shown)
