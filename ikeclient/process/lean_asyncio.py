"""asyncio without TLS, which no connection of a tunnel has: OpenSSL made ready once more takes 1 MiB for good."""

from __future__ import annotations

import sys
from typing import Any


def import_asyncio() -> None:
    """Import asyncio, which does without the module `ssl` if there is none; other modules may import that later."""
    modules: dict[str, Any] = sys.modules
    if "ssl" in modules:
        return
    modules["ssl"] = None  # an import of it fails
    try:
        import asyncio  # noqa: F401
    finally:
        del modules["ssl"]
