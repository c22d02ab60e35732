"""The stream: a torch dataset of micro-batches by slot number, with worker processes that change nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_pipeline.sample import order
from data_pipeline.sample.batches import Batch, Packed
from mytalk.command import UserError

LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
MakeBatch = Callable[[list[int]], Any]


@dataclass
class Failure:
    """What kept a batch from being made; raised where the batches are used."""

    error: Exception


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
    packs: bool = False  # for `load`, which unpacks them again

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        rounds = order.micro_batches(
            self.global_batch, self.micro_batch, self.rank, self.world_size, self.start_step, self.stop_step
        )
        for index, numbers in enumerate(rounds):
            if index % every == first:
                try:
                    made = self.make_batch(numbers)
                    if self.packs and isinstance(made, Batch):
                        made = made.packed()
                except (OSError, UserError) as error:
                    made = Failure(error)  # as data: torch would turn it into a page of traceback
                yield made


def load(stream: SlotStream, workers: int, prefetch: int = 4, pin: bool = False) -> Generator[Any, None, None]:
    """Iterate a stream, its batches made by `workers` processes (0: in this one).

    Raises UserError (ClipError for a damaged clip), OSError for a file that cannot be read. Close it when done with it
    before its end (contextlib.closing).
    """
    made = DataLoader(
        replace(stream, packs=workers > 0),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=leave_signals_to_the_parent,
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_PARENT)  # workers are born with them held back
    try:
        batches: Any = iter(made)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        for batch in batches:
            if isinstance(batch, Failure):
                raise batch.error
            yield batch.batch() if isinstance(batch, Packed) else batch
    finally:
        if workers:  # they are deaf to TERM: left to the interpreter's exit, they would be waited for without end
            batches._shutdown_workers()


def leave_signals_to_the_parent(_: int) -> None:
    """A worker outlives the signals that stop a run: the step under way still needs its batches."""
    for name in LEFT_TO_THE_PARENT:
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_PARENT)
