"""The annotation `sync`: by how much a clip's sound is late, measured by a SyncNet of ours, and whether that is sure.

A SyncNet is believed where it is proven on these very people: the offset is found in one half of each clip and the
two-way accuracy is taken in the other half at that offset, so that searching for the best offset wins nothing; over the
people of a corpus its interval must lie above chance and its mean reach REQUIRED. A clip's offset is sure where both
halves find it alike and the confidence is above that of most clips with their speech reversed, which has the same
spectrum and belongs to no mouth. A SyncNet that hears a column of the shards hears its rows reversed instead.

Shape suffixes: T frames, W windows, D embedding, O offsets, S audio samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.annotate.annotation import DAMAGED, Joined, Measure, Options, has_speech, stored_audio
from data_pipeline.shards import reader
from data_pipeline.shards.layout import SYNC_OFFSET
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from mytalk.command import UserError
from mytalk.intervals import against_chance, person_means, proven

COLUMNS = {
    SYNC_OFFSET: pa.float64(),
    "sync_state": pa.string(),
    "sync_measured": pa.float32(),
    "sync_confidence": pa.float32(),
    "sync_accuracy": pa.float32(),
}
KEPT = {"first_half": pa.float32(), "second_half": pa.float32(), "reversed_confidence": pa.float32()}
SURE, UNSURE, UNPROVEN = "sure", "unsure", "unproven"
TOO_SHORT, NO_SPEECH = "too_short", "no_speech"
CHANCE, REQUIRED = 0.5, 0.75  # two-way accuracy
APART_FRAMES = 3  # speech nearer than this to the mouth's moment is neither true nor false, as in training
LEAST_FRAMES = 2.0  # a smaller offset counts as 0: measured in clips in sync, the error is a frame (docs/log.md)
ALIKE_FRAMES = 1.0  # so far apart may the offsets of both halves be
NULL_SHARE = 0.95  # of the clips with reversed speech have less confidence than a sure one


def made_by(options: Options) -> dict[str, Any]:
    """The model with its digest and its standing on the people it was validated with. Raises UserError."""
    from mytalk.networks import syncnet, weights

    if not options.syncnet:
        raise UserError("sync is measured by a SyncNet; name one with --syncnet FOLDER (python -m train syncnet)")
    _, standing = weights.above_chance(options.syncnet, "syncnet", syncnet.MEASURED)
    rules = {"required": REQUIRED, "apart_frames": APART_FRAMES, "alike_frames": ALIKE_FRAMES, "null_share": NULL_SHARE}
    rules["least_frames"] = LEAST_FRAMES
    return {"syncnet": weights.digest(options.syncnet), "standing": standing, **rules, "version": 2}


def measure(options: Options) -> Measure:
    """What a clip's mouth and speech say of their offset. The place of decisions is `join`."""
    import torch

    from mytalk.networks import speech_features, syncnet, weights

    model = syncnet.load_model(options.syncnet, hears_columns=True)
    column = model.config.column
    features_by = speech_features.features_by(weights.facts_of(options.syncnet, "syncnet")) if column else None
    window, reach = model.config.window_frames, syncnet.REACH_FRAMES

    @torch.no_grad()
    def of_clip(manifest: Manifest, row: int) -> dict[str, Any]:
        if not has_speech(manifest, row):
            return {"sync_state": NO_SPEECH}
        landmarks_TN3 = reader.read_landmarks(manifest, row)
        if len(landmarks_TN3) - window + 1 < least_windows(reach):
            return {"sync_state": TOO_SHORT}
        requirements.refuse_other_features(manifest, column, features_by)
        audio_S = stored_audio(manifest, row)
        features_TF = reader.read_features(manifest, column, row, as_stored=True)
        mouth_WD = model.mouth(torch.from_numpy(landmarks_TN3)[None])[0].numpy()
        speech_WD, reversed_WD = (
            model.speech(
                torch.from_numpy(audio_S[::step].copy())[None],
                features_BTF=None if features_TF is None else torch.from_numpy(features_TF[::step].copy())[None],
            )[0].numpy()
            for step in (1, -1)
        )
        return {
            **compared(mouth_WD, speech_WD, reach),
            "reversed_confidence": _best(mouth_WD, reversed_WD, reach)[1],
        }

    return of_clip


