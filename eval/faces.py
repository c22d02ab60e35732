"""Whether somebody to be scored has the face of somebody in training, by a recogniser that nobody here trained.

Names and hashes of videos find a person under one name (eval/seen.py); this finds the same face under another. On
photographs the L2 distance of dlib's embeddings is 0.25 to 0.44 for one person and 0.81 to 0.87 for two; drawn people
are nearer to each other than that. So the judge is first asked about the training people themselves: where it takes
many of them for each other it cannot tell here, and nothing is refused.

Shape suffixes: K pictures of a person, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics.person import distance
from eval.tasks import ScoringTask
from mytalk.command import UserError
from mytalk.progress import Progress

SAME = 0.45  # L2: nearer is one person
PICTURES = 3  # of a person's first clip that can be read
LEAST_PEOPLE, ASKED, MOST_ALIKE = 3, 200, 0.05  # training people among whom it is asked; share that may look alike
TRAINED_ON = "train"


def check(manifest: Manifest, tasks: Sequence[ScoringTask], trained: Manifest, judge: Any, same: float = SAME) -> str:
    """What was checked, in words, where nobody is refused.

    Raises UserError where a person of `tasks` is nearer to one of `trained`'s split train than `same`.
    """
    anybody = TRAINED_ON in trained.column("split")
    people = trained.rows_of_people(TRAINED_ON) if anybody else {}
    if len(people) < LEAST_PEOPLE:
        return _too_few(len(people), "are there")
    rows: dict[str, list[int]] = {}
    for task in tasks:
        rows.setdefault(task.person, []).append(task.scored.row)
    progress = Progress("faces", len(people) + len(rows), "people")
    known = _embedded(trained, people, judge, progress)
    if len(known) < LEAST_PEOPLE:
        return _too_few(len(known), "can be read")
    scored = _embedded(manifest, rows, judge, progress)
    progress.finish()
    alike = alike_share(list(known.values()), same)
    if alike > MOST_ALIKE:
        return (
            f"not checked: the judge finds {100 * alike:.0f} % of the training people within {same:g} of another, so "
            "that it cannot tell these people apart"
        )
    for person, face_KE in scored.items():
        nearest, apart = min(
            ((name, distance(face_KE, other)) for name, other in known.items()), key=lambda one: one[1]
        )
        if apart < same:
            raise UserError(
                f"{person}, to be scored, has the face of {nearest} in training (L2 {apart:.2f} of dlib's embeddings, "
                f"below {same:g}); score others, or --same-face off where they are two people"
            )
    unread = len(rows) - len(scored) + len(people) - len(known)
    return f"nobody scored is within {same:g} (L2, dlib) of {len(known)} training people; {unread} could not be read"


def _too_few(count: int, which: str) -> str:
    return f"not checked: {count} people in split {TRAINED_ON} of the training shards {which}; it needs {LEAST_PEOPLE}"


def alike_share(faces: Sequence[np.ndarray], same: float) -> float:
    """The share of people, of at most ASKED, who are nearer than `same` to another of them."""
    asked = faces[:ASKED]
    near = [
        any(distance(one, other) < same for place, other in enumerate(asked) if place != number)
        for number, one in enumerate(asked)
    ]
    return sum(near) / len(near)


def _embedded(
    manifest: Manifest, rows_of: Mapping[str, list[int]], judge: Any, progress: Progress
) -> dict[str, np.ndarray]:
    """Each person's embeddings, (K, E), of those of whom a clip can be read."""
    found = {}
    for person, rows in rows_of.items():
        for row in rows:
            count = int(manifest.at(row, "frames"))
            picked = np.unique(np.linspace(0, count - 1, PICTURES + 2).round().astype(int)[1:-1])
            try:
                pictures = video_reader.read_video(manifest, row, picked.tolist())
                found[person] = judge.embed(pictures, reader.read_landmarks(manifest, row, 0, count)[picked])
                break
            except ClipError:
                continue
        progress.step(1)
    return found
