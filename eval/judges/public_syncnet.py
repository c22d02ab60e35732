"""The public SyncNet: LSE-C, LSE-D and the offset of lips and sound, by the algorithm that comes with it.

Chung and Zisserman, "Out of time" (2016). Its weights are in no package: the user brings the file. Where the published
pipeline looks for faces with a detector of its own, the boxes here are round our landmarks, so a number carries that
name (lse@mediapipe). Shape suffixes: T frames, W windows of 5 frames, H height, W4 = (left, top, right, bottom) px,
S audio samples (16 kHz), M MFCC steps, E embedding (1024), O offsets (31).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.judges.mfcc import mfcc
from eval.judges.state import read
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME

if TYPE_CHECKING:
    import torch
    from torch import nn

NAME = "syncnet-public"  # in configs/weights.yaml
WEIGHTS = (NAME,)
PACKAGES = ("cv2", "scipy")
REACH = 15  # offsets, frames, on either side
WINDOW_FRAMES, WINDOW_STEPS, STEPS_PER_FRAME = 5, 20, 4
SIDE_PX, CROP_SCALE, PAD_VALUE, MEDIAN = 224, 0.40, 110, 13
EPS = 1e-6  # torch.nn.functional.pairwise_distance adds it to every difference
BATCH = 20  # windows at once


@dataclass(frozen=True)
class LipSync:
    """LSE-C (higher is better), LSE-D (lower is better), and the offset in frames of 25 Hz."""

    confidence: float
    distance: float
    offset_frames: int


class PublicSyncNet:
    """Scores a clip's lips against its sound. Some 1.6 G multiplications a frame: 10 s for a clip of 5 s on a core."""

    def __init__(self, files: Mapping[str, Path], device: torch.device | str = "cpu"):
        """`files`: path by name of WEIGHTS. Raises UserError where the file is another network's."""
        import torch

        self.lips, self.sound = network()
        state = read(files[NAME], "the public SyncNet")
        try:
            for name, part in parts(self.lips, self.sound).items():
                part.load_state_dict({k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")})
        except RuntimeError as error:
            raise UserError(f"{files[NAME]} is not the public SyncNet: {str(error).splitlines()[0]}") from None
        self.device = torch.device(device)
        for half in (self.lips, self.sound):
            half.to(self.device).eval().requires_grad_(False)

    def score(self, frames_THW3: np.ndarray, boxes_T4: np.ndarray, audio_S: np.ndarray) -> LipSync:
        """RGB frames at 25 Hz, the face's box in each, and the sound. Raises ValueError for less than 7 frames."""
        windows = min(len(frames_THW3), len(audio_S) // SAMPLES_PER_FRAME) - WINDOW_FRAMES
        if windows < 2:  # with six frames the zeros beyond the ends are the median of the boxes
            raise ValueError(f"it needs {WINDOW_FRAMES + 2} frames at least")
        crops_THW3 = face_crops(frames_THW3, boxes_T4)
        return lip_sync(self.embed_lips(crops_THW3, windows), self.embed_sound(mfcc(audio_S), windows))

    def embed_lips(self, crops_THW3: np.ndarray, windows: int) -> np.ndarray:
        """Embeddings of RGB crops of 224 px, (W, E). Window w sees frames w to w + 4."""
        import torch

        embeddings = []
        for start in range(0, windows, BATCH):
            stop = min(start + BATCH, windows)
            seen_THW3 = np.ascontiguousarray(crops_THW3[start : stop + WINDOW_FRAMES - 1, :, :, ::-1])
            seen = torch.from_numpy(seen_THW3).to(self.device).float().permute(3, 0, 1, 2)[None]
            # All layers but the first see one time, and the first takes no border: its windows are the published ones.
            embeddings.append(self.lips[1](self.lips[0](seen)[0, :, :, 0, 0].T))
        return torch.cat(embeddings).double().cpu().numpy()

    def embed_sound(self, steps_MC: np.ndarray, windows: int) -> np.ndarray:
        """Embeddings of MFCC, (W, E). Window w hears 20 steps from step 4 w."""
        import torch

        places_WM = np.arange(windows)[:, None] * STEPS_PER_FRAME + np.arange(WINDOW_STEPS)
        heard = np.zeros((max(len(steps_MC), int(places_WM.max()) + 1), steps_MC.shape[1]))
        heard[: len(steps_MC)] = steps_MC
        batch = torch.from_numpy(heard[places_WM]).to(self.device).float().transpose(1, 2)[:, None]
        return self.sound[1](self.sound[0](batch)[:, :, 0, 0]).double().cpu().numpy()


def lip_sync(lips_WE: np.ndarray, sound_WE: np.ndarray) -> LipSync:
    """Step 6 and 7 of the algorithm: the mean distance at each offset, its minimum, and the median above that.

    At the ends the sound's embeddings are zeros, as published.
    """
    padded = np.pad(sound_WE, ((REACH, REACH), (0, 0)))
    distances_O = np.array(
        [
            np.linalg.norm(lips_WE - padded[offset : offset + len(lips_WE)] + EPS, axis=1).mean()
            for offset in range(2 * REACH + 1)
        ]
    )
    least = int(distances_O.argmin())
    return LipSync(float(np.median(distances_O) - distances_O[least]), float(distances_O[least]), REACH - least)


def face_crops(frames_THW3: np.ndarray, boxes_T4: np.ndarray) -> np.ndarray:
    """The published crops, (T, 224, 224, 3): boxes smoothed by a median, the face's lower part with more below it."""
    import cv2
    from scipy.signal import medfilt

    boxes_T4 = np.asarray(boxes_T4, np.float64)
    half_T = medfilt((boxes_T4[:, 2:] - boxes_T4[:, :2]).max(axis=1) / 2, MEDIAN)
    x_T, y_T = (medfilt(middle, MEDIAN) for middle in ((boxes_T4[:, :2] + boxes_T4[:, 2:]) / 2).T)
    crops = []
    for frame_HW3, half, x, y in zip(frames_THW3, half_T, x_T, y_T, strict=True):
        pad = int(half * (1 + 2 * CROP_SCALE))
        padded = np.pad(frame_HW3, ((pad, pad), (pad, pad), (0, 0)), constant_values=PAD_VALUE)
        x, y = x + pad, y + pad
        rows = slice(int(y - half), int(y + half * (1 + 2 * CROP_SCALE)))
        columns = slice(int(x - half * (1 + CROP_SCALE)), int(x + half * (1 + CROP_SCALE)))
        crops.append(cv2.resize(padded[rows, columns], (SIDE_PX, SIDE_PX)))
    return np.stack(crops)


def network() -> tuple[nn.ModuleList, nn.ModuleList]:
    """Lips and sound, each a convolutional part and a fully connected one, with random weights."""
    from torch import nn

    lips = nn.Sequential(
        *_convolution(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2)), nn.BatchNorm3d(96)),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
        *_convolution(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)), nn.BatchNorm3d(256)),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256)),
        *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256)),
        *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256)),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
        *_convolution(nn.Conv3d(256, 512, (1, 6, 6)), nn.BatchNorm3d(512)),
    )
    sound = nn.Sequential(
        *_convolution(nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64)),
        nn.MaxPool2d(1, stride=1),
        *_convolution(nn.Conv2d(64, 192, 3, padding=1), nn.BatchNorm2d(192)),
        nn.MaxPool2d(3, stride=(1, 2)),
        *_convolution(nn.Conv2d(192, 384, 3, padding=1), nn.BatchNorm2d(384)),
        *_convolution(nn.Conv2d(384, 256, 3, padding=1), nn.BatchNorm2d(256)),
        *_convolution(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256)),
        nn.MaxPool2d(3, stride=(2, 2)),
        *_convolution(nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512)),
    )
    fully = [nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024)) for _ in range(2)]
    return nn.ModuleList([lips, fully[0]]), nn.ModuleList([sound, fully[1]])


def parts(lips: nn.ModuleList, sound: nn.ModuleList) -> dict[str, nn.Module]:
    """The four parts by their names in the public file."""
    return {"netcnnlip": lips[0], "netfclip": lips[1], "netcnnaud": sound[0], "netfcaud": sound[1]}


def _convolution(convolution: nn.Module, norm: nn.Module) -> list[nn.Module]:
    from torch import nn

    return [convolution, norm, nn.ReLU(inplace=True)]
