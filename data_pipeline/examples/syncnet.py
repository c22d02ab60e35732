"""Training examples of SyncNet: slot number -> some frames of one clip, their landmarks and their speech.

An example holds its true and its false pairs: every window of the mouth with the speech of the same frames, and
with the speech of other frames of the example. Since nothing else is drawn, neither the person's voice nor the face
can tell true from false.

Shape suffixes: B batch, T frames of the example, N 478 landmarks, S audio samples, F speech features,
3 = (x, y, z) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from data_pipeline.examples.windows import SpeechWindows
from data_pipeline.sample.batches import Batch, Examples, padded, padded_audio, padded_landmarks
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, draw_voice
from data_pipeline.shards.manifest import Manifest


@dataclass
class SyncBatch(Batch):
    """Frames of clips, padded to one length. The mask is 1 on valid frames, 0 on padding."""

    landmarks_BTN3: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T; padding is silence
    voice_B: torch.Tensor  # factor of the voice's frequencies, 1 for none (augmentation)
    features_BTF: torch.Tensor | None = None  # an added column's values, where one is named; padding is 0


class SyncExamples(Examples[SyncBatch]):
    """Makes SyncNet's batches: `frames` of a clip, or all of a shorter one.

    `features` names the member of an added column that is read as well.
    """

    def __init__(
        self, manifest: Manifest, sampling: SamplingConfig, frames: int, voice_stretch: float, features: str = ""
    ):
        super().__init__(SpeechWindows(manifest, sampling, frames, features))
        self.voice_stretch = voice_stretch

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> SyncBatch:
        landmarks, speech, *features = zip(*read)
        landmarks_BTN3, mask_BT = padded_landmarks(landmarks, self.windows.longest)
        voices = [draw_voice(self.windows.random(slot, Purpose.SYNC_VOICE), self.voice_stretch) for slot in slots]
        return SyncBatch(
            **self.batch_fields(slots, examples),
            landmarks_BTN3=landmarks_BTN3,
            mask_BT=mask_BT,
            audio_BS=padded_audio(speech, self.windows.longest),
            voice_B=torch.tensor(voices),
            features_BTF=padded(features[0], self.windows.longest) if features else None,
        )
