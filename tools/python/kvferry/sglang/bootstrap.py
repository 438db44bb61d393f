# SPDX-License-Identifier: Apache-2.0
"""Where decode engines learn where a prefill engine's instances are, one for each DP group, and how many."""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, NamedTuple, Optional

from sglang.srt.disaggregation.base.conn import BaseKVBootstrapServer

_PATH = "/kvferry/"


class Place(NamedTuple):
    """Of one DP group of a prefill engine."""

    endpoint: str
    dp_size: int


class KvferryKVBootstrapServer(BaseKVBootstrapServer):
    """GET or PUT /kvferry/<DP rank>: a Place. `port` 0: any free one, which `port` then is."""

    def __init__(self, host: str, port: int) -> None:
        places: Dict[str, Any] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = places.get(self.path)
                self._answer(200 if found else 404, json.dumps(found))

            def do_PUT(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                places[self.path] = json.loads(self.rfile.read(length))
                self._answer(200, "")

            def _answer(self, status: int, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Not to standard error, once per request."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def register(bootstrap_addr: str, dp_rank: int, place: Place) -> None:
    body = json.dumps(place).encode()
    url = f"http://{bootstrap_addr}{_PATH}{dp_rank}"
    urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=5).close()


def look_up(bootstrap_addr: str, dp_rank: int) -> Optional[Place]:
    """None: nobody has registered there yet. Raises OSError where nobody answers."""
    try:
        with urllib.request.urlopen(
            f"http://{bootstrap_addr}{_PATH}{dp_rank}", timeout=5
        ) as answer:
            return Place(*json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
