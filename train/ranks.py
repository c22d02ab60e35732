"""The processes of a run: joining them, agreeing on a flag, stopping together."""

from __future__ import annotations

import os
import signal
import socket
import warnings
from dataclasses import dataclass
from types import FrameType

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """Which process this is among how many, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device


def join() -> Ranks:
    """Join the process group that the launcher described in the environment; alone if there was none.

    torchrun, the deepspeed launcher and accelerate all set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT. NCCL with a GPU, gloo without.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    # DeepSpeed would compile a shared-memory reduce on CPU: a machine without a compiler must train too.
    __compatible_ops__["deepspeed_shm_comm"] = False
    defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(free_port())
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if not dist.is_initialized():
        deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def leave() -> None:
    """Leave the process group; without this, NCCL and gloo complain at exit."""
    if dist.is_initialized():
        dist.destroy_process_group()


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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
