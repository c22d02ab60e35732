"""What the face mesh reads of drawn heads that turn, against the truth: angles, mouth opening, where the lips are.

`python -m data_pipeline demo CORPUS ...` draws them, `python -m benchmarks.heads CORPUS` prints the tables. Angles are
the rotation (Kabsch, z as detected) from the rigid points of the clip's most frontal frame. Shape suffixes: T frames,
N landmarks, R rigid points.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks import harness
from mytalk import command, media
from mytalk.face import landmarks
from mytalk.face.mediapipe_mesh import FaceDetector
from mytalk.face.track import find_faces
from mytalk.progress import Progress

ANGLES = ("yaw", "pitch", "roll")
TURNED_DEG = ((0, 8), (8, 16), (16, 25))  # yaw, to either side
FEWEST_FRAMES = 20  # of a clip, or of its part within a range of yaw, from which figures are taken
LIPS = {
    "left_corner": 61,
    "right_corner": 291,
    "upper_outer": 0,
    "upper_inner": 13,
    "lower_inner": 14,
    "lower_outer": 17,
}
MOST_LAG_FRAMES = 3


@dataclass(frozen=True)
class ClipReading:
    """One clip as drawn and as read, at the frames in which a face was found."""

    frames: int
    true_T3: np.ndarray  # yaw, pitch, roll, degrees
    read_T3: np.ndarray
    true_opening_T: np.ndarray  # in the picture, px
    frontal_opening_T: np.ndarray  # of the same head seen from the front at the frame's scale, px
    read_opening_T: np.ndarray
    true_lips_TN2: np.ndarray
    read_lips_TN2: np.ndarray


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder of a drawn corpus")
    parser.add_argument("--clips", type=int, help="how many clips are read (default: all at 25 fps)")
    parser.add_argument("--debug", action="store_true", help="a traceback where it fails")
    return parser


def run() -> int:
    """Read the clips and print the tables."""
    args = arguments().parse_args()
    lines = (json.loads(line) for line in (args.corpus / "truth.jsonl").read_text().splitlines())
    records = [record for record in lines if record["usable"] and record["fps"] == landmarks.FRAME_HZ][: args.clips]
    detector, progress, clips = FaceDetector(), Progress("read", len(records), "clips"), []
    for record in records:
        clips.append(read(args.corpus / record["path"], record, detector))
        progress.step()
    progress.finish()
    drawn, found = sum(clip.frames for clip in clips), sum(len(clip.read_T3) for clip in clips)
    print(f"{records[0]['corpus']}, {len(clips)} clips: a face in {found} of {drawn} frames")
    print("\n".join([*angle_table(clips), "", *opening_table(clips), "", *lip_table(clips)]))
    return command.EXIT_DONE


def read(path: Path, record: dict[str, Any], detector: FaceDetector) -> ClipReading:
    """Detect the landmarks of a clip and put them beside its truth."""
    track = find_faces(media.read_frames(path), detector)
    seen_T, points_TN3 = track.found_T, track.landmarks_TN3[track.found_T].astype(float)
    true_T3 = np.stack([record["pose"][name] for name in ANGLES], -1)[seen_T]
    scale_T = np.array(record["pose"]["scale"])[seen_T]
    return ClipReading(
        len(seen_T),
        true_T3,
        angles(points_TN3[:, landmarks.RIGID], true_T3),
        np.array(record["opening_px"])[seen_T],
        np.array(record["frontal_opening_px"])[seen_T] * scale_T,
        landmarks.opening(points_TN3[..., :2]),
        np.stack([record["lips"][name] for name in LIPS], 1)[seen_T],
        points_TN3[:, list(LIPS.values()), :2],
    )


def angles(rigid_TR3: np.ndarray, true_T3: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll (T, 3) read off detected points, in degrees as the truth has them (paint/projection.py).

    The true angles of the most frontal frame say how the reference stands; all others are read.
    """
    towards_camera = np.array([1.0, 1.0, -1.0])
    centred_TR3 = (rigid_TR3 - rigid_TR3.mean(1, keepdims=True)) * towards_camera
    frontal = int(np.argmin((true_T3**2).sum(1)))
    yaw, pitch, roll = true_T3[frontal]
    reference = Rotation.from_euler("ZXY", [roll, -pitch, yaw], degrees=True)
    turns = [Rotation.align_vectors(points_R3, centred_TR3[frontal])[0] * reference for points_R3 in centred_TR3]
    return np.stack([turn.as_euler("ZXY", degrees=True) for turn in turns])[:, [2, 1, 0]] * (1, -1, 1)


