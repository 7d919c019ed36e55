"""A web server on this machine for tests of what is fetched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Handler = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """A web server for tests; `asked` are the requests as `METHOD path`."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Handler | bytes | None]) -> None:
        self.asked: list[str] = []
        self.gone = threading.Event()
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                page = pages.get((self.path.partition("://")[2] and "/" + self.path.partition("://")[2]) or self.path)
                page = pages.get("") if page is None else page
                if callable(page):
                    page(self)
                elif page is None:
                    self.send_error(404)
                else:
                    reply(self, page)

            do_POST = do_GET  # noqa: N815 - what the library calls

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Answer)

    def handle_error(self, *_: object) -> None:
        """A client that goes away is expected."""


def reply(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def serving(pages: dict[str, Handler | bytes | None]) -> Iterator[Server]:
    server = Server(pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
