"""A small sound report of a benchmark, and the scores it is built from."""

from __future__ import annotations

import numpy as np

from eval.metrics import PEOPLE_METRICS, VIDEO_METRICS
from eval.report import build
from eval.rows.videos import ROWS
from eval.score_file import ClipScore
from eval.tasks import ScoringTask, Window

NASTY = '<b>&"x'
PEOPLE = ("one", "two", NASTY)
DIGEST = "0" * 64
FRAMES = 30


def scores() -> list[ClipScore]:
    """Two clips of each person; the second of the last is a miss."""
    random = np.random.default_rng(0)
    level = {"ground_truth": 0.9, "mytalk": 0.7, "shuffled_audio": 0.2, "silent_audio": 0.15, "frozen_mouth": 0.1}
    level["ridge"] = 0.5
    clip_scores = []
    for person in PEOPLE:
        for number in range(2):
            values = {
                name: {
                    metric: base + 0.02 * random.random()
                    for metric, stated in VIDEO_METRICS.items()
                    if name in (stated.rows or level)
                }
                for name, base in level.items()
            }
            curve = {name: (5 + random.random(FRAMES)).tolist() for name in ("truth", "mytalk", "shuffled_audio")}
            clip_scores.append(ClipScore(f"{person}-{number}", person, values, curve if number == 0 else {}))
    clip_scores[-1] = ClipScore(
        clip_scores[-1].key,
        NASTY,
        reason="face_lost",
        message=f"a face in 3 % of {NASTY}",
        failed=["ridge"],
        usable=[row for row in level if row != "ridge"],
    )
    return clip_scores


def built(refused: dict[str, str] | None = None) -> dict:
    """A sound report of these scores."""
    provenance = {
        "protocol": {
            "name": "dubbed video, same audio",
            "split": "unseen",
            "seed": 0,
            "models": {"motion": NASTY},
            "clips_per_person": None,
            "clips": 6,
            "corpora": ["drawn-v2"],
            "source_is_same_clip": 0,
            "shuffled_is_same_person": 0,
            "methods": ROWS,
            "metrics": {
                **{name: metric.stated() for name, metric in VIDEO_METRICS.items()},
                **{name: metric.stated() for name, metric in PEOPLE_METRICS.items()},
            },
        },
        "digests": dict.fromkeys(("manifest", "shards", "ridge", "motion_config", "motion_weights"), DIGEST),
    }
    tasks = [ScoringTask(s.key, s.person, Window(0, 0, 9), None, False) for s in scores()]
    return build.build(
        provenance, tasks, {s.key: s for s in scores()}, {"date": "2026-11-22"}, refused, {"penalty": 1.0}
    )
