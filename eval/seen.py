"""Whether a model has seen the people that it is to be scored on, by what its folder says (`trained_on.json`).

People of the split `unseen` whom a model was trained on, or selected by, or whose very video was, are refused: the
score would say nothing about others. The split `train` is there to be scored as seen people, `val` for those who
select.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_pipeline.sample import trained_on
from data_pipeline.sample.trained_on import Shown
from data_pipeline.shards.manifest import Manifest
from eval.tasks import ScoringTask
from mytalk.command import UserError

NAMED = 3  # people in a message
UNKNOWN = f"unknown: its folder has no {trained_on.NAME}"


def refuse(manifest: Manifest, split: str, tasks: list[ScoringTask], folders: Mapping[str, Path]) -> dict[str, str]:
    """What each model's folder says of the people to be scored, in words, for the protocol.

    Raises UserError where somebody of the split `unseen` (or of `val`, to train on) is known to a model.
    """
    rows_of: dict[str, list[int]] = {}
    for task in tasks:
        rows_of.setdefault(task.person, []).append(task.scored.row)
    said = {}
    for model, folder in folders.items():
        known = trained_on.read(folder)
        if known is None:
            said[model] = UNKNOWN
            continue
        trained = _among(manifest, rows_of, known.trained)
        selected = _among(manifest, rows_of, known.selected)
        if trained and split != "train":
            raise UserError(_line(model, folder, "trained on", trained, rows_of))
        if selected and split == "unseen":
            raise UserError(_line(model, folder, "selected by", selected, rows_of))
        words = [
            f"trained on {len(known.trained.people)} people, {len(trained)} of the {len(rows_of)} scored among them",
            f"selected by {len(known.selected.people)}, {len(selected)} among them",
            *(f"and on whomever '{name}' was, of which nothing is known" for name in sorted(known.unknown)),
        ]
        said[model] = "; ".join(words)
    return said


def _among(manifest: Manifest, rows_of: Mapping[str, list[int]], known: Shown) -> list[str]:
    """The people to be scored of whom these hashes name the person, or a video."""
    people = []
    for person, rows in rows_of.items():
        own = trained_on.shown(manifest, rows)
        if own.people & known.people or own.sources & known.sources:
            people.append(person)
    return people


def _line(model: str, folder: Path, how: str, people: list[str], everyone: Mapping[str, list[int]]) -> str:
    more = f" and {len(people) - NAMED} more" if len(people) > NAMED else ""
    return (
        f"the {model} model in {folder} was {how} {len(people)} of the {len(everyone)} people to be scored "
        f"({', '.join(people[:NAMED])}{more}); score others, or --split train to score people whom it has seen"
    )
