"""The demo's chain on real people: opening correlation, amplitude, lip distance of motion models on people unseen.

For each split a third of the people stays unseen (drawn anew for each seed; with --folds N, each N-th part in turn,
so that everybody is unseen once), the identity encoder and the motion model are trained with the settings of
configs/demo, and `eval motion` measures them on the unseen people, beside a model trained on drawn people alone, a
ridge regression, another clip's speech, and a mouth that stands still. With --appearance the unseen people are dubbed
and painted as well: the rows of `eval benchmark` on a few frames of one clip a person. A person's clips are averaged
over all splits, then people: the intervals say what other people could have given; differences of rows are paired.
With --speech-encoder the motion models hear its features in place of log-mel, the drawn one too, and the ridge
regression log-mel. Stopped anywhere, the same command continues. Writes OUT/results.json.

The identity loss is off: few people prove no identity encoder. Its features condition the model all the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.people import dubbed, plan
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip, Scoring
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from eval.tasks import Settings
from launch import runner
from mytalk import atomic, command
from mytalk.face.landmarks import FRAME_HZ

RIDGE = "ridge regression"


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
        "--folds", type=int, metavar="N", help="for each seed N splits: each N-th part of the people unseen in turn"
    )
    parser.add_argument(
        "--steps", type=int, nargs="*", default=[60, 400], help="of the motion model's trainings (default: 60 400)"
    )
    parser.add_argument(
        "--tune-drawn",
        type=int,
        metavar="STEPS",
        help=f"train the drawn motion model on with real people, at 1/{people_rows.SLOWER} of the rate, "
        "and score that too",
    )
    parser.add_argument(
        "--mixed",
        type=int,
        metavar="TIMES",
        help="train each of these models on the people of RUNS/shards too, a real clip TIMES as often as a drawn one",
    )
    parser.add_argument(
        "--speech-encoder",
        metavar="ENCODER",
        help=f"the motion models hear its features, as `column {plan.COLUMN} --encoder` takes it",
    )
    parser.add_argument("--layer", help="of --speech-encoder, as `column` takes it")
    parser.add_argument(
        "--syncnet",
        type=Path,
        metavar="MODEL",
        help="correct late sound where this SyncNet, which has seen none of them, is proven and sure (`annotate sync`)",
    )
    parser.add_argument(
        "--sampler-steps",
        type=int,
        default=Settings.sampler_steps,
        help="of the diffusion, in scores (default: %(default)s)",
    )
    parser.add_argument(
        "--source-frames",
        type=int,
        default=Settings.source_frames,
        help="frames of the person that models see; a person's only clip must last 25 more (default: %(default)s)",
    )
    parser.add_argument(
        "--appearance",
        type=Path,
        metavar="MODEL",
        help="a painter that has seen none of them: dub the unseen "
        "people; needs --people where somebody is in several files (a face of training is refused)",
    )
    parser.add_argument(
        "--frames", type=int, default=50, help="of each clip that is dubbed, with --appearance (default: %(default)s)"
    )
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    parser.add_argument(
        "--settings",
        nargs="+",
        default=[],
        metavar="key=value",
        help="settings of the motion trainings",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Run what is not done, then print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    videos = args.videos if args.people is None else plan.by_person(args.videos, args.people, args.out / "videos")
    planned = [plan.of_split(args, split) for split in plan.splits_of(args)]
    steps = [
        plan.extraction(videos, args.out, args.videos.resolve().name),
        *plan.heard(args),
        *itertools.chain.from_iterable(steps for steps, _ in planned),
    ]
    code = runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scorings = [scoring for _, of_split in planned for scoring in of_split]
    dubs = [] if args.appearance is None else [plan.dub_of(scoring) for scoring in scorings]
    clips, people = clips_of_rows(scorings)
    rows = {row: people_rows.entries(of_row, people) for row, of_row in clips.items()}
    found = {f"{one} - {other}": people_rows.differences(clips[one], clips[other]) for one, other in pairs_of(clips)}
    conditions = conditions_in_words(args)
    painted = dubbed.rows(dubs)
    results = {"conditions": conditions, "rows": rows, "differences": found, "painted": painted}
    results |= provenance([*scorings, *dubs])
    atomic.write_json(args.out / "results.json", results)
    print(f"\n{conditions}\n")
    print("\n".join([*people_rows.table(rows), "", *people_rows.table_of_differences(found)]))
    if dubs:
        print("\n".join(["", *people_rows.table(painted, dubbed.METRICS)]))
    return command.EXIT_DONE


def clips_of_rows(scorings: list[Scoring]) -> tuple[dict[str, list[RowClip]], int]:
    """Row -> the clips of all splits as it has them, and how many people there are to score."""
    clips: dict[str, list[RowClip]] = {}
    people: set[str] = set()
    for scoring in scorings:
        scores = score_file.read(scoring.out / score_file.WHOLE)[1]
        people |= {score.person for score in scores}
        for row, method in rows_of(scoring, first=scoring.model == scorings[0].model):
            clips.setdefault(row, []).extend(people_rows.clips_of(scores, method, scoring.split))
    return clips, len(people)


def rows_of(scoring: Scoring, first: bool) -> Iterator[tuple[str, str]]:
    """(row, method of its report). What does not depend on the model is taken from the `first` one alone."""
    yield f"motion, {scoring.model}", "mytalk"
    yield f"motion, {scoring.model}, another clip's speech", "shuffled_audio"
    if first:
        yield RIDGE, "ridge"
        yield "frozen mouth", "frozen_mouth"


def pairs_of(rows: Iterable[str]) -> list[tuple[str, str]]:
    """The rows that are compared: every model with the ridge regression, and with every model before it."""
    models = [row for row in rows if row.startswith("motion, ") and not row.endswith("speech")]
    return [(one, RIDGE) for one in models] + [(two, one) for one, two in itertools.combinations(models, 2)]


def conditions_in_words(args: argparse.Namespace) -> str:
    """What was measured on."""
    manifest = Manifest.load(args.out / "extracted")
    heard = manifest.with_speech()
    people, frames = len(set(manifest.column("identity")[heard])), int(manifest.column("frames")[heard].sum())
    unseen = f"{plan.UNSEEN:.0%} of the people unseen" if args.folds is None else "each part unseen in turn"
    painted = f"; {args.frames} frames of a clip painted by {args.appearance}" if args.appearance else ""
    encoder = f"; speech heard by {args.speech_encoder}" if args.speech_encoder else ""
    encoder += f", layer {args.layer}" if args.layer else ""
    encoder += f"; late sound corrected by {args.syncnet}" if args.syncnet else ""
    return (
        f"{args.videos}: {heard.sum()} clips with sound of {people} people, {frames / FRAME_HZ:.0f} s; "
        f"{len(plan.splits_of(args))} splits with {unseen}; settings of {args.configs}, "
        f"{' '.join(['identity_loss=0', *args.settings])}; sampled in {args.sampler_steps} steps{encoder}{painted}"
    )


def provenance(scorings: list[Scoring]) -> dict[str, Any]:
    """Which reports the rows come from, with their digests."""
    reports = {str(scoring.out): json.loads((scoring.out / "report.json").read_text()) for scoring in scorings}
    return {
        "scorings": [{**asdict(scoring), "out": str(scoring.out)} for scoring in scorings],
        "digests": {out: report["digests"] for out, report in reports.items()},
        "ridge": {out: report.get("ridge") for out, report in reports.items()},
    }


if __name__ == "__main__":
    harness.end("python -m benchmarks.real_people", lambda: run(arguments().parse_args()))
