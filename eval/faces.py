"""Whether somebody to be scored has the face of somebody in training, by a recogniser that nobody here trained.

Names and hashes of videos find a person under one name (eval/seen.py); this finds the same face under another. On
photographs the L2 distance of dlib's embeddings is 0.25 to 0.44 for one person and 0.81 to 0.87 for two; drawn people
are nearer to each other than that. So the judge is first asked about the training people themselves: where it takes
many of them for each other it cannot tell here, and nothing is refused. A person under several names does not count
against it: labels whose faces are surely one are joined before.

Shape suffixes: K pictures of a person, E embedding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline.annotate import people as annotated
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics.person import distance
from eval.tasks import ScoringTask
from mytalk.command import UserError
from mytalk.progress import Progress

SAME = 0.45  # L2: nearer is one person
SURELY = annotated.SAME / SAME  # times that: labels are joined, by the threshold of `data_pipeline annotate people`
PICTURES = 3  # of a person's first clip that can be read
LEAST_PEOPLE, ASKED, MOST_ALIKE = 3, 200, 0.05  # training people among whom it is asked; share that may look alike
NAMED = 3  # people with several labels in a message
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
    asked = one_person_each(dict(itertools.islice(known.items(), ASKED)), SURELY * same)
    joined = _joined(asked)
    if len(asked) < LEAST_PEOPLE:
        return f"not checked: the judge tells {len(asked)} of them apart; it needs {LEAST_PEOPLE}{joined}"
    alike = alike_share([np.concatenate([known[label] for label in labels]) for labels in asked], same)
    if alike > MOST_ALIKE:
        return (
            f"not checked: the judge finds {100 * alike:.0f} % of the training people within {same:g} of another, so "
            f"that it cannot tell these people apart{joined}"
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
    several = sum(len(labels) - 1 for labels in asked)
    clear = f"nobody scored is within {same:g} (L2, dlib) of {len(known) - several} training people"
    return f"{clear}; {unread} could not be read{joined}"


def _too_few(count: int, which: str) -> str:
    return f"not checked: {count} people in split {TRAINED_ON} of the training shards {which}; it needs {LEAST_PEOPLE}"


def one_person_each(faces: Mapping[str, np.ndarray], within: float) -> list[list[str]]:
    """Labels by person: those of one face stand together, any two of them at most `within` apart.

    Complete linkage: a chain of look-alikes, or a mean that moves with each that joins, would make of drawn people,
    whom the judge cannot tell apart, one giant and a few whom it can.
    """
    from scipy.cluster import hierarchy

    labels = list(faces)
    if len(labels) < 2:
        return [labels]
    pairs = [distance(faces[one], faces[other]) for one, other in itertools.combinations(labels, 2)]
    groups: dict[int, list[str]] = {}
    for label, group in zip(labels, hierarchy.fcluster(hierarchy.linkage(pairs, "complete"), within, "distance")):
        groups.setdefault(int(group), []).append(label)
    return list(groups.values())


def _joined(people: Sequence[Sequence[str]]) -> str:
    several = [" = ".join(labels) for labels in people if len(labels) > 1]
    more = f" and {len(several) - NAMED} more" if len(several) > NAMED else ""
    return f"; taken for one person: {', '.join(several[:NAMED])}{more}" if several else ""


def alike_share(faces: Sequence[np.ndarray], same: float) -> float:
    """The share of people who are nearer than `same` to another of them."""
    near = [
        any(distance(one, other) < same for place, other in enumerate(faces) if place != number)
        for number, one in enumerate(faces)
    ]
    return sum(near) / len(near)


def _embedded(
    manifest: Manifest, rows_of: Mapping[str, list[int]], judge: Any, progress: Progress
) -> dict[str, np.ndarray]:
    """Each person's embeddings, (K, E), of those of whom a clip can be read."""
    embeddings = {}
    for person, rows in rows_of.items():
        for row in rows:
            count = int(manifest.at(row, "frames"))
            picked = np.unique(np.linspace(0, count - 1, PICTURES + 2).round().astype(int)[1:-1])
            try:
                pictures = video_reader.read_video(manifest, row, picked.tolist())
                embeddings[person] = judge.embed(pictures, reader.read_landmarks(manifest, row, 0, count)[picked])
                break
            except ClipError:
                continue
        progress.step(1)
    return embeddings
