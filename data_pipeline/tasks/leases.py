"""Leases: files of a shared folder, each held by one worker at a time, on any number of machines, without a server.

    FOLDER/leases/plan.1     the lease `plan`, and whose it is: its token, and what that says of it
    FOLDER/leases/door.1     a worker that comes or goes: one at a time, so that the last one out tidies undisturbed
    FOLDER/workers/TOKEN     a worker that lives (owner.py)

A lease is created with O_EXCL, so one worker has it; where that worker dies, another one creates the lease of the next
attempt, `plan.2`. Needs a file system on which O_EXCL holds (POSIX, NFS from version 3 on, Lustre, GPFS).

Two rules keep it at one, however the operations of several workers fall between each other: only who holds a lease
removes it and those before it, the first one first; and a lease counts where, after it was created, the one before it
is still there, its worker dead.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from data_pipeline.tasks.owner import Owner, Watcher, opened

LEASE_S = 60.0
LEAST_WAIT_S, MOST_WAIT_S = 0.05, 2.0
DOOR = "door"
AnyLeases = TypeVar("AnyLeases", bound="Leases")


class Leases:
    """One worker's view. A context: on the way out all of its leases are given back.

    A worker that is silent for `lease_s` is taken for dead: one that was not may then hold its lease beside another.
    """

    def __init__(self, folder: Path, lease_s: float = LEASE_S):
        self.folder = folder
        self.owner = Owner(folder / "workers", lease_s)
        self.watcher = Watcher(folder / "workers", lease_s)
        self.leases = folder / "leases"
        self.leases.mkdir(parents=True, exist_ok=True)
        self.held: dict[str, int] = {}  # lease -> attempt
        self._attempts: dict[str, int] = {}  # the last attempt of each lease, as last looked
        self._looked_s, self._look_s = -1e9, 0.0  # when, and how long it took
        self._wait_for(DOOR)  # nobody tidies now, and whoever does later sees this worker
        self._give_back(DOOR, all_attempts=True)

    def __enter__(self: AnyLeases) -> AnyLeases:
        return self

    def __exit__(self, *_: Any) -> None:
        for task in list(self.held):
            self._give_back(task)
        try:
            with contextlib.suppress(OSError), self.alone(DOOR):  # where the disk is full, the next one tidies
                if not self.others():
                    self._tidy()
                self.owner.end()
        finally:
            self.owner.end()
        for folder in (self.leases, self.watcher.folder, self.folder):
            with contextlib.suppress(OSError):  # something is left in it
                folder.rmdir()

    def _tidy(self) -> None:
        """The last one out removes what says nothing any more."""
        self.watcher.clear()
        self._look(at_once=True)
        for task in list(self._attempts):
            if self._says_nothing(task) and self.claim(task):
                self._give_back(task, all_attempts=True)

    def _says_nothing(self, task: str) -> bool:
        """Whether a lease of dead workers may go."""
        return True

    def others(self) -> dict[str, dict[str, Any]]:
        """What the other living workers say."""
        return {token: said for token, said in self.watcher.living().items() if token != self.owner.token}

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Do what one worker at a time may do; waits for another one that is at it, not for one that dies."""
        self._wait_for(name)
        try:
            yield
        finally:
            self._give_back(name, all_attempts=True)

    def _wait_for(self, name: str) -> None:
        for wait_s in waits_s():
            if self.claim(name):
                return
            time.sleep(wait_s)
            self._look(at_once=True)

    def _living(self, wanted: Callable[[str], bool]) -> dict[str, int]:
        """The leases of other living workers, of some names, and their attempts, as they are now."""
        self._read()
        others = [item for item in self._attempts.items() if item[0] not in self.held and wanted(item[0])]
        return {task: attempt for task, attempt in others if not self._abandoned(task, attempt)}

    def _look(self, at_once: bool = False) -> None:
        """Read the folder, not more often than needed."""
        began = time.monotonic()
        if began - self._looked_s >= self._pause_s(at_once):
            self._read()
            self._looked_s = time.monotonic()
            self._look_s = self._looked_s - began

    def _pause_s(self, at_once: bool) -> float:
        """From one look to the next."""
        return self._look_s

    def _read(self) -> None:
        self._attempts = {}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.leases):
                task, _, attempt = name.rpartition(".")
                self._attempts[task] = max(self._attempts.get(task, 0), int(attempt))

    def claim(self, task: str, said: str = "") -> bool:
        """Take a lease, or that of a dead worker; `said` stands in it. Whether it was to be had."""
        attempt = self._attempts.get(task, 0)
        if task in self.held or (attempt and not self._abandoned(task, attempt)):
            return False
        path = self._path(task, attempt + 1)
        try:
            _write_new(path, f"{self.owner.token} {said}")
        except FileExistsError:
            self._attempts[task] = attempt + 1
            return False
        if attempt and not self._abandoned(task, attempt):  # a third one has had the lease since and given it back
            path.unlink()
            return False
        self._attempts[task] = self.held[task] = attempt + 1
        return True

    def _abandoned(self, task: str, attempt: int) -> bool:
        """Whether the worker of a lease is dead."""
        try:
            token, _ = self._lease(task, attempt)
        except FileNotFoundError:
            self._attempts.pop(task, None)  # given back: another look will tell
            return False
        return self.watcher.dead(self.watcher.folder / token if token else self._path(task, attempt))

    def _lease(self, task: str, attempt: int) -> tuple[str, str]:
        """Whose a lease is, "" where that is not written yet, and what it says."""
        token, _, said = self._path(task, attempt).read_text().partition(" ")
        return token, said

    def _give_back(self, task: str, all_attempts: bool = False) -> None:
        """Remove a lease; with `all_attempts` those before it as well, so that they count no more.

        The first goes first: whoever takes the place of an attempt must find those before it.
        """
        last = self.held.pop(task, self._attempts.get(task, 0))
        for attempt in range(1 if all_attempts else last, last + 1):
            self._path(task, attempt).unlink(missing_ok=True)
        self._attempts.pop(task, None)

    def _path(self, task: str, attempt: int) -> Path:
        return self.leases / f"{task}.{attempt}"


def waits_s() -> Iterator[float]:
    """Growing pauses between looks at what others do, without end."""
    wait_s = LEAST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(1.3 * wait_s, MOST_WAIT_S)


def _write_new(path: Path, text: str) -> None:
    """Raises FileExistsError where the file is there."""
    with os.fdopen(opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as handle:
        handle.write(text)
