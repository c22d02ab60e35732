"""SyncNet on people whom it never saw: taught by drawn people, by drawn and then by these, and by both mixed.

For each of N parts the people of SHARDS in it stay unseen, so that everybody is unseen once; nobody chooses a step.
Two-way accuracy is taken as the clips are, and at the offset that the other half of the clip shows (`annotate sync`):
the sound of many videos is a little late. Beside it stands that with another person's speech, which belongs to no
mouth: 0.5. A person's clips are averaged, then people; differences of rows are paired. Stopped anywhere, the same
command continues. Writes OUT/results.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip
from data_pipeline.annotate import sync
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from launch import commands, runner
from launch.commands import Step
from mytalk import atomic, command
from mytalk.command import UserError
from mytalk.networks import syncnet

DRAWN, TUNED, MIXED = "drawn", "drawn, then these", "both mixed"
VAL = 0.03  # share of the people: validation needs somebody, and nothing is chosen by them
METRICS = {
    "in_place": "two-way accuracy",
    "accuracy": "at the other half's offset",
    "near": "offset within a frame of 0",
    "confidence": "confidence",
    "of_another": "another's speech, as in column 2",
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.people.synced runs/synced --shards data/real --drawn data/drawn --column speech"
    parser = command.parser("python -m benchmarks.people.synced", __doc__, example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument("--shards", type=Path, required=True, help="the people who are unseen in turn")
    parser.add_argument("--drawn", type=Path, required=True, metavar="SHARDS", help="the others, with a split")
    parser.add_argument("--column", help="of both shards, that is heard in place of the sound")
    parser.add_argument("--folds", type=int, default=3, metavar="N", help="parts (default: 3)")
    parser.add_argument("--steps", type=int, default=300, help="of a training (default: 300)")
    parser.add_argument("--tune", type=int, default=60, help="steps of one that goes on; 0: none (default: 60)")
    parser.add_argument("--mixed", type=int, default=10, help="times a clip of SHARDS comes; 0: none (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of parts and trainings (default: 0)")
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    parser.add_argument("--settings", nargs="+", default=[], metavar="key=value", help="settings of every training")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run what is not done, then score and print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    code = runner.run_steps(plan(args), args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    clips: dict[str, list[RowClip]] = {}
    for part in parts(args):
        manifest = Manifest.load(args.out / part / "shards")
        for row, run_folder in models(args, part).items():
            clips.setdefault(row, []).extend(scored(run_folder / "model", manifest, part))
    total = len({clip.person for clip in clips[DRAWN]})
    rows = {row: people_rows.entries(of_row, total, METRICS) for row, of_row in clips.items()}
    found = {
        f"{row} - {DRAWN}": people_rows.differences(clips[row], clips[DRAWN], METRICS) for row in rows if row != DRAWN
    }
    atomic.write_json(
        args.out / "results.json", {"arguments": people_rows.as_typed(args), "rows": rows, "differences": found}
    )
    print("\n".join(["", *people_rows.table(rows, METRICS), "", *people_rows.table_of_differences(found, METRICS)]))
    return command.EXIT_DONE


def parts(args: argparse.Namespace) -> list[str]:
    """Names of the parts, which are folders of OUT."""
    return [f"part-{number}" for number in range(1, args.folds + 1)]


def models(args: argparse.Namespace, part: str) -> dict[str, Path]:
    """Row -> run folder of the model that is scored on a part."""
    asked = {TUNED: (args.tune, "tuned"), MIXED: (args.mixed, "mixed")}
    return {DRAWN: args.out / DRAWN} | {row: args.out / part / name for row, (much, name) in asked.items() if much}


def plan(args: argparse.Namespace) -> list[Step]:
    """The trainings, and the shards of each part. Raises UserError for people who cannot be told apart or divided."""
    corpora = [sorted({*map(str, Manifest.load(of).column("corpus"))}) for of in (args.drawn, args.shards)]
    if args.folds < 2 or {*corpora[0]} & {*corpora[1]}:
        raise UserError("--folds must be 2 or more, and the corpora of --drawn and --shards have other names")
    heard = [] if args.column is None else [f"model.features={args.column}", "voice_stretch=0"]
    own = [*heard, f"seed={args.seed}", *args.settings]
    long = [*own, f"steps={args.steps}", f"validate_every={args.steps}"]
    tuned = [*own, f"steps={args.tune}", f"validate_every={args.tune}", f"init_from={args.out / DRAWN / 'model'}"]
    tuned += [
        people_rows.going_on(args.configs / "syncnet.yaml"),
        f"optimizer.warmup_steps={args.tune // 6}",
        repeats(corpora[0], 0),
    ]
    settings = {TUNED: tuned, MIXED: [*long, repeats(corpora[1], args.mixed)]}
    steps = [commands.training("syncnet", args.configs, args.drawn, args.out / DRAWN, long)]
    for number, part in enumerate(parts(args), 1):
        shards, both = args.out / part / "shards", args.out / part / "both"
        fold = ("--val", str(VAL), "--fold", f"{number}/{args.folds}", "--seed", str(args.seed), "--force")
        of_part = [
            Step(f"{words[0]} {words[1].name}", ("data_pipeline", *map(str, words)), words[1] / "manifest.json")
            for words in (
                ("index", shards, args.shards),
                ("split", shards, *fold),
                ("index", both, args.drawn, shards),
            )
        ]
        for row, run_folder in models(args, part).items():
            if row != DRAWN:
                training = commands.training("syncnet", args.configs, both, run_folder, settings[row])
                of_part.append(replace(training, name=f"train {row}"))
        steps += [replace(step, name=f"{step.name}, {part}") for step in of_part]
    return steps


def repeats(corpora: list[str], times: int) -> str:
    """The setting by which clips of these corpora come so many times."""
    return f"repeats={{{', '.join(f'{corpus}: {times}' for corpus in corpora)}}}"


@torch.no_grad()
def scored(folder: Path, manifest: Manifest, part: str) -> Iterator[RowClip]:
    """The unseen clips that are long enough, as the model of a folder finds them."""
    model, reach = syncnet.load_model(folder, hears_columns=True), syncnet.REACH_FRAMES
    least = sync.least_windows(reach) + model.config.window_frames - 1
    rows = manifest.rows("unseen", with_speech=True)
    rows = rows[manifest.column("frames")[rows] >= least].tolist()
    people = [str(manifest.at(row, "identity")) for row in rows]
    windows = [embedded(model, manifest, row) for row in rows]
    for at, (mouth_WD, speech_WD) in enumerate(windows):
        own = sync.compared(mouth_WD, speech_WD, reach)
        metrics = {
            "in_place": float(syncnet.two_way_accuracy(torch.from_numpy(mouth_WD), torch.from_numpy(speech_WD))),
            "accuracy": own["sync_accuracy"],
            "near": float(abs(own["sync_measured"]) <= 1),
            "confidence": own["sync_confidence"],
        }
        if others := [speech for person, (_, speech) in zip(people, windows) if person != people[at]]:
            pairs = zip(mouth_WD, others[at % len(others)])  # as long as the shorter one
            mouths, speeches = map(np.stack, zip(*pairs))
            metrics["of_another"] = sync.compared(mouths, speeches, reach)["sync_accuracy"]
        yield RowClip(part, str(manifest.at(rows[at], "key")), people[at], metrics)


def embedded(model: syncnet.SyncNet, manifest: Manifest, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows of a clip's mouth and of its speech, both (W, D)."""
    features_TF = reader.read_features(manifest, model.config.column, row)
    features_BTF = None if features_TF is None else torch.from_numpy(features_TF)[None]
    speech_BWD = model.speech(torch.from_numpy(reader.read_audio(manifest, row))[None], features_BTF=features_BTF)
    mouth_BWD = model.mouth(torch.from_numpy(reader.read_landmarks(manifest, row))[None])
    return mouth_BWD[0].numpy(), speech_BWD[0].numpy()


if __name__ == "__main__":
    harness.end("python -m benchmarks.people.synced", lambda: run(arguments().parse_args()))
