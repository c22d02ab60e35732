"""Training examples of SyncNet: slot number -> some frames of one clip, their landmarks and their speech.

An example holds its true and its false pairs: every window of the mouth with the speech of the same frames, and
with the speech of other frames of the example. Since nothing else is drawn, neither the person's voice nor the face
can tell true from false.

Shape suffixes: B batch, T frames of the example, N 478 landmarks, S audio samples, F speech features,
3 = (x, y, z) in crop px. Of crops of mouths: S side, 3 = RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.examples.reader import displaced, seen_otherwise
from data_pipeline.examples.windows import SpeechWindows
from data_pipeline.sample.batches import Batch, Examples, padded, padded_audio, padded_landmarks
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, draw_voice
from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import requirements
from mytalk.networks import reader


@dataclass
class SyncBatch(Batch):
    """Frames of clips, padded to one length. The mask is 1 on valid frames, 0 on padding."""

    landmarks_BTN3: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T; padding is silence
    voice_B: torch.Tensor  # factor of the voice's frequencies, 1 for none (augmentation)
    features_BTF: torch.Tensor | None = None  # an added column's values, where one is named; padding is 0
    crops_BT3SS: torch.Tensor | None = None  # float32, about [-1, 1], where pixels are seen; padding repeats the last

    @property
    def seen(self) -> torch.Tensor:
        """What the network sees of the mouths."""
        return self.landmarks_BTN3 if self.crops_BT3SS is None else self.crops_BT3SS


class SyncExamples(Examples[SyncBatch]):
    """Makes SyncNet's batches: `frames` of a clip, or all of a shorter one.

    `features` names the member of an added column that is read as well. With `side_px` the frames are decoded, and the
    mouths' crops, of so many px, are placed a little wrong, in other light or blurred, all frames of a slot alike.
    Raises UserError where a selected clip has no frames then.
    """

    def __init__(
        self,
        manifest: Manifest,
        sampling: SamplingConfig,
        frames: int,
        voice_stretch: float,
        features: str = "",
        side_px: int = 0,
    ):
        super().__init__(SpeechWindows(manifest, sampling, frames, features))
        self.voice_stretch, self.side_px = voice_stretch, side_px
        if side_px:
            requirements.refuse_without_frames(manifest, self.selection.rows_n)

    def read(self, slots: list[int], examples: list[Example]) -> list[Any]:
        """The members of each example, and its mouths' crops where they are seen."""
        read = super().read(slots, examples)
        if not self.side_px:
            return read
        asked = [(row, range(start, stop)) for (row, start, stop), _ in examples]
        for place, pixels in enumerate(video_reader.read_frames(self.manifest, asked)):
            if isinstance(pixels, ClipError):
                read[place] = pixels
            elif not isinstance(read[place], ClipError):
                read[place] = [*read[place], self._crops(slots[place], pixels, read[place][0])]
        return read

    def _crops(self, slot: int, pixels_THW3: np.ndarray, landmarks_TN3: np.ndarray) -> torch.Tensor:
        where = reader.place(torch.from_numpy(landmarks_TN3).float()[..., :2])
        random = self.windows.random(slot, Purpose.SYNC_MOUTH)
        where = displaced(where, random, alike=True)
        return seen_otherwise(reader.crops(reader.pictures(pixels_THW3), where, self.side_px), random, alike=True)

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> SyncBatch:
        crops_BT3SS = None
        if self.side_px:
            read, crops = [values[:-1] for values in read], [values[-1] for values in read]
            at_BT = [np.arange(self.windows.longest).clip(max=len(crops_T3SS) - 1) for crops_T3SS in crops]
            crops_BT3SS = torch.stack([crops_T3SS[at_T] for crops_T3SS, at_T in zip(crops, at_BT)])
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
            crops_BT3SS=crops_BT3SS,
        )
