"""The judges of others on given shards: what they tell apart, what they do not, and what they cost.

`python -m benchmarks.judges SHARDS [--drawn VIDEOS]`. The person: distances within a clip, between clips of a person
and between people. Perception: each damage to the first second of some clips, and another person in its place. Phones,
where VIDEOS is the drawn corpus of the shards: how many of its p, b and m are heard, and how far off. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.annotate.recogniser import FaceRecogniser
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from eval.judges import load, speech
from eval.judges.perception import PerceptionJudge
from eval.metrics import frechet, perception, person
from mytalk import command, media
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ
from mytalk.media.writing import DUB_CODEC
from mytalk.speech.phones import PhoneDecoder

FRAMES = 2  # of a clip's first second that perception sees
NEAR_S = 0.05  # a heard bilabial whose middle lies this near to the drawn one's span has found it
SECONDS = 5  # of the clip whose cost is measured
BROUGHT = ("lse", "arcface", "inception", "i3d", "lpips")  # by the user
BILABIALS = ("p", "b", "m")


@dataclass(frozen=True)
class Clip:
    """A clip's person, frames, landmarks and sound."""

    person: str
    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray


def clips(manifest: Manifest, most: int | None = None) -> Iterator[Clip]:
    """Every clip, or `most` of them, evenly spread, one in memory at a time."""
    for row in perception.judged(len(manifest), most).tolist():
        count = int(manifest.at(row, "frames"))
        frames_THW3 = video_reader.read_video(manifest, row, range(count))
        yield Clip(str(manifest.at(row, "identity")), frames_THW3, reader.read_landmarks(manifest, row, 0, count))


def of_person(judge: FaceRecogniser, manifest: Manifest) -> list[str]:
    """Distances and cosines: quantiles within clips, between clips of a person, between people; and the AUC."""
    halves: list[tuple[str, np.ndarray, np.ndarray]] = []
    for clip in clips(manifest):
        middle = len(clip.frames_THW3) // 2
        parts = []
        for places in (np.arange(middle), np.arange(middle, len(clip.frames_THW3))):
            picked = places[np.unique(np.linspace(0, len(places) - 1, person.PICTURES).round().astype(int))]
            parts.append(judge.embed(clip.frames_THW3[picked], clip.landmarks_TN3[picked]))
        halves.append((clip.person, parts[0], parts[1]))
    pairs = list(itertools.combinations(halves, 2))
    kinds = {
        "two halves of a clip": [(first, second) for _, first, second in halves],
        "two clips of a person": [(a[1], b[1]) for a, b in pairs if a[0] == b[0]],
        "two people": [(a[1], b[1]) for a, b in pairs if a[0] != b[0]],
    }
    lines = [
        "| faces | pairs | L2: least, 5 %, median, 95 %, most | cosine: least, median, most |",
        "|---|---|---|---|",
    ]
    distances = {}
    for kind, embedded in kinds.items():
        distances[kind] = np.array([person.distance(*pair) for pair in embedded])
        cosines = np.array([person.cosine(*pair) for pair in embedded])
        if len(embedded):
            numbers = [_numbers(distances[kind], (0, 5, 50, 95, 100)), _numbers(cosines, (0, 50, 100))]
            lines.append(f"| {kind} | {len(embedded)} | {numbers[0]} | {numbers[1]} |")
    same = np.concatenate([distances["two halves of a clip"], distances["two clips of a person"]])
    auc = (same[:, None] < distances["two people"][None]).mean()
    return [*lines, "", f"AUC of same against different by L2: {auc:.4f}"]


def damages() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is done to a clip's frames, by name."""
    import cv2

    random = np.random.default_rng(0)

    def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])

    def noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
        return (frames + random.normal(0, sigma, frames.shape)).round().clip(0, 255).astype(np.uint8)

    def coded(frames: np.ndarray, crf: float) -> np.ndarray:
        data = media.encode_frames(frames, FRAME_HZ, {**DUB_CODEC, "crf": f"{crf:g}"})
        return media.decode_frames(data, range(len(frames)))

    kinds: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]]] = {
        "shifted by {:g} px": (lambda frames, px: np.roll(frames, int(px), axis=2), (1, 2, 4)),
        "blur, sigma {:g} px": (blurred, (1, 2, 4)),
        "noise, sigma {:g}": (noisy, (4, 8, 16)),
        "x264 at crf {:g}": (coded, (16, 24, 32, 40)),
    }
    return {
        name.format(how_much): _by(damage, how_much)
        for name, (damage, amounts) in kinds.items()
        for how_much in amounts
    }


