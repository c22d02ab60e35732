"""The ablations of docs/model.md: the motion model with one setting changed at a time, scored on unseen people.

Each model is trained on the same shards for the same number of steps with the settings of --configs, and `eval motion`
scores each on the same people. Differences from the model without any change are paired over people. One training
each: other seeds say how much of a difference is chance. Stopped anywhere, the same command continues; an ablation may
be added to --only later. Writes OUT/results.json.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.people import rows as people_rows
from eval import score_file
from launch import runner
from launch.commands import Step
from mytalk import atomic, command, config
from train.recipes.motion import MotionTrainConfig

BASE = "base"
# Name -> the settings that are changed. A sampler changes no weights: it is trained again only to keep one way.
ABLATIONS: dict[str, list[str]] = {
    "seen-landmarks": ["model.upper_face=landmarks"],
    "full-noising": ["model.noised=all"],
    "no-source-speech": ["model.source_speech=false"],
    "source-dropout": ["source_dropout=0.1"],
    "no-source-sound-dropout": ["source_sound_dropout=0"],
    "no-speech-level": ["model.speech_level=false"],
    "speech-mean": ["model.speech_mean=true"],
    "recorded": ["recorded=0.5"],
    "recorded-mean": ["recorded=0.5", "model.speech_mean=true"],
    "no-voice-stretch": ["voice_stretch=0"],
    "no-speech-dropout": ["speech_dropout=0"],
    "whiten": ["model.whiten=true"],
    "log-snr": ["model.times=log_snr", "even_times=true"],
    "v": ["model.prediction=v"],
    "flow": ["model.prediction=flow", "model.times=straight"],
    "straight": ["model.times=straight"],
    "siblings-weights": ["loss_weights=target"],
    "min-snr": ["loss_weights=min_snr"],
    "second-order": ["model.sampler=second_order"],
    "euler": ["model.sampler=euler"],
    "dropout": ["dropout=0.1"],
    "motions-sizes": ["model.speech_hidden=0"],
}
OF_IDENTITY = {  # with an identity encoder
    "no-identity-loss": ["identity_loss=0"],
    "no-identity-condition": ["identity_condition=false"],
    "identity-until": ["identity_until=0.3"],
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.people.ablations runs/ablations --shards runs/demo/shards --only whiten flow v"
    parser = command.parser("python -m benchmarks.people.ablations", __doc__, example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument("--shards", type=Path, required=True, help="shards whose split `train` is trained on")
    parser.add_argument("--unseen", type=Path, metavar="SHARDS", help="whose `unseen` is scored (default: --shards)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*ABLATIONS, *OF_IDENTITY],
        metavar="NAME",
        help=f"some of {', '.join([*ABLATIONS, *OF_IDENTITY])} (default: all)",
    )
    parser.add_argument("--identity", type=Path, metavar="FOLDER", help="an identity encoder, for ablations of it")
    people_rows.add_training_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train and score what is not done, then print the tables."""
    chosen = ablations(args)
    steps = [step for name, changed in chosen.items() for step in steps_of(args, name, changed)]
    args.out.mkdir(parents=True, exist_ok=True)
    code = runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scores = {name: score_file.read(people_rows.scored(args, name) / score_file.WHOLE)[1] for name in chosen}
    total = len({score.person for score in scores[BASE]})
    clips = {name: people_rows.clips_of(found, "mytalk") for name, found in scores.items()}
    rows = {name: people_rows.entries(of_row, total) for name, of_row in clips.items()}
    found = {f"{name} - {BASE}": people_rows.differences(clips[name], clips[BASE]) for name in clips if name != BASE}
    conditions = conditions_in_words(args)
    changes = {name: " ".join(changed) for name, changed in chosen.items()}
    results = {"conditions": conditions, "settings": changes, "rows": rows, "differences": found}
    atomic.write_json(args.out / "results.json", results)
    print(f"\n{conditions}\n")
    print("\n".join([*people_rows.table(rows), "", *people_rows.table_of_differences(found)]))
    return command.EXIT_DONE


def ablations(args: argparse.Namespace) -> dict[str, list[str]]:
    """The models to train, `base` first: name -> what is changed. Raises UserError for one that needs an encoder."""
    lacking = [] if args.identity else [name for name in args.only or OF_IDENTITY if name in OF_IDENTITY]
    if lacking and args.only:
        raise command.UserError(f"{', '.join(lacking)}: name an identity encoder with --identity FOLDER")
    if lacking:
        print(f"left out without --identity FOLDER: {', '.join(lacking)}")
    known = ABLATIONS | OF_IDENTITY
    names = [name for name in known if name in (args.only or known) and name not in lacking]
    base = asdict(trained_with(args, []))
    if same := [name for name in names if asdict(trained_with(args, known[name])) == base]:
        print(f"left out, the settings of {args.configs} have them: {', '.join(same)}")
        names = [name for name in names if name not in same]
    return {BASE: [], **{name: known[name] for name in names}}


def trained_with(args: argparse.Namespace, changed: list[str]) -> MotionTrainConfig:
    """The settings of a training with these changes."""
    encoder = [f"identity={args.identity}"] if args.identity else []
    return config.load(MotionTrainConfig, args.configs / "motion.yaml", [*args.settings, *encoder, *changed])


def steps_of(args: argparse.Namespace, name: str, changed: list[str]) -> list[Step]:
    """Train one model, and score it."""
    encoder = [f"identity={args.identity}"] if args.identity else []
    return people_rows.trained_and_scored(args, name, args.shards, args.unseen or args.shards, [*encoder, *changed])


def conditions_in_words(args: argparse.Namespace) -> str:
    """What was measured on."""
    settings = " ".join([f"steps={args.steps}", f"seed={args.seed}", *args.settings])
    encoder = f"identity encoder {args.identity}" if args.identity else "without identity encoder"
    return (
        f"trained on {args.shards}, scored on {args.unseen or args.shards}; settings of {args.configs}, {encoder}, "
        f"{settings}; sampled in {args.sampler_steps} steps"
    )


if __name__ == "__main__":
    harness.end("python -m benchmarks.people.ablations", lambda: run(arguments().parse_args()))
