"""The person: how alike the face of a row is to that of the person elsewhere, by a face recogniser of others.

Shape suffixes: K pictures, E embedding, U source frames, N landmarks (478).
"""

from __future__ import annotations

import numpy as np

from eval.metrics.metric import NO_MOUTH, Comparison, Metric, Miss, PersonJudge

PICTURES = 5  # of the row and of the source, evenly spread: an embedding costs 0.1 s
FEW_DETECTED = "no_face_for_the_person"


def embeddings(row: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """dlib's, of the source and of the row, (K, E) each. Raises Miss where the row shows no face."""
    return _embedded(row, row.evaluators.person)


def by_arcface(row: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The same by the ArcFace network that the user brings."""
    return _embedded(row, row.evaluators.arcface)


def _embedded(row: Comparison, judge: PersonJudge | None) -> tuple[np.ndarray, np.ndarray]:
    assert judge is not None, "without it the metrics of the person are omitted"
    truth = row.truth
    frames = truth.frames_THW3 if truth.source_frames_UHW3 is None else truth.source_frames_UHW3
    landmarks = truth.landmarks_TN3 if truth.source_frames_UHW3 is None else truth.source_UN3
    source = truth.once(judge.embed, lambda: judge.embed(*_few(frames, landmarks, np.arange(len(frames)))))
    detected = np.flatnonzero(row.video.detected_T)
    if not len(detected):
        raise Miss(FEW_DETECTED, "no frame shows a face")
    return source, judge.embed(*_few(row.video.frames_THW3, row.video.landmarks_TN3, detected))


def distance(one_KE: np.ndarray, other_KE: np.ndarray) -> float:
    """L2 distance of embeddings, mean over all pairs of pictures."""
    return float(np.linalg.norm(one_KE[:, None] - other_KE[None], axis=-1).mean())


def cosine(one_KE: np.ndarray, other_KE: np.ndarray) -> float:
    """Cosine of embeddings, mean over all pairs of pictures."""
    one, other = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (one_KE, other_KE))
    return float((one @ other.T).mean())


def _few(frames: np.ndarray, landmarks: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    picked = usable[np.unique(np.linspace(0, len(usable) - 1, PICTURES).round().astype(int))]
    return frames[picked], landmarks[picked]


_PAIRS = (
    "of the row and of the person's source clip (where none is given: the clip itself), mean over all pairs of "
    f"{PICTURES} pictures each, evenly spread"
)
_WHOM = f"of the embeddings of dlib's face ResNet {_PAIRS}; aligned by dlib's five points in a box from the landmarks"
METRICS = {
    "csim@dlib": Metric(
        lambda row: cosine(*row.once(embeddings)),
        f"cosine {_WHOM}. Another embedding than ArcFace's: beside published CSIM it says nothing, beside the "
        "real video's row how much of the person is lost",
        "-1 to 1",
        "higher",
        needs="person",
        mouth=NO_MOUTH,
    ),
    "face_distance@dlib": Metric(
        lambda row: distance(*row.once(embeddings)),
        f"L2 distance {_WHOM}. Its author takes two pictures below 0.6 for one person",
        "L2",
        "lower",
        needs="person",
        mouth=NO_MOUTH,
    ),
    "csim@arcface": Metric(
        lambda row: cosine(*row.once(by_arcface)),
        f"cosine of the embeddings of the ArcFace network of the digests {_PAIRS}; aligned by five points of the "
        "landmarks",
        "-1 to 1",
        "higher",
        needs="arcface",
        mouth=NO_MOUTH,
    ),
}
