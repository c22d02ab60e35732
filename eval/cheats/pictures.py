"""What spoils a clip's pictures: blur, noise, a trembling mouth, a slip in time.

Shape suffixes: T frames, H height, W width, 3 = RGB, N landmarks (478).
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import MOUTH


def late(frames_THW3: np.ndarray, frames: int) -> np.ndarray:
    """The pictures so many frames later than the sound (negative: earlier); the end that is missing stands still."""
    places_T = np.clip(np.arange(len(frames_THW3)) - frames, 0, len(frames_THW3) - 1)
    return frames_THW3[places_T]


def static(frames_THW3: np.ndarray) -> np.ndarray:
    """The middle picture all the time."""
    return np.repeat(frames_THW3[len(frames_THW3) // 2][None], len(frames_THW3), axis=0)


def blurred(frames_THW3: np.ndarray, sigma_px: float) -> np.ndarray:
    """Every picture through a Gaussian of `sigma_px`."""
    import cv2

    return np.stack([cv2.GaussianBlur(frame_HW3, (0, 0), sigma_px) for frame_HW3 in frames_THW3])


def noisy(frames_THW3: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise of `sigma` grey levels on every pixel, another in every picture."""
    noisy_THW3 = np.empty_like(frames_THW3)
    for place, frame_HW3 in enumerate(frames_THW3):  # one at a time: float32 of a whole clip is large
        noise_HW3 = random.standard_normal(frame_HW3.shape, dtype=np.float32) * sigma
        noisy_THW3[place] = np.clip(frame_HW3 + noise_HW3, 0, 255).round()
    return noisy_THW3


def trembling(
    frames_THW3: np.ndarray, landmarks_TN3: np.ndarray, sigma_px: float, random: np.random.Generator
) -> np.ndarray:
    """The mouth with a soft edge moved by a random way in every picture, `sigma_px` along each axis."""
    import cv2

    height, width = frames_THW3.shape[1:3]
    y_H1, x_1W = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    moved_THW3 = np.empty_like(frames_THW3)
    for place, (frame_HW3, way_2) in enumerate(zip(frames_THW3, random.normal(0, sigma_px, (len(frames_THW3), 2)))):
        lips_M2 = landmarks_TN3[place, MOUTH, :2].astype(np.float32)
        (x, y), reach = lips_M2.mean(axis=0), np.ptp(lips_M2[:, 0])
        away_HW = np.hypot(x_1W - x, y_H1 - y) / reach
        weight_HW1 = np.clip((1.1 - away_HW) / 0.4, 0, 1)[..., None]
        shift_23 = np.array([[1, 0, way_2[0]], [0, 1, way_2[1]]])
        moved_HW3 = cv2.warpAffine(frame_HW3, shift_23, (width, height), borderMode=cv2.BORDER_REPLICATE)
        moved_THW3[place] = (weight_HW1 * moved_HW3 + (1 - weight_HW1) * frame_HW3).round()
    return moved_THW3
