"""What the metrics of landmarks say of a real clip and of what is done to it: the scale on which a method is read.

Each clip of SHARDS is a row as it is (`truth`), through the codec and detected again (`recoded`), and with its lower
face in the head's frame moving 0.8 times as far (`x0.8`), standing still (`frozen`), and in another order of frames
(`shuffled`). The leak is measured on a mouth that is copied under another person's sound or under silence, on that
person's own mouth, and on the sum of both. Beside THEval's four stand the values that it publishes for its own real
videos.

Shape suffixes: T frames, N landmarks (478), K noised landmarks, H height, W width, 2 = (x, y), 3 = RGB or (x, y, z).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import harness
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from eval.judges import load as judges
from eval.metrics import PEOPLE_METRICS, VIDEO_METRICS, lips, measure_rows, people
from eval.metrics.landmarks.leak import Leak, leak
from eval.metrics.landmarks.theval import PUBLISHED
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from eval.report.build import clips_of
from eval.rows.inputs import read_bilabials
from eval.rows.landmarks import head_and_pose
from eval.rows.videos import detect
from eval.score_file import ClipScore
from eval.tasks import Window
from mytalk import command, intervals, media
from mytalk.face import detector
from mytalk.face.landmarks import FRAME_HZ, NOISED, SAMPLES_PER_FRAME

SEED = 0
OF_PIXELS = "picture"  # the heading of metrics that only `recoded` has
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # of a lower face (T, K, 2)
CHANGES: dict[str, Change] = {
    "truth": lambda lower, random: lower,
    "x0.8": lambda lower, random: lower.mean(0) + 0.8 * (lower - lower.mean(0)),
    "frozen": lambda lower, random: np.broadcast_to(lower.mean(0), lower.shape),
    "shuffled": lambda lower, random: lower[random.permutation(len(lower))],
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m benchmarks.metric_rows", __doc__, "python -m benchmarks.metric_rows shards")
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder that extract wrote, people who speak")
    parser.add_argument("--frames", type=int, default=125, help="of each clip at most (default: %(default)s)")
    parser.add_argument("--leaks", action="store_true", help="measure only the leak, which needs no pictures")
    parser.add_argument("--clips", type=int, help="how many, each the first of its person (default: all)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure every clip and print the table."""
    manifest = Manifest.load(args.shards)
    there = [name for name in ("phones", "speech") if name not in judges.missing()]
    evaluators = Evaluators(**judges.load(there, "cpu"))
    faces, scores = detector.load(), list[ClipScore]()
    rows = np.flatnonzero(manifest.with_speech()).tolist()
    if args.clips is not None:
        first = dict(zip(reversed(manifest.column("identity")[rows].tolist()), reversed(rows)))
        rows = sorted(first.values())[: args.clips]
    if args.leaks:
        print("\n".join(leaks(manifest, rows, args.frames)))
        return command.EXIT_DONE
    for row in rows:
        window = Window(row, 0, min(int(manifest.at(row, "frames")), args.frames))
        scores.append(score(manifest, window, evaluators, faces))
    print("\n".join(table(scores)))
    return command.EXIT_DONE


