"""What a painted frame costs: CPU time by stage, how much of it the networks themselves take, and frames a second.

The face of VIDEO is found and painted with its own landmarks, in every precision that the processor has, in turns: each
stage by itself, then the second pass of a dub as it is, whose stages go on at once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from eval.rows import stages
from mytalk import atomic, command, machine, media
from mytalk.dub import compositing, dubbing
from mytalk.dub.first_pass import FirstPass, find_face_spans
from mytalk.dub.person import PersonReference, person_reference
from mytalk.face import detector, region
from mytalk.face.track import find_faces
from mytalk.networks.appearance.config import PRECISIONS
from mytalk.networks.appearance.files import load_model
from mytalk.networks.appearance.generator import Generator
from mytalk.networks.appearance.painter import Painter

DECODE, FIND, PAINT, ENCODE = STAGES = "decode", "find the face", "paint, blend into the frame", "encode"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.painting actor.mp4 --appearance runs/demo/appearance/model"
    parser = command.parser("python -m benchmarks.painting", __doc__, example)
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a short video of one face")
    parser.add_argument("--appearance", type=Path, required=True, metavar="FOLDER", help="model of train appearance")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure in turns and print the table."""
    generator, finder = load_model(args.appearance), detector.load(args.detector)
    has_bf16 = machine.has_bf16(next(generator.parameters()).device)
    precisions = [name for name in PRECISIONS if name == "fp32" or has_bf16]
    faces = find_face_spans(args.video, finder)
    person = person_reference(faces, np.zeros(0, np.float32), generator.config.side_px)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in precisions}
    for number in harness.turns("painting", len(precisions), args.rounds):
        generator.compute_in(precisions[number])
        rounds[precisions[number]].append(measured(faces, person, generator, finder))
    print(
        f"\n{faces.frames} frames of {faces.width} x {faces.height}; {machine.cores()} cores, "
        f"{torch.get_num_threads()} threads of torch; medians of {args.rounds} rounds\n"
    )
    print("\n".join(table(rounds)))
    if args.json:
        atomic.write_json(args.json, rounds)
    return command.EXIT_DONE


def measured(
    faces: FirstPass, person: PersonReference, generator: Generator, finder: detector.Detector
) -> dict[str, Any]:
    """CPU ms a frame of every stage, in all and inside networks, and the frames a second of the second pass."""
    clock = stages.Clock()
    watched = [(generator, ("encode_lips", "encode_frame", "decode")), (finder, ("find", "landmarks"))]
    for network, methods in watched:
        clock.watch(network, *methods)
    try:
        one_by_one(clock, faces, person, generator, finder)
    finally:
        for network, methods in watched:
            for method in methods:
                delattr(network, method)  # the class's own shows again
    cpu_ms = {name: [1e3 * spent / faces.frames for spent in both_s] for name, both_s in clock.table().items()}
    return {"cpu_ms": {name: cpu_ms[name] for name in STAGES}, "frames_s": second_pass_hz(faces, person, generator)}


def one_by_one(
    clock: stages.Clock, faces: FirstPass, person: PersonReference, generator: Generator, finder: detector.Detector
) -> None:
    """All stages of a dub but the writing of motion, one after the other."""
    with clock.stage(DECODE):
        frames = list(media.read_frames(faces.video, faces.fps, stop=faces.frames))
    with clock.stage(FIND):
        find_faces(frames, finder)
    with clock.stage(PAINT):
        painter = Painter(generator, person.frames_RHW3, person.frame_landmarks_RN3)
        landmarks = [span.landmarks_FN3 for span in faces.spans]
        regions = [region.regions(span_FN3) for span_FN3 in landmarks]
        strengths = [region.strengths(span_FN3, float(faces.fps)) for span_FN3 in landmarks]
        layer = compositing.Layer(faces.spans, landmarks, regions, strengths, painter)
        painted = list(compositing.with_layer(iter(frames), layer))
    with clock.stage(ENCODE), tempfile.TemporaryDirectory() as folder:
        media.write_video(Path(folder) / "painted.mp4", painted, faces.fps)


def second_pass_hz(faces: FirstPass, person: PersonReference, generator: Generator) -> float:
    """Frames that a dub paints and writes in a second, by the clock."""
    landmarks, silence_S = [span.landmarks_FN3 for span in faces.spans], np.zeros(0, np.float32)
    models = dubbing.Models(None, generator)  # type: ignore[arg-type]  # the motion is written already
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        dubbing.render([dubbing.Dub(faces, landmarks, person)], models, silence_S, Path(folder) / "painted.mp4")
        return faces.frames / (time.perf_counter() - start_s)


def table(rounds: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines of Markdown, two columns a precision."""
    heads = [head for name in rounds for head in (name, "inside networks")]
    found = [np.median([[one["cpu_ms"][stage] for stage in STAGES] for one in of], 0) for of in rounds.values()]
    stages_P2 = np.concatenate(found, axis=1)
    rows = {stage: [f"{ms:.1f}" for ms in row_P] for stage, row_P in zip(STAGES, stages_P2, strict=True)}
    rows["all"] = [f"{ms:.1f}" for ms in stages_P2.sum(0)]
    in_paint_P2 = stages_P2[STAGES.index(PAINT)].reshape(-1, 2)
    shares = [own / whole for whole, own in in_paint_P2]
    rows["share of the networks in painting"] = [cell for share in shares for cell in ("", f"{share:.2f}")]
    clocked = [np.median([one["frames_s"] for one in of]) for of in rounds.values()]
    rows["second pass of a dub, frames/s by the clock"] = [cell for hz in clocked for cell in (f"{hz:.1f}", "")]
    lines = [f"| CPU ms a frame | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


if __name__ == "__main__":
    harness.end("python -m benchmarks.painting", lambda: run(arguments().parse_args()))
