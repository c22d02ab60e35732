"""Whole validation clips that the motion model generates: scored as `eval motion` scores them, and drawn.

Shape suffixes: T frames, N landmarks (478), C clips, M measures, D features, 3 = (x, y, z) in px of the crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from data_pipeline.examples.motion import MotionExamples
from data_pipeline.shards import reader
from data_pipeline.shards.reader import ClipError
from mytalk.face.landmarks import without_mouth
from mytalk.intervals import person_means
from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.motion import generation
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from train import validation
from train.engine.distributed import Ranks
from train.recipes import lips, pictures


@dataclass(frozen=True)
class WholeClips:
    """The clips of people who are not trained on, the column of features that the model hears, its identity encoder."""

    examples: MotionExamples
    column: str
    extractor: IdentityEncoder | None

    def generate(self, model: MotionModel, row: int, seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """A clip and what the model makes of its speech: (T, N, 3) each. Raises ClipError."""
        manifest, windows = self.examples.manifest, self.examples.windows
        place = windows.target(windows.whole(row))
        source = windows.source(0, place)
        truth_TN3 = reader.read_landmarks(manifest, *place)
        stretch = SourceStretch(
            reader.read_landmarks(manifest, *source),
            reader.read_audio(manifest, *source),
            reader.read_features(manifest, self.column, *source),
        )
        audio_S = reader.read_audio(manifest, *place)
        features_TD = reader.read_features(manifest, self.column, *place)
        given = (without_mouth(truth_TN3), stretch, audio_S, seed, steps, self.extractor)
        return truth_TN3, generation.generate(model, *given, features_TD=features_TD)

    def scores(self, model: MotionModel, most: int, steps: int, ranks: Ranks) -> dict[str, float]:
        """`lips.MEASURED` of at most so many clips, evenly over people: the mean over people of their clips' means."""
        rows = validation.spread(self.examples.windows, most)
        if not rows:
            return {}

        def measured(place: int) -> torch.Tensor:
            truth_TN3, result_TN3 = self.generate(model, rows[place], place, steps)
            return torch.tensor(lips.measure(truth_TN3, result_TN3), dtype=torch.float64)

        found_CM, read_C = validation.of_clips(measured, self.examples.windows.frames[rows], ranks)
        people = [str(self.examples.manifest.at(row, "identity")) for row in rows]
        scores = {}
        for name, found_C in zip(lips.MEASURED, found_CM.T.tolist()):
            clips = [one for *one, read in zip(people, found_C, read_C.tolist()) if read and math.isfinite(one[1])]
            if clips:
                means = person_means((person, value) for person, value in clips)
                scores[name] = sum(means.values()) / len(means)
        return scores

    def pictures(self, model: MotionModel, most: int, steps: int, split: str) -> dict[str, np.ndarray]:
        """Truth, result and their opening curves of at most so many clips, one a person, by `split/person`."""
        shown = {}
        for person, row in self.examples.windows.first_rows()[:most]:
            try:
                truth_TN3, result_TN3 = self.generate(model, row, 0, steps)
            except ClipError:  # a damaged clip has no picture
                continue
            shown[f"{split}/{person}"] = pictures.compare(truth_TN3, result_TN3)
        return shown
