"""A worker as the others see it: a file that it rewrites as long as it lives, and how they tell that it is dead.

No clock of two machines is ever compared: a worker counts its beats, and who watches it measures with its own monotonic
clock how long the count has stood still.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from mytalk import command

BYTES = 512  # of a worker's file, rewritten in place by one call
BEATS = 5  # in the time after which a silent worker counts as dead


def machine() -> str:
    """This machine, since it was started, and this container: where a process number means the same process."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip())
    return " ".join(parts)


class Owner:
    """This process as a worker: FOLDER/TOKEN, whose count a thread of its own moves on until `end`.

    `said` is what it tells the others of its work, a few numbers. A forked child has no such thread and is no worker.
    """

    def __init__(self, folder: Path, lease_s: float):
        self.folder, self.lease_s = folder, lease_s
        self.token = secrets.token_hex(8)
        self.path = folder / self.token
        self.said: dict[str, float] = {}
        self._count, self._ended = 0, threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave: the others see at once that it is gone."""
        self._ended.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self._ended.wait(self.lease_s / BEATS):
            with contextlib.suppress(OSError):  # a full disk: others may take over, which costs time alone
                self._beat()

    def _beat(self) -> None:
        self._count += 1
        row = {"beat": self._count, "machine": machine(), "pid": os.getpid(), "began": command.began(os.getpid())}
        data = json.dumps({**row, "said": self.said}).encode().ljust(BYTES)
        descriptor = opened(self.path, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(descriptor, data, 0)
        finally:
            os.close(descriptor)  # which sends it to a network disk


class Watcher:
    """What this process has seen of the other workers."""

    def __init__(self, folder: Path, lease_s: float):
        self.folder, self.lease_s = folder, lease_s
        self.machine = machine()
        self._seen: dict[str, tuple[bytes, float]] = {}  # by path: its bytes, and since when it is so

    def dead(self, path: Path) -> bool:
        """Whether the worker of a file has left, its process is gone on this machine, or its count stands still.

        A file that does not say whose it is, as one that is just being written, is judged by the last alone.
        """
        now = time.monotonic()
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return True
        row = _row(data)
        if row.get("machine") == self.machine and command.began(int(row["pid"])) != row["began"]:
            return True
        before, since = self._seen.get(str(path), (None, now))
        if data != before:
            self._seen[str(path)] = data, now
            return False
        return now - since > self.lease_s

    def clear(self) -> None:
        """Remove the files of the dead."""
        for name in _names(self.folder):
            if self.dead(self.folder / name):
                (self.folder / name).unlink(missing_ok=True)

    def living(self) -> dict[str, dict[str, Any]]:
        """What the living workers say, by token."""
        rows = {}
        for name in _names(self.folder):
            if not self.dead(self.folder / name):
                with contextlib.suppress(FileNotFoundError):
                    rows[name] = _row((self.folder / name).read_bytes()).get("said", {})
        return rows


def opened(path: Path, flags: int) -> int:
    """A descriptor of a new file, whose folder the last worker out may remove as this one comes."""
    while True:
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _row(data: bytes) -> dict[str, Any]:
    """A worker's file; nothing of it where it was read while it was written."""
    try:
        return dict(json.loads(data))
    except ValueError:
        return {}
