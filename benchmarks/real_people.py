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
import csv
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import harness
from benchmarks.people import dubbed
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip, Scoring
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from eval.tasks import Settings
from launch import commands, runner
from launch.commands import Step
from mytalk import atomic, command
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ
from mytalk.networks import weights

VAL, UNSEEN = 0.15, 0.33  # shares of people; who are in val choose the best step
RIDGE = "ridge regression"
DRAWN, TUNED = "drawn", "drawn, then {} steps"
MIXED = ", both mixed"
SLOWER = 5  # times, the learning rate of a model that goes on
COLUMN = "speech"
HEARS = (
    f"model.features={COLUMN}",
    "model.speech_level=false",
    "model.speech_mean=false",
    "voice_stretch=0",
    "recorded=0",
)


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
        help=f"train the drawn motion model on with real people, at 1/{SLOWER} of the rate, and score that as well",
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
        help=f"the motion models hear its features, as `column {COLUMN} --encoder` takes it",
    )
    parser.add_argument("--layer", help="of --speech-encoder, as `column` takes it")
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
    videos = args.videos if args.people is None else by_person(args.videos, args.people, args.out / "videos")
    planned = [plan(args, split) for split in splits_of(args)]
    steps = [
        extraction(videos, args.out, args.videos.resolve().name),
        *heard(args),
        *itertools.chain.from_iterable(steps for steps, _ in planned),
    ]
    code = runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scorings = [scoring for _, of_split in planned for scoring in of_split]
    dubs = [] if args.appearance is None else [dub_of(scoring) for scoring in scorings]
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


# Steps -------------------------------------------------------------------------------------------------------


def by_person(videos: Path, people: Path, out: Path) -> Path:
    """Copy the files into a folder for each person, as `extract` reads it; one without a line is a person alone.

    Raises UserError where a line names no file.
    """
    lines = [line for line in csv.reader(people.read_text().splitlines()) if line]
    if any(len(line) != 2 for line in lines):
        raise UserError(f"{people}: every line is `file,person`")
    person_of = {name.strip(): person.strip() for name, person in lines}
    size_of = dict(commands.listing(videos))
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


def heard(args: argparse.Namespace) -> list[Step]:
    """The column of features that the motion models hear."""
    if args.speech_encoder is None:
        return []
    shards = args.out / "extracted"
    layer = () if args.layer is None else ("--layer", args.layer)
    words = ("data_pipeline", "column", str(shards), COLUMN, "--encoder", args.speech_encoder, *layer)
    return [Step(f"column {COLUMN}", words, shards / "manifest.json")]


@dataclass(frozen=True)
class Split:
    """One division of the people, by a seed, which is its trainings' as well; `fold`: as `split --fold` has it."""

    seed: int
    fold: str = ""

    @property
    def name(self) -> str:
        """In messages and paths."""
        return f"seed-{self.seed}" + (f"-part-{self.fold.partition('/')[0]}" if self.fold else "")

    def options(self) -> tuple[str, ...]:
        """Of the command `split`."""
        unseen = ("--fold", self.fold) if self.fold else ("--unseen", str(UNSEEN))
        return ("--val", str(VAL), *unseen, "--seed", str(self.seed), "--force")


def splits_of(args: argparse.Namespace) -> list[Split]:
    """The divisions that are asked for. Raises UserError for impossible ones, and options that miss a model."""
    if args.seeds < 1 or (args.folds is not None and args.folds < 2):
        raise UserError("--seeds must be 1 or more, --folds 2 or more")
    if not args.steps and args.drawn is None:
        raise UserError("--steps without a number trains nothing; name a model by --drawn")
    if args.tune_drawn is not None and args.drawn is None:
        raise UserError("--tune-drawn trains the model of --drawn on; name its folder")
    if args.mixed is not None and (args.mixed < 1 or args.drawn is None):
        raise UserError("--mixed must be 1 or more, and needs the shards of --drawn; name that folder")
    if args.layer is not None and args.speech_encoder is None:
        raise UserError("--layer is of --speech-encoder; name one")
    if args.appearance is not None and not (args.appearance / "model.safetensors").is_file():
        raise UserError(f"no model.safetensors in {args.appearance}; --appearance names a painter's model folder")
    folds = [""] if args.folds is None else [f"{number}/{args.folds}" for number in range(1, args.folds + 1)]
    return [Split(seed, fold) for seed in range(args.seeds) for fold in folds]


