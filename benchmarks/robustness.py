"""How well a motion model follows speech as people record it: quieter, noisy, in a room, by telephone; silent sources.

Every clip of a split is generated from its clean speech and from the same speech recorded otherwise, with equal start
noise. People are averaged over their clips; intervals are over people, of the differences from clean. Writes
OUT/robustness.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from data_pipeline.examples import recording
from data_pipeline.shards.manifest import Manifest
from eval.metrics import lips
from eval.metrics.metric import Miss
from eval.rows.inputs import ClipInputs, read_inputs
from eval.rows.landmarks import generated
from eval.tasks import Settings, generator, noise_seed, plan_tasks
from mytalk import atomic, command, intervals
from mytalk.command import UserError
from mytalk.networks import weights
from mytalk.networks.motion.files import load_model
from mytalk.progress import Progress

Record = Callable[[np.ndarray, np.random.Generator, np.ndarray], np.ndarray]  # the last: another clip's speech
CLEAN, SILENT = "clean", "silent source"
ROWS: dict[str, Record] = {  # of the speech that is dubbed
    CLEAN: lambda audio_S, random, other_S: audio_S,
    "-12 dB": lambda audio_S, random, other_S: recording.louder(audio_S, -12),
    "noise, 20 dB": lambda audio_S, random, other_S: recording.noisy(audio_S, 20, random),
    "noise, 10 dB": lambda audio_S, random, other_S: recording.noisy(audio_S, 10, random),
    "another voice, 10 dB": lambda audio_S, random, other_S: recording.below(audio_S, other_S, 10),
    "music, 10 dB": lambda audio_S, random, other_S: recording.below(
        audio_S, recording.music(len(audio_S), random), 10
    ),
    "codec, 5 bits": lambda audio_S, random, other_S: recording.companded(audio_S, 5),
    "room, 0.3 s": lambda audio_S, random, other_S: recording.in_room(audio_S, 0.3, 0.0, random),
    "telephone": lambda audio_S, random, other_S: recording.in_band(audio_S, 300, 3400),
    SILENT: lambda audio_S, random, other_S: audio_S,
}
MEASURES = {"correlation": "opening correlation", "amplitude": "amplitude ratio", "mean_px": "mean opening, px"}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.robustness runs/demo/shards runs/demo/motion/model runs/robustness"
    parser = command.parser("python -m benchmarks.robustness", __doc__, example)
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder of shards with a manifest")
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a motion model")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument("--split", default="unseen", help="whose clips (default: unseen)")
    parser.add_argument("--steps", type=int, default=5, help="of the sampler (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of noise, rooms and sources (default: 0)")
    parser.add_argument("--clips-per-person", type=int, default=1, metavar="N", help="(default: 1)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Generate and measure; print the table."""
    manifest, model = Manifest.load(args.shards), load_model(args.model)
    settings = Settings(args.split, args.steps, args.seed, clips_per_person=args.clips_per_person)
    tasks = plan_tasks(manifest, settings)
    progress = Progress("robustness", len(tasks), "clips")
    found: list[tuple[str, dict[str, dict[str, float]]]] = []
    left_out = 0
    for task in tasks:
        try:
            inputs = read_inputs(manifest, settings, task)
            found.append((task.person, of_clip(model, inputs, noise_seed(settings, task.key), settings, task.key)))
        except Miss:
            left_out += 1
        progress.step()
    progress.finish()
    if not found:
        raise UserError(f"no clip of split '{args.split}' can be scored; extract longer clips or more of each person")
    rows = summary(found)
    facts = {
        "model": weights.digest(args.model),
        "manifest": manifest.digest,
        "split": args.split,
        "sampler_steps": args.steps,
        "seed": args.seed,
        "clips": len(found),
        "left_out": left_out,
    }
    atomic.write_json(args.out / "robustness.json", {"conditions": facts, "rows": rows})
    print("\n".join(table(rows)))
    return command.EXIT_DONE


def of_clip(model: Any, inputs: ClipInputs, seed: int, settings: Settings, key: str) -> dict[str, dict[str, float]]:
    """Row -> measure -> value of one clip. Raises Miss where the true mouth stands still."""
    values = {}
    for row, record in ROWS.items():
        random = generator(settings.seed, key, f"recorded: {row}")
        audio_S = record(np.asarray(inputs.audio_S, np.float32), random, inputs.other_audio_S)
        source_audio_S = np.zeros_like(inputs.source_audio_S) if row == SILENT else inputs.source_audio_S
        truth_TN3 = inputs.truth_TN3
        made_TN3 = generated(model, truth_TN3, inputs.source_UN3, source_audio_S, audio_S, seed, settings.sampler_steps)
        pair = lips.aligned(truth_TN3, made_TN3)
        truth_T, made_T = pair.openings()
        correlation = lips.opening_correlation(pair)
        values[row] = dict(zip(MEASURES, (correlation, float(made_T.std() / truth_T.std()), float(made_T.mean()))))
    return values


def summary(found: list[tuple[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, Any]]:
    """Row -> measure -> its mean over people, and that of its difference from clean, with intervals."""
    people = len({person for person, _ in found})
    rows: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        rows[row] = {}
        for measure in MEASURES:
            own = [(person, values[row][measure]) for person, values in found]
            less = [(person, values[row][measure] - values[CLEAN][measure]) for person, values in found]
            rows[row][measure] = {
                **intervals.over_people(own, people),
                "difference": intervals.over_people(less, people),
            }
    return rows


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: each mean, and the difference from clean with its interval."""
    lines = ["| speech | " + " | ".join(f"{words} | from clean" for words in MEASURES.values()) + " |"]
    lines.append("|---" * (1 + 2 * len(MEASURES)) + "|")
    for row, entries in rows.items():
        cells = [row]
        for measure in MEASURES:
            cells.append(f"{entries[measure]['mean']:.3f}")
            cells.append("" if row == CLEAN else intervals.shown(entries[measure]["difference"]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    harness.end("python -m benchmarks.robustness", lambda: run(arguments().parse_args()))
