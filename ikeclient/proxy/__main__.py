"""The program that runs inside the tunnel's namespace: `python -m ikeclient.proxy serve FD`, or `stdio HOST:PORT`."""

from __future__ import annotations

import os
import socket
import sys

from ikeclient.errors import IkeclientError
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.serve import serve, show
from ikeclient.proxy.stdio import relay_stdio

_READER_GONE = 141  # as a shell reports a program that SIGPIPE ended


def main(arguments: list[str]) -> int:
    """Run one of both; returns the exit code."""
    try:
        match arguments:
            case ["serve", descriptor]:
                serve(socket.socket(fileno=int(descriptor)))
            case ["stdio", destination]:
                relay_stdio(Destination.parse(destination))
            case _:
                raise AssertionError("only ikeclient itself starts this program")
    except BrokenPipeError:
        return _READER_GONE
    except IkeclientError as error:
        return show(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # a thread may still wait for a name server, or for our input
