"""Simulates the ranks of a large job on one machine: their slots, and their shares of a checkpoint.

    python -m tests.helpers.thousand_ranks FOLDER [RANKS] [PARAMETERS]

Prints what docs/scale.md states. Every rank's share of a checkpoint is really written, named, checked and read back.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch

from data_pipeline.sample.batch_plan import divide, micro_batches, shared_once
from train.engine.deepspeed_engine import share
from train.run_folder import checkpoint

BATCH_OF_A_RANK = 8


def plans(ranks: int, steps: int = 2) -> dict[str, float]:
    """Deal some steps to every rank: each slot to one rank, and as many to each."""
    batching = divide(ranks * BATCH_OF_A_RANK, BATCH_OF_A_RANK, ranks)
    owner = np.full(steps * batching.global_batch, -1)
    began = time.perf_counter()
    for rank in range(ranks):
        for slots in micro_batches(batching.global_batch, batching.micro_batch, rank, ranks, 0, steps):
            assert (owner[slots] == -1).all(), "no slot is dealt twice"
            owner[slots] = rank
    seconds = time.perf_counter() - began
    assert (np.bincount(owner, minlength=ranks) == steps * BATCH_OF_A_RANK).all(), "none is left out, all have as many"
    costs_C = np.random.default_rng(0).integers(25, 250, 50_000)
    loads = [costs_C[items].sum() for items in shared_once(costs_C, ranks)]
    return {"slots": len(owner), "seconds": seconds, "validation_imbalance": max(loads) / min(loads) - 1}


def shares(folder: Path, ranks: int, parameters: int) -> dict[str, float]:
    """Write, name, check and read a checkpoint of one network, as so many ranks would."""
    shutil.rmtree(folder, ignore_errors=True)
    run, step = folder / "run", 1
    temporary = checkpoint.temporary(run, step)
    sizes, began = [], time.perf_counter()
    for rank in range(ranks):
        start, stop = share(parameters, rank, ranks)
        pieces = [(f"net/{kind}/w@{start}", torch.full((stop - start,), float(rank))) for kind in checkpoint.KINDS]
        copy = checkpoint.HostCopy(pieces)
        copy.take()
        checkpoint.write_rank(copy, temporary, rank, ranks)
        sizes.append((temporary / checkpoint.rank_file(rank, ranks)).stat().st_size)
    written = time.perf_counter()
    final = checkpoint.commit(run, step, {"shapes": {"net": {"w": [parameters]}}}, ranks)
    named = time.perf_counter()
    loaded = checkpoint.load(final)
    whole = loaded.whole("net", "weight")["w"]
    read = time.perf_counter()
    expected = torch.cat(
        [torch.full((b - a,), float(r)) for r in range(ranks) for a, b in [share(parameters, r, ranks)]]
    )
    assert torch.equal(whole, expected), "what is read is what each rank wrote"
    fewer = 3 * ranks // 4
    return {
        "opened_by_a_rank": opened(final, parameters, ranks),
        "opened_by_one_of_fewer": opened(final, parameters, fewer),
        "files": len(list(final.iterdir())),
        "largest_share_bytes": max(sizes),
        "bytes": sum(sizes),
        "write_s_a_rank": (written - began) / ranks,
        "commit_s": named - written,
        "load_s": read - named,
    }


def opened(folder: Path, parameters: int, ranks: int) -> int:
    """The most files that a rank of so many opens for its share of the moments and the EMA (the first opens all)."""
    most = 0
    for rank in range(0, ranks, max(1, ranks // 16)):
        held = checkpoint.index(folder, rank, ranks)
        files = len(held.unopened)
        for kind in checkpoint.KINDS[1:]:
            held.stretch("net", kind, "w", *share(parameters, rank, ranks))
        most = max(most, files - len(held.unopened))
    return most


def main(folder: str, ranks: str = "1024", parameters: str = "25000000") -> None:
    """Simulate and print."""
    print(
        json.dumps({"plans": plans(int(ranks)), "shares": shares(Path(folder), int(ranks), int(parameters))}, indent=1)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
