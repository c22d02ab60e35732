"""What each loss of the painter brings: short trainings side by side, measured on people they have not seen.

Every variant starts from the same weights, sees the same examples and takes the same steps; the table has a row for
each, the true frames read again (the detector alone), the references moved to the
landmarks without any network, and the differences from the first variant, paired over people.
Stopped anywhere, the same command continues. Writes OUT/results.json.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.people import painted
from benchmarks.people import rows as people_rows
from benchmarks.people.painted import METRICS, Judges
from benchmarks.people.rows import RowClip
from data_pipeline.shards.manifest import Manifest
from eval.judges import load as judges
from launch import commands, runner
from mytalk import atomic, command
from mytalk.command import UserError
from mytalk.face import detector
from mytalk.networks import reader, syncnet, weights
from mytalk.networks.appearance.files import load_model
from mytalk.progress import Progress

TRUE, MOVED = "true frames", "references moved, no network"
PLAIN = ("adversarial_weight=0", "losses.feature_matching=0", "losses.wrong_landmarks=false")
ADVERSARY = ("adversarial_weight=0.5", "model.discriminator_channels=16")
SEEING = (*ADVERSARY, "model.discriminator_landmarks=true", "losses.wrong_landmarks=true", "losses.feature_matching=5")
VARIANTS: dict[str, tuple[str, ...]] = {  # the first is what others are compared with
    "l1": PLAIN,
    "perceptual": (*PLAIN, "losses.perceptual=1", "losses.perceptual_step=2"),
    "pyramid": (*PLAIN, "losses.pyramid=0.5"),
    "inner-mouth": (*PLAIN, "losses.inner_mouth=2"),
    "reading": (*PLAIN, "losses.reading=0.05", "losses.reader=READER"),
    "sync": (*PLAIN, "losses.sync=0.05", "losses.syncnet=SYNCNET"),
    "mean": (*ADVERSARY, "adversarial_from_step=220", "model.base=mean"),  # as before references were moved
    "adversary": ADVERSARY,
    "seeing-adversary": SEEING,
    "time": (*PLAIN, "model.landmark_frames=5", "model.previous_frame=true"),
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.painters runs/painters --shards runs/demo/shards --init runs/demo/appearance/model"
    parser = command.parser("python -m benchmarks.painters", __doc__, example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards, split")
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    parser.add_argument("--init", type=Path, metavar="MODEL", help="what every variant starts from")
    parser.add_argument("--reader", type=Path, metavar="MODEL", help="reader of lips: teaches `reading`")
    parser.add_argument("--judge", type=Path, metavar="MODEL", help="another reader of lips, which only judges")
    parser.add_argument(
        "--syncnet", type=Path, metavar="MODEL", help="SyncNet of pixels: teaches `sync`, and scores every painter"
    )
    parser.add_argument("--sync-judge", type=Path, metavar="MODEL", help="SyncNet of landmarks, which only judges")
    parser.add_argument(
        "--variants", nargs="*", default=list(VARIANTS), metavar="NAME", help=f"of {' '.join(VARIANTS)}"
    )
    parser.add_argument(
        "--model", nargs="*", default=[], metavar="NAME=FOLDER", help="trained painters that are measured as well"
    )
    parser.add_argument("--steps", type=int, default=150, help="of each training (default: 150)")
    parser.add_argument("--frames", type=int, default=24, help="of each clip that are painted (default: 24)")
    parser.add_argument("--corpus", help="measure this corpus alone")
    parser.add_argument("--settings", nargs="+", default=[], metavar="key=value", help="settings of every training")
    return parser


def run(args: argparse.Namespace) -> int:
    """Train and measure what is not done, then print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = chosen(args)
    steps = [training(args, name) for name in wanted]
    code = runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    models: dict[str, Path | None] = {TRUE: None, MOVED: None}
    models |= {name: args.out / name / "model" for name in wanted} | named(args.model)
    measured = {name: scores(args, name, folder) for name, folder in models.items()}
    people = len({clip.person for clip in measured[TRUE]})
    rows = {name: people_rows.entries(of_row, people, METRICS) for name, of_row in measured.items()}
    first = next((name for name in models if name not in (TRUE, MOVED)), MOVED)
    found = {
        f"{name} - {first}": people_rows.differences(of_row, measured[first], METRICS)
        for name, of_row in measured.items()
        if name not in (TRUE, first)
    }
    conditions = f"{args.steps} steps; {args.frames} frames of each clip of {people} unseen people"
    atomic.write_json(args.out / "results.json", {"conditions": conditions, "rows": rows, "differences": found})
    print(f"\n{conditions}\n")
    print("\n".join([*table(rows), "", *people_rows.table_of_differences(found, METRICS)]))
    return command.EXIT_DONE


