"""Training examples of SyncNet: slot number -> a stretch of one clip, its landmarks and its speech.

A stretch holds its own true and false pairs: every window of the mouth with the speech of the same frames, and
with the speech of other frames of the stretch. So nothing beside the stretch is drawn, and neither the person's
voice nor face can tell true from false.

Shape suffixes: B batch, T frames of the stretch, N 478 landmarks, S audio samples, 2 = (x, y) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from data_pipeline import slots
from data_pipeline.batches import Batch
from data_pipeline.manifest import Manifest
from data_pipeline.windows import Windows, draw_voice, named


@dataclass
class SyncBatch(Batch):
    """Stretches of clips, padded to one length. The mask is 1 on valid frames, 0 on padding."""

    landmarks_BTN2: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T; padding is silence
    voice_B: torch.Tensor  # stretch of the voice's frequencies, 1 for none (augmentation)


class SyncExamples(Windows):
    """Makes SyncNet's batches: `frames` of a clip, or all of a shorter one."""

    def __init__(self, manifest: Manifest, split: str, frames: int, seed: int, voice_stretch: float):
        super().__init__(manifest, split, ("frames",), seed, slots.SYNC_WINDOW, frames, frames)
        self.voice_stretch = voice_stretch

    def __call__(self, numbers: list[int]) -> SyncBatch:
        places = [self.place(slot) for slot in numbers]
        landmarks_BTN2, mask_BT = self.landmarks(places)
        voices = [draw_voice(self.random(slot, slots.SYNC_VOICE), self.voice_stretch) for slot in numbers]
        return SyncBatch(
            **named(self.manifest, numbers, places),
            landmarks_BTN2=landmarks_BTN2,
            mask_BT=mask_BT,
            audio_BS=self.audio(places),
            voice_B=torch.tensor(voices),
        )
