"""A stretch of one clip for every slot: what the examples of several recipes begin with.

Shape suffixes: B batch, T frames, N landmarks, S audio samples, 2 = (x, y) in crop px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from data_pipeline import clips, slots
from data_pipeline.manifest import Manifest
from mytalk.landmarks import COUNT, SAMPLES_PER_FRAME

Place = tuple[int, int, int]  # row of the manifest, first frame, past-the-last frame


def draw(random: np.random.Generator, frames: int, shortest: int, longest: int) -> tuple[int, int]:
    """[start, stop) of a window of `shortest` to `longest` frames in a clip; the whole of a shorter clip."""
    length = min(int(random.integers(shortest, longest + 1)), frames)
    start = int(random.integers(frames - length + 1))
    return start, start + length


def draw_voice(random: np.random.Generator, stretch: float) -> float:
    """A factor for a voice's frequencies between 1 / (1 + stretch) and 1 + stretch, even in its logarithm."""
    return math.exp(math.log1p(stretch) * (2 * random.random() - 1))


def fill(target_TN2: torch.Tensor, mask_T: torch.Tensor, landmarks_TN2: np.ndarray) -> None:
    """Write a window into its padded place; padding repeats the last frame, so that poses stay finite."""
    length = len(landmarks_TN2)
    target_TN2[:length] = torch.from_numpy(landmarks_TN2)
    target_TN2[length:] = target_TN2[length - 1]
    mask_T[:length] = 1.0


def named(manifest: Manifest, numbers: list[int], places: Sequence[tuple[int, ...]]) -> dict:
    """What every batch says of its examples, which lie at (row, first frame, ...): slots_B, keys_B, starts_B."""
    keys = manifest.column("key")
    return {
        "slots_B": torch.tensor(numbers),
        "keys_B": [str(keys[row]) for row, *_ in places],
        "starts_B": torch.tensor([start for _, start, *_ in places]),
    }


class Windows:
    """Slot -> window of a clip of a split, of `shortest` to `longest` frames; batches are padded to `longest`.

    `columns` are the facts of the manifest that decide what an example holds; the selection's digest covers them.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        columns: Sequence[str],
        seed: int,
        purpose: int,
        shortest: int,
        longest: int,
    ):
        self.manifest, self.seed, self.purpose = manifest, seed, purpose
        self.shortest, self.longest = shortest, longest
        self.selection = slots.select(manifest, split, columns)
        self.order = slots.Order(self.selection, seed)
        self.frames = manifest.column("frames")

    def random(self, slot: int, purpose: int) -> np.random.Generator:
        """Random numbers of a slot for a purpose."""
        return slots.slot_random(self.selection.digest, self.seed, slot, purpose)

    def place(self, slot: int) -> Place:
        """The window of a slot."""
        row = self.order.row(slot)
        return row, *draw(self.random(slot, self.purpose), int(self.frames[row]), self.shortest, self.longest)

    def landmarks(self, places: list[Place]) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (B, T, 478, 2) and their mask (B, T)."""
        landmarks_BTN2 = torch.empty(len(places), self.longest, COUNT, 2)
        mask_BT = torch.zeros(len(places), self.longest)
        for i, place in enumerate(places):
            fill(landmarks_BTN2[i], mask_BT[i], clips.read_landmarks(self.manifest, *place))
        return landmarks_BTN2, mask_BT

    def audio(self, places: list[Place]) -> torch.Tensor:
        """Speech (B, T * 640); padding is silence."""
        audio_BS = torch.zeros(len(places), self.longest * SAMPLES_PER_FRAME)
        for audio_S, place in zip(audio_BS, places):
            speech_S = torch.from_numpy(clips.read_audio(self.manifest, *place))
            audio_S[: len(speech_S)] = speech_S
        return audio_BS