def compared(mouth_WD: np.ndarray, speech_WD: np.ndarray, reach: int) -> dict[str, Any]:
    """What the windows of a mouth and of a speech say of their offset, as columns; `reach` is the furthest one."""
    import torch

    from mytalk.networks import syncnet

    halves = (slice(0, len(mouth_WD) // 2), slice(len(mouth_WD) // 2, len(mouth_WD)))
    late = [_best(mouth_WD[half], speech_WD[half], reach)[0] for half in halves]
    accuracy = []
    for half, other_late in zip(halves, reversed(late)):
        one_WD, other_WD = map(torch.from_numpy, _paired(mouth_WD[half], speech_WD[half], int(other_late)))
        accuracy.append(float(syncnet.two_way_accuracy(one_WD, other_WD, APART_FRAMES)))
    measured, confidence = _best(mouth_WD, speech_WD, reach)
    return {
        "sync_measured": measured,
        "sync_confidence": confidence,
        "sync_accuracy": float(np.mean(accuracy)),
        "first_half": late[0],
        "second_half": late[1],
    }


def least_windows(reach: int) -> int:
    """The fewest windows that `compared` can halve."""
    return 2 * (reach + APART_FRAMES + 1)


def _best(mouth_WD: np.ndarray, speech_WD: np.ndarray, reach: int) -> tuple[float, float]:
    """By how many frames the speech is late where it is nearest to the mouth, and the confidence (median - minimum)."""
    distance_O = [_distances(mouth_WD, speech_WD, late).mean() for late in range(-reach, reach + 1)]
    best = int(np.argmin(distance_O))
    return float(best - reach), float(np.median(distance_O) - distance_O[best])


def _paired(mouth_WD: np.ndarray, speech_WD: np.ndarray, late: int) -> tuple[np.ndarray, np.ndarray]:
    """Mouth and speech windows of one moment where the speech is late: mouth window i and speech window i + late."""
    before, after = max(0, -late), max(0, late)
    return mouth_WD[before : len(mouth_WD) - after], speech_WD[after : len(speech_WD) - before]


def _distances(mouth_WD: np.ndarray, speech_WD: np.ndarray, late: int) -> np.ndarray:
    one_WD, other_WD = _paired(mouth_WD, speech_WD, late)
    return np.linalg.norm(one_WD - other_WD, axis=1)


def join(manifest: Manifest, parts: pa.Table, made_by: dict[str, Any]) -> Joined:
    """Which offsets are sure: they become SYNC_OFFSET, which reading corrects. The others stay, labelled.

    On a corpus where the SyncNet is not proven, offset and confidence are unknown: no filter finds what they were.
    """
    measured_n, confidence_n, accuracy_n, first_n, second_n, null_n = (
        parts[name].to_numpy() for name in ("sync_measured", "sync_confidence", "sync_accuracy", *KEPT)
    )
    state_n = np.array(parts["sync_state"].to_pylist(), object)
    state_n[pc.is_valid(parts[DAMAGED]).to_numpy()] = "damaged"
    known_n = np.isfinite(measured_n)
    corpus_n = manifest.column("corpus") if manifest.has("corpus") else np.full(len(manifest), "")
    offset_n, lines = np.full(len(measured_n), np.nan), []
    for corpus in sorted({*corpus_n.tolist()}, key=str):
        of_corpus_n = known_n & (corpus_n == corpus)
        if not of_corpus_n.any():
            continue
        people = [str(name) for name in manifest.column("identity")[of_corpus_n]]
        scores = person_means(zip(people, accuracy_n[of_corpus_n].tolist()))
        above, words = proven(against_chance(list(scores.values()), CHANCE, REQUIRED))
        said = f"sync     {corpus}: SyncNet {words}"
        if not above:
            state_n[of_corpus_n] = UNPROVEN
            known_n &= ~of_corpus_n
            lines.append(f"{said}; offset and confidence of {int(of_corpus_n.sum())} clips are unknown")
            continue
        limit = float(np.quantile(null_n[of_corpus_n], NULL_SHARE))
        sure_n = of_corpus_n & (np.abs(first_n - second_n) <= ALIKE_FRAMES) & (confidence_n > limit)
        state_n[of_corpus_n] = UNSURE
        state_n[sure_n] = SURE
        offset_n[sure_n] = np.where(np.abs(measured_n) < LEAST_FRAMES, 0.0, measured_n)[sure_n]
        sure = f"{int(sure_n.sum())} of {int(of_corpus_n.sum())} offsets sure"
        lines.append(f"{said}; {sure}, {int((offset_n[sure_n] != 0).sum())} of them are shifted when read")
    columns = {
        SYNC_OFFSET: pa.array(offset_n, from_pandas=True),
        "sync_state": pa.array(state_n, pa.string()),
        "sync_measured": pa.array(measured_n, pa.float32(), mask=~known_n),
        "sync_confidence": pa.array(confidence_n, pa.float32(), mask=~known_n),
    }
    return Joined(columns, lines)
