"""The folder of a trained motion model: written, and read with what it states of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mytalk.command import UserError
from mytalk.networks import identity, speech_features, weights
from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.network import WINDOW_FRAMES, MotionModel


def save_model(
    state: dict[str, torch.Tensor],
    config: MotionConfig,
    folder: str | Path,
    extractor: IdentityEncoder | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write weights as a folder that `load_model` reads, with the identity encoder that conditions them inside it.

    The fact `window_frames` is the longest window that the model was trained on, `source_sound_dropout` how many of its
    sources had no sound, `features_by` what made the column that it hears, `sampling_steps` those that it is distilled
    for.
    """
    if config.extractor_width:
        assert extractor is not None, "a conditioned model needs its identity encoder"
        identity.save_model(extractor.state_dict(), extractor.config, Path(folder) / weights.EXTRACTOR)
    weights.save(state, "motion", config, folder, facts)


def _some(share: Any) -> bool:
    """Whether a fact is a share above 0."""
    return isinstance(share, float) and share > 0


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> MotionModel:
    """The motion model of a folder, in evaluation mode. Raises UserError as `weights.load` does."""
    model = weights.load(folder, "motion", MotionConfig, MotionModel, device)
    facts = weights.facts_of(folder, "motion")
    window_frames = facts.get("window_frames")
    model.window_frames = window_frames if type(window_frames) is int and window_frames >= 1 else WINDOW_FRAMES
    model.knows_silent_sources = _some(facts.get("source_sound_dropout"))
    model.knows_no_speech = _some(facts.get("speech_dropout"))
    model.knows_no_source = _some(facts.get("source_dropout"))
    model.features_by = speech_features.features_by(facts)
    model.steps = weights.own_steps(folder)
    if model.config.extractor_width:
        model.extractor = identity.load_model(Path(folder) / weights.EXTRACTOR, device)
        expected, width = model.config.extractor_width, model.extractor.config.width
        if width != expected:
            raise UserError(
                f"the weights in {Path(folder) / weights.EXTRACTOR} do not fit its config: the motion model expects "
                f"extractor_width {expected}, not {width}; copy or export the model again"
            )
    return model
