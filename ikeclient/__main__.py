"""The command `ikeclient`, also as `python -m ikeclient`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run one command and return its exit code.

    Ctrl-C while modules are loaded ends the process as a signal does, since there is nothing to undo yet.
    """
    careful = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may want it ignored
    if careful:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ikeclient.cli.app import main as run

    if careful:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
