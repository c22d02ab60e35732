"""What promises about the mouth cost and bring: closed lips and stillness, on the unseen people of some shards.

Each clip is generated as written, with lips closed at the true p, b and m of drawn people (what a user who gives the
times gets), at those that a decoder of phones hears, with a mouth still in pauses, and with the last two. By landmarks
alone. Closures are counted by the true times. Differences from the first row are paired over people. Writes OUT, a JSON
file.

Shape suffixes: T frames, N landmarks (478), S audio samples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip
from data_pipeline.shards.manifest import Manifest
from eval import options
from eval.metrics import LANDMARK_METRICS, measure_rows
from eval.metrics.landmarks.closure import closures
from eval.metrics.lips import aligned
from eval.metrics.metric import Miss
from eval.rows.inputs import ClipInputs, read_bilabials, read_inputs
from eval.tasks import ScoringTask, Settings, noise_seed, plan_tasks
from mytalk import atomic, command
from mytalk.control import times
from mytalk.control.promises import Promises, frames_of, mouth_of
from mytalk.control.times import Times
from mytalk.dub import long_form
from mytalk.face.landmarks import FRAME_HZ, NOISED, without_mouth
from mytalk.networks.motion.files import load_model
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from mytalk.progress import Progress

METRICS = {
    "closure_recall": "closure recall",
    "closure_precision": "closure precision",
    "moves_in_silence_px": "movement in pauses, px a frame",
    **people_rows.METRICS,
}
WRITTEN, TRUE, HEARD, STILL, BOTH = (
    "as written",
    "closed at the true times",
    "closed at the times heard",
    "still in pauses",
    "closed at the times heard, still in pauses",
)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    name = "python -m benchmarks.people.promises"
    example = f"{name} --shards runs/demo/shards --model runs/demo/motion/model --out runs/promises.json"
    parser = command.parser(name, __doc__, example)
    parser.add_argument("--model", type=Path, required=True, help="folder of a motion model")
    return options.add(parser)


def run(args: argparse.Namespace) -> int:
    """Score every clip and print the tables."""
    settings, manifest, model = options.settings(args, args.model), Manifest.load(args.shards), load_model(args.model)
    tasks = plan_tasks(manifest, settings)
    progress = Progress("generate", len(tasks), "clips")
    clips: dict[str, list[RowClip]] = {}
    for task in tasks:
        try:
            for name, row in rows_of(manifest, settings, task, model).items():
                clips.setdefault(name, []).append(row)
        except Miss as miss:
            print(f"{task.key} is left out: {miss}")
        progress.step()
    progress.finish()
    total = len({task.person for task in tasks})
    rows = {name: people_rows.entries(of_row, total, METRICS) for name, of_row in clips.items()}
    found = {
        f"{name} - {WRITTEN}": people_rows.differences(of_row, clips[WRITTEN], METRICS)
        for name, of_row in clips.items()
        if name != WRITTEN
    }
    atomic.write_json(args.out, {"rows": rows, "differences": found})
    print("\n".join([*people_rows.table(rows, METRICS), "", *people_rows.table_of_differences(found, METRICS)]))
    return command.EXIT_DONE


def rows_of(manifest: Manifest, settings: Settings, task: ScoringTask, model: MotionModel) -> dict[str, RowClip]:
    """The clip in every row. Raises Miss where nothing says when its bilabials are spoken."""
    inputs = read_inputs(manifest, settings, task)
    true_s = read_bilabials(manifest, task.scored)
    if true_s is None:
        raise Miss("no_times_of_sounds", "the manifest does not say when p, b and m are spoken")
    heard_s, pauses_s = times.bilabials(inputs.audio_S), times.silences(inputs.audio_S, 0.0)
    asked: dict[str, tuple[Times, Times]] = {
        WRITTEN: ([], []),
        TRUE: (list(true_s), []),
        HEARD: (heard_s, []),
        STILL: ([], pauses_s),
        BOTH: (heard_s, pauses_s),
    }
    silent_T = frames_of(pauses_s, len(inputs.truth_TN3), FRAME_HZ)
    made = {}
    for name, (closed_s, still_s) in asked.items():
        row_TN3 = generated(model, inputs, closed_s, still_s, noise_seed(settings, task.key), settings.sampler_steps)
        pair = aligned(inputs.truth_TN3, row_TN3)
        metrics = measure_rows({name: pair}, LANDMARK_METRICS)[0][name]
        truth_T, row_T = pair.openings()
        closed = closures(truth_T, row_T, true_s, ~silent_T)
        metrics |= {"closure_recall": closed.recall(), "closure_precision": closed.precision()}
        if silent_T.sum() > 1:
            moves_T = np.abs(np.diff(row_T))[silent_T[1:] & silent_T[:-1]]
            metrics["moves_in_silence_px"] = float(moves_T.mean())
        made[name] = RowClip("", task.key, task.person, metrics)
    return made


def generated(
    model: MotionModel, inputs: ClipInputs, closed_s: Times, still_s: Times, seed: int, steps: int
) -> np.ndarray:
    """The clip as `dub` would write it with these promises, (T, 478, 3)."""
    source = SourceStretch(inputs.source_UN3, inputs.source_audio_S)
    clip_TN3, frames = without_mouth(inputs.truth_TN3), len(inputs.truth_TN3)
    if not closed_s and not still_s:
        return long_form.generate(model, clip_TN3, source, inputs.audio_S, seed, steps)
    head = long_form.person_head(source.landmarks_UN3)
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    closed_T, still_T = (frames_of(when, frames, FRAME_HZ) for when in (closed_s, still_s))
    nothing = np.zeros(0, np.int64), np.zeros((0, len(NOISED), 2))
    promises = Promises(mouth, float(FRAME_HZ), closed_T, still_T, *nothing)
    written_TN3 = long_form.generate(model, clip_TN3, source, inputs.audio_S, seed, steps, promises=promises)
    held_TK2 = promises.hold(long_form.lower_face(written_TN3, head))
    return long_form.with_lower_face(written_TN3, held_TK2, head)


if __name__ == "__main__":
    harness.end("python -m benchmarks.people.promises", lambda: run(arguments().parse_args()))
