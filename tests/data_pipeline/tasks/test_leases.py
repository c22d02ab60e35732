"""Leases and the last one out, with the file operations of several workers in every order of few switches."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from data_pipeline.tasks.board import Board
from data_pipeline.tasks.leases import Leases

POINTS = [(os, "open"), (os, "listdir"), (os, "replace")]
POINTS += [(Path, name) for name in ("unlink", "mkdir", "rmdir", "exists", "read_text")]
DEAD = "no-such-worker"


class Turns:
    """Threads of which one runs at a time: the next one where it is told to switch, sleeps, or has ended."""

    def __init__(self, monkeypatch):
        self.workers: dict[int, int] = {}  # thread -> its place
        for owner, name in POINTS:
            monkeypatch.setattr(owner, name, self._before(getattr(owner, name)))
        monkeypatch.setattr(time, "sleep", lambda s: self._switch(None))
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def run(self, functions: Sequence[Callable[[], None]], switches: dict[int, int]) -> list[int]:
        """Call all, switching at the n-th operation to a thread; who ran at each of them. Raises their first error."""
        self.switches, self.ran, self.errors = switches, [], []
        self.turns = [threading.Semaphore(0) for _ in functions]
        self.left = list(range(len(functions)))
        threads = [threading.Thread(target=self._one, args=each) for each in enumerate(functions)]
        for thread in threads:
            thread.start()
        self.turns[0].release()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "waits without end"
        if self.errors:
            raise self.errors[0]
        return self.ran

    def _one(self, place: int, function: Callable[[], None]) -> None:
        self.turns[place].acquire()
        self.workers[threading.get_ident()] = place
        try:
            function()
        except BaseException as error:
            self.errors.append(error)
        del self.workers[threading.get_ident()]
        after = [one for one in self.left if one > place] + [one for one in self.left if one < place]
        self.left.remove(place)
        if after:
            self.turns[after[0]].release()

    def _before(self, operation: Callable) -> Callable:
        def with_point(*args, **options):
            place = self.workers.get(threading.get_ident())
            if place is not None:
                self.ran.append(place)
                self._switch(self.switches.get(len(self.ran) - 1, place))
            return operation(*args, **options)

        return with_point

    def _switch(self, to: int | None) -> None:
        place = self.workers[threading.get_ident()]
        if to is None:
            to = next(
                one
                for one in itertools.islice(itertools.cycle(range(len(self.turns))), place + 1, None)
                if one in self.left
            )
        if to != place and to in self.left:
            self.turns[to].release()
            self.turns[place].acquire()

    def every_order(self, prepare: Callable[[], Sequence[Callable[[], None]]], most: int) -> Iterator[dict[int, int]]:
        """Run what `prepare` gives anew with every choice of at most so many switches."""
        choices: list[dict[int, int]] = [{}]
        while choices:
            switches = choices.pop()
            yield switches
            functions = prepare()
            ran = self.run(functions, switches)
            if len(switches) < most:
                for point in range(max(switches, default=-1) + 1, len(ran)):
                    others = [place for place in range(len(functions)) if place != ran[point]]
                    choices += [{**switches, point: place} for place in others]


@pytest.fixture
def turns(monkeypatch):
    return Turns(monkeypatch)


@pytest.mark.parametrize(("workers", "most"), [(2, 2), pytest.param(3, 2, marks=pytest.mark.full)])
def test_one_worker_at_a_time_has_a_name_over_which_others_died(tmp_path, turns, workers, most):
    folder = tmp_path / "board"
    inside: list[int] = []

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        all_leases = [Leases(folder, 1000.0) for _ in range(workers)]
        (folder / "leases/plan.1").write_text(DEAD)
        return [lambda leases=leases: visit(leases) for leases in all_leases]

    def visit(leases: Leases) -> None:
        for _ in range(2):
            with leases.alone("plan"):
                assert not inside, "two have it"
                inside.append(1)
                folder.exists()  # a point
                inside.clear()
        leases.owner.end()

    assert sum(1 for _ in turns.every_order(prepare, most)) > 100
    assert os.listdir(folder / "leases") == []


@pytest.mark.parametrize("first", ["who leaves", "who comes"])
def test_the_last_one_out_takes_nothing_from_who_comes_meanwhile(tmp_path, turns, first):
    folder, done = tmp_path / "board", tmp_path / "done"

    def board() -> Board:
        return Board(folder, lambda n: (done / str(n)).exists(), lambda: set(map(int, os.listdir(done))), 1000.0)

    def prepare():
        shutil.rmtree(tmp_path, ignore_errors=True)
        done.mkdir(parents=True)
        last = board()
        last.begin([0], "what was made before")
        last.close("that", 1)
        (folder / "leases/list.1").write_text(DEAD)
        (folder / "aside").mkdir()
        both = [last.__exit__, come]
        return both if first == "who leaves" else both[::-1]

    def come() -> None:
        with board() as mine:
            with mine.alone("plan"):
                if not mine.idle():
                    return  # the other one has not gone yet
                assert mine.begin([0, 1], "this") == [0, 1]
                mine.set_aside(next(mine.claims([1])), "no reason")
                assert next(mine.claims([0])) == 0
                mine.close("this", 0)
                time.sleep(0)  # now the other one goes on, if it has not ended
                leases = set(os.listdir(folder / "leases"))
                assert {"000000.1", f"at-{mine.owner.token}.1", "plan.1"} <= leases
                assert mine.reason(1) == "no reason"
                assert mine.closed("this") == 0
                mine.release(0)
            assert mine.begin([1], "this") == [1]
            (folder / "aside/000001.json").unlink(missing_ok=True)
            came.append(1)

    came: list[int] = []
    orders = sum(1 for _ in turns.every_order(prepare, 1))
    assert not folder.exists()
    assert orders > 30, "few operations are points"
    assert came
