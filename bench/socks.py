"""The shipped proxy over the sockets of its own namespace: serves SOCKS at any port, which it prints, until it ends."""

from __future__ import annotations

import json
import threading

from bench.inside import socks_listener
from ikeclient.proxy.serve import serve
from ikeclient.proxy.settings import Settings

if __name__ == "__main__":
    listener = socks_listener()
    port = listener.socket.getsockname()[1]
    settings = Settings(listeners=(listener,))
    serve(settings, on_ready=lambda: print(json.dumps({"port": port}), flush=True), until=threading.Event().wait)
