"""The row `ridge`: the lower face by ridge regression from log-mel, the plainest model that listens.

It is fitted on the split `train` of the scored shards in seconds, so whatever a trained model adds must show against
it. Within a clip the lower face leaves its mean as the speech leaves its own:

    y - mean(y) = (x - mean(x)) B,   B = (X'X + penalty I)^-1 X'Y   (Hoerl and Kennard, 1970)

with x the log-mel of 7 frames and y the noised landmarks in the head's frame. The penalty is the one with the least
squared error on people left out of the fit. Only sums over clips are kept, so memory does not grow with the corpus.

Torch is loaded when features are computed: a finished report is shown without it.

Shape suffixes: T frames, N landmarks (478), K noised landmarks, U source frames, S audio samples, F features of the
speech, Y numbers of the lower face (K points, all axes), D axes of a landmark.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.tasks import Settings
from mytalk.face.landmarks import NOISED

NAME = "ridge"
FITTED_ON = "train"
CONTEXT_FRAMES = 3  # before and after
PENALTIES = [10.0**power for power in range(-3, 5)]  # as shares of the mean of X'X's diagonal
FOLDS = 5
MOST_CLIPS = 1000  # an hour or more: further clips change little, and reading them takes long
DEFINITION = (
    f"ridge regression from log-mel ({2 * CONTEXT_FRAMES + 1} frames, the mean of a frame's mel frames) to the noised "
    f"landmarks in the head's frame, each minus its clip's mean; fitted on split {FITTED_ON} of the same shards (at "
    f"most {MOST_CLIPS} clips, people in turn), the penalty chosen on people left out of the fit, in {FOLDS} groups; "
    "added to the mean lower face of the source clip that the model is shown"
)


@dataclass(frozen=True)
class Ridge:
    """Fitted weights, (F, K, D) px of the head's frame, and the facts of the fit."""

    weights_FKD: np.ndarray
    facts: dict[str, Any]

    def landmarks(self, clip_TND: np.ndarray, source_UND: np.ndarray, audio_S: np.ndarray) -> np.ndarray:
        """`clip_TND` with its lower face written from speech: (T, N, D) float32, crop px.

        Of the clip only the clean side is read.
        """
        from mytalk.dub import long_form

        head = long_form.person_head(source_UND)
        mean_KD = long_form.lower_face(source_UND, head).mean(0)
        motion_TKD = np.tensordot(features(audio_S), self.weights_FKD, axes=1)
        return long_form.with_lower_face(clip_TND, mean_KD + motion_TKD, head)


@dataclass
class Sums:
    """X'X, X'Y and the sum of squares of Y: all that a ridge regression needs of the frames in them."""

    xx_FF: np.ndarray
    xy_FY: np.ndarray
    yy: float

    @classmethod
    def of(cls, x_TF: np.ndarray, y_TY: np.ndarray) -> Sums:
        """The sums over these frames."""
        return cls(x_TF.T @ x_TF, x_TF.T @ y_TY, float(np.square(y_TY).sum()))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.xx_FF + other.xx_FF, self.xy_FY + other.xy_FY, self.yy + other.yy)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.xx_FF - other.xx_FF, self.xy_FY - other.xy_FY, self.yy - other.yy)

    def weights(self, penalty: float) -> np.ndarray:
        """argmin over B of |Y - X B|^2 + penalty * mean(diagonal of X'X) * |B|^2: (F, Y)."""
        level = penalty * float(self.xx_FF.trace()) / len(self.xx_FF) or 1.0  # speech that never changes: B = 0
        return np.linalg.solve(self.xx_FF + level * np.eye(len(self.xx_FF)), self.xy_FY)

    def squared_error(self, weights_FY: np.ndarray) -> float:
        """|Y - X B|^2 over the frames of these sums."""
        return self.yy + float((weights_FY * (self.xx_FF @ weights_FY - 2 * self.xy_FY)).sum())


def left_out(manifest: Manifest, settings: Settings) -> str | None:
    """Why the row cannot be made of these shards; None where it can."""
    if settings.split == FITTED_ON:
        return f"it is fitted on the split {FITTED_ON}, which is scored"
    clips = len(_rows(manifest))
    return None if clips > 1 else f"{clips} clips in split {FITTED_ON}; it needs two"


