"""Reports of a few typed scores in a folder: `score`'s files, without videos."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from eval import score_file
from eval.report import build, check
from eval.score_file import ClipScore
from eval.tasks import ScoringTask, Window

DIRECTIONS = {"lmd_px": "lower", "opening_correlation": "higher", "amplitude_ratio": "one", "flicker": "real"}
REAL = {"lmd_px": 0.5, "opening_correlation": 0.99, "amplitude_ratio": 1.0, "flicker": 2.0}


def write(
    folder: Path,
    values: dict[str, list[dict[str, float]]],
    method: str = "theirs",
    digests: dict[str, str] | None = None,
    **protocol: Any,
) -> Path:
    """A folder with a report: person -> the values of each of their clips by metric, of one method."""
    scores = [
        ClipScore(f"{person}-{number}", person, {"ground_truth": REAL, method: clip})
        if clip
        else ClipScore(f"{person}-{number}", person, reason="other_length", message="short")
        for person, clips in values.items()
        for number, clip in enumerate(clips)
    ]
    measured = next(clip for clips in values.values() for clip in clips if clip)
    provenance = {
        "protocol": {
            "name": "given video, same audio",
            "people": len(values),
            "clips": len(scores),
            "inputs": ["predictions", "real_videos", "pairs"],
            "models": {},
            "methods": {"ground_truth": "the real video", method: "a method"},
            "metrics": {
                name: {"definition": name, "unit": "px", "better": DIRECTIONS[name], "mouth": "true"}
                for name in measured
            },
            **protocol,
        },
        "digests": dict.fromkeys(("real_videos", "pairs"), "0" * 64)
        | {"predictions": hashlib.sha256(method.encode()).hexdigest()}
        | (digests or {}),
    }
    tasks = [ScoringTask(score.key, score.person, Window(0, 0, 1), None, False) for score in scores]
    report = build.build(provenance, tasks, {score.key: score for score in scores}, {})
    check.write(folder, report)
    score_file.write_whole(folder, provenance, scores)
    return folder


def people(count: int, **values: float) -> dict[str, list[dict[str, float]]]:
    """So many people of two clips, with about these values."""
    return {
        f"p{person}": [
            {name: value + 0.01 * person + 0.003 * clip for name, value in values.items()} for clip in range(2)
        ]
        for person in range(count)
    }
