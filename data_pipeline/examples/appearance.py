"""Training examples of the appearance generator: slot number -> a frame, and references from elsewhere in its clip.

Shape suffixes: B batch, R references, N landmarks, V vertices of the region's polygon, H height, W width,
T frames of the clip, 3 = RGB or (x, y, z), 2 = (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from data_pipeline.examples.other_frames import differences, with_mouth_of
from data_pipeline.examples.previous_frame import PreviousConfig, disturbed
from data_pipeline.examples.spoken import Spoken, SpokenWindows, joined, near
from data_pipeline.examples.windows import FrameWindows
from data_pipeline.sample.batches import Batch, Examples
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, Window
from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import requirements
from mytalk.face.landmarks import COUNT, opening
from mytalk.face.region import regions
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.settings import Settings, setting

BY = ("time", "pose", "mouth")
CANDIDATES = 4  # drawn for each reference, where the most different in pose or mouth are taken
WIDE_CANDIDATES = 6  # frames drawn from a clip, of which the one with the widest open mouth is shown
KEPT_CLIPS = 512  # whose regions are kept, some 40 kB each
WRONG_CANDIDATES = 8  # drawn for the mouth that the frame does not show; the most different is taken
WRONG_PX = 2.0  # mean distance of the lip points from which on a mouth counts as quite another


@dataclass
class ReferenceConfig(Settings):
    """Which frames of the target's clip show the person's lips."""

    part = "references"

    count: int = setting(3, "references of an example; the default is IP_LAP's", unit="frames", at_least=1)
    gap_frames: int = setting(
        10, "the least between target and reference: a nearer one shows the answer", unit="frames", at_least=0
    )
    by: str = setting(
        "time",
        f"any so far away; or of {CANDIDATES} such frames those that differ most in pose, or in mouth",
        choices=BY,
    )


@dataclass
class AppearanceBatch(Batch):
    """Windows of frames as the network sees them; points are in px of the window."""

    frame_B3HW: torch.Tensor  # float32 in [-1, 1], the target
    landmarks_BN2: torch.Tensor  # of the target, or those that a motion model predicted for it
    region_BV2: torch.Tensor  # what is blacked out of the target, see mytalk.face.region.regions
    references_BR3HW: torch.Tensor  # whole windows: the device blacks out all but the lower face
    reference_regions_BRV2: torch.Tensor
    reference_landmarks_BRN2: torch.Tensor
    around_BKN2: torch.Tensor | None = None  # landmarks of model.landmark_frames, the target's in the middle; if more
    previous_B3HW: torch.Tensor | None = None  # the frame before, disturbed, in the target's window; if asked for
    wrong_landmarks_BN2: torch.Tensor | None = None  # the target's with another frame's lower face, if asked for
    wrong_B: torch.Tensor | None = None  # how much another mouth that is, 0 to 1
    # The frames near some targets, for a sync loss; data_pipeline/examples/spoken.py. References are their target's.
    near_K3HW: torch.Tensor | None = None
    near_around_KLN2: torch.Tensor | None = None
    near_regions_KV2: torch.Tensor | None = None
    near_of_K: torch.Tensor | None = None  # int64, the example whose target each is near to
    window_JW: torch.Tensor | None = None  # int64, rows of each window's frames in the targets followed by these
    speech_JS: torch.Tensor | None = None  # of each window, with a margin


class Read(NamedTuple):
    """What is read of an example. Chosen are target, references, the frame before where it is seen, the near frames."""

    landmarks_TN3: np.ndarray
    shown_KN3: np.ndarray  # the target's landmarks in the middle of those around
    chosen: list[int]
    pixels_CHW3: np.ndarray
    spoken: Spoken | None


class AppearanceExamples(Examples[AppearanceBatch]):
    """Makes the appearance model's batches: one frame of a clip, and other frames of the same clip as references.

    A reference is at least `gap_frames` away from the target, so that it does not show the answer; in a clip
    too short for that, at least as far away as half the clip allows, and never the target itself. A clip of one
    frame has no reference and is left out. A share `predicted_landmarks` of the slots shows, in place of the target's
    own landmarks, those of the column `predicted`; mask and references stay. A share `wide_mouths` shows another frame
    of its clip than `plan` lists: that of a few with the widest open mouth. A share `sync_share`, where true landmarks
    are shown, has the frames near its target, in a window of `sync_frames`, and their speech. `previous` says what is
    done to the frame before, where the model sees it. Raises UserError where no clip is left, or one has no frames or
    lacks that column.
    """

    def __init__(
        self,
        manifest: Manifest,
        sampling: SamplingConfig,
        model: AppearanceConfig,
        references: ReferenceConfig,
        wrong_landmarks: bool = False,
        predicted_landmarks: float = 0.0,
        wide_mouths: float = 0.0,
        previous: PreviousConfig | None = None,
        sync_share: float = 0.0,
        sync_frames: int = 0,
    ):
        around = model.landmark_frames // 2
        super().__init__(FrameWindows(manifest, sampling, predicted_landmarks > 0, around))
        self.model, self.references, self.wrong_landmarks = model, references, wrong_landmarks
        self.previous = previous or PreviousConfig()
        self.predicted_landmarks, self.wide_mouths = predicted_landmarks, wide_mouths
        self.spoken = SpokenWindows(self.windows, sync_share, sync_frames) if sync_share else None
        self._regions: dict[int, np.ndarray] = {}  # by row
        requirements.refuse_without_frames(manifest, self.selection.rows_n)

    def read(self, slots: list[int], examples: list[Example]) -> list[Any]:
        """A Read of each example; of its video, the frames in it alone are decoded."""
        read = super().read(slots, examples)
        chosen: dict[int, list[int]] = {}
        shown: dict[int, np.ndarray] = {}
        windows: dict[int, tuple[int, range]] = {}
        for place, (slot, example, values) in enumerate(zip(slots, examples, read)):
            if not isinstance(values, ClipError):
                read[place] = torch.from_numpy(values[0]).float().numpy()  # numpy's own takes 30 times as long
                example = self.widest(slot, example, read[place])
                row, frame, _ = example.window
                seen_K = inputs.around_frames(np.array([frame]), len(read[place]), self.model)[0]
                shown[place] = read[place][seen_K]
                predicted = self.shows_predicted(slot)
                if predicted:
                    near_KN3 = values[1].astype(np.float32).reshape(-1, COUNT, 3)
                    shown[place] = near_KN3[seen_K - max(frame - self.model.landmark_frames // 2, 0)]
                chosen[place] = [frame, *self.reference_frames(slot, example, read[place])]
                if self.shows_previous(slot, frame):
                    chosen[place].append(frame - 1)
                window = self.spoken.window(slot, row, frame) if self.spoken and not predicted else None
                if window is not None:
                    windows[place] = row, window
                    chosen[place] += [other for other in window if other != frame]
        spoken = self.spoken.read(windows) if self.spoken else {}
        frames_of_rows = [(examples[place].window.row, frames) for place, frames in chosen.items()]
        for (place, frames), pixels in zip(chosen.items(), self._pixels(frames_of_rows)):
            heard = spoken.get(place)
            if isinstance(pixels, ClipError) or isinstance(heard, ClipError):
                read[place] = pixels if isinstance(pixels, ClipError) else heard
            else:
                read[place] = Read(read[place], shown[place], frames, pixels, heard)
        return read

    def _pixels(self, frames_of_rows: list[tuple[int, list[int]]]) -> list[np.ndarray | ClipError]:
        return video_reader.read_frames(self.manifest, frames_of_rows, self.model.side_px)

    def shows_predicted(self, slot: int) -> bool:
        """Whether a slot shows the landmarks that a motion model predicted."""
        if not self.predicted_landmarks:
            return False
        return self.windows.random(slot, Purpose.PREDICTED).random() < self.predicted_landmarks

    def shows_previous(self, slot: int, frame: int) -> bool:
        """Whether a slot shows the frame before its target."""
        if not self.model.previous_frame or frame == 0:
            return False
        return self.windows.random(slot, Purpose.PREVIOUS).random() >= self.previous.dropout

    def widest(self, slot: int, example: Example, landmarks_TN3: np.ndarray) -> Example:
        """What the slot shows: in a share `wide_mouths`, of some frames of the clip that with the widest open mouth.

        A slot that shows predicted landmarks stays as it is: they were read for its frame.
        """
        if not self.wide_mouths or self.shows_predicted(slot):
            return example
        random = self.windows.random(slot, Purpose.WIDE_MOUTHS)
        if random.random() >= self.wide_mouths:
            return example
        among = random.choice(len(landmarks_TN3), min(len(landmarks_TN3), WIDE_CANDIDATES), replace=False)
        frame = int(among[opening(landmarks_TN3[among]).argmax()])
        return Example(Window(example.window.row, frame, frame + 1))

    def reference_frames(self, slot: int, example: Example, landmarks_TN3: np.ndarray) -> list[int]:
        """Frames of the slot's references, in no order; one comes twice only where there are too few."""
        random = self.windows.random(slot, Purpose.REFERENCES)
        config, frame, count = self.references, example.window.start, len(landmarks_TN3)
        away = np.abs(np.arange(count) - frame)
        far = np.flatnonzero(away >= max(1, min(config.gap_frames, (count - 1) // 2)))
        if config.by == "time" or len(far) <= config.count:
            return random.choice(far, config.count, replace=len(far) < config.count).tolist()
        among = random.choice(far, min(len(far), CANDIDATES * config.count), replace=False)
        difference = differences(landmarks_TN3[[frame, *among]], config.by)
        return among[np.argsort(-difference, kind="stable")[: config.count]].tolist()

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> AppearanceBatch:
        frames_BC3HW = torch.empty(len(read), 1 + self.references.count, 3, *self.model.shape)
        outlines = [self.regions_of(example.window.row, values[0]) for example, values in zip(examples, read)]
        made = [self._example(to.numpy(), *both) for to, *both in zip(frames_BC3HW, outlines, read)]
        around, landmarks, regions = zip(*made)
        around_BKN2 = torch.from_numpy(np.stack(around)) if self.model.landmark_frames > 1 else None
        previous_B3HW = None
        if self.model.previous_frame:
            before = [self._previous(*example) for example in zip(slots, outlines, read)]
            previous_B3HW = torch.from_numpy(np.stack(before))
        landmarks_BCN2, regions_BCV2 = torch.from_numpy(np.stack(landmarks)), torch.from_numpy(np.stack(regions))
        wrong_landmarks_BN2 = wrong_B = None
        if self.wrong_landmarks:
            wrong = [self._wrong(*example) for example in zip(slots, examples, read)]
            wrong_landmarks_BN2 = torch.stack([points_N2 for points_N2, _ in wrong])
            wrong_B = torch.tensor([share for _, share in wrong], dtype=torch.float32)
        return AppearanceBatch(
            around_BKN2=around_BKN2,
            previous_B3HW=previous_B3HW,
            **self._near(outlines, read),
            wrong_landmarks_BN2=wrong_landmarks_BN2,
            wrong_B=wrong_B,
            **self.batch_fields(slots, examples) | {"starts_B": torch.tensor([values.chosen[0] for values in read])},
            frame_B3HW=frames_BC3HW[:, 0],
            landmarks_BN2=landmarks_BCN2[:, 0],
            region_BV2=regions_BCV2[:, 0],
            references_BR3HW=frames_BC3HW[:, 1:],
            reference_regions_BRV2=regions_BCV2[:, 1:],
            reference_landmarks_BRN2=landmarks_BCN2[:, 1:],
        )

    def regions_of(self, row: int, landmarks_TN3: np.ndarray) -> np.ndarray:
        """`regions` of a clip, (T, V, 2); the last clips' are kept: they cost more than all else of an example."""
        if row not in self._regions:
            if len(self._regions) >= KEPT_CLIPS:
                self._regions.pop(next(iter(self._regions)))
            self._regions[row] = regions(landmarks_TN3)
        return self._regions[row]

    def _example(
        self, windows_C3HW: np.ndarray, regions_TV2: np.ndarray, read: Read
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fills in the windows of target and references.

        Returns what is shown around the target (K, N, 2), landmarks (1 + R, N, 2), regions (1 + R, V, 2).
        """
        chosen = read.chosen[: len(windows_C3HW)]
        regions_CV2 = regions_TV2[chosen]
        corners_C2 = inputs.corners(regions_CV2, self.model)
        inputs.cut(read.pixels_CHW3[: len(chosen)], corners_C2, self.model, windows_C3HW)
        around_KN2 = (read.shown_KN3[..., :2] - corners_C2[0]) / self.model.step_px
        others_RN2 = (read.landmarks_TN3[chosen[1:], :, :2] - corners_C2[1:, None]) / self.model.step_px
        landmarks_CN2 = np.concatenate([around_KN2[[len(around_KN2) // 2]], others_RN2])
        in_window_CV2 = (regions_CV2 - corners_C2[:, None]) / self.model.step_px
        return around_KN2.astype(np.float32), landmarks_CN2.astype(np.float32), in_window_CV2.astype(np.float32)

    def _near(self, outlines: list[np.ndarray], read: list[Read]) -> dict[str, Any]:
        """The fields of the frames near targets; none where no example has any."""
        found = []
        for place, (regions_TV2, values) in enumerate(zip(outlines, read)):
            if values.spoken is not None:
                frames = values.spoken.frames
                pixels_KHW3 = values.pixels_CHW3[len(values.chosen) - len(frames) + 1 :]
                target, landmarks_TN3 = values.chosen[0], values.landmarks_TN3
                beside = near(self.model, frames, target, regions_TV2, landmarks_TN3, pixels_KHW3)
                found.append((place, values.spoken, beside))
        return joined(found, len(read))

    def _previous(self, slot: int, regions_TV2: np.ndarray, read: Read) -> np.ndarray:
        """The frame before the target in the target's window, disturbed: (3, H, W); black where none is shown."""
        if len(read.chosen) == 1 + self.references.count:
            return np.full((3, *self.model.shape), inputs.BLACK, np.float32)
        corner_12 = inputs.corners(regions_TV2[read.chosen[:1]], self.model)
        picture_HW3 = inputs.cut(read.pixels_CHW3[-1:], corner_12, self.model)[0].transpose(1, 2, 0)
        return disturbed(picture_HW3, self.previous, self.model, self.windows.random(slot, Purpose.PREVIOUS))

    def _wrong(self, slot: int, example: Example, read: Read) -> tuple[torch.Tensor, float]:
        """The target's landmarks with a mouth that it does not show, (N, 2) window px, and how much another one."""
        landmarks_TN3, frame = read.landmarks_TN3, read.chosen[0]
        others = np.delete(np.arange(len(landmarks_TN3)), frame)
        random = self.windows.random(slot, Purpose.WRONG_LANDMARKS)
        among = random.choice(others, min(len(others), WRONG_CANDIDATES), replace=False)
        difference = differences(landmarks_TN3[[frame, *among]], "mouth")
        wrong_N2 = with_mouth_of(landmarks_TN3[frame], landmarks_TN3[among[difference.argmax()]])
        corner_2 = inputs.corners(self.regions_of(example.window.row, landmarks_TN3)[[frame]], self.model)[0]
        in_window_N2 = (wrong_N2 - corner_2) / self.model.step_px
        return torch.from_numpy(in_window_N2.astype(np.float32)), min(float(difference.max()) / WRONG_PX, 1.0)
