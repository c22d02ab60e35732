"""Batches of every recipe: how they are made from slots, damaged clips replaced, and moved to a device.

Shape suffixes: B batch, T frames, D values of a frame, N landmarks, S audio samples or bytes, 3 = (x, y, z)
in crop px.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from data_pipeline.sample.selection import Selection
from data_pipeline.sample.windows import Example, Windows
from data_pipeline.shards import reader
from data_pipeline.shards.reader import ClipError
from mytalk.command import UserError
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME

ALIGNED_BYTES = 64  # where a tensor begins in a packed batch
MAX_SUBSTITUTES = 20  # draws for one slot, after which the corpus counts as lost
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing is written into them

BatchType = TypeVar("BatchType", bound="Batch")


@dataclass(frozen=True)
class BadExample:
    """A clip that could not be read, and the slot in which another clip replaces it."""

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
    bad: list[BadExample] = field(default_factory=list, kw_only=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The batch's tensors by the name of their field."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def to(self: BatchType, device: torch.device, dtype: torch.dtype = torch.float32) -> BatchType:
        """The batch on a device, its floating-point tensors in `dtype`; integers, such as pixels, keep their type."""
        moved: dict[str, Any] = {}
        for name, value in self.tensors().items():
            moved[name] = value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
        return dataclasses.replace(self, **moved)

    def pin_memory(self: BatchType) -> BatchType:
        """The batch in page-locked memory, for asynchronous copies to a GPU."""
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in self.tensors().items()}
        return dataclasses.replace(self, **pinned)

    def packed(self: BatchType) -> PackedBatch[BatchType]:
        """The batch as a worker sends it, its tensors in one block of shared memory.

        Raises UserError where that is full.
        """
        layout, size = {}, 0
        tensors = {name: value.contiguous() for name, value in self.tensors().items()}
        for name, value in tensors.items():
            layout[name] = (size, value.dtype, value.shape)
            size += -(-value.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
        try:
            shared = torch.UntypedStorage._new_shared(max(size, 1), device="cpu")  # as torch's own collating does
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            raise UserError(
                f"no room for a batch of {size / 1e6:.3g} MB in shared memory, /dev/shm; enlarge it (docker run "
                "--shm-size=2g; Kubernetes: an emptyDir of medium Memory there), or set workers=0"
            ) from error
        flat = torch.empty(0, dtype=torch.uint8).set_(shared)
        for name, value in tensors.items():
            begin = layout[name][0]
            flat[begin : begin + value.nbytes].copy_(value.view(-1).view(torch.uint8))
        nothing: dict[str, Any] = dict.fromkeys(tensors)
        return PackedBatch(dataclasses.replace(self, **nothing), flat, layout)


@dataclass
class PackedBatch(Generic[BatchType]):
    """A batch whose tensors lie in one: each tensor that passes between processes costs a connection."""

    rest: BatchType  # without its tensors
    flat_S: torch.Tensor  # uint8
    layout: dict[str, tuple[int, torch.dtype, torch.Size]]  # of each tensor: first byte, type, shape

    def pin_memory(self) -> PackedBatch[BatchType]:
        """In page-locked memory, for asynchronous copies to a GPU."""
        return dataclasses.replace(self, flat_S=self.flat_S.pin_memory())

    def unpacked(self) -> BatchType:
        """The batch, its tensors as views of the block."""
        tensors: dict[str, Any] = {}
        for name, (begin, dtype, shape) in self.layout.items():
            end = begin + shape.numel() * dtype.itemsize
            tensors[name] = self.flat_S[begin:end].view(dtype).view(shape)
        return dataclasses.replace(self.rest, **tensors)


class Examples(Generic[BatchType]):
    """Makes a recipe's batches: slots -> what is read for them -> tensors.

    A clip whose content is damaged is replaced by another of its corpus, drawn from the slot, and listed in the batch's
    `bad`; so every run reads the same, whichever process reads. A storage error replaces nothing and is raised; so is
    a damaged clip's error where each clip comes once.
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

    def read(self, slots: list[int], examples: list[Example]) -> list[Any]:
        """What `collate` needs of each example; a ClipError in the place of one that cannot be read. Raises OSError."""
        requests = [self.windows.requests(example) for example in examples]
        values = iter(reader.read(self.manifest, [request for group in requests for request in group]))
        grouped = [[next(values) for _ in group] for group in requests]
        return [next((value for value in group if isinstance(value, ClipError)), group) for group in grouped]

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> BatchType:
        """The batch of what was read."""
        raise NotImplementedError

    def __call__(self, slots: list[int]) -> BatchType:
        """The batch of these slots. Raises ClipError where all substitutes of a slot are damaged, OSError."""
        examples = [self.windows.example(slot) for slot in slots]
        read = self.read(slots, examples)
        bad: list[BadExample] = []
        for attempt in range(1, 1 + (0 if self.windows.sampling.once else MAX_SUBSTITUTES)):
            failed = [place for place, values in enumerate(read) if isinstance(values, ClipError)]
            if not failed:
                break
            for place in failed:
                bad.append(self._bad_example(slots[place], examples[place], read[place]))
                examples[place] = self.windows.example(slots[place], attempt)
            again = self.read([slots[place] for place in failed], [examples[place] for place in failed])
            for place, values in zip(failed, again):
                read[place] = values
        for values in read:
            if isinstance(values, ClipError):
                raise values
        batch = self.collate(slots, examples, read)
        batch.bad = bad
        return batch

    def _bad_example(self, slot: int, example: Example, error: ClipError) -> BadExample:
        rows = [window.row for window in example if window is not None]
        (row, *_) = [row for row in rows if self.manifest.at(row, "key") == error.key] or rows
        corpus = str(self.manifest.at(row, "corpus") or "") if self.manifest.has("corpus") else ""
        return BadExample(slot, error.key, corpus, error.reason, error.message)

    def batch_fields(self, slots: list[int], examples: Sequence[Example]) -> dict[str, Any]:
        """The fields that every batch has: slots_B, keys_B, starts_B."""
        return {
            "slots_B": torch.tensor(slots),
            "keys_B": [str(self.manifest.at(example.window.row, "key")) for example in examples],
            "starts_B": torch.tensor([example.window.start for example in examples]),
        }


