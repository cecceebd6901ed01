"""A Hugging Face hub of one's own: it takes uploads, and keeps them in memory."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

OWNER = "someone"


class Hub:
    """What was uploaded: the files by repository, and which repositories are private."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.address = ""

    def answer(self, path: str, body: bytes) -> dict[str, Any] | None:
        """The hub's answer to a request, by its API; None for one that it does not know."""
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or OWNER}/{asked['name']}"
            self.private[name] = asked.get("visibility") == "private"
            self.files[name] = {}
            return {"url": f"{self.address}/{name}", "name": name}

        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}

        if "preupload" in parts:
            asked = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return {"files": [{"path": file["path"], **modes} for file in asked]}

        if "commit" in parts:
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    file = line["value"]
                    self.files[name][file["path"]] = base64.b64decode(file["content"])
            return {"commitUrl": f"{self.address}/{name}/commit/0", "commitOid": "0" * 40}

        return None


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub at hub.address, for as long as the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.reply(hub.answer(self.path.split("?")[0], body))

        def do_GET(self) -> None:
            self.reply(None)

        def reply(self, answer: dict[str, Any] | None) -> None:
            content = json.dumps(answer or {}).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            """Nothing: the tests' output is not for it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