def of_perception(judge: PerceptionJudge, manifest: Manifest, most: int) -> list[str]:
    """ST-LPIPS of each damage, and the Frechet distance over all clips."""
    found: dict[str, list[float]] = {}
    moments: dict[str, frechet.Moments] = {}
    before: Clip | None = None
    for clip in clips(manifest, most):
        size = clip.frames_THW3.shape[1:3]
        box = perception.face_box(clip.landmarks_TN3, (size[0], size[1]))
        second_THW3 = clip.frames_THW3[:FRAME_HZ]
        picked = perception.judged(len(second_THW3), FRAMES)
        true = second_THW3[picked]
        shown = {name: damage(second_THW3)[picked] for name, damage in damages().items()}
        if before is not None and before.person != clip.person:
            shown["another person"] = before.frames_THW3[picked]
        seen_true = judge.seen(true[:, box[0], box[1]])
        _add(moments, "truth", judge.embed(seen_true))
        for name, frames in shown.items():
            seen = judge.seen(frames[:, box[0], box[1]])
            found.setdefault(name, []).append(float(judge.distances(seen_true, seen).mean()))
            _add(moments, name, judge.embed(seen))
        before = clip
    lines = [f"| frames | st_lpips@vgg, mean over clips | fd@stlpips-vgg, {moments['truth'].count} frames |"]
    lines.append("|---|---|---|")
    for name, values in found.items():
        apart = frechet.distance(moments[name], moments["truth"])
        lines.append(f"| {name} | {np.mean(values):.4f} | {apart:.2f} |")
    return lines


def of_phones(judge: PhoneDecoder, drawn: Path) -> list[str]:
    """The bilabials of a drawn corpus that are heard: recall, precision and how far their middles are off."""
    told = heard = matched = right = 0
    off_s: list[float] = []
    for line in (drawn / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        if not truth.get("usable") or "phonemes" not in truth:
            continue
        true_s = [(a, b) for symbol, a, b in truth["phonemes"] if symbol[0] in BILABIALS]
        found_s = judge.bilabials_s(media.read_audio(drawn / truth["path"]))
        told, heard = told + len(true_s), heard + len(found_s)
        for a, b in true_s:
            middles = [(c + d) / 2 for c, d in found_s if a - NEAR_S <= (c + d) / 2 <= b + NEAR_S]
            matched += bool(middles)
            off_s += [min((m - (a + b) / 2 for m in middles), key=abs)] if middles else []
        right += sum(any(a - NEAR_S <= (c + d) / 2 <= b + NEAR_S for a, b in true_s) for c, d in found_s)
    errors_ms = 1000 * np.array(off_s)
    recall, precision = matched / max(told, 1), right / max(heard, 1)
    return [
        f"Of {told} drawn p, b and m {matched} are heard (recall {recall:.2f}); of {heard} heard {right} are drawn "
        f"(precision {precision:.2f}). Their middles are off by {np.median(errors_ms):+.0f} ms (median), "
        f"{np.median(np.abs(errors_ms)):.0f} ms without the sign."
    ]


def costs(judges: dict, manifest: Manifest) -> list[str]:
    """CPU seconds of each judge for one row of a clip of 5 s, its longest clip repeated or cut."""
    row = int(np.argmax(manifest.column("frames")))
    count = int(manifest.at(row, "frames"))
    frames_THW3 = np.resize(video_reader.read_video(manifest, row, range(count)), (SECONDS * FRAME_HZ, 256, 256, 3))
    landmarks_TN3 = reader.read_landmarks(manifest, row, 0, count)
    audio_S = np.resize(reader.read_audio(manifest, row), SECONDS * SAMPLE_HZ)
    picked = np.arange(person.PICTURES)
    tasks = {
        "person": lambda judge: judge.embed(frames_THW3[picked], landmarks_TN3[picked]),
        "perception": lambda judge: judge.seen(frames_THW3[picked]),
        "phones": lambda judge: judge.phones(audio_S),
        "speech": lambda judge: speech.mask(judge, audio_S),
    }
    lines = [f"| judge | CPU s, a row of {SECONDS} s |", "|---|---|"]
    for name, task in tasks.items():
        if name in judges:
            task(judges[name])
            began = time.process_time()
            task(judges[name])
            lines.append(f"| {name} | {time.process_time() - began:.2f} |")
    return lines


def run(args: argparse.Namespace) -> int:
    """Print every table whose judge is there."""
    manifest, missing = Manifest.load(args.shards), load.missing()
    judges = load.load([name for name in load.JUDGES if name not in missing and name not in BROUGHT])
    parts = []
    if "person" in judges:
        parts.append(of_person(judges["person"], manifest))
    if "perception" in judges:
        parts.append(of_perception(judges["perception"], manifest, args.clips))
    if "phones" in judges and args.drawn:
        parts.append(of_phones(judges["phones"], args.drawn))
    parts += [costs(judges, manifest), [f"{name}: {why}" for name, why in missing.items() if name not in BROUGHT]]
    print("\n\n".join("\n".join(part) for part in parts if part))
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m benchmarks.judges", __doc__, "python -m benchmarks.judges data/real")
    parser.add_argument("shards", help="folder of shards with a manifest and frames")
    parser.add_argument("--clips", type=int, default=8, help="that perception sees (default: %(default)s)")
    parser.add_argument("--drawn", type=Path, metavar="VIDEOS", help="the drawn corpus, for its truth about sounds")
    return parser


def _by(damage: Callable[[np.ndarray, float], np.ndarray], how_much: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: damage(frames, how_much)


def _add(moments: dict[str, frechet.Moments], name: str, features_KD: np.ndarray) -> None:
    moments.setdefault(name, frechet.Moments(features_KD.shape[1])).add(features_KD)


def _numbers(values: np.ndarray, percents: tuple[int, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in np.percentile(values, percents))