def padded_landmarks(read: Sequence[np.ndarray], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of landmarks as float32 (B, T, 478, 3) and their mask (B, T), 1 on valid frames.

    Padding repeats the last frame, so that poses stay finite.
    """
    landmarks_BTN3 = torch.empty(len(read), longest, COUNT, 3)
    mask_BT = torch.zeros(len(read), longest)
    for target_TN3, mask_T, landmarks_TN3 in zip(landmarks_BTN3, mask_BT, read):
        length = len(landmarks_TN3)
        target_TN3[:length] = torch.from_numpy(landmarks_TN3)  # many times as fast as numpy's own fp16 -> float32
        target_TN3[length:] = target_TN3[length - 1]
        mask_T[:length] = 1.0
    return landmarks_BTN3, mask_BT


def padded_audio(read: Sequence[np.ndarray], longest: int) -> torch.Tensor:
    """Windows of int16 speech as float32 (B, T * 640) in [-1, 1]; padding is silence."""
    audio_BS = torch.zeros(len(read), longest * SAMPLES_PER_FRAME)
    for audio_S, speech_S in zip(audio_BS, read):
        audio_S[: len(speech_S)] = torch.from_numpy(speech_S)
    return audio_BS.mul_(1 / 32768)


def padded(read: Sequence[np.ndarray], longest: int) -> torch.Tensor:
    """Windows of an added column's values, (T, D) each, as float32 (B, T, D); padding is 0."""
    values_BTD = torch.zeros(len(read), longest, read[0].shape[1])
    for target_TD, values_TD in zip(values_BTD, read):
        target_TD[: len(values_TD)] = torch.from_numpy(values_TD)
    return values_BTD