def digest(manifest: Manifest) -> str:
    """SHA-256 of what decides the weights, up to rounding: the clips they are fitted on, and the definition."""
    keys = manifest.column("key")[_rows(manifest)].tolist()
    stated = [manifest.digest, keys, PENALTIES, DEFINITION]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def fit(manifest: Manifest) -> Ridge:
    """Fit to the clips of the split `train`; damaged ones are left out and counted. Raises OSError.

    Raises ClipError where clips of fewer than two people can be read, or fewer than two of a lone one.
    """
    rows, damaged = _rows(manifest), list[ClipError]()
    group_of = _groups(manifest, rows)
    sums: dict[int, Sums] = {}
    frames = 0
    for row in rows:
        try:
            of_clip = Sums.of(*_features_and_motion(manifest, row))
        except ClipError as error:
            damaged.append(error)
            continue
        group = group_of[row]
        sums[group] = sums[group] + of_clip if group in sums else of_clip
        frames += int(manifest.column("frames")[row])
    if len(sums) < 2:
        raise damaged[0]
    penalty, explained, whole = choose_penalty(list(sums.values()))
    weights_FY = whole.weights(penalty)
    facts = {
        "clips": len(rows) - len(damaged),
        "people": len(set(manifest.column("identity")[rows].tolist())),
        "frames": frames,
        "damaged_clips": len(damaged),
        "penalty": penalty,
        "explained_of_people_left_out": explained,
        "weights_sha256": hashlib.sha256(weights_FY.astype("<f4").tobytes()).hexdigest(),
    }
    return Ridge(weights_FY.reshape(len(weights_FY), len(NOISED), -1), facts)


def choose_penalty(groups: list[Sums]) -> tuple[float, float, Sums]:
    """Leave out each group in turn: the penalty with the least squared error on it, the share of the variance that
    is then explained, and the sums of all groups."""
    whole = sum(groups[1:], groups[0])
    errors = [sum(group.squared_error((whole - group).weights(penalty)) for group in groups) for penalty in PENALTIES]
    best = int(np.argmin(errors))
    return PENALTIES[best], 1 - errors[best] / whole.yy if whole.yy else 0.0, whole


def features(audio_S: np.ndarray) -> np.ndarray:
    """What is heard around each video frame, minus the mean over the clip: (T, 7 * 80) float64.

    Before the first frame and after the last those are repeated.
    """
    import torch

    from mytalk.networks import speech_features

    mel_MC = speech_features.log_mel(torch.from_numpy(np.asarray(audio_S, np.float32))[None])[0].double().numpy()
    mel_TC = mel_MC.reshape(-1, speech_features.MEL_PER_FRAME, mel_MC.shape[1]).mean(1)
    padded = np.pad(mel_TC, ((CONTEXT_FRAMES, CONTEXT_FRAMES), (0, 0)), mode="edge")
    around = [padded[shift : shift + len(mel_TC)] for shift in range(2 * CONTEXT_FRAMES + 1)]
    heard_TF = np.concatenate(around, axis=1)
    return heard_TF - heard_TF.mean(0)


def _features_and_motion(manifest: Manifest, row: int) -> tuple[np.ndarray, np.ndarray]:
    """A clip's features (T, F), and its lower face in the head's frame minus its mean (T, Y), px. Raises ClipError."""
    from mytalk.dub import long_form

    landmarks_TND, audio_S = reader.read_landmarks(manifest, row), reader.read_audio(manifest, row)
    lower_TKD = long_form.lower_face(landmarks_TND, long_form.person_head(landmarks_TND))
    if not np.isfinite(lower_TKD).all():
        raise ClipError(manifest.at(row, "key"), "no_head", "its landmarks give no head pose in some frame")
    return features(audio_S), (lower_TKD - lower_TKD.mean(0)).reshape(len(lower_TKD), -1)


def _rows(manifest: Manifest) -> list[int]:
    """Clips with sound, to be fitted on: the first of each person, then the second of each, as far as MOST_CLIPS."""
    splits, names = manifest.codes("split")
    if FITTED_ON not in names:
        return []
    place_of: dict[int, int] = {}
    identities, _ = manifest.codes("identity")
    turns = []
    for row in np.flatnonzero((splits == names.index(FITTED_ON)) & manifest.with_speech()).tolist():
        person = int(identities[row])
        place_of[person] = place_of.get(person, -1) + 1
        turns.append((place_of[person], row))
    return sorted(row for _, row in sorted(turns)[:MOST_CLIPS])


def _groups(manifest: Manifest, rows: list[int]) -> dict[int, int]:
    """The group of each row: people are whole in one; clips of a lone person, who cannot be left out, are dealt."""
    identities, _ = manifest.codes("identity")
    people = list(dict.fromkeys(identities[rows].tolist()))
    if len(people) == 1:
        return {row: place % FOLDS for place, row in enumerate(rows)}
    group_of = {person: place % FOLDS for place, person in enumerate(people)}
    return {row: group_of[int(identities[row])] for row in rows}
