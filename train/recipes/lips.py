"""What `eval motion` measures of generated lips, for validation: the same definitions, asserted equal by a test.

train/ imports nothing of eval/, so that who scores cannot depend on who trains. T frames, N landmarks (478),
3 = (x, y, z) in px of the crop.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from mytalk.face import pose
from mytalk.face.landmarks import MOUTH, opening

STILL_PX = 0.125  # an opening of a smaller standard deviation does not move: shards keep fp16
BETTER = {"opening_correlation": "higher", "lmd_px": "lower"}  # the amplitude ratio is best at 1
MEASURED = ("opening_correlation", "amplitude_ratio", "lmd_px")


def measure(truth_TN3: np.ndarray, result_TN3: np.ndarray) -> tuple[float, float, float]:
    """MEASURED of a generated clip: Pearson correlation of the mouth openings, ratio of their standard deviations,
    mean distance of the 40 lip points in px; both sides in the head's frame at the truth's mean size.

    The first two are NaN where the true mouth stands still; the correlation is 0 where the generated one does.
    """
    truth, result = (torch.from_numpy(np.asarray(side, np.float64))[None] for side in (truth_TN3, result_TN3))
    head = pose.person_head(truth, torch.ones(truth.shape[:2], dtype=torch.float64))
    posed = pose.fit(truth, head.rigid_BR3)
    px = posed.scale_BT.mean()
    truth_TN2 = (posed.to_head(truth, head.depth_BN) * px)[0].numpy()
    result_TN2 = (pose.fit(result, head.rigid_BR3).to_head(result, head.depth_BN) * px)[0].numpy()
    distance = float(np.linalg.norm(truth_TN2[:, MOUTH] - result_TN2[:, MOUTH], axis=-1).mean())
    true_T, made_T = opening(truth_TN2).astype(np.float64), opening(result_TN2).astype(np.float64)
    if true_T.std() < STILL_PX:
        return math.nan, math.nan, distance
    ratio = float(made_T.std() / true_T.std())
    if made_T.std() < STILL_PX:
        return 0.0, ratio, distance
    return float(np.corrcoef(true_T, made_T)[0, 1]), ratio, distance
