"""Training examples of the identity encoder: slot number -> a window of one clip, and which person it shows.

Shape suffixes: B batch, T frames of the window, N 478 landmarks, 3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.examples.windows import IdentityWindows
from data_pipeline.sample.batches import Batch, Examples, padded_landmarks
from data_pipeline.sample.windows import Example, SamplingConfig
from data_pipeline.shards.manifest import Manifest


@dataclass
class IdentityBatch(Batch):
    """Windows of clips, padded to one length. The mask is 1 on valid frames, 0 on padding."""

    landmarks_BTN3: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    person_B: torch.Tensor  # int64, place in the sorted list of the split's people


class IdentityExamples(Examples[IdentityBatch]):
    """Makes the identity encoder's batches. A person of one clip is learnt from windows of that clip."""

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, min_frames: int, max_frames: int):
        super().__init__(IdentityWindows(manifest, sampling, min_frames, max_frames))
        self.person_of, people = manifest.codes("identity")
        codes = np.unique(self.person_of[self.selection.rows_n]).tolist()
        self.people: list[str] = sorted(people[code] for code in codes)
        place = {name: number for number, name in enumerate(self.people)}
        self.number = {code: place[people[code]] for code in codes}

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> IdentityBatch:
        landmarks_BTN3, mask_BT = padded_landmarks([landmarks for (landmarks,) in read], self.windows.longest)
        return IdentityBatch(
            **self.batch_fields(slots, examples),
            landmarks_BTN3=landmarks_BTN3,
            mask_BT=mask_BT,
            person_B=torch.tensor([self.number[int(self.person_of[example.window.row])] for example in examples]),
        )


def people_digest(people: list[str]) -> str:
    """A name for an ordered list of people: a classifier's rows mean them in that order."""
    digest = hashlib.blake2b(digest_size=16)
    for person in people:
        digest.update(person.encode() + b"\0")
    return digest.hexdigest()
