"""The pool of worker processes: a failure costs only the item that caused it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline import pool
from data_pipeline.pool import Failure
from mytalk.command import UserError, one_line
from tests.helpers import deadly
from tests.helpers.checkout import ROOT


def run_pool(folder: Path, tasks: list[list[str]], workers: int, limits=None, on_failed=lambda *_: None):
    """What became of each task's items, in order of tasks, and the processes that finished them."""
    results: dict[tuple, list[str]] = {}
    numbered = [(str(folder), tuple(items), {}) for items in tasks]

    def condemn(task: tuple, item: int, failure: Failure) -> tuple:
        return (*task[:2], {**task[2], item: failure.cause})

    def on_done(task: tuple, result: list[str]) -> None:
        results[task[1]] = result

    hooks = pool.Hooks(on_done, on_failed=on_failed, condemn=condemn)
    pool.run(numbered, deadly.work, workers, hooks, limits)
    return [results[task[1]][:-1] for task in numbered], [int(results[task[1]][-1]) for task in numbered]


def test_a_dying_worker_costs_only_the_guilty_item(tmp_path):
    tasks = [["a", "b"], ["c", "die", "d"], ["crash once", "e"], ["f"], ["die", "g", "die"]]
    results, _ = run_pool(tmp_path, tasks, 2)
    assert results == [
        ["a", "b"],
        ["c", "die: worker_died", "d"],
        ["crash once", "e"],
        ["f"],
        ["die: worker_died", "g", "die: worker_died"],
    ]


def test_units_of_the_last_moment_before_a_task_is_done_are_counted():
    counted: list[int] = []
    hooks = pool.Hooks(lambda task, result: None, lambda task, item, n: counted.append(n))
    pool.run([1, 2], deadly.two_units, 1, hooks)
    assert sum(counted) == 4


def test_a_worker_that_is_killed_in_the_middle_of_a_message_costs_only_its_item(tmp_path):
    results, _ = run_pool(tmp_path, [["a", "die in a message", "b"]], 1)
    assert results == [["a", "die in a message: worker_died", "b"]]


def test_a_worker_that_is_dead_before_its_first_task_is_replaced(tmp_path, monkeypatch):
    give, broken = pool.Worker.give, []

    def give_once_broken(worker, task):
        if not broken:
            broken.append(worker)
            worker.process.kill()
            worker.process.join()
        give(worker, task)

    monkeypatch.setattr(pool.Worker, "give", give_once_broken)
    assert run_pool(tmp_path, [["a"], ["b"]], 1)[0] == [["a"], ["b"]]


def test_a_worker_that_hangs_before_its_first_item_is_replaced(tmp_path):
    results, _ = run_pool(tmp_path, [["hang early", "a"]], 1, pool.TimeLimits(idle_s=3))
    assert results == [["hang early", "a"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_fails_once_is_tried_again_at_the_end_and_then_condemned(tmp_path, workers):
    tasks = [["no memory", "a"], ["no memory once"], ["dead disk", "b"], ["dead disk once", "c"], ["d"]]
    order = []
    results, _ = run_pool(tmp_path, tasks, workers, on_failed=lambda task, item, failure: order.append(failure.cause))
    assert results == [
        ["no memory: out_of_memory", "a"],
        ["no memory once"],
        ["dead disk: storage", "b"],
        ["dead disk once", "c"],
        ["d"],
    ]
    assert set(order) == {"out_of_memory", "storage"}


def test_an_item_over_its_time_is_condemned_and_only_its_worker_is_replaced(tmp_path):
    tasks = [["hang", "a"], ["b"], ["never end", "c"], ["d"], ["e"]]
    begun = time.monotonic()
    results, processes = run_pool(tmp_path, tasks, 1, pool.TimeLimits(idle_s=3, item_s=4))
    assert results == [["hang: timeout", "a"], ["b"], ["never end: timeout", "c"], ["d"], ["e"]]
    assert time.monotonic() - begun < 30
    assert processes[3] == processes[4]  # a worker is kept from task to task
    assert len(set(processes)) == 2  # the first task begins with the process that is killed


def test_errors_of_the_machine_and_of_the_user_cross_the_processes(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        run_pool(tmp_path, [["a"], ["full disk"]], 1)
    assert caught.value.errno == 28
    assert "free some space" in one_line(caught.value)
    with pytest.raises(UserError, match="mend it"):
        run_pool(tmp_path, [["wrong"]], 1)
    with pytest.raises(pool.WorkerCrash, match="KeyError"):
        run_pool(tmp_path, [["bug"]], 1)


def test_what_a_hook_raises_ends_the_run_and_its_workers(tmp_path):
    def stop(task, item, failure):
        raise UserError("enough")

    with pytest.raises(UserError, match="enough"):
        run_pool(tmp_path, [["dead disk"], ["hang"]], 2, on_failed=stop)


def test_without_condemning_a_worker_that_dies_twice_is_one_line(tmp_path):
    hooks: pool.Hooks = pool.Hooks(lambda task, result: None)
    with pytest.raises(UserError, match="fewer --workers"):
        pool.run([(str(tmp_path), ("die",), {})], deadly.work, 1, hooks)
    assert os.path.exists(tmp_path / "die")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent_even_one_that_hangs(tmp_path, sent):
    program = (
        "from data_pipeline import pool; from tests.helpers import deadly\n"
        "if __name__ == '__main__':\n"
        f"    pool.run([({str(tmp_path)!r}, ('hang',), {{}})], deadly.work, 1, pool.Hooks(print))\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], cwd=ROOT, env=environment)
    wait_until((tmp_path / "hang").exists)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.send_signal(sent)
    parent.wait()
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert children


def wait_until(happened) -> None:
    end_s = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.05)
