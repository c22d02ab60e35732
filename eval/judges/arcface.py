"""The judge of the person that most papers print: an ArcFace network in ONNX, which the user brings.

The face is turned and scaled by five points (the eyes' middles, the nose's tip, the corners of the mouth) of our
landmarks to where InsightFace's template has them, in 112 x 112 px. Which network it is only its digest says: numbers
of two files do not compare. Shape suffixes: K pictures, H height, W width, N landmarks (478), 3 = RGB or (x, y, z) in
px, 52 = five points, 23 = an affine map, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.judges.onnx import OnnxNetwork

NAME = "arcface"  # in configs/weights.yaml
WEIGHTS = (NAME,)
PACKAGES = ("onnxruntime", "cv2")
SIDE_PX = 112
IRISES, NOSE, CORNERS = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477)), 1, (61, 291)  # of the face mesh
TEMPLATE_52 = np.array(  # InsightFace's: left eye of the picture, right eye, nose, left and right corner of the mouth
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class ArcFaceJudge:
    """Embeds the face of a picture, on one thread of the processor."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name of WEIGHTS. Raises UserError where the network takes or gives something else."""
        self._network = OnnxNetwork(files[NAME], "ArcFace network", (3, SIDE_PX, SIDE_PX))

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        """The embedding of each picture's face, (K, E) float64."""
        import cv2

        embeddings = []
        for picture_HW3, map_23 in zip(pictures_KHW3, alignments(landmarks_KN3), strict=True):
            face_HW3 = cv2.warpAffine(np.ascontiguousarray(picture_HW3), map_23, (SIDE_PX, SIDE_PX))
            pixels = (face_HW3.astype(np.float32).transpose(2, 0, 1) - 127.5) / 127.5
            embeddings.append(self._network.run(pixels))
        return np.stack(embeddings)


def alignments(landmarks_KN3: np.ndarray) -> list[np.ndarray]:
    """For each face the similarity (2, 3) that brings its five points nearest to the template (Umeyama 1991)."""
    points_KN2 = np.asarray(landmarks_KN3, np.float64)[..., :2]
    eyes = [points_KN2[:, list(iris)].mean(axis=1) for iris in IRISES]
    faces_K52 = np.stack([*eyes, points_KN2[:, NOSE], *(points_KN2[:, corner] for corner in CORNERS)], axis=1)
    return [_similarity(face_52, TEMPLATE_52) for face_52 in faces_K52]


def _similarity(face_52: np.ndarray, template_52: np.ndarray) -> np.ndarray:
    middle_2, to_2 = face_52.mean(axis=0), template_52.mean(axis=0)
    face, template = face_52 - middle_2, template_52 - to_2
    left_22, stretch_2, right_22 = np.linalg.svd(template.T @ face)
    sign_2 = np.array([1.0, np.sign(np.linalg.det(left_22 @ right_22))])
    turn_22 = left_22 @ np.diag(sign_2) @ right_22 * ((stretch_2 * sign_2).sum() / np.square(face).sum())
    return np.column_stack([turn_22, to_2 - turn_22 @ middle_2])
