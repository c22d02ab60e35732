"""Metrics of a dubbed row: its lips, its sync, its pixels and its person, against the truth of the clip.

Shape suffixes: T frames, N landmarks (478), H height, W width, 2 = (x, y) in px at 256, 3 = RGB, S audio samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from eval import metrics, pixels
from eval.clip import Miss
from mytalk.face import pose

if TYPE_CHECKING:
    from mytalk.networks.identity import IdentityEncoder
    from mytalk.networks.syncnet import SyncNet

TOO_SHORT = "too_short_for_sync"
LIPS = ("lmd_px", "opening_error_px", "opening_correlation")


@dataclass(frozen=True)
class Seen:
    """A row as its file shows it: frames, landmarks detected in them (gaps filled), and where there was a face."""

    frames_THW3: np.ndarray
    landmarks_TN2: np.ndarray
    found_T: np.ndarray


@dataclass(frozen=True)
class Truth:
    """What a row is held against: the clip's frames, landmarks and speech, and landmarks of its person elsewhere."""

    frames_THW3: np.ndarray
    landmarks_TN2: np.ndarray
    audio_S: np.ndarray
    source_UN2: np.ndarray


@dataclass(frozen=True)
class Judges:
    """The trained judges; None is one whose metrics are refused."""

    syncnet: SyncNet | None = None
    identity: IdentityEncoder | None = None


def measure(truth: Truth, seen: Seen, judges: Judges) -> dict[str, float]:
    """Every metric of one row that is not refused. Raises metrics.StillTruth, Miss."""
    made = lips(truth.landmarks_TN2, seen)
    if judges.syncnet is not None:
        made.update(sync(judges.syncnet, seen, truth.audio_S))
    box = pixels.mouth_box(truth.landmarks_TN2, (truth.frames_THW3.shape[1], truth.frames_THW3.shape[2]))
    made["psnr_mouth_db"] = pixels.psnr_db(truth.frames_THW3, seen.frames_THW3, box)
    made["ssim_mouth"] = pixels.ssim(truth.frames_THW3, seen.frames_THW3, box)
    if judges.identity is not None:
        made["identity_cosine"] = identity_cosine(judges.identity, truth.source_UN2, seen)
    made["detected_share"] = float(seen.found_T.mean())
    return made


def aligned(truth_TN2: np.ndarray, result_TN2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides in the head's frame, at the truth's mean size in px: what is left is how the face moves.

    Each frame is brought there by a similarity from its own rigid points to the truth's rigid shape, so moving,
    turning or scaling a side (in any frame, however) changes nothing.
    """
    truth, result = (torch.from_numpy(np.asarray(side, np.float64))[None] for side in (truth_TN2, result_TN2))
    rigid_BR2 = pose.rigid_shape(truth, torch.ones(truth.shape[:2], dtype=torch.float64))
    truth_pose, result_pose = pose.fit(truth, rigid_BR2), pose.fit(result, rigid_BR2)
    per_px = truth_pose.turn_BT.abs().mean()
    return tuple(  # type: ignore[return-value]
        (held.to_head(side) / per_px)[0].numpy() for held, side in ((truth_pose, truth), (result_pose, result))
    )


def lips(truth_TN2: np.ndarray, seen: Seen) -> dict[str, float]:
    """Lip distance, opening error and opening correlation over the frames with a face, px at the head's mean size."""
    truth, result = aligned(truth_TN2[seen.found_T], seen.landmarks_TN2[seen.found_T])
    made = metrics.measure(truth, result, np.ones(len(truth)))
    return {name: made[name] for name in LIPS}


def openings(truth_TN2: np.ndarray, result_TN2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mouth openings of both sides over all frames at the truth's mean head size, px: what the curves show."""
    still = np.ones(len(truth_TN2))
    truth, result = aligned(truth_TN2, result_TN2)
    return metrics.openings(truth, still), metrics.openings(result, still)


def sync(model: SyncNet, seen: Seen, audio_S: np.ndarray) -> dict[str, float]:
    """How well the row's lips fit the true speech. Raises Miss for a clip that is shorter than the offsets reach."""
    from mytalk.networks import syncnet

    try:
        found = syncnet.score(model, seen.landmarks_TN2, audio_S)
    except ValueError as error:
        raise Miss(TOO_SHORT, str(error)) from error
    return {
        "sync_confidence": float(found.confidence),
        "sync_distance": float(found.distance),
        "sync_offset_frames": float(abs(found.offset_frames)),
    }


@torch.no_grad()
def identity_cosine(encoder: IdentityEncoder, source_UN2: np.ndarray, seen: Seen) -> float:
    """Cosine of the embeddings of the row and of the person's source stretch."""
    source = embedding(encoder, source_UN2, np.ones(len(source_UN2)))
    return float(source @ embedding(encoder, seen.landmarks_TN2, seen.found_T))


def embedding(encoder: IdentityEncoder, landmarks_TN2: np.ndarray, mask_T: np.ndarray) -> torch.Tensor:
    """The unit vector of a stretch's person, (E,)."""
    from mytalk.networks.identity import to_head

    device = next(encoder.parameters()).device
    points, mask = (torch.from_numpy(np.asarray(a, np.float32))[None].to(device) for a in (landmarks_TN2, mask_T))
    return encoder(to_head(points, mask), mask)[0]