def plan(args: argparse.Namespace, split: Split) -> tuple[list[Step], list[Scoring]]:
    """What is done with one split, and the scorings that it ends with."""
    folder = args.out / split.name
    shards = folder / "shards"
    index = ("data_pipeline", "index", str(shards), str(args.out / "extracted"))
    identity = commands.training("identity", args.configs, shards, folder / "identity", [f"seed={split.seed}"])
    trained = models(args)
    steps = [
        Step("index", index, shards / "manifest.json"),
        Step("split", ("data_pipeline", "split", str(shards), *split.options()), shards / "manifest.json"),
        *([identity] if args.steps else []),  # the others know that of the drawn model
    ]
    if args.mixed:
        both = ("data_pipeline", "index", str(folder / "mixed"), str(args.drawn / "shards"), str(shards))
        steps.append(Step("index both", both, folder / "mixed" / "manifest.json"))
    scorings, runs = [], []
    for name, settings in trained.items():
        run = folder / f"motion-{name.replace(', ', '-').replace(' ', '-')}"
        own = (f"identity={identity.result.parent}", "identity_loss=0", f"seed={split.seed}", *settings)
        taught_by = folder / "mixed" if name.endswith(MIXED) else shards
        training = commands.training("motion", args.configs, taught_by, run, own)
        runs.append(run)
        scorings.append(Scoring(name, split.name, run.with_name(run.name.replace("motion-", "score-", 1))))
        steps += [
            replace(training, name=f"train motion {name}"),
            scoring_step(args, scorings[-1], split, shards, run),
        ]
    if args.drawn is not None:
        scorings.append(Scoring(DRAWN, split.name, folder / f"score-{DRAWN}"))
        steps.append(scoring_step(args, scorings[-1], split, shards, args.drawn / "motion"))
        runs.append(args.drawn / "motion")
    for scoring, run in zip(scorings, runs) if args.appearance else ():
        chosen = Settings("unseen", args.sampler_steps, split.seed, args.source_frames, 1, args.frames)
        dub = dubbed.step(dub_of(scoring), shards, run, args.appearance, chosen, scoring.model == DRAWN)
        encoder = () if args.speech_encoder is None else ("--speech-encoder", args.speech_encoder)
        steps.append(replace(dub, words=(*dub.words, *encoder)))
    return [replace(step, name=f"{step.name}, {split.name}") for step in steps], scorings


def models(args: argparse.Namespace) -> dict[str, list[str]]:
    """The motion models that are trained on each split, with their settings."""
    settings = [*(() if args.speech_encoder is None else HEARS), *args.settings]
    trained = {f"{count} steps": [*settings, f"steps={count}"] for count in args.steps}
    drawn = [] if args.drawn is None else drawn_encoder(args.drawn)
    if args.tune_drawn is not None:
        rate = yaml.safe_load((args.configs / "motion.yaml").read_text())["optimizer"]["lr"] / SLOWER
        going_on = [f"init_from={args.drawn / 'motion' / 'model'}", f"optimizer.lr={rate:g}", *drawn]
        trained[TUNED.format(args.tune_drawn)] = [*settings, f"steps={args.tune_drawn}", *going_on]
    if args.mixed:
        weights = f"repeats={{{args.videos.resolve().name}: {args.mixed}}}"
        trained |= {name + MIXED: [*own, weights, *drawn] for name, own in trained.items()}
    return trained


def drawn_encoder(drawn: Path) -> list[str]:
    """The setting of the identity encoder that the drawn motion model knows: of another it knows nothing."""
    encoder = drawn / "motion" / "model" / weights.EXTRACTOR
    return [f"identity={encoder if encoder.is_dir() else ''}"]


def scoring_step(args: argparse.Namespace, scoring: Scoring, split: Split, shards: Path, run: Path) -> Step:
    """`eval motion` of the motion model in a run folder."""
    words = ("eval", "motion", "--shards", str(shards), "--model", str(run / "model"), "--out", str(scoring.out))
    more = ("--seed", str(split.seed), "--source-frames", str(args.source_frames), "--steps", str(args.sampler_steps))
    weights = run / "model" / "model.safetensors"
    reads = (weights,) if scoring.model == DRAWN else ()  # the others follow from the steps before
    return Step(f"score {scoring.model}", (*words, *more, "--force"), scoring.out / "report.json", reads)


def dub_of(scoring: Scoring) -> Scoring:
    """The scores of the same motion model's painted videos."""
    return replace(scoring, out=scoring.out.with_name(scoring.out.name.replace("score-", "dub-", 1)))


# Results -----------------------------------------------------------------------------------------------------


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
    unseen = f"{UNSEEN:.0%} of the people unseen" if args.folds is None else "each part unseen in turn"
    painted = f"; {args.frames} frames of a clip painted by {args.appearance}" if args.appearance else ""
    encoder = f"; speech heard by {args.speech_encoder}" if args.speech_encoder else ""
    encoder += f", layer {args.layer}" if args.layer else ""
    return (
        f"{args.videos}: {heard.sum()} clips with sound of {people} people, {frames / FRAME_HZ:.0f} s; "
        f"{len(splits_of(args))} splits with {unseen}; settings of {args.configs}, "
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
