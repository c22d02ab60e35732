"""The stream: a torch dataset of micro-batches by slot number, with worker processes that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_pipeline import slots

MakeBatch = Callable[[list[int]], Any]


@dataclass
class SlotStream(IterableDataset):
    """Micro-batches of one rank, in order, from `start_step` to `stop_step`.

    With k workers, worker w makes every k-th micro-batch from the w-th on, and the loader takes them in
    turn: the order is that of no workers.
    """

    make_batch: MakeBatch
    global_batch: int
    micro_batch: int
    rank: int
    world_size: int
    start_step: int
    stop_step: int

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        rounds = slots.micro_batches(
            self.global_batch, self.micro_batch, self.rank, self.world_size, self.start_step, self.stop_step
        )
        for index, numbers in enumerate(rounds):
            if index % every == first:
                yield self.make_batch(numbers)


def load(stream: SlotStream, workers: int, prefetch: int = 4, pin: bool = False) -> Iterator[Any]:
    """Iterate a stream, its batches made by `workers` processes (0: in this one)."""
    return iter(
        DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin,
        )
    )
