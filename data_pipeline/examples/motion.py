"""Training examples of the motion model: slot number -> landmarks, speech, source landmarks, time and noise.

Shape suffixes: B batch, T frames of the window, U source frames, N 478 landmarks, K noised landmarks,
S audio samples, D speech features, n selected clips, 2 = (x, y) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.examples.settings import RunSettings, window_config
from data_pipeline.sample.batches import Batch, Examples, padded, padded_audio, padded_landmarks
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, Window, WindowConfig, Windows, draw_voice
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.face.landmarks import NOISED
from mytalk.networks.diffusion import T_MIN

SORTED_ROWS = 1 << 19  # rows that are sorted at once
MIN_SOURCE_FRAMES = 10  # outside the target, in a person's only clip; with fewer the target is shortened


class SourcedWindows(Windows):
    """Slot -> window of a clip, and a source window of the same person.

    The source is drawn from the person's other clips. For a person of one clip it comes from that clip, outside the
    target: from a source that shows the true mouth with its speech, the model would learn to look it up. `features`
    names an added column's member that is read as well. Raises UserError where a person's only clip has one frame.
    """

    members: tuple[str, ...] = ("landmarks", "audio")

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, window: WindowConfig, features: str = ""):
        if features:
            manifest.later(features)  # an unknown name is refused with the known ones
            self.members = ("landmarks", "audio", features)
        columns = ("identity", "frames")
        super().__init__(manifest, sampling, columns, Purpose.WINDOW, window.min_frames, window.max_frames)
        self.source_frames = window.source_frames
        self.person_of, self.people = manifest.codes("identity")
        rows_n = self.selection.rows_n
        person_n = self.person_of[rows_n]
        self._by_person, self._first = grouped(rows_n, person_n, len(self.people))
        only_clips = rows_n[(np.diff(self._first) == 1)[person_n]]
        for row in only_clips[self.lengths[only_clips] < 2]:
            raise UserError(
                f"{manifest.folder}: clip {manifest.at(row, 'key')}, its person's only one in split "
                f"'{sampling.split}', has one frame, which cannot be target and source; extract longer clips, or "
                "leave it out with a filter"
            )

    def rows_of(self, row: int) -> np.ndarray:
        """The selected clips of the person whom a clip shows."""
        person = self.person_of[row]
        return self._by_person[self._first[person] : self._first[person + 1]]

    def first_rows(self) -> list[tuple[str, int]]:
        """The people by name, and the first selected clip of each."""
        people = np.flatnonzero(np.diff(self._first)).tolist()
        return sorted((self.people[person], int(self._by_person[self._first[person]])) for person in people)

    def example(self, slot: int, attempt: int = 0) -> Example:
        target = self.target(super().example(slot, attempt).window)
        return Example(target, self.source(slot, target))

    def target(self, window: Window) -> Window:
        """A window as a target: in a person's only clip it may be shortened, see `shorten_target`."""
        if len(self.rows_of(window.row)) > 1:
            return window
        row, first, last = self.whole(window.row)
        start, stop = shorten_target(window.start - first, window.stop - first, last - first, self.source_frames)
        return Window(row, first + start, first + stop)

    def source(self, slot: int, target: Window) -> Window:
        """The source window of a slot. In a person's only clip it lies on the longer free side of the target."""
        random = self.random(slot, Purpose.SOURCE)
        clips = self.rows_of(target.row)
        others = clips[clips != target.row]
        if len(others):
            row, first, last = self.whole(int(others[int(random.integers(len(others)))]))
        else:
            row, first, last = self.whole(target.row)
            if target.start - first >= last - target.stop:
                last = target.start
            else:
                first = target.stop
        length = min(self.source_frames, last - first)
        begin = first + int(random.integers(last - first - length + 1))
        return Window(row, begin, begin + length)


def shorten_target(start: int, stop: int, frames: int, source_frames: int) -> tuple[int, int]:
    """The target [start, stop) of a person's only clip, cut where it leaves too little of the clip for a source.

    Unchanged while MIN_SOURCE_FRAMES are free on its longer side (or all that a source needs: `source_frames`, or a
    third of the clip); else that side grows to what a source needs. Needs two frames.
    """
    needed = min(source_frames, max(1, frames // 3))
    if max(start, frames - stop) >= min(MIN_SOURCE_FRAMES, needed):
        return start, stop
    return (needed, stop) if start >= frames - stop else (start, frames - needed)


def grouped(values_n: np.ndarray, group_n: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Values in the order of their groups, and where each group begins, (groups + 1,). A counting sort.

    Done in pieces, so that ten million values need no more memory than themselves once more.
    """
    pieces = [slice(at, at + SORTED_ROWS) for at in range(0, len(group_n), SORTED_ROWS)]
    counts = sum((np.bincount(group_n[piece], minlength=groups) for piece in pieces), np.zeros(groups, np.int64))
    first = np.concatenate([[0], np.cumsum(counts)])
    sorted_n, free = np.empty_like(values_n), first[:-1].copy()
    for piece in pieces:
        order = np.argsort(group_n[piece], kind="stable")
        group = group_n[piece][order]
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        lengths = np.diff(np.append(begins, len(group)))
        within = np.arange(len(group)) - np.repeat(begins, lengths)
        sorted_n[free[group] + within] = values_n[piece][order]
        free[group[begins]] += lengths
    return sorted_n, first


@dataclass
class MotionBatch(Batch):
    """Padded examples of the motion model. Masks are 1 on valid frames, 0 on padding."""

    landmarks_BTN2: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T
    source_BUN2: torch.Tensor  # landmarks of the same person in other frames than the target's
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
        landmarks_BTN2, mask_BT = padded_landmarks(landmarks, longest)
        source_BUN2, source_mask_BU = padded_landmarks(source, longest_source)
        t_B, noise_BTK2 = self._time_and_noise(slots, [len(points) for points in landmarks], longest)
        voices = [draw_voice(self.windows.random(slot, Purpose.VOICE), self.voice_stretch) for slot in slots]
        return MotionBatch(
            **self.batch_fields(slots, examples),
            landmarks_BTN2=landmarks_BTN2,
            mask_BT=mask_BT,
            audio_BS=padded_audio(speech, longest),
            source_BUN2=source_BUN2,
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


def planned_windows(manifest: Manifest, sampling: SamplingConfig, settings: RunSettings) -> SourcedWindows:
    """The windows of a training run, for `plan`. Raises UserError for impossible settings."""
    return SourcedWindows(manifest, sampling, window_config(**{**settings.get("window", {}), **settings.sizes}))
