"""What stands beside the numbers of a report: how they were made, and digests of what from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from eval import intervals
from eval.metrics import METRICS, Metric
from eval.plan import MIN_SCORED_FRAMES, Settings, Task
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.face.landmarks import FRAME_HZ

SHUFFLED = (
    "the same model, noise and head, but the speech of another clip with another sound (of another person where there "
    "is one), cut or repeated to length"
)
SHOWN_TO_MODEL = (
    "upper-face landmarks and head pose of the scored clip with its lower face erased, and another clip of the same "
    f"person; a person's only clip gives its beginning instead, which is not scored (at least {MIN_SCORED_FRAMES} "
    "frames must remain)"
)
EXTRACTOR = "identity"  # mytalk.networks.motion.EXTRACTOR, whose module loads torch
EXTRACTOR_WORDS = "ID extractor inside the motion model's folder, which conditions it (python -m train identity)"


@dataclass(frozen=True)
class Kind:
    """A kind of report: its name, its rows and metrics by definition, and whatever else decides its numbers."""

    name: str
    methods: dict[str, str]
    metrics: dict[str, Metric]
    facts: dict[str, Any]


METHODS = {
    "mytalk": "lower face generated from the clip's own speech",
    "shuffled_audio": SHUFFLED,
    "frozen_mouth": "the clip's true mean lower face in the head's frame, moved with the head",
}


def kind(model: Path) -> Kind:
    """The report of a motion model's landmarks."""
    models = {"": "speech to motion (python -m train motion)"}
    if conditioned(model):
        models["extractor"] = EXTRACTOR_WORDS
    facts = {"models": models, "truth": "detected landmarks of the shards", "shown_to_model": SHOWN_TO_MODEL}
    return Kind("landmarks, same audio", METHODS, METRICS, facts)


def conditioned(model: Path) -> bool:
    """Whether a motion model's folder holds the ID extractor that conditions it."""
    return (model / EXTRACTOR).is_dir()


def block(kind: Kind, manifest: Manifest, settings: Settings, tasks: list[Task]) -> dict[str, Any]:
    """The report's `protocol`: everything but the data and weights that decides its numbers."""
    rows = [task.scored.row for task in tasks]
    return {
        "name": kind.name,
        **asdict(settings),
        "people": len({task.person for task in tasks}),
        "clips": len(tasks),
        "source_is_same_clip": sum(t.source is not None and t.source.row == t.scored.row for t in tasks),
        "shuffled_is_same_person": _without_others(manifest, settings, tasks),
        "crop_px": sorted({int(px) for px in manifest.column("crop_px")[rows]}),
        "fps": FRAME_HZ,
        **kind.facts,
        "aggregation": intervals.METHOD,
        "methods": kind.methods,
        "metrics": {name: asdict(metric) for name, metric in kind.metrics.items()},
    }


def _without_others(manifest: Manifest, settings: Settings, tasks: list[Task]) -> int:
    """Clips whose shuffled speech can only be of their own person: all of them where the split has one person."""
    people = set(manifest.column("identity")[manifest.rows(settings.split)].tolist())
    return len(tasks) if len(people) == 1 else 0


def digests(manifest: Manifest, models: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """The report's `digests`, SHA-256 each: manifest table, list of shards, every model's config and weights.

    `models` maps a prefix of the digests' names to (kind of model, its folder). The ID extractor of a motion model
    is a model of its own. Raises UserError where a folder holds no model.
    """
    models = dict(models)
    for prefix, (kind, folder) in list(models.items()):
        if kind == "motion" and conditioned(folder):
            models[f"{prefix}extractor_"] = ("identity", folder / EXTRACTOR)
    made = {
        "manifest": manifest.digest,
        "shards": hashlib.sha256(json.dumps(manifest.header["shards"], sort_keys=True).encode()).hexdigest(),
    }
    for prefix, (kind, folder) in models.items():
        for what, name in (("config", "config.json"), ("weights", "model.safetensors")):
            if not (folder / name).is_file():
                if what == "config":
                    from mytalk.networks.weights import (
                        absent,  # which loads torch; a finished report is shown without it
                    )

                    raise absent(folder, kind)
                raise UserError(f"no model in {folder}: {name} is missing; train one with: python -m train {kind}")
            made[f"{prefix}{what}"] = sha256_of(folder / name)
    return made
