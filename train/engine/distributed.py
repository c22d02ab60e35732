"""The processes of a run: joining them, adding up numbers, stopping together."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from mytalk import machine
from mytalk.command import UserError
from train.engine import deepspeed_engine
from train.engine.watchdog import Watchdog

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES, MOST_MMAP_THRESHOLD = 2**30, 2**25
LEAST_TIMEOUT_S = 1800.0  # of a collective


class Stopped(Exception):
    """A rank received a signal to stop, and all ranks know."""


class StopSignals:
    """Remembers TERM, INT and USR1 instead of dying of them, so that the step is finished first."""

    NAMES = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        for name in self.NAMES:
            self._before[name] = signal.signal(name, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name


@dataclass
class Ranks:
    """Which process this is among how many, the device it computes on, whether a signal to stop came, its watchdog."""

    rank: int
    world_size: int
    device: torch.device
    stop: StopSignals = field(default_factory=StopSignals)
    watchdog: Watchdog = field(default_factory=Watchdog)

    def sum(self, numbers: Mapping[str, float | torch.Tensor]) -> dict[str, float]:
        """Each number, added up over the ranks, in float64. All call it with the same names; one message."""
        here = torch.tensor([x for x in numbers.values() if not isinstance(x, torch.Tensor)], dtype=torch.float64)
        there = [x.detach().to(torch.float64) for x in numbers.values() if isinstance(x, torch.Tensor)]
        added = torch.cat([here.to(self.device), *(x.view(1) for x in there)])
        if self.world_size > 1:
            dist.all_reduce(added)
        names = [name for name, x in numbers.items() if not isinstance(x, torch.Tensor)]
        names += [name for name, x in numbers.items() if isinstance(x, torch.Tensor)]
        return dict(zip(names, added.tolist()))

    def gather(self, own: list[Any]) -> list[Any]:
        """What all ranks have, in their order. All call it."""
        if self.world_size == 1:
            return own
        of_ranks: list[list[Any]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(of_ranks, own)
        return [item for items in of_ranks for item in items]

    def from_first(self, own: torch.Tensor) -> torch.Tensor:
        """What the first rank has, on the CPU; the others give a tensor of the same shape and type. All call it."""
        if self.world_size == 1:
            return own
        sent = own.to(self.device)
        dist.broadcast(sent, 0)
        return sent.cpu()

    def watch(self, program: str, run: Path, limit_s: float) -> Watchdog:
        """The watchdog of this rank in a run, to be entered."""
        self.watchdog = Watchdog(program, run, self.rank, self.world_size, limit_s)
        return self.watchdog

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.world_size > 1:
            dist.barrier()

    def stop_together(self) -> None:
        """Raises Stopped on all ranks if any received a signal to stop. All call it."""
        if self.sum({"stop": self.stop.received is not None})["stop"]:
            raise Stopped


def join(watchdog_s: float = 0.0) -> Ranks:
    """Join the process group that the launcher described in the environment; alone if there was none.

    torchrun, the deepspeed launcher and accelerate all set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT. NCCL with a GPU, gloo without. A collective waits longer than the watchdog, whose message says more.
    Raises UserError as `machine.joining` does, and where there is no GPU for this rank.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        keep_freed_memory()
    with machine.joining():
        return _join(watchdog_s)


def _join(watchdog_s: float) -> Ranks:
    defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(machine.free_port())
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"this machine has {torch.cuda.device_count()} GPUs and none for process {local_rank}; start one each"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if not dist.is_initialized():
        timeout = timedelta(seconds=max(LEAST_TIMEOUT_S, 2 * watchdog_s))
        deepspeed_engine.join("nccl" if device.type == "cuda" else "gloo", timeout)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, for the next step.

    Left alone it gives large buffers back to the system and gets them anew, page by page, or not, depending on what was
    freed first: 25 000 page faults a step of ZeRO 3, a tenth of its time (docs/log.md).
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)


def leave(failed: bool = False) -> None:
    """Leave the process group; without this, NCCL and gloo complain at exit.

    NCCL's is left by all ranks together. One that failed would wait here for others that wait for it, before it has
    reported why: it leaves by ending.
    """
    if dist.is_initialized() and not (failed and dist.get_backend() == "nccl"):
        dist.destroy_process_group()
