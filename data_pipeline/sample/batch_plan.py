"""Which rank takes which slots: the user gives the global batch, the machine the world size, the rest follows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mytalk.command import UserError


@dataclass(frozen=True)
class Batching:
    """One optimizer step: `world_size` ranks each take `accumulation` micro-batches of `micro_batch` examples."""

    global_batch: int
    micro_batch: int
    accumulation: int
    world_size: int


def divide(global_batch: int, max_micro_batch: int, world_size: int) -> Batching:
    """The largest micro-batch up to `max_micro_batch` that makes up the global batch exactly.

    Raises UserError, naming the nearest global batches that work, where the world size does not divide it.
    """
    if global_batch % world_size:
        below = global_batch // world_size * world_size
        near = " or ".join(str(n) for n in (below, below + world_size) if n > 0)
        raise UserError(
            f"global_batch {global_batch} cannot be shared by {world_size} processes; set global_batch={near}"
        )
    share = global_batch // world_size
    micro = next(m for m in range(min(max_micro_batch, share), 0, -1) if share % m == 0)
    return Batching(global_batch, micro, share // micro, world_size)


def micro_batches(
    global_batch: int,
    micro_batch: int,
    rank: int,
    world_size: int,
    start_step: int,
    stop_step: int,
    length_of: Callable[[int], int] | None = None,
) -> Iterator[list[int]]:
    """Slots of each micro-batch of a rank, in order. Every step covers its global batch exactly once.

    With `length_of`, a slot's frames, the micro-batches of a step are as many and hold about as many frames each,
    see `balanced`; those that the ranks compute at one time are next to each other in frames.
    """
    per_round = micro_batch * world_size
    assert global_batch % per_round == 0, "`divide` gives a micro-batch that divides"
    for step in range(start_step, stop_step):
        slots = list(range(step * global_batch, (step + 1) * global_batch))
        if length_of is not None:
            groups = balanced(slots, [length_of(slot) for slot in slots], global_batch // micro_batch)
            yield from groups[rank::world_size]
        else:
            for first in range(rank * micro_batch, global_batch, per_round):
                yield slots[first : first + micro_batch]


def balanced(slots: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """Slots in `count` groups of about as long ones, none of which is padded to more frames than it must.

    Sorted by length, the longest first, ties by number, they are cut so that the largest group (its longest slot times
    its slots) is as small as it can be: never larger than that of equal groups. The groups come by their padded frames,
    the most first. Needs a slot for each group.
    """
    order = sorted(range(len(slots)), key=lambda place: (-lengths[place], slots[place]))
    longest_first = [max(1, lengths[place]) for place in order]
    low, high = longest_first[0], longest_first[0] * -(-len(slots) // count)  # that of equal groups
    while low < high:
        budget = (low + high) // 2
        low, high = (low, budget) if len(_cuts(longest_first, budget)) <= count else (budget + 1, high)
    cuts = _cuts(longest_first, high)
    while len(cuts) < count:  # each rank has as many micro-batches: halve the largest that can be
        cuts = _halved(longest_first, cuts)
    pieces = sorted(
        zip(cuts, [*cuts[1:], len(slots)]), key=lambda cut: (-longest_first[cut[0]] * (cut[1] - cut[0]), cut)
    )
    return [[slots[place] for place in order[start:stop]] for start, stop in pieces]


def _cuts(lengths: Sequence[int], budget: int) -> list[int]:
    """Where groups of at most `budget` padded frames begin, each as large as it may be."""
    cuts, at = [], 0
    while at < len(lengths):
        cuts.append(at)
        at += budget // lengths[at]
    return cuts


def _halved(lengths: Sequence[int], cuts: list[int]) -> list[int]:
    """One more group: that of the most padded frames, of those of several slots, in two."""
    ends = [*cuts[1:], len(lengths)]
    several = [(lengths[start] * (stop - start), start, stop) for start, stop in zip(cuts, ends) if stop - start > 1]
    _, start, stop = max(several)
    return sorted([*cuts, (start + stop + 1) // 2])


def shared_once(costs_n: Sequence[float] | np.ndarray, world_size: int) -> list[np.ndarray]:
    """Items divided among ranks for validation and scoring: each item to one rank, the costs nearly even.

    The longest first, each to the rank with the least cost so far: no rank exceeds the least one by more than one
    item's cost. A rank may have none. Item numbers are ascending.
    """
    ranks: list[tuple[float, int]] = [(0.0, rank) for rank in range(world_size)]
    items_of: list[list[int]] = [[] for _ in range(world_size)]
    for item in np.argsort(-np.asarray(costs_n, float), kind="stable").tolist():
        cost, rank = ranks[0]
        heapq.heapreplace(ranks, (cost + float(costs_n[item]), rank))
        items_of[rank].append(item)
    return [np.array(sorted(items), np.int64) for items in items_of]
