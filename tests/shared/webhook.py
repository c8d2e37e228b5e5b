"""A server on loopback that takes what a daemon tells: as it is, refusing, silent, or gone for a while."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "hush-4711"
"""Part of every address, and of nothing else."""


class Webhook:
    """Keeps every message by the path that it was sent to."""

    def __init__(self) -> None:
        self.got: dict[str, list[dict[str, Any]]] = {}
        self.refuses = False
        self.silent = threading.Event()
        """Cleared, it keeps everybody waiting."""
        self.silent.set()
        self._port = 0
        self.open()

    def open(self) -> None:
        """Listen, at the same port as before."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.silent.wait(30)
                if not hook.refuses:
                    hook.got.setdefault(self.path.rpartition("/")[2], []).append(body)
                self.send_response(503 if hook.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Refuse every connection."""
        self.silent.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def json(self, name: str = "json") -> str:
        """Return an address that Apprise reads."""
        return f"json://127.0.0.1:{self._port}/{SECRET}/{name}"

    def slack(self, name: str = "slack") -> str:
        """Return an address that takes Slack's form."""
        return f"http://127.0.0.1:{self._port}/{SECRET}/{name}"

    def told(self, name: str) -> list[str]:
        """Return the messages that came to an address, without the name in front that all of them have."""
        texts = [body.get("text") or body["message"] for body in self.got.get(name, [])]
        assert all(text.startswith("rlmd: ") and "\n" not in text for text in texts), texts
        return [text.removeprefix("rlmd: ") for text in texts]