def chosen(args: argparse.Namespace) -> list[str]:
    """The variants that are trained. Raises UserError for an unknown one, and one without its reader."""
    for name in args.variants:
        if name not in VARIANTS:
            raise UserError(f"no variant {name}; there are {', '.join(VARIANTS)}")
        for word, folder, recipe in (("READER", args.reader, "reader"), ("SYNCNET", args.syncnet, "syncnet")):
            if any(word in setting for setting in VARIANTS[name]) and folder is None:
                raise UserError(f"variant {name} needs --{recipe}, a model of: python -m train {recipe}")
    return list(args.variants)


def named(models: list[str]) -> dict[str, Path | None]:
    """Trained painters by name. Raises UserError for words of another form."""
    found: dict[str, Path | None] = {}
    for word in models:
        name, _, folder = word.partition("=")
        if not folder:
            raise UserError(f"--model {word}: write NAME=FOLDER")
        found[name] = Path(folder)
    return found


def training(args: argparse.Namespace, name: str) -> commands.Step:
    """The training of a variant."""
    words = {"READER": str(args.reader), "SYNCNET": str(args.syncnet)}
    own = [functools.reduce(lambda text, word: text.replace(*word), words.items(), one) for one in VARIANTS[name]]
    start = [f"init_from={args.init}"] if args.init else []
    every = [f"steps={args.steps}", f"validate_every={args.steps}", f"checkpoint_every={args.steps}"]
    settings = [*start, *every, *args.settings, *own]
    step = commands.training("appearance", args.configs, args.shards, args.out / name, settings)
    return replace(step, name=f"train {name}")


def scores(args: argparse.Namespace, name: str, folder: Path | None) -> list[RowClip]:
    """The unseen clips as a model paints them, measured; read from OUT where they have been with these settings."""
    manifest = Manifest.load(args.shards)
    told = {
        "digest": weights.digest(folder) if folder else "",
        "manifest": manifest.digest,
        "frames": args.frames,
        "corpus": args.corpus,
        "judges": [weights.digest(judge) if judge else "" for judge in (args.judge, args.sync_judge, args.syncnet)],
    }
    path = args.out / f"scores-{name.replace(', ', '-').replace(' ', '-')}.json"
    if path.is_file() and (kept := json.loads(path.read_text()))["of"] == told:
        return [RowClip("", one["key"], one["person"], one["metrics"]) for one in kept["clips"]]
    found = list(measure(args, manifest, name, folder))
    atomic.write_json(path, {"of": told, "clips": [vars(clip) for clip in found]})
    return found


def measure(args: argparse.Namespace, manifest: Manifest, name: str, folder: Path | None) -> Any:
    """A RowClip of each unseen clip, a person's first alone."""
    torch.set_num_threads(1)
    rows_of: dict[str, int] = {}
    for row in manifest.rows("unseen").tolist():
        if args.corpus in (None, str(manifest.at(row, "corpus"))):
            rows_of.setdefault(str(manifest.at(row, "identity")), row)
    if not rows_of:
        raise UserError(f"{args.shards}: no clip of split 'unseen' to measure")
    judge = reader.load_proven(args.judge, "--judge") if args.judge else None
    corpora = [str(manifest.at(row, "corpus")) for row in rows_of.values()]
    lips, pixels = (
        syncnet.load_proven(model, user, corpora, sees) if model else None
        for model, user, sees in (
            (args.sync_judge, "--sync-judge", syncnet.LANDMARKS),
            (args.syncnet, "--syncnet", syncnet.PIXELS),
        )
    )
    found = Judges(detector.load(), judges.load(["perception"])["perception"], judge, lips, pixels)
    generator = load_model(folder) if folder else painted.unpainted() if name == MOVED else None
    progress = Progress(f"measuring {name}", len(rows_of), "clips")
    for row in rows_of.values():
        (clip,) = painted.clips(manifest, [row], args.frames)
        metrics = painted.measured(clip, painted.painted(clip, generator), found)
        yield RowClip("", clip.key, clip.person, metrics)
        progress.step()
    progress.finish()


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: means over people."""
    lines = [f"| | {' | '.join(METRICS.values())} |", "|---" * (1 + len(METRICS)) + "|"]
    for name, made in rows.items():
        cells = [f"{made[metric]['mean']:.3f}" if metric in made else "-" for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    harness.end("python -m benchmarks.painters", lambda: run(arguments().parse_args()))
