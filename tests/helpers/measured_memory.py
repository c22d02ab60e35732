"""Trains two steps at every ZeRO stage and writes the most bytes that torch's allocator had given out on rank 0.

torchrun --nproc-per-node 2 -m tests.helpers.measured_memory OUT.json CONFIG SETTING...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mytalk import config
from mytalk.command import end
from tests.helpers.train_matrix import RECIPES
from train import loop
from train.dry_run import STAGES, measured
from train.engine import distributed


def main(out: str, recipe: str, file: str, settings: list[str]) -> int:
    """Measure, and write {stage: bytes}."""
    joined, found = distributed.join(), {}
    schema, make = RECIPES[recipe]
    for stage in STAGES:
        given = [*settings, f"zero_stage={stage}", f"run={out}-{stage}", "steps=2", "workers=0"]
        made = config.load(schema, file, given)

        def train(made=made) -> int:
            return loop.train(make(made), made, joined)

        found[str(stage)] = measured(train)["peak"]
    if joined.rank == 0:
        Path(out).write_text(json.dumps(found))
    distributed.leave()
    return 0


if __name__ == "__main__":
    end(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
