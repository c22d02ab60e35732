"""The tasks of a board as Ray tasks: this process claims them and keeps their leases, a Ray cluster does them.

A Ray task does one of ours in a process of its own below Ray's worker (pool.py), with the same limits: what a video may
kill or hang is that process, and what becomes of it is what a pool would have written. Ray's cloudpickle moves our own
functions and tasks only, between processes of one user's cluster (docs/decisions.md).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

from data_pipeline import pool
from data_pipeline.pool import BUG, WORKER_DIED, Failure, Hooks, TimeLimits, Work, WorkerCrash
from mytalk.command import RunAgain, UserError, one_line

LOOK_EVERY_S = 1.0
CONNECT_S = 10.0


def run(
    tasks: Iterator[Any],
    work: Work,
    hooks: Hooks[Any],
    limits: TimeLimits,
    address: str | None = None,
    at_once: int = 0,
    one: Callable[..., Any] | None = None,
) -> None:
    """Do `work` on every task on a Ray cluster, `at_once` of them (0: one a CPU); `address` None: one on this machine.

    A task whose Ray worker or machine dies is done again; the second time it is set aside. Raises what `work` raised of
    OSError, ImportError and UserError; UserError where the cluster cannot be reached.
    """
    ray = _connected(address)
    remote = ray.remote(num_cpus=1, max_retries=0)(one or _one)
    condemn = hooks.condemn
    at_once = at_once or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    failed: dict[int, Any] = {}
    again: list[Any] = []
    at_work: dict[Any, Any] = {}
    while True:
        while len(at_work) < at_once and (task := again.pop() if again else next(tasks, None)) is not None:
            at_work[remote.remote(task, work, condemn, limits)] = task
        if not at_work:
            return
        ready, _ = ray.wait(list(at_work), num_returns=1, timeout=LOOK_EVERY_S)
        for reference in ready:
            task = at_work.pop(reference)
            failure = _taken(ray, reference, task, hooks)
            if failure is None:
                continue
            if failure.cause == BUG and hooks.set_aside is None:  # as in a pool: once more would end alike
                raise WorkerCrash(failure.message)
            if id(task) in failed and hooks.set_aside is not None:
                hooks.set_aside(task, failure)
            elif id(task) in failed:
                raise RunAgain(f"a task failed twice on the cluster: {failure.message.splitlines()[-1]}")
            else:
                failed[id(task)] = task  # kept, so that its id stays its own
                again.append(task)


def _connected(address: str | None) -> Any:
    import ray

    if not ray.is_initialized():
        try:
            if found := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address or ""):  # Ray itself tries for minutes
                socket.create_connection((found[1], int(found[2])), CONNECT_S).close()
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"no Ray cluster at {address}: {one_line(error)}; start one with `ray start`") from None
    return ray


def _taken(ray: Any, reference: Any, task: Any, hooks: Hooks[Any]) -> Failure | None:
    """Take the result of a Ray task; returns why it has none."""
    try:
        kind, value, ticked, failures = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return Failure(BUG, str(error))
    except ray.exceptions.RayError as error:  # its worker, or its machine
        return Failure(WORKER_DIED, one_line(error))
    for item, failure in failures:
        hooks.on_failed(task, item, failure)
    if kind == "error":
        raise value
    if kind == "aside":
        return value
    for item, n in ticked.items():
        hooks.on_tick(task, item, n)
    hooks.on_done(task, value)
    return None


def _one(task: Any, work: Work, condemn: Any, limits: TimeLimits) -> tuple[str, Any, dict[int, int], list[Any]]:
    """On the cluster: one task by a pool of one process; how it ended, units by item, and failures of items."""
    results: list[Any] = []
    aside: list[Failure] = []
    failures: list[tuple[int, Failure]] = []
    ticked: dict[int, int] = {}

    def on_tick(_: Any, item: int, n: int) -> None:
        ticked[item] = ticked.get(item, 0) + n

    hooks = Hooks[Any](
        lambda _, result: results.append(result),
        on_tick,
        lambda _, item, failure: failures.append((item, failure)),
        condemn,
        lambda _, failure: aside.append(failure),
    )
    try:
        pool.run([task], work, 1, hooks, limits)
    except (OSError, ImportError, UserError) as error:
        return "error", error, ticked, failures
    if aside:
        return "aside", aside[0], ticked, failures
    return "done", results[0], ticked, failures
