"""What `benchmarks.real_people` types: the steps from videos to scores, for each division of the people.

Clips are extracted once (and heard, where an encoder is named); each split has its models, and a scoring of each.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.people import dubbed
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import Scoring
from data_pipeline.shards.manifest import Manifest
from eval.tasks import Settings
from launch import commands
from launch.commands import Step
from mytalk.command import UserError
from mytalk.networks import weights

VAL, UNSEEN = 0.15, 0.33  # shares of people; who are in val choose the best step
DRAWN, TUNED = "drawn", "drawn, then {} steps"
MIXED = ", both mixed"
COLUMN = "speech"
MODEL_FILE = "model.safetensors"
HEARS = (
    f"model.features={COLUMN}",
    "model.speech_level=false",
    "model.speech_mean=false",
    "voice_stretch=0",
    "recorded=0",
)


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
    """The column of features that the motion models hear, and by how much sound is late, which reading corrects."""
    shards, steps = args.out / "extracted", []
    if args.speech_encoder is not None:
        layer = () if args.layer is None else ("--layer", args.layer)
        words = ("data_pipeline", "column", str(shards), COLUMN, "--encoder", args.speech_encoder, *layer)
        steps.append(Step(f"column {COLUMN}", words, shards / "manifest.json"))
    if args.syncnet is not None:
        words = ("data_pipeline", "annotate", str(shards), "sync", "--syncnet", str(args.syncnet))
        steps.append(Step("annotate sync", words, shards / "manifest.json", (args.syncnet / MODEL_FILE,)))
    elif (shards / "manifest.json").is_file() and Manifest.load(shards).has("sync_offset"):
        raise UserError(f"late sound of {shards} was corrected by a run with --syncnet; name it again, or another OUT")
    return steps


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
    if args.syncnet is not None and not (args.syncnet / MODEL_FILE).is_file():
        raise UserError(f"no model.safetensors in {args.syncnet}; --syncnet names a SyncNet's model folder")
    if args.layer is not None and args.speech_encoder is None:
        raise UserError("--layer is of --speech-encoder; name one")
    if args.appearance is not None and not (args.appearance / MODEL_FILE).is_file():
        raise UserError(f"no model.safetensors in {args.appearance}; --appearance names a painter's model folder")
    folds = [""] if args.folds is None else [f"{number}/{args.folds}" for number in range(1, args.folds + 1)]
    return [Split(seed, fold) for seed in range(args.seeds) for fold in folds]


def of_split(args: argparse.Namespace, split: Split) -> tuple[list[Step], list[Scoring]]:
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
        going_on = [
            f"init_from={args.drawn / 'motion' / 'model'}",
            people_rows.going_on(args.configs / "motion.yaml"),
            *drawn,
        ]
        trained[TUNED.format(args.tune_drawn)] = [*settings, f"steps={args.tune_drawn}", *going_on]
    if args.mixed:
        often = f"repeats={{{args.videos.resolve().name}: {args.mixed}}}"
        trained |= {name + MIXED: [*own, often, *drawn] for name, own in trained.items()}
    return trained


def drawn_encoder(drawn: Path) -> list[str]:
    """The setting of the identity encoder that the drawn motion model knows: of another it knows nothing."""
    encoder = drawn / "motion" / "model" / weights.EXTRACTOR
    return [f"identity={encoder if encoder.is_dir() else ''}"]


def scoring_step(args: argparse.Namespace, scoring: Scoring, split: Split, shards: Path, run: Path) -> Step:
    """`eval motion` of the motion model in a run folder."""
    words = ("eval", "motion", "--shards", str(shards), "--model", str(run / "model"), "--out", str(scoring.out))
    more = ("--seed", str(split.seed), "--source-frames", str(args.source_frames), "--steps", str(args.sampler_steps))
    reads = (run / "model" / MODEL_FILE,) if scoring.model == DRAWN else ()  # the others follow from the steps before
    return Step(f"score {scoring.model}", (*words, *more, "--force"), scoring.out / "report.json", reads)


def dub_of(scoring: Scoring) -> Scoring:
    """The scores of the same motion model's painted videos."""
    return replace(scoring, out=scoring.out.with_name(scoring.out.name.replace("score-", "dub-", 1)))
