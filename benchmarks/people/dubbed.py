"""Unseen real people dubbed and painted: `eval benchmark` as a step of `benchmarks.real_people`, and its table.

A few frames of one clip a person: what is asked is whether a painter keeps the person and shows the motion, and not how
well each word is said. A painter, or its teachers, that has seen one of these people is refused (eval/seen.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip, Scoring
from eval import score_file
from eval.tasks import Settings
from launch.commands import Step

METRICS = {
    "opening_correlation": "opening correlation",
    "amplitude_ratio": "amplitude ratio",
    "lmd_px": "lip distance, px at 256",
    "psnr_mouth_db": "mouth PSNR, dB",
    "st_lpips@vgg": "ST-LPIPS (VGG)",
    "csim@dlib": "dlib's cosine",
    "flicker_excess": "flicker beyond the clip's",
}


def step(dub: Scoring, shards: Path, motion: Path, appearance: Path, settings: Settings, given: bool) -> Step:
    """`eval benchmark` of the motion model in a run folder; `given`: no step before makes it."""
    weights = [appearance / "model.safetensors", *([motion / "model" / "model.safetensors"] if given else [])]
    models = ("--motion", str(motion / "model"), "--appearance", str(appearance))
    numbers = {
        "--clips-per-person": settings.clips_per_person,
        "--frames": settings.frames,
        "--source-frames": settings.source_frames,
        "--steps": settings.sampler_steps,
        "--seed": settings.seed,
    }
    size = (str(word) for pair in numbers.items() for word in pair)
    words = ("eval", "benchmark", "--shards", str(shards), *models, *size, "--force")
    return Step(f"dub {dub.model}", (*words, "--out", str(dub.out)), dub.out / "report.json", tuple(weights))


def rows(dubs: Iterable[Scoring]) -> dict[str, dict[str, Any]]:
    """Row of the benchmark -> its entries: means over the people of all splits."""
    clips: dict[str, list[RowClip]] = {}
    people: set[str] = set()
    for dub in dubs:
        scores = score_file.read(dub.out / score_file.WHOLE)[1]
        people |= {score.person for score in scores}
        for method in next((score.methods for score in scores if score.reason is None), {}):
            name = f"{dub.model}: {method}"
            clips.setdefault(name, []).extend(people_rows.clips_of(scores, method, dub.split))
    return {name: people_rows.entries(of_row, len(people), METRICS) for name, of_row in clips.items()}
