"""Measuring whole clips of people who are not trained on, the work divided among the ranks."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist

from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.batch_plan import shared_once
from data_pipeline.shards.reader import ClipError
from mytalk.command import UserError
from train.engine.distributed import Ranks


def of_clips(
    measure: Callable[[int], torch.Tensor], costs_C: Sequence[float] | np.ndarray, ranks: Ranks
) -> tuple[torch.Tensor, torch.Tensor]:
    """`measure(i)` of every clip, each by one rank, the costs (such as frames) nearly even among them.

    Returns what was measured, (C, ...) float64, and whether it could be, (C,) bool, the same on all ranks. A clip that
    is damaged is left out, and named on stderr. Raises UserError where all are; Stopped where
    a rank received a signal to stop.
    """
    count, own = len(costs_C), dict[int, torch.Tensor | None]()
    for i in shared_once(costs_C, ranks.world_size)[ranks.rank].tolist():
        if ranks.stop.received:
            break
        ranks.watchdog.alive(f"measuring clip {i} of {count}")
        own[i] = tried(measure, i)
    ranks.stop_together()
    measured = {i: value for i, value in own.items() if value is not None}
    others = (value for i in range(count) if i not in own and (value := tried(measure, i)) is not None)
    like = next(iter(measured.values()), None)
    if like is None:  # a rank that has measured nothing needs one for its shape
        like = next(others, None)
    if like is None:
        raise UserError("no clip of the validation split can be read; mend its shards or extract them again")
    values = torch.zeros(count, *like.shape, dtype=torch.float64, device=ranks.device)
    read = torch.zeros(count, dtype=torch.int64, device=ranks.device)
    for index, value in measured.items():
        values[index], read[index] = value, 1
    if ranks.world_size > 1:
        dist.all_reduce(values)
        dist.all_reduce(read)
    return values, read.bool()


def spread(windows: SourcedWindows, most: int) -> list[int]:
    """At most so many of the selected clips, evenly over people: everybody's first, then everybody's second, ..."""
    queues = [windows.rows_of(row).tolist() for _, row in windows.first_rows()]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return [row for row in rounds if row is not None][:most]


def tried(measure: Callable[[int], torch.Tensor], index: int) -> torch.Tensor | None:
    """What was measured, None of a damaged clip."""
    try:
        return measure(index).double()
    except ClipError as error:
        print(f"validation: left out: {error}", file=sys.stderr, flush=True)
        return None


def alone(state: dict[str, torch.Tensor]) -> Ranks:
    """One process by itself, on the device of these weights: for what rank 0 draws without the others."""
    return Ranks(0, 1, next(iter(state.values())).device)
