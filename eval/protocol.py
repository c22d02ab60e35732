"""What stands beside the numbers of a landmark report: how they were made, and digests of what from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline.manifest import Manifest
from eval import intervals
from eval.metrics import METRICS
from eval.plan import MIN_SCORED_FRAMES, Settings, Task
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.landmarks import FRAME_HZ

METHODS = {
    "mytalk": "lower face generated from the clip's own speech",
    "shuffled_audio": "the same model, noise and head, but the speech of another clip with another sound (of another "
    "person where there is one), cut or repeated to length",
    "frozen_mouth": "the clip's true mean lower face in the head's frame, moved with the head",
}
SHOWN_TO_MODEL = (
    "upper-face landmarks and head pose of the scored clip with its lower face erased, and another clip of the same "
    f"person; a person's only clip gives its beginning instead, which is not scored (at least {MIN_SCORED_FRAMES} "
    "frames must remain)"
)


def block(manifest: Manifest, settings: Settings, tasks: list[Task]) -> dict[str, Any]:
    """The report's `protocol`: everything but the data and weights that decides its numbers."""
    rows = [task.scored.row for task in tasks]
    return {
        "name": "landmarks, same audio",
        **asdict(settings),
        "people": len({task.person for task in tasks}),
        "clips": len(tasks),
        "crop_px": sorted({int(px) for px in manifest.column("crop_px")[rows]}),
        "fps": FRAME_HZ,
        "truth": "detected landmarks of the shards",
        "shown_to_model": SHOWN_TO_MODEL,
        "aggregation": intervals.METHOD,
        "methods": METHODS,
        "metrics": {name: asdict(metric) for name, metric in METRICS.items()},
    }


def digests(manifest: Manifest, model: Path) -> dict[str, str]:
    """The report's `digests`, SHA-256 each: manifest table, list of shards, the model's config and weights.

    Raises UserError where there is no model.
    """
    for name in ("config.json", "model.safetensors"):
        if not (model / name).is_file():
            raise UserError(f"no model in {model}: {name} is missing; train one with: python -m train motion")
    return {
        "manifest": manifest.digest,
        "shards": hashlib.sha256(json.dumps(manifest.header["shards"], sort_keys=True).encode()).hexdigest(),
        "config": sha256_of(model / "config.json"),
        "weights": sha256_of(model / "model.safetensors"),
    }
