"""The pictures of a page: filmstrips and a playable clip of each pictured clip, from its saved videos.

Shape suffixes: T frames, H height, W width, S audio samples, 3 = RGB.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from eval.rows.saved import LIPS, SOURCE, VIDEOS, name_of, read_lips
from eval.score_file import FLOOR, OURS, ClipScore
from mytalk import media
from mytalk.command import UserError
from mytalk.dub import dubbing
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, OUTER_LIP, SAMPLES_PER_FRAME

TRUTH, RESULT = FLOOR, OURS
NOT_SHOWN = ("frozen_mouth", "ridge", "silent_audio")  # rows without pictures
BASELINES = ("shuffled_audio", *NOT_SHOWN)  # rows that do not play
MOST_BESIDE = 4  # pictures beside each other in the video
SHORTEST = 0.9  # of the curve's frames: a video of less is damaged
MOMENTS = 8
TILE_PX, GAP_PX = 192, 8  # the crop leaves a margin round the face, which a filmstrip does not need
LONGEST_CLIP_FRAMES = 10 * FRAME_HZ


@dataclass(frozen=True)
class PicturedClip:
    """A clip's filmstrips and the frames they show, and truth and results next to each other as a video."""

    score: ClipScore
    strips: dict[str, bytes]  # row -> JPEG
    moments: list[int]
    mp4: bytes
    poster: bytes  # a frame of the video, before it plays (JPEG)
    beside: list[str]  # the rows in the video, from left to right
    overlays: dict[str, str]  # row -> SVG of the lips that were detected in the strip's frames


def pictured_clips(out: Path, scores: Iterable[ClipScore]) -> list[PicturedClip]:
    """The pictured clips whose videos are saved. Raises OSError, UserError for damaged ones."""
    clips = []
    for score in scores:
        folder = out / VIDEOS / name_of(score.key)
        if score.openings_px and folder.is_dir():
            try:
                clips.append(_pictured(folder, score))
            except (media.MediaError, FileNotFoundError, ValueError) as error:
                raise UserError(
                    f"{folder} is damaged ({error}); remove it and type the same command again: the page then goes "
                    "without it"
                ) from None
    return clips


def moments(opening_T: np.ndarray) -> list[int]:
    """Frames to show: of equal stretches of the clip in turn the one with the widest and the narrowest mouth."""
    edges = np.linspace(0, len(opening_T), min(MOMENTS, len(opening_T)) + 1).round().astype(int)
    pick = (np.argmax, np.argmin)
    return [int(a + pick[i % 2](opening_T[a:b])) for i, (a, b) in enumerate(pairwise(edges))]


def strip(frames_THW3: np.ndarray, picked: list[int]) -> bytes:
    """Frames in a row, the crop's margin cut away, as JPEG."""
    edge = (CROP_PX - TILE_PX) // 2
    picture = Image.new("RGB", ((TILE_PX + GAP_PX) * len(picked) - GAP_PX, TILE_PX), (128, 128, 128))
    for place, index in enumerate(picked):
        tile = Image.fromarray(frames_THW3[index]).crop((edge, edge, edge + TILE_PX, edge + TILE_PX))
        picture.paste(tile, (place * (TILE_PX + GAP_PX), 0))
    return _jpeg(picture)


def overlay(lips_TM2: np.ndarray, picked: list[int]) -> str:
    """The contours of the lips in the tiles of `strip`, as SVG of its size."""
    edge, outer = (CROP_PX - TILE_PX) / 2, len(OUTER_LIP)
    parts = []
    for place, index in enumerate(picked):
        points_M2 = lips_TM2[index] - edge + np.array([place * (TILE_PX + GAP_PX), 0])
        for contour in (points_M2[:outer], points_M2[outer:]):
            parts.append(f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in contour)}"/>')
    width = (TILE_PX + GAP_PX) * len(picked) - GAP_PX
    return f'<svg class="overlay" viewBox="0 0 {width} {TILE_PX}" aria-hidden="true">{"".join(parts)}</svg>'


def side_by_side(*pictures_HW3: np.ndarray) -> np.ndarray:
    """Pictures with a grey bar between them."""
    bar = np.full((len(pictures_HW3[0]), GAP_PX, 3), 128, np.uint8)
    return np.concatenate([part for picture in pictures_HW3 for part in (bar, picture)][1:], axis=1)


def side_by_side_mp4(rows: list[np.ndarray], speech_S: np.ndarray) -> bytes:
    """Videos as one mp4 with the speech, marked as synthetic; its first 10 s."""
    shared = min(LONGEST_CLIP_FRAMES, *map(len, rows))
    frames = (side_by_side(*pictures) for pictures in zip(*(row_THW3[:shared] for row_THW3 in rows)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        media.write_video(path, frames, FRAME_HZ, speech_S[: shared * SAMPLES_PER_FRAME], metadata=dubbing.MARK)
        return path.read_bytes()


def _pictured(folder: Path, score: ClipScore) -> PicturedClip:
    results = [name for name in score.methods if name not in (TRUTH, *NOT_SHOWN)]
    beside = [TRUTH, *(name for name in results if name not in BASELINES)][:MOST_BESIDE]
    names = [*([SOURCE] if RESULT in results else []), TRUTH, *results]
    frames = {name: np.stack(list(media.read_frames(folder / f"{name}.mp4"))) for name in names}
    curve = score.openings_px["truth"]
    for name, row_THW3 in frames.items():
        if name != SOURCE and len(row_THW3) < SHORTEST * len(curve):
            raise media.MediaError("other_length", f"{name}.mp4 has {len(row_THW3)} frames, not {len(curve)}")
    picked = moments(np.array(curve))
    places = {name: [min(place, len(row_THW3) - 1) for place in picked] for name, row_THW3 in frames.items()}
    if SOURCE in frames:
        places[SOURCE] = np.linspace(0, len(frames[SOURCE]) - 1, len(picked)).round().astype(int).tolist()
    lips = {name: at_TM2 for name, at_TM2 in read_lips(folder).items() if name in frames}
    if short := [name for name, at_TM2 in lips.items() if len(at_TM2) <= max(places[name])]:
        raise ValueError(f"{LIPS} has too few frames of {short[0]}")
    speech_S = media.read_audio(folder / f"{beside[-1] if len(beside) == 2 else TRUTH}.mp4")
    return PicturedClip(
        score,
        {name: strip(row_THW3, places[name]) for name, row_THW3 in frames.items()},
        picked,
        side_by_side_mp4([frames[name] for name in beside], speech_S),
        _jpeg(Image.fromarray(side_by_side(*(frames[name][places[name][0]] for name in beside)))),
        beside,
        {name: overlay(at_TM2, places[name]) for name, at_TM2 in lips.items()},
    )


def _jpeg(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=84)
    return target.getvalue()
