"""Batch arithmetic: the user gives the global batch, the machine gives the world size, the rest follows."""

from __future__ import annotations

from dataclasses import dataclass

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
