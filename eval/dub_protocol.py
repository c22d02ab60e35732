"""The benchmark's rows and metrics by definition, unit and direction, and what else decides its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eval.metrics import METRICS, STILL_PX, Metric
from eval.protocol import EXTRACTOR_WORDS, SHOWN_TO_MODEL, SHUFFLED, Kind
from mytalk.face.detector import DEFAULT, module_of

LEAST_DETECTED = 0.9  # of a row's frames; below it the clip is a miss
REFERENCES = 25  # pictures of the person from the source stretch, as many as `dub` takes
BOX_MARGIN = 0.25  # of the mouth's width, on each side of the box in which pictures are compared
MOST_DB = 100.0  # PSNR of frames that are the same to the bit

METHODS = {
    "ground_truth": "the clip's own frames, written and read twice as a dubbed row is: what codec and detector cost",
    "mytalk": "the clip dubbed with its own speech",
    "shuffled_audio": f"the clip dubbed by {SHUFFLED}",
    "frozen_mouth": "the clip with its mean lower face in the head's frame, moved with the head, painted by the same "
    "generator",
}
SYNC = ("sync_confidence", "sync_distance", "sync_offset_frames")
IDENTITY = ("identity_cosine",)
_TRUE_SPEECH = "against the clip's true speech in every row, by the landmark SyncNet of the digests"
_BOX = (
    f"in a box round the true mouth, fixed for the clip (all lip points of all frames, and {100 * BOX_MARGIN:.0f} % of "
    "their width on each side), against the clip's frames in the shards; mean over all frames"
)
_ALIGNED = (
    "each side first brought to the head's frame by its own rigid points (the truth's rigid shape, the truth's mean "
    "size); frames without a re-detected face are left out"
)
MEASURED: dict[str, Metric] = {
    "lmd_px": Metric(
        f"distance between re-detected and true landmark, mean over the 40 lip points and the frames; {_ALIGNED}",
        "px at 256",
        "lower",
    ),
    "opening_error_px": Metric(
        "absolute difference of the mouth openings (mean distance of three inner-lip pairs), mean over the frames; "
        f"{_ALIGNED}",
        "px at 256",
        "lower",
    ),
    "opening_correlation": Metric(
        "Pearson correlation of the re-detected and the true mouth opening over the frames; 0 where the re-detected "
        f"one varies by less than {STILL_PX} px (standard deviation), so a frozen mouth has what the detector's jitter "
        f"gives it; {_ALIGNED}",
        METRICS["opening_correlation"].unit,
        "higher",
    ),
    "sync_confidence": Metric(
        f"median minus minimum over the offsets of the mean distance between lips and speech, {_TRUE_SPEECH}; frames "
        "without a re-detected face are filled linearly. Above ground_truth is exaggeration, not quality",
        "distance of unit embeddings",
        "higher",
    ),
    "sync_distance": Metric(
        f"minimum over the offsets of the mean distance between lips and speech, {_TRUE_SPEECH}",
        "distance of unit embeddings",
        "lower",
    ),
    "sync_offset_frames": Metric(
        f"absolute offset of that minimum, {_TRUE_SPEECH}",
        "frames of 25 Hz",
        "lower",
    ),
    "psnr_mouth_db": Metric(f"peak signal-to-noise ratio of RGB {_BOX}; {MOST_DB:.0f} where equal", "dB", "higher"),
    "ssim_mouth": Metric(
        f"structural similarity of RGB (Gaussian window of 11 px, sigma 1.5, borders reflected) {_BOX}",
        "up to 1",
        "higher",
    ),
    "identity_cosine": Metric(
        "cosine between the landmark identity embeddings (encoder of the digests; landmarks, no face recogniser) of "
        "the row's re-detected landmarks and of the source clip of the person; frames without a face are masked",
        "-1 to 1",
        "higher",
    ),
    "detected_share": Metric(
        f"frames in which a face is detected again, of all; below {LEAST_DETECTED:g} in any row the clip is a miss in "
        "all rows",
        "0 to 1",
        "higher",
    ),
}


SAME_NETWORK = "; the encoder is the same network that conditioned the motion model, so no independent judge"


def kind(digests: dict[str, str], detector: str = DEFAULT) -> Kind:
    """The benchmark with the models of these digests. Raises ModuleNotFoundError without the detector's package."""
    detector_module = module_of(detector)
    metrics = dict(MEASURED)
    if "identity_weights" in digests and digests["identity_weights"] == digests.get("motion_extractor_weights"):
        for name in IDENTITY:
            metrics[name] = replace(metrics[name], definition=metrics[name].definition + SAME_NETWORK)
    facts: dict[str, Any] = {
        "models": {name: words for name, words in MODELS.items() if f"{name}_weights" in digests},
        "truth": "detected landmarks and frames of the shards",
        "detector": f"{detector_module.NAME}; {detector} {detector_module.version()}; on the decoded mp4 of every row",
        "encoder": "every row is an mp4 of mytalk.media.write_video (H.264 and AAC), read again",
        "shown_to_model": SHOWN_TO_MODEL,
        "references": f"up to {REFERENCES} frames of the source stretch, never of the scored clip",
    }
    return Kind("dubbed video, same audio", METHODS, metrics, facts)


MODELS = {
    "motion": "speech to motion (python -m train motion)",
    "motion_extractor": EXTRACTOR_WORDS,
    "appearance": "motion to frames (python -m train appearance)",
    "syncnet": "judge of sync, trained on landmarks and speech of the training people (python -m train syncnet)",
    "identity": "judge of identity, trained on landmarks of the training people (python -m train identity)",
}
