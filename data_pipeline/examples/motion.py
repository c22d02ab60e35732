"""Training examples of the motion model: slot number -> landmarks, speech, source landmarks, time and noise.

Shape suffixes: B batch, T frames of the window, U source frames, N 478 landmarks, K noised landmarks,
S audio samples, D speech features, 2 = (x, y) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.sample import order
from data_pipeline.sample.batches import Batch, Examples, longest_of, padded, padded_audio, padded_landmarks
from data_pipeline.sample.windows import Drawn, Example, SourcedWindows, WindowConfig, draw_voice
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import NOISED
from mytalk.networks.diffusion import T_MIN


@dataclass
class MotionBatch(Batch):
    """Padded examples of the motion model. Masks are 1 on valid frames, 0 on padding."""

    landmarks_BTN2: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T
    source_BUN2: torch.Tensor  # another stretch of the same person, which shows none of the target
    source_mask_BU: torch.Tensor
    voice_B: torch.Tensor  # stretch of the voice's frequencies, 1 for none (augmentation)
    source_audio_BS: torch.Tensor  # what the person says meanwhile, S = 640 U
    t_B: torch.Tensor  # diffusion time, uniform in [1e-5, 1]
    noise_BTK2: torch.Tensor  # standard normal
    features_BTD: torch.Tensor | None = None  # a later column's values of target and source, where one is named
    source_features_BUD: torch.Tensor | None = None


class MotionExamples(Examples[MotionBatch]):
    """Makes the motion model's batches: a window of a clip, and a source window of the same person.

    `features` names the member of a later column that comes along, such as features of the speech.
    """

    windows: SourcedWindows

    def __init__(
        self, manifest: Manifest, drawn: Drawn, window: WindowConfig, voice_stretch: float = 0.0, features: str = ""
    ):
        super().__init__(SourcedWindows(manifest, drawn, window, features))
        self.voice_stretch = voice_stretch

    def collate(self, numbers: list[int], examples: list[Example], read: list[Any]) -> MotionBatch:
        half = len(self.windows.members)
        columns = list(zip(*read))
        (landmarks, speech, *features), (source_landmarks, source_speech, *heard) = columns[:half], columns[half:]
        longest = longest_of([example.place for example in examples])
        longest_source = max(len(points) for points in source_landmarks)
        landmarks_BTN2, mask_BT = padded_landmarks(landmarks, longest)
        source_BUN2, source_mask_BU = padded_landmarks(source_landmarks, longest_source)
        noise_BTK2 = torch.zeros(len(numbers), longest, len(NOISED), 2)
        t_B, voice_B = torch.empty(len(numbers)), torch.empty(len(numbers))
        for i, slot in enumerate(numbers):
            random = self.windows.random(slot, order.NOISE)
            t_B[i] = T_MIN + (1 - T_MIN) * random.random()
            random.standard_normal(dtype=np.float32, out=noise_BTK2[i, : len(landmarks[i])].numpy())
            voice_B[i] = draw_voice(self.windows.random(slot, order.VOICE), self.voice_stretch)
        return MotionBatch(
            **self.named(numbers, examples),
            landmarks_BTN2=landmarks_BTN2,
            mask_BT=mask_BT,
            audio_BS=padded_audio(speech, longest),
            source_BUN2=source_BUN2,
            source_mask_BU=source_mask_BU,
            source_audio_BS=padded_audio(source_speech, longest_source),
            voice_B=voice_B,
            t_B=t_B,
            noise_BTK2=noise_BTK2,
            features_BTD=padded(features[0], longest) if features else None,
            source_features_BUD=padded(heard[0], longest_source) if heard else None,
        )
