"""The dose curve: how well a motion model does on unseen people, by how many people it was trained on.

People are drawn, one clip each; a model is trained on the first 8, 16, ... of them with the settings of configs/demo
(without identity encoder), until validation has not risen for 3 looks of 10 or --steps are done, and its best step is
scored by `eval motion` on the same unseen people. Differences of one dose from the next are paired over people. One
training each: other seeds say how much of a difference is chance. By landmarks alone: nothing is painted. Stopped
anywhere, the same command continues; people and doses may be added to --people later. Writes OUT/results.json.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from benchmarks import harness
from benchmarks.people import rows as people_rows
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from launch import runner
from launch.commands import Step
from mytalk import atomic, command
from mytalk.command import UserError

TRAINED, WATCHED = "dose", "dose-val"  # corpora: whom models are trained on, and whom validation watches
WATCHED_PEOPLE = 12
LOOKS, PATIENCE = 10, 3  # of validation in --steps; looks without a better one after which a training ends
SOURCE_FRAMES = 40  # of people's only clips, so that most of these is scored


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.people.dose runs/dose --unseen data/bench/new-people --people 8 16 32 64 128"
    parser = command.parser("python -m benchmarks.people.dose", __doc__, example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument(
        "--unseen", type=Path, required=True, metavar="SHARDS", help="shards whose split `unseen` is scored"
    )
    parser.add_argument(
        "--people", type=int, nargs="+", default=[8, 16, 32, 64, 128], metavar="N", help="(default: 8 16 32 64 128)"
    )
    parser.add_argument("--drawn", type=int, default=136, metavar="N", help="people drawn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each person (default: %(default)s)")
    people_rows.add_training_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run what is not done, then print the curve."""
    doses = sorted(set(args.people))
    if not 1 <= doses[0] <= doses[-1] <= args.drawn < 1000:
        raise UserError(f"--people must be from 1 to the {args.drawn} of --drawn, which must be below 1000")
    args.out.mkdir(parents=True, exist_ok=True)
    steps = data(args)
    code = runner.run_steps(steps, args.out)
    for dose in doses if code == command.EXIT_DONE else []:
        steps += steps_of(args, dose)
    code = code or runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scores = {dose: score_file.read(people_rows.scored(args, str(dose)) / score_file.WHOLE)[1] for dose in doses}
    total = len({score.person for score in scores[doses[0]]})
    clips = {f"{dose} people": people_rows.clips_of(scores[dose], "mytalk") for dose in doses}
    rows = {row: people_rows.entries(of_row, total) for row, of_row in clips.items()}
    found = {
        f"{more} - {less}": people_rows.differences(clips[more], clips[less]) for less, more in itertools.pairwise(rows)
    }
    conditions = conditions_in_words(args)
    atomic.write_json(args.out / "results.json", {"conditions": conditions, "rows": rows, "differences": found})
    print(f"\n{conditions}\n")
    print("\n".join([*people_rows.table(rows), "", *people_rows.table_of_differences(found)]))
    return command.EXIT_DONE


def data(args: argparse.Namespace) -> list[Step]:
    """Draw the people, extract them, and join whom models are trained on with whom validation watches."""
    steps = []
    for corpus, people, split, seed in (
        (WATCHED, WATCHED_PEOPLE, "val", args.seed + 1000),
        (TRAINED, args.drawn, "train", args.seed),
    ):
        videos, shards = args.out / corpus, args.out / f"{corpus}-shards"
        size = ("--identities", str(people), "--clips-per-identity", "1", "--seconds", str(args.seconds))
        draw = ("data_pipeline", "demo", str(videos), *size, "--seed", str(seed), "--no-broken")
        extract = ("data_pipeline", "extract", str(videos), str(shards), "--corpus", corpus, "--layout", "drawn")
        manifest = shards / "manifest.json"
        steps += [
            Step(f"draw {corpus}", draw, videos / "corpus.json"),
            Step(f"extract {corpus}", extract, manifest, (videos,)),
            Step(f"split {corpus}", ("data_pipeline", "split", str(shards), "--everyone", split), manifest),
        ]
    shards = args.out / "shards"
    sources = [str(args.out / f"{corpus}-shards") for corpus in (WATCHED, TRAINED)]
    return [*steps, Step("index", ("data_pipeline", "index", str(shards), *sources), shards / "manifest.json")]


def steps_of(args: argparse.Namespace, dose: int) -> list[Step]:
    """Train on the first `dose` people, and score."""
    shards = args.out / "shards"
    people, seen = f"where={first_people(shards, dose)}", ("--source-frames", str(SOURCE_FRAMES))
    to_its_end = [
        f"validate_every={max(1, args.steps // LOOKS)}",
        "keep_best=opening_correlation",
        f"patience={PATIENCE}",
        f"scored_clips={WATCHED_PEOPLE}",
    ]
    return people_rows.trained_and_scored(args, str(dose), shards, args.unseen, [people, *to_its_end], seen)


def first_people(shards: Path, dose: int) -> str:
    """The filter of training clips that keeps the first `dose` people who teach speech. Raises UserError for too few.

    Drawn people are numbered, and a larger dose has everybody of a smaller one.
    """
    manifest = Manifest.load(shards)
    names = sorted({str(name) for name in manifest.column("identity")[manifest.rows("train", with_speech=True)]})
    if len(names) < dose:
        raise UserError(f"{len(names)} people of {shards} teach speech, fewer than {dose}; raise --drawn in a new OUT")
    return f'identity <= "{names[dose - 1]}"'


def conditions_in_words(args: argparse.Namespace) -> str:
    """What was measured on."""
    settings = " ".join([f"steps={args.steps}", f"seed={args.seed}", *args.settings])
    return (
        f"drawn people, one clip of {args.seconds:g} s each, who are trained on; {args.unseen}: who are scored; "
        f"settings of {args.configs}, without identity encoder, {settings}; each training until its validation on "
        f"{WATCHED_PEOPLE} others has not risen for {PATIENCE} looks of {LOOKS}, and its best step; sampled in "
        f"{args.sampler_steps} steps"
    )


if __name__ == "__main__":
    harness.end("python -m benchmarks.people.dose", lambda: run(arguments().parse_args()))
