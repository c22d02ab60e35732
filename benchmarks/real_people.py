"""The demo's chain on real people: opening correlation and lip distance of motion models on people they never saw.

For each seed, a third of the people is drawn that stays unseen, the identity encoder and the motion model are trained
with the settings of configs/demo, and `eval motion` measures them on the unseen people, beside a model trained on drawn
people alone, a ridge regression, another clip's speech, and a mouth that stands still. A person's clips are averaged
over all seeds, then people: the intervals say what other people could have given. Stopped anywhere, the same command
continues. Writes OUT/results.json.

The identity loss is off: few people prove no identity encoder. Its features condition the model all the same.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import harness
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from eval.tasks import Settings
from launch import pipeline
from launch.pipeline import Step
from mytalk import atomic, command, intervals
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ

METRICS = {"opening_correlation": "opening correlation", "lmd_px": "lip distance, px at 256"}
VAL, UNSEEN = 0.1, 0.33  # shares of people
DRAWN = "drawn"


@dataclass(frozen=True)
class Scoring:
    """Scores of one motion model (`steps` of training, or `drawn`) on the unseen people of one seed."""

    model: str
    seed: int
    out: Path


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = (
        "python -m benchmarks.real_people videos/real runs/real --people people.csv --drawn runs/demo --seeds 3 "
        "--steps 60 400"
    )
    parser = command.parser("python -m benchmarks.real_people", __doc__, example)
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of videos, a file for each person")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument(
        "--people", type=Path, metavar="CSV", help="lines `file,person`, for people who are in several files"
    )
    parser.add_argument(
        "--drawn", type=Path, metavar="RUNS", help="folder of a finished demo, whose motion model is scored as it is"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="splits and trainings (default: 3)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[60, 400], help="of the motion model's training (default: 60 400)"
    )
    parser.add_argument(
        "--source-frames",
        type=int,
        default=Settings.source_frames,
        help="frames of the person that models see; a person's only clip must last 25 more (default: %(default)s)",
    )
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run what is not done, then print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    videos = args.videos if args.people is None else by_person(args.videos, args.people, args.out / "videos")
    planned = [plan(args, seed) for seed in range(args.seeds)]
    steps = [
        extraction(videos, args.out, args.videos.resolve().name),
        *itertools.chain.from_iterable(steps for steps, _ in planned),
    ]
    code = pipeline.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scorings = [scoring for _, of_seed in planned for scoring in of_seed]
    rows, conditions = results(scorings), conditions_in_words(args)
    atomic.write_json(args.out / "results.json", {"conditions": conditions, "rows": rows, **provenance(scorings)})
    print(f"\n{conditions}\n")
    print("\n".join(table(rows)))
    return command.EXIT_DONE


# Steps -------------------------------------------------------------------------------------------------------


def by_person(videos: Path, people: Path, out: Path) -> Path:
    """Copy the files into a folder for each person, as `extract` reads it; one without a line is a person alone.

    Raises UserError where a line names no file.
    """
    lines = [line for line in csv.reader(people.read_text().splitlines()) if line]
    if any(len(line) != 2 for line in lines):
        raise UserError(f"{people}: every line is `file,person`")
    person_of = {name.strip(): person.strip() for name, person in lines}
    size_of = dict(pipeline.listing(videos))
    if unknown := sorted(set(person_of) - set(size_of)):
        raise UserError(f"{people} names {unknown[0]}, which is no file in {videos}")
    for name, size in size_of.items():
        target = out / person_of.get(name, Path(name).stem) / Path(name).name
        if not (target.is_file() and target.stat().st_size == size):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(videos / name, target)
    return out


def extraction(videos: Path, out: Path, corpus: str) -> Step:
    """The clips of all people."""
    shards = out / "extracted"
    words = ("data_pipeline", "extract", str(videos), str(shards), "--corpus", corpus)
    return Step("extract", words, shards / "manifest.json", (videos,))


def plan(args: argparse.Namespace, seed: int) -> tuple[list[Step], list[Scoring]]:
    """What is done with one seed, and the scorings that it ends with."""
    folder = args.out / f"seed-{seed}"
    shards, steps = folder / "shards", []
    index = ("data_pipeline", "index", str(shards), str(args.out / "extracted"), "--unsplit")
    shares = ("--val", str(VAL), "--unseen", str(UNSEEN), "--seed", str(seed), "--force")
    steps.append(Step("index", index, shards / "manifest.json"))
    steps.append(Step("split", ("data_pipeline", "split", str(shards), *shares), shards / "manifest.json"))
    identity = pipeline.training("identity", args.configs, shards, folder / "identity", [f"seed={seed}"])
    steps.append(identity)
    scorings = []
    for count in args.steps:
        model = folder / f"motion-{count}"
        own = (f"identity={identity.result.parent}", "identity_loss=0", f"seed={seed}", f"steps={count}")
        training = pipeline.training("motion", args.configs, shards, model, own)
        scorings.append(Scoring(f"{count} steps", seed, folder / f"score-{count}"))
        steps += [
            replace(training, name=f"train motion {count}"),
            scoring_step(scorings[-1], shards, model, args.source_frames),
        ]
    if args.drawn is not None:
        scorings.append(Scoring(DRAWN, seed, folder / f"score-{DRAWN}"))
        steps.append(scoring_step(scorings[-1], shards, args.drawn / "motion", args.source_frames))
    return [replace(step, name=f"{step.name}, seed {seed}") for step in steps], scorings


def scoring_step(scoring: Scoring, shards: Path, run: Path, source_frames: int) -> Step:
    """`eval motion` of the motion model in a run folder."""
    words = ("eval", "motion", "--shards", str(shards), "--model", str(run / "model"), "--out", str(scoring.out))
    more = ("--seed", str(scoring.seed), "--source-frames", str(source_frames), "--force")
    weights = run / "model" / "model.safetensors"
    reads = (weights,) if scoring.model == DRAWN else ()  # the others follow from the steps before
    return Step(f"score {scoring.model}", (*words, *more), scoring.out / "report.json", reads)


# Results -----------------------------------------------------------------------------------------------------


def results(scorings: list[Scoring]) -> dict[str, dict[str, Any]]:
    """Row -> metric -> entry of a report, over the people of all seeds, with the mean of each seed."""
    scores: dict[str, list[tuple[int, score_file.ClipScore]]] = {}
    people: set[str] = set()
    method_of: dict[str, str] = {}
    for scoring in scorings:
        read = score_file.read(scoring.out / score_file.WHOLE)[1]
        people |= {score.person for score in read}
        for row, method in rows_of(scoring, first=scoring.model == scorings[0].model):
            method_of[row] = method
            scores.setdefault(row, []).extend((scoring.seed, score) for score in read if score.reason is None)
    rows: dict[str, dict[str, Any]] = {}
    for row, method in method_of.items():
        rows[row] = {}
        for metric in METRICS:
            values = [(seed, score.person, score.methods[method][metric]) for seed, score in scores[row]]
            entry = intervals.over_people([(person, value) for _, person, value in values], len(people))
            means = []
            for seed in dict.fromkeys(seed for seed, _, _ in values):
                of_seed = intervals.person_means((person, value) for s, person, value in values if s == seed)
                means.append(sum(of_seed.values()) / len(of_seed))
            rows[row][metric] = {**entry, "seeds": means}
    return rows


def rows_of(scoring: Scoring, first: bool) -> Iterator[tuple[str, str]]:
    """(row, method of its report). What does not depend on the model is taken from the `first` one alone."""
    yield f"motion, {scoring.model}", "mytalk"
    yield f"motion, {scoring.model}, another clip's speech", "shuffled_audio"
    if first:
        yield "ridge regression", "ridge"
        yield "frozen mouth", "frozen_mouth"


def conditions_in_words(args: argparse.Namespace) -> str:
    """What was measured on."""
    manifest = Manifest.load(args.out / "extracted")
    heard = manifest.with_speech()
    people, frames = len(set(manifest.column("identity")[heard])), int(manifest.column("frames")[heard].sum())
    return (
        f"{args.videos}: {heard.sum()} clips with sound of {people} people, {frames / FRAME_HZ:.0f} s; {args.seeds} "
        f"splits with {UNSEEN:.0%} of the people unseen; settings of {args.configs}, identity_loss=0"
    )


def provenance(scorings: list[Scoring]) -> dict[str, Any]:
    """Which reports the rows come from, with their digests."""
    reports = {str(scoring.out): json.loads((scoring.out / "report.json").read_text()) for scoring in scorings}
    return {
        "scorings": [{**asdict(scoring), "out": str(scoring.out)} for scoring in scorings],
        "digests": {out: report["digests"] for out, report in reports.items()},
        "ridge": {out: report.get("ridge") for out, report in reports.items()},
    }


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown."""
    lines = ["| | people | " + " | ".join(f"{words} | of each seed" for words in METRICS.values()) + " |"]
    lines.append("|---" * (2 + 2 * len(METRICS)) + "|")
    for row, entries in rows.items():
        cells = []
        for metric in METRICS:
            cells += [intervals.shown(entries[metric]), ", ".join(f"{mean:.2f}" for mean in entries[metric]["seeds"])]
        first = next(iter(entries.values()))
        lines.append(f"| {row} | {first['n']}/{first['total']} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    harness.end("python -m benchmarks.real_people", lambda: run(arguments().parse_args()))
