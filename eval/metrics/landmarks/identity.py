"""Identity: whether a row moves like the person of the clip, measured by a landmark identity encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.metric import NO_MOUTH, Comparison, Metric

if TYPE_CHECKING:
    import torch

    from mytalk.networks.identity import IdentityEncoder


def identity_cosine(row: Comparison) -> float:
    """Cosine of the embeddings of the row and of the person's source stretch."""
    encoder = row.evaluators.identity
    assert encoder is not None, "without it the metric is omitted"
    source_UN3 = row.truth.source_UN3
    source = row.truth.once(embedding, lambda: embedding(encoder, source_UN3, np.ones(len(source_UN3))))
    return float(source @ embedding(encoder, row.video.landmarks_TN3, row.video.detected_T))


def embedding(encoder: IdentityEncoder, landmarks_TN3: np.ndarray, mask_T: np.ndarray) -> torch.Tensor:
    """The unit vector of a stretch's person, (E,)."""
    import torch

    from mytalk.face.pose import to_own_head

    device = next(encoder.parameters()).device
    points, mask = (torch.from_numpy(np.asarray(a, np.float32))[None].to(device) for a in (landmarks_TN3, mask_T))
    with torch.no_grad():
        return encoder(to_own_head(points, mask), mask)[0]


METRICS = {
    "identity_cosine": Metric(
        identity_cosine,
        "cosine between the landmark identity embeddings (encoder of the digests; landmarks, no face recogniser) of "
        "the row's re-detected landmarks and of the source clip of the person; frames without a face are masked",
        "-1 to 1",
        "higher",
        needs="identity",
        mouth=NO_MOUTH,
    ),
}
