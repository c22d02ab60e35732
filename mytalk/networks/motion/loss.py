"""The loss that keeps generated motion the person's own, as the frozen identity encoder sees it.

Shape suffixes: see mytalk/networks/motion/__init__.py; E features of the identity encoder.
"""

from __future__ import annotations

import torch

from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.inputs import Prepared


def identity_loss(
    extractor: IdentityEncoder,
    predicted_BTK2: torch.Tensor,
    prepared: Prepared,
    mask_BT: torch.Tensor,
    known_BUD: torch.Tensor,
    source_mask_BU: torch.Tensor,
    config: MotionConfig,
) -> torch.Tensor:
    """1 - cos(E(m), E(m_hat_0)) of source and generated landmarks (paper, Sec. 3.2): (B,).

    `known_BUD` are the identity encoder's features of the source. Its own weights get no gradient.
    """
    head_BTN2 = prepared.head_BTN2.clone()
    head_BTN2[:, :, config.points] = predicted_BTK2 * config.unit_px + prepared.mean_BK2[:, None]
    generated_BE = extractor(head_BTN2, mask_BT)
    return 1 - (generated_BE * extractor.embed(known_BUD, source_mask_BU)).sum(-1)
