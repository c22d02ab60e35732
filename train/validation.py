"""Measuring whole clips of people who are not trained on, the work divided among the ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from train.ranks import Ranks


def of_clips(measure: Callable[[int], torch.Tensor], count: int, ranks: Ranks) -> torch.Tensor:
    """`measure(i)` of clips 0 to count - 1, each by one rank: (count, ...) float64, the same on all of them."""
    first = measure(0).double()  # by every rank, for its shape
    found = torch.zeros(count, *first.shape, dtype=torch.float64, device=ranks.device)
    for index in range(ranks.rank, count, ranks.world_size):
        found[index] = first if index == 0 else measure(index)
    if ranks.world_size > 1:
        dist.all_reduce(found)
    return found


def alone(state: dict[str, torch.Tensor]) -> Ranks:
    """One process by itself, on the device of these weights: for what rank 0 draws without the others."""
    return Ranks(0, 1, next(iter(state.values())).device)
