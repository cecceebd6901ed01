"""A dataset site on this machine: files as set, with Range, and the faults that real sites have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site(ThreadingHTTPServer):
    """The site's content and its faults, which a test sets, and the requests that came.

    `files` has contents by name, `moved` new names by old ones; `headers` go with every answer.
    The next `failures` requests are answered 503, and the next `cuts` answers break off after
    `cut_at` bytes. Without `ranges` a site sends the whole file, whatever part is asked for.
    `requests` are (path, Range), in their order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []

        self.failures = 0
        self.cuts = 0
        self.cut_at = 0
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        name = self.path.lstrip("/")
        wanted = self.headers.get("Range")
        site.requests.append((self.path, wanted))

        if site.failures:
            site.failures -= 1
            return self.answer(503, b"")
        if name in site.moved:
            return self.answer(301, b"", Location=f"/{site.moved[name]}")
        if name not in site.files:
            return self.answer(404, b"")

        content = site.files[name]
        if wanted is None or not site.ranges:
            return self.answer(200, content)

        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            return self.answer(416, b"", **{"Content-Range": f"bytes */{len(content)}"})

        span = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self.answer(206, content[first:], **{"Content-Range": span})

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(body))}
        for name, value in (self.server.headers | headers | length).items():
            self.send_header(name, value)
        self.end_headers()

        if self.command == "HEAD":
            return

        if body and self.server.cuts:
            self.server.cuts -= 1
            body = body[: self.server.cut_at]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Site]:
    """A site that answers in a thread of its own until the block ends."""
    with Site() as site:
        options = {"poll_interval": 0.01}
        threading.Thread(target=site.serve_forever, kwargs=options, daemon=True).start()

        yield site
        site.shutdown()
