"""Rows of a table over people, from scores of clips: means with intervals, the gain recovered, paired differences."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from eval.compare import paired
from eval.metrics import PEOPLE_METRICS
from eval.metrics.metric import Miss
from eval.metrics.people import TRUTH, PersonClip
from eval.score_file import ClipScore
from launch import commands
from launch.commands import Step
from mytalk import intervals

METRICS = {
    "opening_correlation": "opening correlation",
    "amplitude_ratio": "amplitude ratio",
    "lmd_px": "lip distance, px at 256",
}
SLOWER = 5  # times, the learning rate of a model that goes on
GAIN, GAIN_IN_WORDS = "gain_recovered", "gain recovered"


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """The options of benchmarks that train motion models and score them by their landmarks."""
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: %(default)s)")
    parser.add_argument(
        "--sampler-steps", type=int, default=5, help="of the diffusion, in scores (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of trainings and scores (default: %(default)s)")
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    parser.add_argument("--settings", nargs="+", default=[], metavar="key=value", help="settings of every training")


def trained_and_scored(
    args: argparse.Namespace,
    name: str,
    shards: Path,
    unseen: Path,
    settings: Sequence[str] = (),
    words: Sequence[str] = (),
) -> list[Step]:
    """The steps that train a motion model on `shards` with these settings more, and score it on `unseen`.

    `args` has the options above; `words` are more of `eval motion`. The run is in OUT/motion-NAME.
    """
    run, out = args.out / f"motion-{name}", scored(args, name)
    # The best step of validation would be another one in every row.
    own = ["keep_best=''", f"steps={args.steps}", f"validate_every={args.steps}", f"seed={args.seed}"]
    training = commands.training("motion", args.configs, shards, run, [*own, *args.settings, *settings])
    score = ("eval", "motion", "--shards", str(unseen), "--model", str(run / "model"), "--out", str(out), *words)
    numbers = ("--seed", str(args.seed), "--steps", str(args.sampler_steps), "--force")
    return [
        replace(training, name=f"train {name}"),
        Step(f"score {name}", (*score, *numbers), out / "report.json"),
    ]


def scored(args: argparse.Namespace, name: str) -> Path:
    """The folder of such a model's scores."""
    return args.out / f"score-{name}"


def as_typed(args: argparse.Namespace) -> dict[str, Any]:
    """What was typed, for the results."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def going_on(settings: Path) -> str:
    """The setting of the learning rate of a model that goes on: a fifth of what a recipe's YAML has."""
    rate = float(yaml.safe_load(settings.read_text())["optimizer"]["lr"])
    return f"optimizer.lr={rate / SLOWER:g}"


@dataclass(frozen=True)
class Scoring:
    """Scores of one motion model (`60 steps` of training, or `drawn`) on the unseen people of one split."""

    model: str
    split: str
    out: Path


@dataclass(frozen=True)
class RowClip:
    """One clip as one row has it: metrics, and the traits of the true mouth and of the row's (eval/metrics/people.py).

    `split` says which division of the people it was scored in.
    """

    split: str
    key: str
    person: str
    metrics: dict[str, float]
    truth: dict[str, float] = field(default_factory=dict)
    row: dict[str, float] = field(default_factory=dict)


def clips_of(scores: Iterable[ClipScore], method: str, split: str = "") -> list[RowClip]:
    """The clips of a report that were scored, as the row `method` has them."""
    return [
        RowClip(split, s.key, s.person, s.methods[method], s.traits.get(TRUTH, {}), s.traits.get(method, {}))
        for s in scores
        if s.reason is None
    ]


def entries(clips: Sequence[RowClip], total: int, metrics: Mapping[str, str] = METRICS) -> dict[str, dict[str, Any]]:
    """Metric -> entry of a report over the people of all splits, of `total`, with the mean of each split (`splits`).

    The gain is missing where it cannot be told: with fewer than five people, or people who do not differ.
    """
    made: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        values = [(clip.split, clip.person, clip.metrics[metric]) for clip in clips if metric in clip.metrics]
        if not values:
            continue
        of_splits: dict[str, list[tuple[str, float]]] = {}
        for split, person, value in values:
            of_splits.setdefault(split, []).append((person, value))
        entry = intervals.over_people([(person, value) for _, person, value in values], total)
        made[metric] = {**entry, "splits": [intervals.mean_over_people(of_split) for of_split in of_splits.values()]}
    try:
        told = [PersonClip(clip.person, clip.truth, clip.row) for clip in clips]
        made[GAIN] = PEOPLE_METRICS[GAIN].compute(told, total)
    except Miss:
        pass
    return made


def differences(
    ones: Sequence[RowClip], others: Sequence[RowClip], metrics: Mapping[str, str] = METRICS
) -> dict[str, dict[str, Any]]:
    """Metric -> first minus second on the clips that both have: mean over people, interval, p of a permutation test."""
    other_of = {(clip.split, clip.key): clip for clip in others}
    pairs = [(clip, other_of[place]) for clip in ones if (place := (clip.split, clip.key)) in other_of]
    made = {}
    for metric in metrics:
        values = [
            (one.person, one.metrics[metric] - other.metrics[metric])
            for one, other in pairs
            if metric in one.metrics and metric in other.metrics
        ]
        if values:
            by_person = list(intervals.person_means(values).values())
            mean, ci95 = intervals.mean_and_ci95(by_person)
            made[metric] = {"mean": mean, "ci95": ci95, "p": paired.p_value(by_person), "n": len(by_person)}
    return made


def table(rows: dict[str, dict[str, Any]], metrics: Mapping[str, str] = METRICS) -> list[str]:
    """Lines of Markdown: a line for each row, its people, and every metric."""
    columns = {**metrics, GAIN: GAIN_IN_WORDS}
    first = next(iter(metrics))
    names = [words + (" | of each split" if metric == first else "") for metric, words in columns.items()]
    lines = [f"| | people | {' | '.join(names)} |", "|---" * (3 + len(columns)) + "|"]
    for row, made in rows.items():
        cells = []
        for metric in columns:
            cells.append(intervals.shown(made[metric]) if metric in made else "not told")
            if metric == first:
                cells.append(
                    ", ".join(f"{mean:.2f}" for mean in made[metric]["splits"]) if metric in made else "not told"
                )
        people = f"{made[first]['n']}/{made[first]['total']}" if first in made else "not told"
        lines.append(f"| {row} | {people} | {' | '.join(cells)} |")
    return lines


def table_of_differences(found: dict[str, dict[str, Any]], metrics: Mapping[str, str] = METRICS) -> list[str]:
    """Lines of Markdown: a line for each pair of rows."""
    lines = [f"| difference | people | {' | '.join(metrics.values())} |", "|---" * (2 + len(metrics)) + "|"]
    for pair, made in found.items():
        cells = [f"{intervals.shown(made[m])}, {_p(made[m]['p'])}" if m in made else "not told" for m in metrics]
        lines.append(f"| {pair} | {max((entry['n'] for entry in made.values()), default=0)} | {' | '.join(cells)} |")
    return lines


def _p(value: float) -> str:
    return f"p {value:.3f}" if value >= 0.001 else "p < 0.001"
