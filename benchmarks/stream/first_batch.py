"""The time from an index to its first motion batch, in this process: one line for `python -m benchmarks.stream`."""

from __future__ import annotations

import time

_began = time.perf_counter()

import itertools  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402

from data_pipeline.examples.motion import MotionExamples  # noqa: E402
from data_pipeline.sample.windows import SamplingConfig, WindowConfig  # noqa: E402
from data_pipeline.shards.manifest import Manifest  # noqa: E402

BATCH = 32


def main(folder: str) -> None:
    """Print seconds of the imports, of loading, of planning and of the first batch, and the most memory used."""
    torch.set_num_threads(1)  # as in a worker: threads that wait by spinning slow each other on a busy machine
    times = [_began, time.perf_counter()]
    manifest = Manifest.load(folder)
    times.append(time.perf_counter())
    examples = MotionExamples(manifest, SamplingConfig(), WindowConfig(50, 50, 75))
    times.append(time.perf_counter())
    batch = examples(list(range(BATCH)))
    times.append(time.perf_counter())
    assert len(batch.landmarks_BTN3) == BATCH
    assert not batch.bad
    seconds = dict(
        zip(("imports", "load", "plan", "batch"), (after - before for before, after in itertools.pairwise(times)))
    )
    print(json.dumps({**seconds, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(sys.argv[1])
