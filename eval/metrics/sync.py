"""Sync: how well a row's lips fit the clip's true speech, by the SyncNet of landmarks, and by that of pixels.

The first sees lips as the detector found them. The second looks at the pixels of a mouth: the detector places its crop,
by points that do not speak, and says nothing of the lips.

Whether either tells sync on a report's people is measured there, on the real videos: their mouth and speech are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from data_pipeline.annotate.sync import CHANCE, REQUIRED
from eval.metrics.metric import NO_MOUTH, ZERO, Comparison, Metric, Miss
from mytalk.intervals import against_chance, person_means, proven

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mytalk.networks.syncnet import SyncNet, SyncScore

TOO_SHORT = "too_short_for_sync"
ACCURACY = "sync_accuracy"
SUFFIXES = ("", "@pixels")
BY_DISTANCE = ("sync_confidence", "sync_distance", "sync_offset_frames", "sync_offset_signed_frames")


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
        ACCURACY: (
            lambda found: float(found.accuracy),
            "share of choices in which lips are nearer to the speech of their moment than to speech 3 frames away or "
            f"more, in windows of the SyncNet, {by}. Where ground_truth is not proven above {CHANCE} over people, or "
            f"below {REQUIRED}, the other metrics of sync are unknown",
            f"share of choices; {CHANCE} is chance",
            "higher",
        ),
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
    **_metrics(sync_score, "syncnet", SUFFIXES[0], f"{TRUE_SPEECH}, by the landmark SyncNet of the digests"),
    **_metrics(pixel_score, "pixels", SUFFIXES[1], f"{TRUE_SPEECH}, by the pixels' SyncNet of the digests"),
}


def unknown(real: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, str]:
    """Metrics of sync that say nothing about these people -> why: their SyncNet is not proven on them.

    `real`: of every scored clip its person and the metrics of the real video.
    """
    clips, reasons = list(real), dict[str, str]()
    for suffix in SUFFIXES:
        accuracy = ACCURACY + suffix
        values = person_means((person, metrics[accuracy]) for person, metrics in clips if accuracy in metrics)
        shown, words = proven(against_chance(list(values.values()), CHANCE, REQUIRED)) if values else (True, "")
        if not shown:
            others = (name + suffix for name in BY_DISTANCE)
            reasons |= dict.fromkeys(others, f"unknown: on the real videos the SyncNet is {words}")
    return reasons
