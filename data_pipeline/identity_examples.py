"""Training examples of the ID extractor: slot number -> a window of one clip, and which person it shows.

Shape suffixes: B batch, T frames of the window, N 478 landmarks, 2 = (x, y) in crop px.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from data_pipeline import slots
from data_pipeline.batches import Batch
from data_pipeline.manifest import Manifest
from data_pipeline.windows import Windows, named


@dataclass
class IdentityBatch(Batch):
    """Windows of clips, padded to one length. The mask is 1 on valid frames, 0 on padding."""

    landmarks_BTN2: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    person_B: torch.Tensor  # int64, place in the sorted list of the split's people


class IdentityExamples(Windows):
    """Makes the ID extractor's batches. A person of one clip is learnt from windows of that clip."""

    def __init__(self, manifest: Manifest, split: str, min_frames: int, max_frames: int, seed: int):
        columns = ("identity", "frames")
        super().__init__(manifest, split, columns, seed, slots.IDENTITY_WINDOW, min_frames, max_frames)
        self.identity = manifest.column("identity")
        self.people: list[str] = sorted(set(self.identity[self.selection.rows_n].tolist()))
        self.number = {person: number for number, person in enumerate(self.people)}

    def __call__(self, numbers: list[int]) -> IdentityBatch:
        places = [self.place(slot) for slot in numbers]
        landmarks_BTN2, mask_BT = self.landmarks(places)
        return IdentityBatch(
            **named(self.manifest, numbers, places),
            landmarks_BTN2=landmarks_BTN2,
            mask_BT=mask_BT,
            person_B=torch.tensor([self.number[self.identity[row]] for row, _, _ in places]),
        )


def people_digest(people: list[str]) -> str:
    """A name for an ordered list of people: a classifier's rows mean them in that order."""
    listed = hashlib.blake2b(digest_size=16)
    for person in people:
        listed.update(person.encode() + b"\0")
    return listed.hexdigest()
