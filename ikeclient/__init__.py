"""ikeclient: VPN access over IKEv2, entirely in userspace.

In a program: `async with ikeclient.open("work") as tunnel: ...` (`ikeclient.library.tunnel`), and `ikeclient.client`
for tunnels that run already.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ikeclient.library.tunnel import Tunnel
    from ikeclient.library.tunnel import open_tunnel as open  # noqa: A004  the name that people read
    from ikeclient.profile.model.schema import Profile

__all__ = ["Profile", "Tunnel", "__version__", "open"]

_HOMES = {
    "open": ("ikeclient.library.tunnel", "open_tunnel"),
    "Tunnel": ("ikeclient.library.tunnel", "Tunnel"),
    "Profile": ("ikeclient.profile.model.schema", "Profile"),
}


def __getattr__(name: str) -> Any:
    """Import what programs use when they use it: a command needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ikeclient' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
