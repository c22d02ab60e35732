"""Sync: how well a row's lips fit the clip's true speech, by the SyncNet of landmarks, and by that of pixels.

The first sees lips as the detector found them. The second looks at the pixels of a mouth: the detector places its crop,
by points that do not speak, and says nothing of the lips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eval.metrics.metric import NO_MOUTH, ZERO, Comparison, Metric, Miss

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mytalk.networks.syncnet import SyncNet, SyncScore

TOO_SHORT = "too_short_for_sync"


def sync_score(row: Comparison) -> SyncScore:
    """The row's lips against the true speech at every offset. Raises Miss for a clip shorter than the offsets reach."""
    network = row.evaluators.syncnet
    assert network is not None, "without it the metrics of sync are omitted"
    return _score(row, network, row.video.landmarks_TN3)


def pixel_score(row: Comparison) -> SyncScore:
    """The row's mouths, as their pixels are, against the true speech. Raises Miss as `sync_score` does."""
    from mytalk.networks import reader

    network = row.evaluators.pixels
    assert network is not None, "without it its metrics are omitted"
    mouths_T3SS = reader.mouths(row.video.frames_THW3, row.video.landmarks_TN3, network.config.side)
    return _score(row, network, mouths_T3SS.numpy())


def _score(row: Comparison, network: SyncNet, seen: np.ndarray) -> SyncScore:
    from mytalk.networks import syncnet

    truth = row.truth

    def speech() -> torch.Tensor:
        key = (syncnet.embedded_speech, network.config.sees)
        return truth.once(key, lambda: syncnet.embedded_speech(network, truth.audio_S))

    try:
        return syncnet.score(network, seen, truth.audio_S, speech=speech)
    except ValueError as error:
        raise Miss(TOO_SHORT, str(error)) from error


TRUE_SPEECH = "against the clip's true speech in every row"


def _metrics(score: Callable[[Comparison], SyncScore], needs: str, suffix: str, by: str) -> dict[str, Metric]:
    """The metrics of one SyncNet."""
    unit = "distance of unit embeddings"
    made: dict[str, tuple[Callable[[SyncScore], float], str, str, str]] = {
        "sync_confidence": (
            lambda found: float(found.confidence),
            f"median minus minimum over the offsets of the mean distance between lips and speech, {by}; frames "
            "without a re-detected face are filled linearly. Above ground_truth is exaggeration, not quality",
            unit,
            "higher",
        ),
        "sync_distance": (
            lambda found: float(found.distance),
            f"minimum over the offsets of the mean distance between lips and speech, {by}",
            unit,
            "lower",
        ),
        "sync_offset_frames": (
            lambda found: float(abs(found.offset_frames)),
            f"absolute offset of that minimum, {by}",
            "frames of 25 Hz",
            "lower",
        ),
        "sync_offset_signed_frames": (
            lambda found: float(found.offset_frames),
            f"that offset (-15 to 15) with its sign: above 0 the sound is ahead of the mouth, {by}",
            "frames of 25 Hz",
            ZERO,
        ),
    }

    def computed(value: Callable[[SyncScore], float]) -> Callable[[Comparison], float]:
        return lambda row: value(row.once(score))

    return {
        name + suffix: Metric(computed(value), words, unit, better, needs=needs, mouth=NO_MOUTH)
        for name, (value, words, unit, better) in made.items()
    }


METRICS = {
    **_metrics(sync_score, "syncnet", "", f"{TRUE_SPEECH}, by the landmark SyncNet of the digests"),
    **_metrics(pixel_score, "pixels", "@pixels", f"{TRUE_SPEECH}, by the pixels' SyncNet of the digests"),
}
