"""Generating a clip's lower face from speech with a trained model.

Shape suffixes: see mytalk/networks/motion/__init__.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mytalk.face.landmarks import NOISED, SAMPLES_PER_FRAME
from mytalk.networks import diffusion
from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.motion.inputs import Conditions, prepare, restore
from mytalk.networks.motion.network import MotionModel

WHOLE = slice(None)
NOISE_BLOCK = 64  # frames whose start noise is drawn at once
Hold = Callable[[np.ndarray], np.ndarray]  # lower faces (T, K, 2), px in the head's frame, moved onto what is promised


def denoiser(model: MotionModel, conditions: Conditions, written: slice = WHOLE) -> diffusion.Denoise:
    """(x_t, t_B) -> x0, with the conditions encoded once and the model's guidance: what `diffusion.sample` asks.

    x_t and x0 are of the frames `written`; the conditions are encoded with what lies around them.
    """
    c = conditions
    speech_BTD, seen_BTF, mask_BT = (each[:, written] for each in (model.heard(c), c.prepared.seen_BTF, c.mask_BT))
    person_BMD, person_mask_BM = model.know(c)
    anybody_mask_BM = person_mask_BM.clone()
    anybody_mask_BM[:, 1:] = 0  # the mean face alone

    def denoise(x_BTK2: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        def predicted(heard_BTD: torch.Tensor, known_BM: torch.Tensor) -> torch.Tensor:
            return model.denoise(x_BTK2, t_B, seen_BTF, mask_BT, heard_BTD, person_BMD, known_BM, c.drop)

        whole_BTK2 = guided_BTK2 = predicted(speech_BTD, person_mask_BM)
        if model.guidance != 1:
            unheard_BTK2 = predicted(torch.zeros_like(speech_BTD), person_mask_BM)
            guided_BTK2 = guided_BTK2 + (model.guidance - 1) * (whole_BTK2 - unheard_BTK2)
        if model.person_guidance != 1:
            anybodys_BTK2 = predicted(speech_BTD, anybody_mask_BM)
            guided_BTK2 = guided_BTK2 + (model.person_guidance - 1) * (whole_BTK2 - anybodys_BTK2)
        return guided_BTK2

    return denoise


@dataclass(frozen=True)
class SourceStretch:
    """Another stretch of the person who is generated, which shows their way of moving."""

    landmarks_UN3: np.ndarray  # crop px
    audio_S: np.ndarray | None = None  # its speech, U * 640 samples; None is silence
    features_UD: np.ndarray | None = None  # its column's values, for a model that hears one

    def samples(self) -> np.ndarray:
        """The speech, silence as zeros. Raises ValueError where its length is not that of the landmarks."""
        frames = len(self.landmarks_UN3)
        return _checked_audio(np.zeros(frames * SAMPLES_PER_FRAME) if self.audio_S is None else self.audio_S, frames)


@torch.no_grad()
def generate(
    model: MotionModel,
    landmarks_TN3: np.ndarray,
    source: SourceStretch,
    audio_S: np.ndarray,
    seed: int,
    steps: int = 30,
    extractor: IdentityEncoder | None = None,
    first_frame: int = 0,
    amplitude: float = 1.0,
    hold: Hold | None = None,
    features_TD: np.ndarray | None = None,
    context: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Landmarks of a clip with its lower face generated from speech: (T, 478, 3) float32, crop px.

    Of what is given, `context` frames at either end are only read: the pose is smoothed and speech encoded with them,
    and nothing is generated for them, so that T is less by these.
    Of `landmarks_TN3` only the clean side is read: its lower face may be anything. `audio_S` holds 640 samples a frame.
    The start noise is that of `seed` and of the frames from `first_frame` on, the first that is written. `extractor` is
    used instead of the model's own identity encoder, which a model in training does not hold. Raises ValueError for
    audio of another length. A model that hears a column needs its values `features_TD`, and those of the source; else
    raises UserError.

    With a `model.guidance` w other than 1, x0 is what is predicted without speech plus w times what the speech changes
    (classifier-free guidance, Ho & Salimans 2022): above 1 the mouth follows the speech more than the model believes.
    `model.person_guidance` does the same with what the source changes, of which without it the mean face is left.
    `amplitude` multiplies the motion, what the face differs by from the person's mean. With `hold` each step's estimate
    of the clean motion is moved onto what is promised (mytalk/control/promises.py), so the result holds it too.

    A distilled model is sampled in its own number of steps, whatever `steps` says: it knows no other times.
    """
    frames, device = len(landmarks_TN3), model.out.weight.device
    audio_S = _checked_audio(audio_S, frames)
    conditions = _conditions(model, landmarks_TN3, source, audio_S, extractor or model.extractor, features_TD)
    prepared = conditions.prepared
    written = slice(context[0], frames - context[1])
    denoise = denoiser(model, conditions, written)
    scale = amplitude if model.deviation_K2 is None else amplitude * model.deviation_K2

    def held(x_BTK2: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        motion_BTK2 = denoise(x_BTK2, t_B)
        if hold is None:
            return motion_BTK2
        face_TK2 = (motion_BTK2 * scale * model.config.unit_px + prepared.mean_BK2[:, None])[0].double()
        lower = model.config.lower
        face_TK2[:, lower] = torch.from_numpy(hold(face_TK2[:, lower].cpu().numpy())).to(face_TK2)
        moved_BTK2 = face_TK2[None] - prepared.mean_BK2[:, None]
        return (moved_BTK2 / (scale * model.config.unit_px)).to(motion_BTK2.dtype)

    noise_BTK2 = _batch_of_one(start_noise(seed, first_frame, frames - sum(context), len(model.config.points)), device)
    config, steps = model.config, model.steps or steps
    motion_BTK2 = diffusion.sample(held, noise_BTK2, steps, config.times, config.sampler) * scale
    read_BTK2 = torch.nn.functional.pad(motion_BTK2, (0, 0, 0, 0, *context))
    return restore(read_BTK2, prepared, _batch_of_one(landmarks_TN3, device), model.config)[0, written].cpu().numpy()


def _conditions(
    model: MotionModel,
    landmarks_TN3: np.ndarray,
    source: SourceStretch,
    audio_S: np.ndarray,
    extractor: IdentityEncoder | None,
    features_TD: np.ndarray | None,
) -> Conditions:
    """What the clip, its speech and the source give the denoiser, as a batch of one."""

    def batch_of_one(array: np.ndarray) -> torch.Tensor:
        return _batch_of_one(array, model.out.weight.device)

    clip_BTN3, source_BUN3 = batch_of_one(landmarks_TN3), batch_of_one(source.landmarks_UN3)
    mask_BT, source_mask_BU = torch.ones_like(clip_BTN3[..., 0, 0]), torch.ones_like(source_BUN3[..., 0, 0])
    prepared = prepare(clip_BTN3, mask_BT, source_BUN3, source_mask_BU, model.config)
    return Conditions(
        prepared,
        mask_BT,
        batch_of_one(audio_S),
        source_mask_BU,
        batch_of_one(source.samples()),
        extractor.features(prepared.source_head_BUN2, source_mask_BU) if extractor else None,
        features_BTD=None if features_TD is None else batch_of_one(features_TD),
        source_features_BUD=None if source.features_UD is None else batch_of_one(source.features_UD),
    )


def _batch_of_one(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))[None].to(device)


def start_noise(seed: int, first_frame: int, frames: int, points: int = len(NOISED)) -> np.ndarray:
    """Normal noise that belongs to each frame of a video, whatever window asks for it: (T, K, 2) float32."""
    first, last = first_frame // NOISE_BLOCK, (first_frame + frames - 1) // NOISE_BLOCK
    size = (NOISE_BLOCK, points, 2)
    blocks = [
        np.random.default_rng((seed, block)).standard_normal(size, dtype=np.float32) for block in range(first, last + 1)
    ]
    start = first_frame - first * NOISE_BLOCK
    return np.concatenate(blocks)[start : start + frames]


def _checked_audio(audio_S: np.ndarray, frames: int) -> np.ndarray:
    """The audio of so many frames. Raises ValueError where it is of another length."""
    if len(audio_S) != frames * SAMPLES_PER_FRAME:
        raise ValueError(f"{frames} frames need {frames * SAMPLES_PER_FRAME} samples, not {len(audio_S)}")
    return audio_S
