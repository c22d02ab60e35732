"""Training examples of the motion model: slot number -> landmarks, speech, source landmarks, time and noise.

Shape suffixes: B batch, T frames of the window, U source frames, N 478 landmarks, K noised landmarks,
S audio samples, 2 = (x, y) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from data_pipeline import clips, slots, windows
from data_pipeline.batches import Batch
from data_pipeline.manifest import Manifest
from mytalk.command import UserError
from mytalk.diffusion import T_MIN
from mytalk.landmarks import COUNT, NOISED, SAMPLES_PER_FRAME

COLUMNS = ("identity", "frames")  # facts of the manifest that decide what an example holds
MIN_SOURCE_FRAMES = 10  # beside the target, in a person's only clip: with fewer the target is cut


@dataclass
class WindowConfig:
    """How much of a clip an example holds, in frames of 25 Hz."""

    min_frames: int = 24
    max_frames: int = 250
    source_frames: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"window.min_frames {self.min_frames} must lie between 1 and window.max_frames {self.max_frames}"
            )
        if self.source_frames < 1:
            raise ValueError(f"window.source_frames must be 1 or more, not {self.source_frames}")


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


def spared(start: int, stop: int, frames: int, source_frames: int) -> tuple[int, int]:
    """The target [start, stop) of a person's only clip, cut where it leaves too little of the clip for a source.

    Left as it is while MIN_SOURCE_FRAMES are free on its longer side (or all that is asked for: `source_frames`, or
    a third of the clip); else that side grows to what is asked for. Needs two frames.
    """
    wanted = min(source_frames, max(1, frames // 3))
    if max(start, frames - stop) >= min(MIN_SOURCE_FRAMES, wanted):
        return start, stop
    return (wanted, stop) if start >= frames - stop else (start, frames - wanted)


class MotionExamples:
    """Makes the motion model's batches: a window of a clip, and a source window of the same person.

    The source is drawn from the person's other clips. A person of one clip gives it from that clip, outside the
    target: a source that shows the true mouth with its speech would teach to look it up. Raises UserError where
    that clip has one frame.
    """

    def __init__(self, manifest: Manifest, split: str, window: WindowConfig, seed: int, voice_stretch: float = 0.0):
        self.manifest, self.window, self.seed, self.voice_stretch = manifest, window, seed, voice_stretch
        self.selection = slots.select(manifest, split, COLUMNS)
        self.order = slots.Order(self.selection, seed)
        self.frames = manifest.column("frames")
        self.keys = manifest.column("key")
        self.identity = manifest.column("identity")
        self.rows_of = manifest.rows_of_people(split)
        for row, *others in self.rows_of.values():
            if not others and self.frames[row] < 2:
                raise UserError(
                    f"{manifest.folder}: clip {self.keys[row]}, its person's only one in split '{split}', has one "
                    "frame, which cannot be target and source; extract longer clips"
                )

    def __len__(self) -> int:
        return len(self.selection)

    def place(self, slot: int) -> tuple[int, int, int]:
        """(row, first frame, past-the-last frame) of a slot's window."""
        row = self.order.row(slot)
        random = slots.slot_random(self.selection.digest, self.seed, slot, slots.WINDOW)
        return self.target(
            row, *windows.draw(random, int(self.frames[row]), self.window.min_frames, self.window.max_frames)
        )

    def target(self, row: int, start: int, stop: int) -> tuple[int, int, int]:
        """The window [start, stop) of a clip as a target: cut in a person's only clip, see `spared`."""
        if len(self.rows_of[self.identity[row]]) == 1:
            start, stop = spared(start, stop, int(self.frames[row]), self.window.source_frames)
        return row, start, stop

    def source_place(self, slot: int, row: int, start: int, stop: int) -> tuple[int, int, int]:
        """(row, first, past-the-last) of the source window of a slot whose target is [start, stop) of `row`.

        In a person's only clip it lies on the target's longer free side.
        """
        random = slots.slot_random(self.selection.digest, self.seed, slot, slots.SOURCE)
        others = [other for other in self.rows_of[self.identity[row]] if other != row]
        frames = int(self.frames[row])
        if others:
            source = others[int(random.integers(len(others)))]
            first, last = 0, int(self.frames[source])
        else:
            source, (first, last) = row, (0, start) if start >= frames - stop else (stop, frames)
        length = min(self.window.source_frames, last - first)
        begin = first + int(random.integers(last - first - length + 1))
        return source, begin, begin + length

    def __call__(self, numbers: list[int]) -> MotionBatch:
        """The batch of these slots, padded to its longest window."""
        places = [self.place(slot) for slot in numbers]
        sources = [self.source_place(slot, *place) for slot, place in zip(numbers, places)]
        longest = max(stop - start for _, start, stop in places)
        longest_source = max(stop - start for _, start, stop in sources)
        batch = len(numbers)
        made = MotionBatch(
            **windows.named(self.manifest, numbers, places),
            landmarks_BTN2=torch.empty(batch, longest, COUNT, 2),
            mask_BT=torch.zeros(batch, longest),
            audio_BS=torch.zeros(batch, longest * SAMPLES_PER_FRAME),
            source_BUN2=torch.empty(batch, longest_source, COUNT, 2),
            source_mask_BU=torch.zeros(batch, longest_source),
            source_audio_BS=torch.zeros(batch, longest_source * SAMPLES_PER_FRAME),
            voice_B=torch.ones(batch),
            t_B=torch.empty(batch),
            noise_BTK2=torch.zeros(batch, longest, len(NOISED), 2),
        )
        for i, (slot, place, source) in enumerate(zip(numbers, places, sources)):
            length = place[2] - place[1]
            windows.fill(made.landmarks_BTN2[i], made.mask_BT[i], clips.read_landmarks(self.manifest, *place))
            windows.fill(made.source_BUN2[i], made.source_mask_BU[i], clips.read_landmarks(self.manifest, *source))
            for audio_S, where in ((made.audio_BS[i], place), (made.source_audio_BS[i], source)):
                speech = torch.from_numpy(clips.read_audio(self.manifest, *where))
                audio_S[: len(speech)] = speech
            random = slots.slot_random(self.selection.digest, self.seed, slot, slots.NOISE)
            made.t_B[i] = T_MIN + (1 - T_MIN) * random.random()
            noise = random.standard_normal((length, len(NOISED), 2), dtype=np.float32)
            made.noise_BTK2[i, :length] = torch.from_numpy(noise)
            random = slots.slot_random(self.selection.digest, self.seed, slot, slots.VOICE)
            made.voice_B[i] = windows.draw_voice(random, self.voice_stretch)
        return made
