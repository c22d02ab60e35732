"""Shards behind http, on this machine, that can be made to vanish and to come back."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Server(ThreadingHTTPServer):
    """Files of a folder; while it is `gone` a connection is closed without an answer."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.gone, self.refused = folder.resolve(), False, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """Readers that go away are no errors here."""


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD with ranges."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """The file, or the range of it that is asked for."""
        if self.server.gone:
            self.server.refused += 1
            self.close_connection = True
            return
        path = (self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(self.server.folder) or not path.is_file():
            self.send_error(404)
            return
        size, first, code = path.stat().st_size, 0, 200
        last = size - 1
        if match := RANGE.fullmatch(self.headers.get("Range", "")):
            first, code = int(match[1]), 206
            last = min(last, int(match[2])) if match[2] else last
        self.send_response(code)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if code == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            with open(path, "rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last - first + 1))

    def log_message(self, format: str, *args: object) -> None:
        """The drill has a log of its own."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder until the block ends."""
    server = Server(folder)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
