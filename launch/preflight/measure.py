"""Measured by every rank of a job's machines: `python -m launch.preflight.measure SHARDS OUT`, started by a launcher.

Each rank reads from the shards and multiplies matrices for a moment; together they add up a vector. Rank 0 writes what
all have found.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from launch.hosts import probe
from launch.hosts.rank import HOST
from mytalk import atomic

READ_S, READ_BYTES = 2.0, 1 << 20
REDUCED_BYTES, REDUCED_TIMES = 32 << 20, 5
MATRIX, MATRIX_TIMES = 512, 20


def read_rate(shards: Path, rank: int) -> float:
    """Bytes a second of reads of 1 MB, at places that differ by rank; 0 where there is nothing to read."""
    files = sorted(path for path in shards.rglob("*.tar") if path.stat().st_size)
    if not files:
        return 0.0
    began, done, number = time.perf_counter(), 0, rank
    while (seconds := time.perf_counter() - began) < READ_S:
        path = files[number * 7 % len(files)]
        size = path.stat().st_size
        with open(path, "rb", buffering=0) as file:
            file.seek(number * 13 * READ_BYTES % max(1, size - READ_BYTES))
            done += len(file.read(READ_BYTES))
        number += 1
    return done / seconds


def reduce_rate(world_size: int, device: Any) -> float:
    """Bytes a second of all-reduce: the algorithm's bandwidth, of 32 MB; 0 alone."""
    import torch
    import torch.distributed as dist

    if world_size == 1:
        return 0.0
    vector = torch.ones(REDUCED_BYTES // 4, device=device)
    dist.all_reduce(vector)
    began = time.perf_counter()
    for _ in range(REDUCED_TIMES):
        dist.all_reduce(vector)
    if vector.is_cuda:
        torch.cuda.synchronize()
    return REDUCED_TIMES * REDUCED_BYTES / (time.perf_counter() - began)


def compute_rate(device: Any) -> float:
    """Floating-point operations a second of matrix products, fp32."""
    import torch

    one = torch.rand(MATRIX, MATRIX, device=device)
    one @ one
    began = time.perf_counter()
    for _ in range(MATRIX_TIMES):
        result = one @ one
    float(result[0, 0])  # waits for it
    return MATRIX_TIMES * 2 * MATRIX**3 / (time.perf_counter() - began)


def main(shards: str, out: str) -> int:
    """Measure, and gather on rank 0."""
    import torch
    import torch.distributed as dist

    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if world_size > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
        dist.barrier()
    found = {**probe.facts(Path(out).parent), "rank": rank}
    # Several nodes of a test may be one machine: what started them has names for them.
    found["host"] = os.environ.get(HOST) or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    found["read_bytes_per_s"] = read_rate(Path(shards), rank)
    found["flops_per_s"] = compute_rate(device)
    found["reduce_bytes_per_s"] = reduce_rate(world_size, device)
    everyone: list[Any] = [found]
    if world_size > 1:
        everyone = [None] * world_size
        dist.all_gather_object(everyone, found)
        dist.destroy_process_group()
    if rank == 0:
        atomic.write_json(out, everyone)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
