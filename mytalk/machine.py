"""Resources of the machine: cores, threads, arrays on disk, a free port, and a lock on a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk.command import UserError

if TYPE_CHECKING:
    import torch

PORTS = range(20_000, 30_000)
ON_DISK_BYTES = 1 << 24  # from this size on, what grows with the length of a video lies on disk


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def most_threads(most: int) -> Iterator[None]:
    """Torch on no more than so many threads: 1 for many small tensors, on which several threads wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, most))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself; elsewhere it takes longer than in float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not of every torch
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def zeros(shape: tuple[int, ...], dtype: type | np.dtype = np.float32) -> np.ndarray:
    """Zeros; a large array lies in a nameless file of the system's temporary folder, which goes with it.

    The system may take its memory for others, so what is held of an hour of video does not fill it. Raises OSError
    where the disk is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < ON_DISK_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="mytalk-") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a hole in the file would be a signal later, not an error now
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def free_port() -> int:
    """A TCP port of the loopback interface that is free now and outside the range that systems assign by themselves.

    It is bound seconds later, by another process. Raises UserError where none is free.
    """
    for port in random.SystemRandom().sample(PORTS, 1000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise UserError(f"no TCP port from {PORTS.start} to {PORTS.stop - 1} is free")


@contextlib.contextmanager
def joining() -> Iterator[None]:
    """Around joining the process group that a launcher described in the environment.

    Raises UserError for an incomplete description, which would wait for others without end, and where MASTER_PORT is
    taken.
    """
    _refuse_incomplete_ranks()
    try:
        yield
    except RuntimeError as error:  # torch.distributed's, which is not imported here
        if not re.search("EADDRINUSE|address already in use", str(error)):
            raise
        port = os.environ.get("MASTER_PORT")
        raise UserError(
            f"MASTER_PORT={port}: that port is taken on this machine; set another, or leave it to "
            "python -m launch local"
        ) from error


def _refuse_incomplete_ranks() -> None:
    """UserError where the environment says that there are several ranks, or which one this is, and not all of it."""
    size, rank = os.environ.get("WORLD_SIZE"), os.environ.get("RANK")
    numbers = [size or "1", rank or "0"]
    if not all(re.fullmatch("[0-9]+", number) for number in numbers) or int(numbers[1]) >= int(numbers[0]):
        raise UserError(
            f"RANK={rank} of WORLD_SIZE={size} is no rank; set RANK from 0 to WORLD_SIZE - 1, or unset both"
        )
    if int(numbers[0]) > 1:
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if missing:
            raise UserError(
                f"WORLD_SIZE={size} without {' and '.join(missing)}; unset WORLD_SIZE to run alone, or start all ranks "
                "with: python -m launch local --processes N -- ..."
            )


@contextlib.contextmanager
def sole_user(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder's lock file `<what>.lock`; it is released when the process ends, however it ends.

    Raises UserError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{what}.lock", "w") as handle:
        os.register_at_fork(after_in_child=handle.close)  # a worker that outlives a killed process must not hold it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another {what} is at work in {folder}; wait for it, or stop it") from None
        yield
