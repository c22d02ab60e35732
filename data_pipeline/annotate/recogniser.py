"""A face recogniser that no training of ours has seen: dlib's ResNet, an embedding of 128 numbers (extra [judges]).

The box of dlib's 5-point predictor comes from our landmarks, so that no second detector looks for faces; the picture is
then turned and scaled by those five points, as the network was trained. Two embeddings of one person are nearer than
0.6 (L2) by its author's rule. Shape suffixes: K pictures, H height, W width, N landmarks (478), 3 = RGB or (x, y, z)
in px, E = 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mytalk.face.landmarks import OVAL

NETWORK, POINTS = "dlib-face-resnet", "dlib-5-points"  # in configs/weights.yaml
WEIGHTS = (NETWORK, POINTS)
PACKAGES = ("dlib",)
EMBEDDING = 128
SIDE, DOWN = 0.9, 0.01  # of the height of the oval: the side of the box, and how far below its middle it is centred


class FaceRecogniser:
    """Embeds the face of a picture. One thread; about 0.1 s a picture on a free core."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name of WEIGHTS. Raises ModuleNotFoundError without dlib."""
        import dlib

        self._rectangle: Any = dlib.rectangle
        self._network: Any = dlib.face_recognition_model_v1(str(files[NETWORK]))
        self._predict: Any = dlib.shape_predictor(str(files[POINTS]))

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        """An embedding of each picture's face, (K, E) float64. `landmarks_KN3` say where the face is."""
        found_KE = np.zeros((len(pictures_KHW3), EMBEDDING))
        for number, (picture_HW3, box) in enumerate(zip(pictures_KHW3, boxes(landmarks_KN3), strict=True)):
            picture = np.ascontiguousarray(picture_HW3)
            points = self._predict(picture, self._rectangle(*box))
            found_KE[number] = np.array(self._network.compute_face_descriptor(picture, points))
        return found_KE


def boxes(landmarks_KN3: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom in whole px of the square that dlib's own detector would give for each face."""
    oval_KM2 = np.asarray(landmarks_KN3, np.float64)[:, OVAL, :2]
    low_K2, high_K2 = oval_KM2.min(axis=1), oval_KM2.max(axis=1)
    height_K = high_K2[:, 1] - low_K2[:, 1]
    centre_K2 = (low_K2 + high_K2) / 2
    centre_K2[:, 1] += DOWN * height_K
    half_K1 = (SIDE * height_K / 2)[:, None]
    edges_K4 = np.concatenate([centre_K2 - half_K1, centre_K2 + half_K1], axis=1)
    return [tuple(edges_4) for edges_4 in edges_K4.round().astype(int).tolist()]
