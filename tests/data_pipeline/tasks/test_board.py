"""The board of tasks: each task once, the dead are replaced, clocks of other machines do not count."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from data_pipeline.tasks import leases
from data_pipeline.tasks.board import Board, leaving_on_term, work_through
from mytalk.command import UserError

SHORT_S = 0.3


class Work:
    """Tasks that are files: finished where the file is there."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def board(self, lease_s: float = 30.0) -> Board:
        done = self.folder / "done"
        done.mkdir(exist_ok=True)
        return Board(
            self.folder / "board", lambda n: (done / str(n)).exists(), lambda: set(map(int, os.listdir(done))), lease_s
        )

    def finish(self, board: Board, number: int) -> None:
        (self.folder / "done" / str(number)).touch()
        board.release(number)

    def lease_of_another(self, number: int, attempt: int, beat: int = 1, token: str = "elsewhere") -> Path:
        """A lease of a worker on another machine, and that worker's file."""
        worker = self.folder / "board/workers" / token
        worker.write_text(json.dumps({"beat": beat, "machine": "another", "pid": 1, "began": 1}))
        (self.folder / f"board/leases/{number:06d}.{attempt}").write_text(token)
        return worker


@pytest.fixture
def work(tmp_path) -> Work:
    return Work(tmp_path / "work")


def test_a_board_is_idle_until_another_worker_begins_whether_or_not_that_has_a_task(work):
    cleaned = []
    with work.board() as one, work.board() as two:
        assert one.idle(), "the other one lives, but waits"
        assert two.begin([0, 1], "kind", lambda: cleaned.append(2)) == [0, 1]
        assert two.idle(), "its own presence does not count"
        assert not one.idle()
        assert one.begin([0, 1], "kind", lambda: cleaned.append(1)) == [0, 1]
        assert not one.at_task()
        assert next(two.claims([1])) == 1
        assert one.at_task()
        assert not two.at_task()
        with work.board() as three:
            with pytest.raises(UserError, match="others are at work in"):
                three.begin([0, 1], "another", lambda: cleaned.append(3))
            one.__exit__()
            two.__exit__()
            assert three.begin([0, 1], "another", lambda: cleaned.append(3)) == [0, 1]
    assert cleaned == [2, 3]
    assert not (work.folder / "board").exists()


def test_the_place_of_a_dead_worker_is_not_taken_once_another_had_it_and_left(work, monkeypatch):
    """Of three that see a dead worker's lease: the second has had its turn while the first looked at it."""
    with work.board() as one, work.board() as two, work.board() as three:
        work.lease_of_another(1, 1).unlink()
        there = work.folder / "board/leases"
        (there / "000001.1").rename(there / "plan.1")
        assert not one.at_task(), "it has looked now"
        real = os.open

        def late(path, *flags):
            monkeypatch.undo()
            with two.alone("plan"):
                pass
            assert three.claim("plan")
            return real(path, *flags)

        monkeypatch.setattr(leases.os, "open", late)
        assert not one.claim("plan")
        assert sorted(os.listdir(there)) == ["plan.1"], "that of the third"


def test_two_workers_take_each_task_once_and_leave_nothing_behind(work):
    taken = []
    with work.board() as one, work.board() as two:
        mine, theirs = one.claims(range(10)), two.claims(range(10))
        for board, claims in [(one, mine), (two, theirs)] * 5:
            taken.append(next(claims))
            work.finish(board, taken[-1])
        assert next(mine, None) is None
        assert next(theirs, None) is None
        assert one.left(range(10)) == []
        assert len(one.others()) == 1
    assert sorted(taken) == list(range(10))
    assert not (work.folder / "board").exists()


def test_a_task_that_was_finished_since_the_last_look_is_not_done_again(work):
    with work.board() as one, work.board() as two:
        claims = two.claims(range(3))
        before = next(claims)  # it has looked now
        (other, another) = (number for number in range(3) if number != before)
        assert next(one.claims([other])) == other
        work.finish(one, other)
        assert list(claims) == [another]


def test_leases_are_given_back_on_the_way_out_and_count_no_attempt(work):
    for _ in range(3):
        with work.board() as board:
            assert next(board.claims([7])) == 7
    with work.board() as board:
        assert next(board.claims([7])) == 7


def test_a_silent_worker_is_replaced_by_the_clock_of_who_watches_whatever_its_files_say(work):
    with work.board(SHORT_S) as board:
        worker = work.lease_of_another(0, 1)
        for year_s in (0, 4e9):  # stamps of a machine whose clock is wrong
            os.utime(worker, (year_s, year_s))
            assert list(board.claims([0])) == []
        until = time.monotonic() + 2.5 * SHORT_S
        while time.monotonic() < until:  # its count moves on: it lives
            work.lease_of_another(0, 1, beat=time.monotonic_ns())
            assert list(board.claims([0])) == []
            time.sleep(SHORT_S / 5)
        time.sleep(1.2 * SHORT_S)
        assert next(board.claims([0])) == 0


def test_a_lease_that_was_never_written_is_taken_over_after_a_while(work):
    with work.board(SHORT_S) as board:
        (work.folder / "board/leases/000003.1").touch()
        assert list(board.claims([3])) == []
        time.sleep(1.2 * SHORT_S)
        assert list(board.claims([3])) == [3]


def test_a_task_whose_workers_died_twice_is_set_aside_with_its_reason_and_the_others_are_done(work):
    with work.board() as board:
        for attempt in (1, 2):
            work.lease_of_another(1, attempt).unlink()  # it has left, or was removed as dead

        def do(claims):
            for number in claims:
                work.finish(board, number)

        assert work_through(board, range(4), do) == [1]
        assert board.reason(1) == "its workers died in 2 attempts"
        assert sorted(os.listdir(work.folder / "done")) == ["0", "2", "3"]
    with work.board() as board:
        assert list(board.claims([1])) == []
        assert board.begin([1]) == [1], "nothing else is left: it is tried again"
        assert list(board.claims([1])) == [1]


def _claim_and_die(work: Work, how: int, ready) -> None:
    with leaving_on_term(), work.board() as board:
        number = next(board.claims([5]))
        ready.put(number)
        os.kill(os.getpid(), how)
        time.sleep(60)


@pytest.mark.parametrize(
    ("how", "attempts"), [(signal.SIGKILL, ["000005.1"]), (signal.SIGTERM, None), (signal.SIGUSR1, None)]
)
def test_a_process_that_is_gone_is_replaced_at_once_and_one_that_is_ended_gives_its_lease_back(work, how, attempts):
    context = multiprocessing.get_context("fork")
    ready = context.SimpleQueue()
    process = context.Process(target=_claim_and_die, args=(work, how, ready))
    process.start()
    assert ready.get() == 5
    process.join(20)
    leases = work.folder / "board/leases"
    assert (sorted(os.listdir(leases)) if leases.exists() else None) == attempts
    with work.board(lease_s=1000) as board:
        assert next(board.claims([5])) == 5
        work.finish(board, 5)
    assert not (work.folder / "board").exists()


def test_one_at_a_time_waits_for_a_living_worker_and_not_for_a_dead_one(work):
    with work.board(SHORT_S) as board:
        worker = work.lease_of_another(0, 1, token="other")
        (work.folder / "board/leases/list.1").write_text("other")
        began = time.monotonic()
        with board.alone("list"):
            assert time.monotonic() - began >= SHORT_S, "it was silent for so long"
        worker.unlink()
        with board.alone("list"):
            assert board.closed("a list") is None
            assert board.close("a list", 3) == 3
        assert board.closed("a list") == 3
        assert board.closed("a longer list") is None
