"""Training examples of the motion model: slot number -> landmarks, speech, source landmarks, time and noise.

Shape suffixes: B batch, T frames of the window, U source frames, N 478 landmarks, K noised landmarks,
S audio samples, D speech features, n selected clips, 3 = (x, y, z) in crop px, 2 = (x, y) in the
head's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.batches import Batch, Examples, padded, padded_audio, padded_landmarks
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, WindowConfig, draw_voice
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import NOISED
from mytalk.networks.diffusion import T_MIN


@dataclass
class MotionBatch(Batch):
    """Padded examples of the motion model. Masks are 1 on valid frames, 0 on padding."""

    landmarks_BTN3: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T
    source_BUN3: torch.Tensor  # landmarks of the same person in other frames than the target's
    source_mask_BU: torch.Tensor
    voice_B: torch.Tensor  # factor of the voice's frequencies, 1 for none (augmentation)
    source_audio_BS: torch.Tensor  # the speech of the source, S = 640 U
    t_B: torch.Tensor  # diffusion time, uniform in [1e-5, 1]
    noise_BTK2: torch.Tensor  # standard normal
    features_BTD: torch.Tensor | None = None  # an added column's values of target and source, where one is named
    source_features_BUD: torch.Tensor | None = None


class MotionExamples(Examples[MotionBatch]):
    """Makes the motion model's batches: a window of a clip, and a source window of the same person.

    `features` names the member of an added column that is read as well, such as features of the speech.
    """

    windows: SourcedWindows

    def __init__(
        self,
        manifest: Manifest,
        sampling: SamplingConfig,
        window: WindowConfig,
        voice_stretch: float = 0.0,
        features: str = "",
    ):
        super().__init__(SourcedWindows(manifest, sampling, window, features))
        self.voice_stretch = voice_stretch

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> MotionBatch:
        count = len(self.windows.members)
        members = list(zip(*read))
        (landmarks, speech, *features), (source, source_speech, *source_features) = members[:count], members[count:]
        longest, longest_source = (max(len(points) for points in windows) for windows in (landmarks, source))
        landmarks_BTN3, mask_BT = padded_landmarks(landmarks, longest)
        source_BUN3, source_mask_BU = padded_landmarks(source, longest_source)
        t_B, noise_BTK2 = self._time_and_noise(slots, [len(points) for points in landmarks], longest)
        voices = [draw_voice(self.windows.random(slot, Purpose.VOICE), self.voice_stretch) for slot in slots]
        return MotionBatch(
            **self.batch_fields(slots, examples),
            landmarks_BTN3=landmarks_BTN3,
            mask_BT=mask_BT,
            audio_BS=padded_audio(speech, longest),
            source_BUN3=source_BUN3,
            source_mask_BU=source_mask_BU,
            source_audio_BS=padded_audio(source_speech, longest_source),
            voice_B=torch.tensor(voices),
            t_B=t_B,
            noise_BTK2=noise_BTK2,
            features_BTD=padded(features[0], longest) if features else None,
            source_features_BUD=padded(source_features[0], longest_source) if source_features else None,
        )

    def _time_and_noise(self, slots: list[int], lengths: list[int], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Diffusion time (B,) and noise (B, T, K, 2) of the slots; the noise of padding is 0."""
        t_B = torch.empty(len(slots))
        noise_BTK2 = torch.zeros(len(slots), longest, len(NOISED), 2)
        for i, (slot, length) in enumerate(zip(slots, lengths)):
            random = self.windows.random(slot, Purpose.NOISE)
            t_B[i] = T_MIN + (1 - T_MIN) * random.random()
            random.standard_normal(dtype=np.float32, out=noise_BTK2[i, :length].numpy())
        return t_B, noise_BTK2
