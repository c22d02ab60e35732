"""Sync: how well a row's lips fit the clip's true speech, measured by the landmark SyncNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.metrics.metric import NO_MOUTH, ZERO, Comparison, Metric, Miss

if TYPE_CHECKING:
    import torch

    from mytalk.networks.syncnet import SyncScore

TOO_SHORT = "too_short_for_sync"


def sync_score(row: Comparison) -> SyncScore:
    """The row's lips against the true speech at every offset. Raises Miss for a clip shorter than the offsets reach."""
    from mytalk.networks import syncnet

    network, truth = row.evaluators.syncnet, row.truth
    assert network is not None, "without it the metrics of sync are omitted"

    def speech() -> torch.Tensor:
        return truth.once(syncnet.embedded_speech, lambda: syncnet.embedded_speech(network, truth.audio_S))

    try:
        return syncnet.score(network, row.video.landmarks_TN3, truth.audio_S, speech=speech)
    except ValueError as error:
        raise Miss(TOO_SHORT, str(error)) from error


TRUE_SPEECH = "against the clip's true speech in every row"
_BY = f"{TRUE_SPEECH}, by the landmark SyncNet of the digests"
METRICS = {
    "sync_confidence": Metric(
        lambda row: float(row.once(sync_score).confidence),
        f"median minus minimum over the offsets of the mean distance between lips and speech, {_BY}; frames "
        "without a re-detected face are filled linearly. Above ground_truth is exaggeration, not quality",
        "distance of unit embeddings",
        "higher",
        needs="syncnet",
        mouth=NO_MOUTH,
    ),
    "sync_distance": Metric(
        lambda row: float(row.once(sync_score).distance),
        f"minimum over the offsets of the mean distance between lips and speech, {_BY}",
        "distance of unit embeddings",
        "lower",
        needs="syncnet",
        mouth=NO_MOUTH,
    ),
    "sync_offset_frames": Metric(
        lambda row: float(abs(row.once(sync_score).offset_frames)),
        f"absolute offset of that minimum, {_BY}",
        "frames of 25 Hz",
        "lower",
        needs="syncnet",
        mouth=NO_MOUTH,
    ),
    "sync_offset_signed_frames": Metric(
        lambda row: float(row.once(sync_score).offset_frames),
        f"that offset (-15 to 15) with its sign: above 0 the sound is ahead of the mouth, {_BY}",
        "frames of 25 Hz",
        ZERO,
        needs="syncnet",
        mouth=NO_MOUTH,
    ),
}
