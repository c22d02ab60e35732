"""A torch dataset of micro-batches by slot number. Worker processes change nothing in it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_pipeline.sample.batch_plan import micro_batches
from data_pipeline.sample.batches import Batch, PackedBatch
from mytalk.command import UserError

PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # that workers ignore
MakeBatch = Callable[[list[int]], Any]


@dataclass
class Failure:
    """An error of a worker, sent as data and raised where the batches are used."""

    error: Exception


@dataclass
class SlotStream(IterableDataset):
    """Micro-batches of one rank, in order, from `start_step` to `stop_step`.

    With k workers, worker w makes every k-th micro-batch from the w-th on, and the loader takes them in
    turn: the order is the same as without workers.
    """

    make_batch: MakeBatch
    global_batch: int
    micro_batch: int
    rank: int
    world_size: int
    start_step: int
    stop_step: int
    length_of: Callable[[int], int] | None = None  # of a slot: micro-batches are dealt by it
    packs: bool = False  # batches are packed for the way from a worker; `load` unpacks them

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        slots_of_batches = micro_batches(
            self.global_batch,
            self.micro_batch,
            self.rank,
            self.world_size,
            self.start_step,
            self.stop_step,
            self.length_of,
        )
        for index, slots in enumerate(slots_of_batches):
            if index % every == first:
                try:
                    batch = self.make_batch(slots)
                    if self.packs and isinstance(batch, Batch):
                        batch = batch.packed()
                except (OSError, UserError) as error:
                    batch = Failure(error)  # as data: torch would turn it into a page of traceback
                yield batch


def load(stream: SlotStream, workers: int, prefetch: int = 4, pin: bool = False) -> Generator[Any, None, None]:
    """Iterate a stream, its batches made by `workers` processes (0: in this process).

    Raises UserError (ClipError for a damaged clip), OSError for a file that cannot be read. Close it
    (contextlib.closing) when it is not read to its end.
    """
    batch_loader = DataLoader(
        replace(stream, packs=workers > 0),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=ignore_parent_signals,
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENT_SIGNALS)  # blocked in a worker until it ignores them
    try:
        batches: Any = iter(batch_loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        for batch in batches:
            if isinstance(batch, Failure):
                raise batch.error
            yield batch.unpacked() if isinstance(batch, PackedBatch) else batch
    finally:
        if workers:  # workers ignore SIGTERM and would block the interpreter's exit
            batches._shutdown_workers()


def ignore_parent_signals(_: int) -> None:
    """Let a worker live on after the signals that stop a run: the current step still needs its batches."""
    for name in PARENT_SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENT_SIGNALS)
