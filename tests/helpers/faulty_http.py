"""An HTTP server of files that fails on request, for tests of what reads over a network."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Fault = "str | int"


class FaultyServer:
    """Serves the files of `folder` on 127.0.0.1 (GET and HEAD, with Range) until the `with` block ends.

    `faults` decides what becomes of each request: an iterable gives a fault for each in turn, then all is well; a
    callable is given (method, path) and returns a fault. A fault is a status code, or

        "ok"      nothing goes wrong
        "cut"     half of the body, then the connection is closed
        "stall"   half of the body, then silence for `stall_s` seconds
        "silent"  no answer at all for `stall_s` seconds
        "whole"   Range is ignored: status 200 and the whole file
        "short"   a well-formed answer with half of the bytes asked for
        "shift"   a well-formed answer with bytes from elsewhere in the file

    `asked` lists (method, path, Range header or "") of every request, `queries` holds what stood behind a "?",
    `sent_bytes` counts the bytes of bodies.
    """

    def __init__(self, folder: str | Path, faults: Iterable[Fault] | Callable[[str, str], Fault] = (), stall_s=30.0):
        self.folder, self.stall_s = Path(folder), stall_s
        self.faults = faults if callable(faults) else deque(faults)
        self.asked: list[tuple[str, str, str]] = []
        self.queries: set[str] = set()
        self.sent_bytes = 0
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"faulty": self}))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.socket.close()

    def fault(self, method: str, path: str, header: str) -> Fault:
        with self.lock:
            self.asked.append((method, path, header))
            if not callable(self.faults):
                return self.faults.popleft() if self.faults else "ok"
        return self.faults(method, path)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a client that asks for many ranges at once is not held up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        quoted, _, query = self.path.partition("?")
        path = unquote(quoted).lstrip("/")
        self.faulty.queries.add(query)
        header = self.headers.get("Range", "")
        fault = self.faulty.fault(self.command, path, header)
        file = self.faulty.folder / path
        if fault == "silent":
            self.hang_up()
        elif isinstance(fault, int):
            self.send(fault, b"no" * 20, {}, with_body)
        elif not file.is_file():
            self.send(404, b"not found", {}, with_body)
        else:
            self.give(file.read_bytes(), header, fault, with_body)

    def give(self, data: bytes, header: str, fault: Fault, with_body: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
        if not wanted or fault == "whole":
            self.send(200, data, {}, with_body, fault)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first > last:
            self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, with_body)
            return
        if fault == "short":
            last = (first + last) // 2
        if fault == "shift":
            first, last = (0, last - first) if first else (1, last)
        self.send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, with_body, fault)

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool, fault: Fault = "ok") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            part = body[: len(body) // 2] if fault in ("cut", "stall") else body
            self.wfile.write(part)
            self.wfile.flush()
            with self.faulty.lock:
                self.faulty.sent_bytes += len(part)
        if fault == "stall":
            self.hang_up()
        if fault == "cut":
            self.close_connection = True

    def hang_up(self) -> None:
        """Say no more, then close; earlier where the server stops."""
        self.faulty.stopped.wait(self.faulty.stall_s)
        self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            time.sleep(0)  # the client went away: what some tests are about

    def log_message(self, *_) -> None:
        """Silence: the tests read `asked`."""
