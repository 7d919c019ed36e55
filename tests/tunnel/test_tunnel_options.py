"""How one run of a tunnel differs from another."""

from __future__ import annotations

from pathlib import Path

from ikeclient.tunnel.options import ConnectOptions


def test_what_reads_the_profile_again_is_never_shown() -> None:
    """F12: it holds secrets."""

    class Secretive:
        def __repr__(self) -> str:
            return "CANARY"

        def __call__(self) -> None: ...

    options = ConnectOptions(
        name="work",
        timeout=30,
        keylog=None,
        runtime_directory=Path("/run"),
        reread=Secretive(),  # type: ignore[arg-type]
    )
    assert "CANARY" not in repr(options)
    assert options.mode == "tun"
