"""How any files are read: a line of Markdown each. `python -m benchmarks.media FILE...`

Pictures at 25 fps and their size, seconds of sound and its loudness, what was noticed, CPU time of both. A file is
read in this process: what it costs in memory is best seen with one file alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks import harness
from mytalk import command, media
from mytalk.face.landmarks import SAMPLE_HZ

COLUMNS = ("file", "pictures", "size", "sound, s", "rms", "CPU ms a picture", "CPU ms a second of sound", "noticed")


def main() -> int:
    parser = command.parser("python -m benchmarks.media", __doc__ or "", "python -m benchmarks.media videos/*.mp4")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="video and sound files of any kind")
    args: argparse.Namespace = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for path in args.files:
        print(f"| {' | '.join(row(path))} |", flush=True)
    return command.EXIT_DONE


def row(path: Path) -> list[str]:
    """The cells of a file's line. Raises OSError."""
    notes = media.Notes()
    shown, picture_s = _pictures(path, notes)
    heard, sound_s = _sound(path, notes)
    noticed = [str(error).removeprefix(f"{path}: ") for error in (notes.pictures_cut, notes.sound_cut) if error]
    noticed += [f"frames {start} to {stop} stand still" for start, stop in notes.still] + notes.lines
    count = int(shown[0]) if shown[0].isdigit() else 0
    seconds = float(heard[0]) if heard[1] else 0.0
    costs = [f"{1000 * picture_s / count:.2f}" if count else "", f"{1000 * sound_s / seconds:.1f}" if seconds else ""]
    return [path.name, *shown, *heard, *costs, "; ".join(dict.fromkeys(noticed))]


def _pictures(path: Path, notes: media.Notes) -> tuple[list[str], float]:
    """How many and their size, or why none; CPU seconds."""
    began, count = time.process_time(), 0
    shape: tuple[int, ...] = (0, 0)
    try:
        for frame_HW3 in media.read_frames(path, notes=notes):
            count, shape = count + 1, frame_HW3.shape[:2]
    except media.MediaError as error:
        return [error.reason, ""], 0.0
    return [str(count), f"{shape[1]} x {shape[0]}"], time.process_time() - began


def _sound(path: Path, notes: media.Notes) -> tuple[list[str], float]:
    """Seconds and root mean square, or why none; CPU seconds."""
    began = time.process_time()
    try:
        audio_S = media.read_audio(path, notes=notes)
    except media.MediaError as error:
        return [error.reason, ""], 0.0
    loud = float(np.sqrt(np.square(audio_S, dtype=np.float64).mean())) if len(audio_S) else 0.0
    return [f"{len(audio_S) / SAMPLE_HZ:.2f}", f"{loud:.4f}"], time.process_time() - began


if __name__ == "__main__":
    harness.end("python -m benchmarks.media", main)