def score(manifest: Manifest, window: Window, evaluators: Evaluators, faces: detector.Detector) -> ClipScore:
    """The metrics of every row of a clip."""
    frames_THW3 = video_reader.read_video(manifest, window.row, range(window.start, window.stop))
    landmarks_TN3 = reader.read_landmarks(manifest, window.row, window.start, window.stop).astype(np.float64)
    audio_S = reader.read_audio(manifest, window.row, window.start, window.stop)
    times_s = read_bilabials(manifest, window)
    truth = Truth(frames_THW3, landmarks_TN3, audio_S, landmarks_TN3, bilabials_s=times_s)
    seen_T = np.ones(len(landmarks_TN3), bool)
    random = np.random.default_rng([SEED, window.row])
    videos = {
        name: DetectedVideo(frames_THW3, changed(landmarks_TN3, change, random), seen_T)
        for name, change in CHANGES.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recoded.mp4"
        media.write_video(path, frames_THW3, FRAME_HZ, audio_S)
        videos["recoded"] = detect(path, faces)
    rows = {name: Comparison(truth, video, evaluators) for name, video in videos.items()}
    metrics = {name: metric for name, metric in VIDEO_METRICS.items() if metric.needs is None}
    of_all = {name: metric for name, metric in metrics.items() if metric.group != OF_PIXELS}
    values, omitted = measure_rows(rows, of_all)
    pictures, _ = measure_rows({"recoded": rows["recoded"]}, {n: m for n, m in metrics.items() if n not in of_all})
    values["recoded"] |= pictures["recoded"]
    key, person = (str(manifest.at(window.row, name)) for name in ("key", "identity"))
    return ClipScore(key, person, methods=values, omitted=omitted, traits=people.of_rows(rows))


def leaks(manifest: Manifest, rows: list[int], frames: int) -> list[str]:
    """The table of leaks: each clip's mouth, the next person's, both under that person's sound, or under silence."""
    people_of = [str(manifest.at(row, "identity")) for row in rows]
    openings, sounds = [], []
    for row in rows:
        stop = min(int(manifest.at(row, "frames")), frames)
        landmarks_TN3 = reader.read_landmarks(manifest, row, 0, stop).astype(np.float64)
        openings.append(lips.aligned(landmarks_TN3, landmarks_TN3).openings()[0])
        sounds.append(reader.read_audio(manifest, row, 0, stop))
    found: dict[str, list[tuple[str, Leak]]] = {}
    for one, person in enumerate(people_of):
        other = next(n % len(rows) for n in range(one + 1, one + len(rows)) if people_of[n % len(rows)] != person)
        shared = min(len(openings[one]), len(openings[other]))
        own_T, else_T = (side[:shared] for side in (openings[one], openings[other]))
        own_S, else_S = (side[: shared * SAMPLES_PER_FRAME] for side in (sounds[one], sounds[other]))
        both_T = own_T / own_T.std() + else_T / else_T.std()
        rows_of = {"copied, another's sound": (own_T, else_S), "copied, silence": (own_T, 0 * own_S)}
        rows_of |= {"the other's own mouth": (else_T, else_S), "half copied": (3 * both_T, else_S)}
        for name, (row_T, sound_S) in rows_of.items():
            found.setdefault(name, []).append((person, leak(own_T, row_T, own_S, sound_S)))
    lines = [f"| {len(rows)} clips, {len(set(people_of))} people | mouth_leak | mouth_leak_excess |", "|---|---|---|"]
    for name, values in found.items():
        cells = [
            intervals.shown(intervals.over_people([(person, getattr(one, part)) for person, one in values], len(rows)))
            for part in ("correlation", "excess")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def changed(landmarks_TN3: np.ndarray, change: Change, random: np.random.Generator) -> np.ndarray:
    """The clip with another lower face in the head's frame, (T, 478, 3) px."""
    import torch

    head, pose = head_and_pose(landmarks_TN3)
    depth_1K = head.depth_BN[:, NOISED]
    lower_TK2 = pose.to_head(torch.from_numpy(landmarks_TN3)[None, :, NOISED], depth_1K)[0].numpy()
    moved_TK2 = torch.from_numpy(np.ascontiguousarray(change(lower_TK2, random)))
    result_TN3 = landmarks_TN3.copy()
    result_TN3[:, NOISED, :2] = pose.to_crop(moved_TK2[None], depth_1K)[0, ..., :2].numpy()
    return result_TN3


def table(scores: list[ClipScore]) -> list[str]:
    """The lines of the table: means over people, and of how many clips."""
    rows = [*CHANGES, "recoded"]
    lines = [f"| {len(scores)} clips, {len({s.person for s in scores})} people | {' | '.join(rows)} | published |"]
    lines.append("|---" * (len(rows) + 2) + "|")
    for name, metric in VIDEO_METRICS.items():
        having = [score for score in scores if name in score.methods["recoded"]]
        if not having:
            continue
        cells = [_mean(having, row, name) if metric.group != OF_PIXELS or row == "recoded" else "" for row in rows]
        lines.append(f"| {name}, {len(having)} clips | {' | '.join(cells)} | {PUBLISHED.get(name, '')} |")
    for name, over in PEOPLE_METRICS.items():
        try:
            entries = [over.compute(clips_of(row, scores), len(scores)) for row in rows]
        except Miss as miss:
            lines.append(f"| {name} | {miss} |" + " |" * len(rows))
            continue
        lines.append(f"| {name}, {entries[0]['n']} people | {' | '.join(map(intervals.shown, entries))} | |")
    return lines


def _mean(scores: list[ClipScore], row: str, name: str) -> str:
    mean = intervals.mean_over_people((score.person, score.methods[row][name]) for score in scores)
    return f"{mean:.4g}"


if __name__ == "__main__":
    harness.end("python -m benchmarks.metric_rows", lambda: run(arguments().parse_args()))
