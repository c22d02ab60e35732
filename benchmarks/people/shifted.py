"""Whether training on a corpus whose sound is shifted reaches, once that is measured, what a true corpus reaches.

People are drawn and extracted (`true`). In a copy the sound of each clip that is trained on is shifted by a known
number of frames (`shifted`); in a copy of that, `annotate sync` measures the shifts by a SyncNet of other people, and
reading corrects those that are sure (`corrected`). A motion model is trained alike on each, and scored on the same
unseen people, whose sound is true. One training each: other seeds say how much of a difference is chance. Stopped
anywhere, the same command continues. Writes OUT/results.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.people import rows as people_rows
from data_pipeline.shards import checksums, reader
from data_pipeline.shards.layout import SYNC_OFFSET, sums_name
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.members import WAV_HEADER_BYTES
from data_pipeline.shards.table.schema import HEADER
from eval import score_file
from launch import commands, runner
from launch.commands import Step
from mytalk import atomic, command
from mytalk.digest import sha256_of
from mytalk.face.landmarks import SAMPLES_PER_FRAME

TRUE, SHIFTED, CORRECTED = STATES = ("true", "shifted", "corrected")
LEAST_FRAMES, MOST_FRAMES = 3, 8  # of a shift, to either side
SOURCE_FRAMES = 40


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.people.shifted runs/shifted --others runs/demo/shards"
    parser = command.parser("python -m benchmarks.people.shifted", __doc__ or "", example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument(
        "--others", type=Path, required=True, metavar="SHARDS", help="shards in sync of other people, for the SyncNet"
    )
    parser.add_argument("--people", type=int, default=28, metavar="N", help="people drawn (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=2, metavar="N", help="of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a clip (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each training of motion (default: %(default)s)")
    parser.add_argument("--sampler-steps", type=int, default=5, help="in scores (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of people, shifts and trainings (default: %(default)s)")
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="settings (default: configs/demo)")
    parser.add_argument("--settings", nargs="+", default=[], metavar="key=value", help="settings of motion")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run what is not done, then print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    steps = data(args)
    code = runner.run_steps(steps, args.out)
    if code == command.EXIT_DONE:
        for state in (SHIFTED, CORRECTED):
            copied(args.out, state, args.seed)
        steps += [annotation(args)]
        for state in STATES:
            steps += steps_of(args, state)
        code = runner.run_steps(steps, args.out, restart=True)
    if code != command.EXIT_DONE:
        return code
    scores = {state: score_file.read(people_rows.scored(args, state) / score_file.WHOLE)[1] for state in STATES}
    total = len({score.person for score in scores[TRUE]})
    clips = {state: people_rows.clips_of(scores[state], "mytalk") for state in STATES}
    rows = {state: people_rows.entries(of_state, total) for state, of_state in clips.items()}
    pairs = ((SHIFTED, TRUE), (CORRECTED, TRUE), (CORRECTED, SHIFTED))
    found = {f"{one} - {other}": people_rows.differences(clips[one], clips[other]) for one, other in pairs}
    offsets = measured(args.out, args.seed)
    said = {"offsets": offsets, "rows": rows, "differences": found}
    atomic.write_json(args.out / "results.json", {"arguments": people_rows.as_typed(args), **said})
    print("\noffsets  " + ", ".join(f"{count} {name}" for name, count in offsets.items()) + "\n")
    print("\n".join([*people_rows.table(rows), "", *people_rows.table_of_differences(found)]))
    return command.EXIT_DONE


def data(args: argparse.Namespace) -> list[Step]:
    """Draw people, extract and split them, and train a SyncNet on others."""
    videos, shards = args.out / "videos", args.out / TRUE
    size = ("--identities", str(args.people), "--clips-per-identity", str(args.clips), "--seconds", str(args.seconds))
    draw = ("data_pipeline", "demo", str(videos), *size, "--seed", str(args.seed + 3000), "--no-broken")
    extract = ("data_pipeline", "extract", str(videos), str(shards), "--corpus", "shifted", "--layout", "drawn")
    split = ("data_pipeline", "split", str(shards), "--val", "0.1", "--unseen", "0.4")
    manifest = shards / HEADER
    return [
        Step("draw", draw, videos / "corpus.json"),
        Step("extract", extract, manifest, (videos,)),
        Step("split", split, manifest),
        commands.training("syncnet", args.configs, args.others, args.out / "syncnet", [f"seed={args.seed}"]),
    ]


def annotation(args: argparse.Namespace) -> Step:
    """Measure the offsets of the copy that is to be corrected."""
    words = ("data_pipeline", "annotate", str(args.out / CORRECTED), "sync", "--syncnet")
    return Step("annotate", (*words, str(commands.model(args.out, "syncnet"))), args.out / CORRECTED / HEADER)


def steps_of(args: argparse.Namespace, state: str) -> list[Step]:
    """Train on one state of the corpus, and score on the true one."""
    seen = ("--source-frames", str(SOURCE_FRAMES))
    return people_rows.trained_and_scored(args, state, args.out / state, args.out / TRUE, words=seen)


def shifts(manifest: Manifest, seed: int) -> dict[int, int]:
    """Row of each clip that is trained on or watched -> frames by which its sound is made late (negative: early)."""
    random = np.random.default_rng(seed)
    drawn_n = random.integers(LEAST_FRAMES, MOST_FRAMES + 1, len(manifest)) * random.choice((-1, 1), len(manifest))
    split_n = manifest.column("split")
    return {row: int(drawn_n[row]) for row in np.flatnonzero(np.isin(split_n, ("train", "val"))).tolist()}


def copied(out: Path, state: str, seed: int) -> None:
    """Copy the true shards, shift the sound of what is trained on, and state the tars' new digests."""
    folder, temporary = out / state, out / f".{state}"
    if folder.exists():
        return
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(out / TRUE, temporary)
    manifest = Manifest.load(temporary)
    for row, frames in shifts(manifest, seed).items():
        piece = reader.member_piece(manifest, row, "audio")
        with open(manifest.shard_path("motion", manifest.at(row, "shard")), "r+b") as tar:
            tar.seek(piece.offset + WAV_HEADER_BYTES)
            audio_S = np.frombuffer(tar.read(piece.size - WAV_HEADER_BYTES), "<i2")
            tar.seek(piece.offset + WAV_HEADER_BYTES)
            tar.write(late(audio_S, frames).tobytes())
    header = manifest.header
    for entry in header["shards"]:
        path = manifest.shard_path("motion", entry["shard"])
        checksums.write(path, temporary / sums_name("motion", entry["shard"]))
        entry["motion"]["sha256"] = sha256_of(path)
    atomic.write_json(temporary / HEADER, header)
    os.rename(temporary, folder)


def late(audio_S: np.ndarray, frames: int) -> np.ndarray:
    """Sound that comes so many frames later, earlier where negative; what is not there is silence."""
    samples = frames * SAMPLES_PER_FRAME
    moved_S = np.zeros_like(audio_S)
    if samples >= 0:
        moved_S[samples:] = audio_S[: len(audio_S) - samples]
    else:
        moved_S[:samples] = audio_S[-samples:]
    return moved_S


def measured(out: Path, seed: int) -> dict[str, int]:
    """Of the clips that were shifted: how many, how many offsets are sure, and of these within a frame of the shift."""
    manifest = Manifest.load(out / CORRECTED)
    known = shifts(manifest, seed)
    sure = {row: manifest.at(row, SYNC_OFFSET) for row in known if manifest.at(row, "sync_state") == "sure"}
    right = [row for row, offset in sure.items() if abs(offset - known[row]) <= 1]
    return {"shifted": len(known), "sure": len(sure), "right": len(right)}


if __name__ == "__main__":
    harness.end("python -m benchmarks.people.shifted", lambda: run(arguments().parse_args()))