def angle_table(clips: list[ClipReading]) -> list[str]:
    """Read against true angles over all frames and around each clip's own means; is the error the mouth's?"""
    rows = [
        "| angle | true, degrees | slope | correlation | rms error, degrees "
        "| within clips: slope | correlation | error | its correlation with the opening |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    open_T = np.concatenate([clip.frontal_opening_T - clip.frontal_opening_T.mean() for clip in clips])
    for axis, name in enumerate(ANGLES):
        both = [np.stack([clip.true_T3[:, axis], clip.read_T3[:, axis]]) for clip in clips]
        within = [clip_2T - clip_2T.mean(1, keepdims=True) for clip_2T in both]
        cells = []
        for true_T, read_T in (np.concatenate(both, axis=1), np.concatenate(within, axis=1)):
            slope, correlation = fit(true_T, read_T)
            cells += [f"{slope:.2f}", f"{correlation:.3f}", f"{rms(read_T - true_T):.2f}"]
        drawn_T = np.concatenate(both, axis=1)[0]
        rows.append(
            f"| {name} | {drawn_T.min():.1f} to {drawn_T.max():.1f} | {' | '.join(cells)} "
            f"| {np.corrcoef(read_T - true_T, open_T)[0, 1]:.2f} |"
        )
    return rows


def opening_table(clips: list[ClipReading]) -> list[str]:
    """Read against drawn opening by how far the head is turned; each clip's mean within the range is taken away."""
    rows = [
        "| yaw to either side, degrees | frames | opening in the picture: slope | correlation "
        "| of the frontal head: slope | correlation |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in TURNED_DEG:
        parts = []
        for clip in clips:
            inside_T = (np.abs(clip.true_T3[:, 0]) >= low) & (np.abs(clip.true_T3[:, 0]) < high)
            if inside_T.sum() >= FEWEST_FRAMES:
                names = ("true_opening_T", "frontal_opening_T", "read_opening_T")
                opening_3T = np.stack([getattr(clip, name)[inside_T] for name in names])
                parts.append(opening_3T - opening_3T.mean(1, keepdims=True))
        if not parts:
            rows.append(f"| {low} to {high} | 0 | | | | |")
            continue
        true, frontal, read_ = np.concatenate(parts, axis=1)
        cells = [f"{value:.3f}" for drawn in (true, frontal) for value in fit(drawn, read_)]
        rows.append(f"| {low} to {high} | {len(read_)} | {' | '.join(cells)} |")
    return rows


def lip_table(clips: list[ClipReading]) -> list[str]:
    """How far detected lip points are from the drawn ones, once each clip's mean offset is taken away."""
    rows = [
        "| lip point | mean offset, px | rms error around it, px | from frame to frame, px | lag, frames |",
        "|---|---|---|---|---|",
    ]
    for number, name in enumerate(LIPS):
        errors = [clip.read_lips_TN2[:, number] - clip.true_lips_TN2[:, number] for clip in clips]
        offset = np.mean([np.linalg.norm(error_T2.mean(0)) for error_T2 in errors])
        around = rms(np.concatenate([error_T2 - error_T2.mean(0) for error_T2 in errors]), axes=2)
        steps = rms(np.concatenate([np.diff(error_T2, axis=0) for error_T2 in errors]), axes=2)
        lags = [lag(clip.true_lips_TN2[:, number, 1], clip.read_lips_TN2[:, number, 1]) for clip in clips]
        rows.append(f"| {name} | {offset:.1f} | {around:.2f} | {steps:.2f} | {np.median(lags):+.2f} |")
    return rows


def fit(true_T: np.ndarray, read_T: np.ndarray) -> tuple[float, float]:
    """Slope of the read on the true values, and their correlation."""
    return float(np.polyfit(true_T, read_T, 1)[0]), float(np.corrcoef(true_T, read_T)[0, 1])


def rms(errors: np.ndarray, axes: int = 1) -> float:
    """Root mean square of errors that have this many coordinates."""
    return float(np.sqrt((errors**2).mean() * axes))


def lag(true_T: np.ndarray, read_T: np.ndarray) -> float:
    """By how many frames the read curve comes late: the top of a parabola through the best of the correlations."""
    inner = slice(MOST_LAG_FRAMES, -MOST_LAG_FRAMES)
    shifts = np.arange(-MOST_LAG_FRAMES, MOST_LAG_FRAMES + 1)
    fits = [np.corrcoef(true_T[inner], np.roll(read_T, -shift)[inner])[0, 1] for shift in shifts]
    best = int(np.clip(np.argmax(fits), 1, len(fits) - 2))
    before, top, after = fits[best - 1 : best + 2]
    return float(shifts[best] + 0.5 * (before - after) / (before - 2 * top + after))


if __name__ == "__main__":
    harness.end("benchmarks.heads", run)
