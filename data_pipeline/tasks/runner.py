"""Where tasks are done: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from data_pipeline import pool
from data_pipeline.pool import Hooks, TimeLimits, Work
from data_pipeline.tasks.leases import LEASE_S
from mytalk.command import UserError
from mytalk.machine import cores

POOL, RAY = RUNNERS = ("pool", "ray")


@dataclass(frozen=True)
class Runner:
    """`workers`: processes of this machine (0: none but this one), with Ray tasks at once (0: its CPUs)."""

    workers: int
    kind: str = POOL
    address: str | None = None  # of a Ray cluster
    lease_s: float = LEASE_S  # after which a silent worker of another machine is taken for dead

    def run(self, tasks: Iterable[Any], work: Work, hooks: Hooks[Any], limits: TimeLimits) -> None:
        """Do `work` on every task; raises what pool.run and ray_runner.run raise."""
        if self.kind == RAY:
            from data_pipeline.tasks import ray_runner

            ray_runner.run(iter(tasks), work, hooks, limits, self.address, self.workers)
        else:
            pool.run(tasks, work, self.workers, hooks, limits)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command whose work many may do."""
    parser.add_argument(
        "--workers", type=int, help="processes, or tasks of Ray at once (default: one per core, of Ray's cluster there)"
    )
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default=POOL,
        help="what does the work: processes of this machine, or a Ray cluster (extra [ray]) (default: %(default)s)",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="of the Ray cluster (default: one is started on this machine)")
    parser.add_argument(
        "--lease-seconds",
        type=float,
        default=LEASE_S,
        metavar="S",
        help="take over the work of another machine that was silent for so long (default: %(default)s)",
    )


def given(args: argparse.Namespace) -> Runner:
    """What `add_options` was told. Raises UserError for impossible numbers."""
    if args.workers is None:
        args.workers = 0 if args.runner == RAY else cores()
    if args.workers < 0:
        raise UserError("--workers must be at least 0")
    if not args.lease_seconds > 0:
        raise UserError("--lease-seconds must be above 0")
    if args.ray and args.runner != RAY:
        raise UserError("--ray names a cluster; add --runner ray")
    return Runner(args.workers, args.runner, args.ray, args.lease_seconds)
