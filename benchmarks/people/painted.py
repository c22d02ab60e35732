"""What a painter paints of people it has not seen, from true landmarks, measured: pictures, lips read again, flicker.

Of each clip a stretch of frames is painted, with references from the rest of the clip, and MediaPipe reads the lips of
the result again. Distances are px of the crop of 256 px. Shape suffixes: T frames of the stretch, R references,
N landmarks, H height, W width, 3 = RGB or (x, y, z), 2 = (x, y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.shards import reader as shards
from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from eval.metrics import lips, pixels
from eval.metrics.landmarks import shape
from eval.metrics.metric import Miss
from eval.metrics.perception import face_box
from eval.metrics.sync import TOO_SHORT
from mytalk.face.detector import Detector, region_of
from mytalk.face.landmarks import NOISED
from mytalk.face.region import regions
from mytalk.networks import reader, syncnet
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.generator import Generator
from mytalk.networks.appearance.painter import Painter
from mytalk.networks.reader import LipReader
from mytalk.networks.syncnet import SyncNet

METRICS = {
    "psnr_db": "mouth PSNR, dB",
    "st_lpips": "ST-LPIPS (VGG)",
    "opening": "opening correlation",
    "amplitude": "opening amplitude",
    "upper_lip": "upper lip correlation",
    "upper_lip_amplitude": "upper lip amplitude",
    "width": "width correlation",
    "width_amplitude": "width amplitude",
    "flicker": "flicker / true",
    "read_upper_lip": "upper lip, by the reader",
    "read_width": "width, by the reader",
    "sync": "sync confidence, landmarks",
    "sync_pixels": "sync confidence, pixels",
}
REFERENCES = 8
JUDGED_EVERY = 6  # frames


@dataclass(frozen=True)
class Clip:
    """A stretch of a person's clip, and references from elsewhere in it."""

    key: str
    person: str
    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    regions_TV2: np.ndarray
    references_RHW3: np.ndarray
    reference_landmarks_RN3: np.ndarray
    audio_S: np.ndarray


@dataclass(frozen=True)
class Judges:
    """What reads and judges the results; `reader`, and SyncNets of landmarks and of pixels, may be missing."""

    detector: Detector
    perception: Any
    reader: LipReader | None = None
    sync: SyncNet | None = None
    sync_pixels: SyncNet | None = None


