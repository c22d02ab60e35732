"""Batches of every recipe: how they are made of slots, damaged clips replaced, and moved to a device.

Shape suffixes: B batch, T frames, N landmarks, S audio samples or bytes, 2 = (x, y) in crop px.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from data_pipeline.sample.order import Selection
from data_pipeline.sample.windows import Example, Place, Windows
from data_pipeline.shards import reader
from data_pipeline.shards.reader import ClipError
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME

ALIGNED_BYTES = 64  # where a tensor begins in a packed batch
MOST_SUBSTITUTES = 20  # draws for one slot, before the corpus must be taken for lost
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing is written into them

Moved = TypeVar("Moved", bound="Batch")
Made = TypeVar("Made", bound="Batch")


@dataclass(frozen=True)
class Bad:
    """A clip that could not be read, and the slot in which another took its place."""

    slot: int
    key: str
    corpus: str
    reason: str
    message: str


@dataclass
class Batch:
    """The examples of some slots. A recipe's own batch adds its tensors, B first. Suffix: B batch."""

    slots_B: torch.Tensor  # int64
    keys_B: list[str]  # of the clips
    starts_B: torch.Tensor  # int64, first frame of the example in its clip
    bad: list[Bad] = field(default_factory=list, kw_only=True)

    def to(self: Moved, device: torch.device, dtype: torch.dtype = torch.float32) -> Moved:
        """The batch on a device, its floating tensors in `dtype`; integers, such as pixels, stay what they are."""
        moved: dict[str, Any] = {}
        for name, value in self._tensors().items():
            moved[name] = value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
        return dataclasses.replace(self, **moved)

    def pin_memory(self: Moved) -> Moved:
        """The batch in page-locked memory, for copies to a GPU that do not wait."""
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in self._tensors().items()}
        return dataclasses.replace(self, **pinned)

    def packed(self: Moved) -> Packed[Moved]:
        """The batch on its way from a worker, its tensors in one stretch of memory that processes share."""
        places, at = {}, 0
        tensors = {name: value.contiguous() for name, value in self._tensors().items()}
        for name, value in tensors.items():
            places[name] = (at, value.dtype, value.shape)
            at += -(-value.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
        shared = torch.UntypedStorage._new_shared(max(at, 1), device="cpu")  # as torch's own collating does
        flat = torch.empty(0, dtype=torch.uint8).set_(shared)
        for name, value in tensors.items():
            begin = places[name][0]
            flat[begin : begin + value.nbytes].copy_(value.view(-1).view(torch.uint8))
        nothing: dict[str, Any] = dict.fromkeys(tensors)
        return Packed(dataclasses.replace(self, **nothing), flat, places)

    def _tensors(self) -> dict[str, torch.Tensor]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


@dataclass
class Packed(Generic[Moved]):
    """A batch whose tensors lie in one: each tensor that passes from process to process costs a connection."""

    rest: Moved  # without its tensors
    flat_S: torch.Tensor  # uint8
    places: dict[str, tuple[int, torch.dtype, torch.Size]]  # where each begins

    def pin_memory(self) -> Packed[Moved]:
        """In page-locked memory, for copies to a GPU that do not wait."""
        return dataclasses.replace(self, flat_S=self.flat_S.pin_memory())

    def batch(self) -> Moved:
        """The batch, of views."""
        tensors: dict[str, Any] = {}
        for name, (begin, dtype, shape) in self.places.items():
            end = begin + shape.numel() * dtype.itemsize
            tensors[name] = self.flat_S[begin:end].view(dtype).view(shape)
        return dataclasses.replace(self.rest, **tensors)


class Examples(Generic[Made]):
    """Makes a recipe's batches: slots -> what is read for them -> tensors.

    A clip whose content is damaged is replaced by another of its corpus, drawn from the slot, and named in the batch's
    `bad`: so a run sees the same whoever reads. An error of the storage replaces nothing and is raised; so is a damaged
    clip's where each clip is to come once.
    """

    def __init__(self, windows: Windows):
        self.windows = windows
        self.manifest = windows.manifest

    @property
    def selection(self) -> Selection:
        """The clips that the examples are drawn from."""
        return self.windows.selection

    @property
    def lengths(self) -> np.ndarray:
        """Frames of the selected clips, in order."""
        return self.windows.frames[self.selection.rows_n]

    def __len__(self) -> int:
        return len(self.selection)

    def read(self, numbers: list[int], examples: list[Example]) -> list[Any]:
        """What `collate` needs of each example; a ClipError in the place of one that cannot be read."""
        wants = [self.windows.wants(example) for example in examples]
        found = iter(reader.read(self.manifest, [want for some in wants for want in some]))
        grouped = [[next(found) for _ in some] for some in wants]
        return [next((value for value in some if isinstance(value, ClipError)), some) for some in grouped]

    def collate(self, numbers: list[int], examples: list[Example], read: list[Any]) -> Made:
        """The batch of what was read."""
        raise NotImplementedError

    def __call__(self, numbers: list[int]) -> Made:
        """The batch of these slots. Raises ClipError where a slot's substitutes are all damaged, OSError."""
        examples = [self.windows.example(slot) for slot in numbers]
        read = self.read(numbers, examples)
        bad: list[Bad] = []
        for attempt in range(1, 1 + (0 if self.windows.drawn.once else MOST_SUBSTITUTES)):
            failed = [place for place, found in enumerate(read) if isinstance(found, ClipError)]
            if not failed:
                break
            for place in failed:
                bad.append(self._bad(numbers[place], examples[place], read[place]))
                examples[place] = self.windows.example(numbers[place], attempt)
            again = self.read([numbers[place] for place in failed], [examples[place] for place in failed])
            for place, found in zip(failed, again):
                read[place] = found
        for found in read:
            if isinstance(found, ClipError):
                raise found
        made = self.collate(numbers, examples, read)
        made.bad = bad
        return made

    def _bad(self, slot: int, example: Example, error: ClipError) -> Bad:
        rows = [place.row for place in example if place is not None]
        (row, *_) = [row for row in rows if self.manifest.at(row, "key") == error.key] or rows
        corpus = str(self.manifest.at(row, "corpus") or "") if self.manifest.has("corpus") else ""
        return Bad(slot, error.key, corpus, error.reason, error.message)

    def named(self, numbers: list[int], examples: Sequence[Example]) -> dict[str, Any]:
        """What every batch says of its examples: slots_B, keys_B, starts_B."""
        return {
            "slots_B": torch.tensor(numbers),
            "keys_B": [str(self.manifest.at(example.place.row, "key")) for example in examples],
            "starts_B": torch.tensor([example.place.start for example in examples]),
        }


def padded_landmarks(read: Sequence[np.ndarray], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of landmarks as float32 (B, T, 478, 2) and their mask (B, T).

    Padding repeats the last frame, so that poses stay finite.
    """
    landmarks_BTN2 = torch.empty(len(read), longest, COUNT, 2)
    mask_BT = torch.zeros(len(read), longest)
    for target_TN2, mask_T, landmarks_TN2 in zip(landmarks_BTN2, mask_BT, read):
        length = len(landmarks_TN2)
        target_TN2[:length] = torch.from_numpy(landmarks_TN2)  # many times as fast as numpy's own fp16 -> float32
        target_TN2[length:] = target_TN2[length - 1]
        mask_T[:length] = 1.0
    return landmarks_BTN2, mask_BT


def padded_audio(read: Sequence[np.ndarray], longest: int) -> torch.Tensor:
    """Windows of int16 speech as float32 (B, T * 640) in [-1, 1]; padding is silence."""
    audio_BS = torch.zeros(len(read), longest * SAMPLES_PER_FRAME)
    for audio_S, speech_S in zip(audio_BS, read):
        audio_S[: len(speech_S)] = torch.from_numpy(speech_S)
    return audio_BS.mul_(1 / 32768)


def padded(read: Sequence[np.ndarray], longest: int) -> torch.Tensor:
    """Windows of a later column's values, (T, D) each, as float32 (B, T, D); padding is 0."""
    values_BTD = torch.zeros(len(read), longest, read[0].shape[1])
    for target_TD, values_TD in zip(values_BTD, read):
        target_TD[: len(values_TD)] = torch.from_numpy(values_TD)
    return values_BTD


def longest_of(places: Sequence[Place]) -> int:
    """Frames of the longest place."""
    return max(place.stop - place.start for place in places)
