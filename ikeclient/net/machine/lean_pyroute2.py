"""What we use of pyroute2, without the rest of it.

The package imports all that is in it, a database among others, for whoever wants one class: twice the time and twice
the memory. So its modules are imported without running what the package itself does first. Where that fails, as it may
in a version that is laid out in another way, the package is imported as it is.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec, module_from_spec
from typing import Any

_NAME = "pyroute2"


@cache
def lean_pyroute2() -> tuple[Any, type[Any]]:
    """The classes `IPRoute` and `NetlinkError`."""
    spec = find_spec(_NAME) if _NAME not in sys.modules else None
    if spec is not None:
        sys.modules[_NAME] = module_from_spec(spec)  # and nothing runs
        try:
            return _classes()
        except (ImportError, AttributeError):
            for name in [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]:
                del sys.modules[name]
    import pyroute2

    return pyroute2.IPRoute, pyroute2.NetlinkError


def _classes() -> tuple[Any, type[Any]]:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    return IPRoute, NetlinkError