def clips(manifest: Manifest, rows: list[int], frames: int) -> list[Clip]:
    """The first `frames` of each clip, or half of a shorter one; references are spread over the rest."""
    found = []
    for row in rows:
        landmarks_FN3 = shards.read_landmarks(manifest, row).astype(np.float32)
        count = min(frames, len(landmarks_FN3) // 2)
        shown = np.linspace(count + min(10, (len(landmarks_FN3) - count) // 2), len(landmarks_FN3) - 1, REFERENCES)
        chosen = [*range(count), *shown.astype(int).tolist()]
        pixels_CHW3 = video_reader.read_frames(manifest, [(row, chosen)])[0]
        if isinstance(pixels_CHW3, shards.ClipError):
            raise pixels_CHW3
        found.append(
            Clip(
                key=str(manifest.at(row, "key")),
                person=str(manifest.at(row, "identity")),
                frames_THW3=pixels_CHW3[:count],
                landmarks_TN3=landmarks_FN3[:count],
                regions_TV2=regions(landmarks_FN3)[:count],
                references_RHW3=pixels_CHW3[count:],
                reference_landmarks_RN3=landmarks_FN3[chosen[count:]],
                audio_S=shards.read_audio(manifest, row, 0, count),
            )
        )
    return found


def unpainted() -> Generator:
    """A generator that paints nothing: what it shows are the references, moved to the landmarks."""
    return _Unpainted(AppearanceConfig(window_px=[128, 192], stem=4, channels=[4], blocks=[0], heads=1)).eval()


class _Unpainted(Generator):
    def decode(
        self,
        landmark_image_B3HW: torch.Tensor,
        encoded: tuple[list[torch.Tensor], torch.Tensor],
        base_B3HW: torch.Tensor,
        time_BDHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return base_B3HW


def painted(clip: Clip, generator: Generator | None) -> np.ndarray:
    """The stretch as a generator paints it, (T, H, W, 3) uint8; without one, as it is."""
    if generator is None:
        return clip.frames_THW3
    painter = Painter(generator, clip.references_RHW3, clip.reference_landmarks_RN3)
    parts: list[np.ndarray] = []
    for start in range(0, len(clip.frames_THW3), 8):
        here, last = np.s_[start : start + 8], [parts[-1][-1]] if parts else None
        found, _ = painter.paint_each(clip.frames_THW3[here], [clip.landmarks_TN3], clip.regions_TV2[here], start, last)
        parts.append(found[0])
    return np.concatenate(parts)


def measured(clip: Clip, result_THW3: np.ndarray, judges: Judges) -> dict[str, float]:
    """METRICS of a result; one that cannot be told is missing."""
    size = (result_THW3.shape[1], result_THW3.shape[2])
    box = pixels.mouth_box(clip.landmarks_TN3, size)
    face = face_box(clip.landmarks_TN3, size)
    seen = [judges.perception.seen(side[::JUDGED_EVERY, face[0], face[1]]) for side in (clip.frames_THW3, result_THW3)]
    found = {"st_lpips": float(judges.perception.distances(*seen).mean())}
    if not np.array_equal(result_THW3, clip.frames_THW3):
        found["psnr_db"] = pixels.psnr_db(clip.frames_THW3, result_THW3, box)
    whole = pixels.box_round(clip.landmarks_TN3, NOISED, size)
    nothing = (slice(0, 0), slice(0, 0))
    found["flicker"] = pixels.flicker(result_THW3, whole, nothing) / pixels.flicker(clip.frames_THW3, whole, nothing)
    detected_TN3 = detected(clip, result_THW3, judges.detector)
    pair = lips.aligned(clip.landmarks_TN3, detected_TN3)
    told: dict[str, Callable[[], float]] = {
        "opening": lambda: lips.opening_correlation(pair),
        "amplitude": lambda: lips.amplitude_ratio(pair),
        "upper_lip": lambda: shape.correlation("upper_lip", pair),
        "upper_lip_amplitude": lambda: shape.amplitude("upper_lip", pair),
        "width": lambda: shape.correlation("width", pair),
        "width_amplitude": lambda: shape.amplitude("width", pair),
    }
    if judges.reader is not None:
        true_T3, read_T3 = (read(judges.reader, clip, side) for side in (clip.frames_THW3, result_THW3))
        for name, part in (("read_upper_lip", "upper_lip"), ("read_width", "width")):
            at = reader.MEASURES.index(part)
            told[name] = lambda at=at: lips.correlation(true_T3[:, at], read_T3[:, at])  # type: ignore[misc]
    if judges.sync is not None:
        told["sync"] = lambda: in_sync(judges.sync, detected_TN3, clip)
    if judges.sync_pixels is not None:
        mouths_T3SS = reader.mouths(result_THW3, clip.landmarks_TN3, judges.sync_pixels.config.side)
        told["sync_pixels"] = lambda: in_sync(judges.sync_pixels, mouths_T3SS.numpy(), clip)
    for name, number in told.items():
        try:
            found[name] = number()
        except Miss:
            continue
    return found


def detected(clip: Clip, result_THW3: np.ndarray, detector: Detector) -> np.ndarray:
    """Landmarks of a result, read where its own face was a frame before; the true ones where there is none."""
    found, region = [], region_of(clip.landmarks_TN3[0])
    for true_N3, frame_HW3 in zip(clip.landmarks_TN3, result_THW3):
        points_N3 = detector.landmarks(np.ascontiguousarray(frame_HW3), region)
        found.append(true_N3 if points_N3 is None else points_N3)
        region = region_of(found[-1])
    return np.stack(found).astype(np.float32)


def in_sync(network: SyncNet | None, seen: np.ndarray, clip: Clip) -> float:
    """The confidence of mouths with the clip's speech. Raises Miss for a clip shorter than the offsets reach."""
    assert network is not None
    try:
        return syncnet.score(network, seen, clip.audio_S).confidence
    except ValueError as error:
        raise Miss(TOO_SHORT, str(error)) from error


def read(network: LipReader, clip: Clip, pictures_THW3: np.ndarray) -> np.ndarray:
    """What the reader of lips measures in pictures, (T, 3) px: `reader.MEASURES`."""
    where = reader.place(torch.from_numpy(clip.landmarks_TN3[..., :2]).float())
    with torch.inference_mode():
        lips_TM2 = network(reader.crops(reader.pictures(pictures_THW3), where, network.config.side))
        return (reader.measures(lips_TM2) * where.half_px_B[:, None]).numpy()
