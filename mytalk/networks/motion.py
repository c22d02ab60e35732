"""Stage 1, speech to motion: a diffusion model that generates the lower face from speech (paper, Sec. 3.2).

The upper face and the head's pose stay clean and are inputs of the network; only the lower-face points are
noised ("partially noised landmark"). The person's own way of moving comes from another stretch of their
landmarks, encoded and attended to in every block.

Shape suffixes: B batch, T frames, N all 478 landmarks, K noised landmarks, C clean landmarks, U source
frames, M condition tokens, D features, S audio samples, 2 = (x, y) in the head's frame (mytalk/face/pose.py),
3 = (x, y, z) in the crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT, CROP_PX, NOISED, SAMPLES_PER_FRAME
from mytalk.networks import diffusion, identity, speech_features, weights
from mytalk.networks.conformer import Block, Drop, check_sizes
from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.slot_dropout import no_dropout
from mytalk.settings import Settings, setting

EXTRACTOR = "identity"  # folder of the identity encoder within that of a motion model
WINDOW_FRAMES = 250  # the longest window of training, where a model's folder does not state it
SHAPE_UNIT_PX = CROP_PX / 2  # px of the mean face that count as 1
MEL = speech_features.MEL
UPPER_FACES = ("pose", "landmarks")
WHOLE = slice(None)
NOISE_BLOCK = 64  # frames whose start noise is drawn at once
Hear = Callable[[np.ndarray], np.ndarray]  # speech, (S,) -> features, (T, D)
Hold = Callable[[np.ndarray], np.ndarray]  # lower faces (T, K, 2), px in the head's frame, moved onto what is promised


@dataclass
class MotionConfig(Settings):
    """Size of the motion model. The defaults are those of the paper's siblings (GAIA); configs/demo is far smaller."""

    part = "model"

    width: int = setting(768, "features of each frame; a multiple of 2 x heads", at_least=1)
    heads: int = setting(12, "of attention", at_least=1)
    layers: int = setting(12, "of the denoiser", at_least=1)
    hidden: int = setting(2048, "width inside the feed-forward blocks", at_least=1)
    kernel: int = setting(13, "of the convolutions over time; odd", unit="frames", at_least=1)
    speech_layers: int = setting(4, "of the speech encoder", at_least=0)
    speech_heads: int = setting(0, "of its attention; 0: as many as the denoiser has", at_least=0)
    speech_hidden: int = setting(0, "width inside its feed-forward blocks; 0: as in the denoiser", at_least=0)
    identity_layers: int = setting(6, "of the encoder of the source stretch", at_least=0)
    unit_px: float = setting(16.0, "lower-face motion that counts as 1 in the diffusion process", unit="px", above=0)
    upper_face: str = setting(
        "pose", "what is seen of the clean side: its slow pose and mean shape, or all landmarks", choices=UPPER_FACES
    )
    slow_frames: float = setting(12.0, "sigma of the smoothing of the pose", unit="frames", above=0)
    source_speech: bool = setting(True, "whether the identity condition includes the speech of the source")
    speech_level: bool = setting(
        False, "whether speech is brought to one level, so that quiet speech moves the mouth as loud speech does"
    )
    speech_mean: bool = setting(
        False, "whether each band is heard about its mean over the speech: a microphone's or room's colour says nothing"
    )
    whiten: bool = setting(
        False, "whether the diffusion works on each point's motion in units of its standard deviation over training"
    )
    times: str = setting(
        "uniform",
        "diffusion times of training and sampling: evenly in time, in log-SNR, or on the path of flow matching",
        choices=diffusion.TIMES,
    )
    prediction: str = setting(
        "x0",
        "what the network predicts, and the loss is L1 of: x0 (and the noise that follows), v, or the flow's velocity",
        choices=diffusion.PREDICTIONS,
    )
    sampler: str = setting(
        "exponential",
        "steps of sampling: of first order, of second, or the siblings' Euler",
        choices=diffusion.SAMPLERS,
    )
    features: str = setting(
        MEL, f"what is heard of the speech: {MEL}, computed from the sound, or the name of a column of the shards"
    )
    features_width: int = setting(0, "values a frame of that column; 0: no column", unit="values", at_least=0)
    extractor_width: int = setting(
        0, "width of the frozen identity encoder's features in the condition; 0: none", at_least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.width, self.heads, self.kernel)
        if not self.features:
            raise ValueError(f"model.features must be {MEL} or the name of a column")
        for name in ("speech_level", "speech_mean"):
            if getattr(self, name) and self.column:
                raise ValueError(f"model.{name} changes what is heard, and column {self.features} is as it was stored")
        if self.speech_heads and self.width % (2 * self.speech_heads):
            raise ValueError(
                f"model.width {self.width} must be a multiple of 2 x model.speech_heads ({self.speech_heads})"
            )

    @property
    def column(self) -> str:
        """The column of shards that is heard; empty: the sound."""
        return "" if self.features == MEL else self.features


@dataclass(frozen=True)
class Prepared:
    """Landmarks of a batch in the head's frame, ready for the network. No weights are involved."""

    motion_BTK2: torch.Tensor  # lower face minus the person's mean, in units of `unit_px`
    seen_BTF: torch.Tensor  # features of the clean side, see `clean_features`
    source_BUF: torch.Tensor  # the source stretch: residual of every landmark
    shape_BF: torch.Tensor  # the person's mean face: x, y, z of every landmark
    mean_BK2: torch.Tensor
    depth_BK: torch.Tensor  # of the noised landmarks, the person's mean, px
    head_BTN2: torch.Tensor  # the clip in the head's frame, px
    source_head_BUN2: torch.Tensor  # the source in the head's frame, px: the input of the identity encoder
    pose: pose.Pose


def prepare(
    landmarks_BTN3: torch.Tensor,
    mask_BT: torch.Tensor,
    source_BUN3: torch.Tensor,
    source_mask_BU: torch.Tensor,
    config: MotionConfig,
) -> Prepared:
    """Bring a clip and its source to the person's head frame and subtract the person's mean face.

    The mean is the source's, so the clip's own mouth enters `motion_BTK2` alone.
    """
    unit_px = config.unit_px
    head = pose.person_head(source_BUN3, source_mask_BU)
    clip_pose, source_pose = pose.fit(landmarks_BTN3, head.rigid_BR3), pose.fit(source_BUN3, head.rigid_BR3)
    source = source_pose.to_head(source_BUN3, head.depth_BN)
    weight_BU = source_mask_BU / source_mask_BU.sum(1, keepdim=True)
    mean_BN2 = (source * weight_BU[..., None, None]).sum(1)
    head_BTN2 = clip_pose.to_head(landmarks_BTN3, head.depth_BN)
    residual_BTN2 = (head_BTN2 - mean_BN2[:, None]) / unit_px
    upper_BTF = residual_BTN2[:, :, CLEAN].flatten(2)
    return Prepared(
        motion_BTK2=residual_BTN2[:, :, NOISED],
        seen_BTF=clean_features(upper_BTF, clip_pose.features(), mask_BT, config),
        source_BUF=((source - mean_BN2[:, None]) / unit_px).flatten(2),
        shape_BF=torch.cat([mean_BN2, head.depth_BN[..., None]], dim=-1).flatten(1) / SHAPE_UNIT_PX,
        mean_BK2=mean_BN2[:, NOISED],
        depth_BK=head.depth_BN[:, NOISED],
        head_BTN2=head_BTN2,
        source_head_BUN2=source,
        pose=clip_pose,
    )


def clean_features(
    upper_BTF: torch.Tensor, pose_BTF: torch.Tensor, mask_BT: torch.Tensor, config: MotionConfig
) -> torch.Tensor:
    """The features of the clean side that the network gets: upper face and pose, (B, T, 2 C + 6).

    With `upper_face: landmarks` all of it, as the paper draws it. A face mesh moves as one, though: from the
    clean points of MediaPipe the original mouth's opening can be read (see docs/decisions.md), and a model
    trained on them lip-reads instead of listening. So by default the network gets the clip's mean upper face
    and the pose smoothed over half a second, which is slower than speech.
    """
    if config.upper_face == "landmarks":
        return torch.cat([upper_BTF, pose_BTF], dim=-1)
    weight_BT = mask_BT / mask_BT.sum(1, keepdim=True)
    mean_BTF = (upper_BTF * weight_BT[..., None]).sum(1, keepdim=True).expand_as(upper_BTF)
    return torch.cat([mean_BTF, pose.slow(pose_BTF, mask_BT, config.slow_frames)], dim=-1)


def restore(motion_BTK2: torch.Tensor, prepared: Prepared, landmarks_BTN3: torch.Tensor, unit_px: float):
    """Put generated motion back into the clip: its lower face is replaced, the rest is kept. (B, T, N, 3)."""
    out = landmarks_BTN3.clone()
    out[:, :, NOISED] = prepared.pose.to_crop(motion_BTK2 * unit_px + prepared.mean_BK2[:, None], prepared.depth_BK)
    return out


def identity_loss(
    extractor: IdentityEncoder,
    predicted_BTK2: torch.Tensor,
    prepared: Prepared,
    mask_BT: torch.Tensor,
    known_BUD: torch.Tensor,
    source_mask_BU: torch.Tensor,
    unit_px: float,
) -> torch.Tensor:
    """1 - cos(E(m), E(m_hat_0)) of source and generated landmarks (paper, Sec. 3.2): (B,).

    `known_BUD` are the identity encoder's features of the source. Its own weights get no gradient.
    """
    head_BTN2 = prepared.head_BTN2.clone()
    head_BTN2[:, :, NOISED] = predicted_BTK2 * unit_px + prepared.mean_BK2[:, None]
    generated_BE = extractor(head_BTN2, mask_BT)
    return 1 - (generated_BE * extractor.embed(known_BUD, source_mask_BU)).sum(-1)


def time_embedding(t_B: torch.Tensor, width: int) -> torch.Tensor:
    """Sinusoidal embedding of t in [0, 1], as if it ran to 1000: (B,) -> (B, width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=t_B.device, dtype=t_B.dtype) * (-math.log(10_000.0) / half))
    angle = 1000.0 * t_B[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


@dataclass(frozen=True)
class Conditions:
    """What a prediction is conditioned on, besides the time of the diffusion process."""

    prepared: Prepared  # the clean side of the clip, the motion of the source, the person's mean face
    mask_BT: torch.Tensor
    audio_BS: torch.Tensor  # the speech of the clip, T * 640 samples
    source_mask_BU: torch.Tensor
    source_audio_BS: torch.Tensor  # the speech of the source, U * 640 samples
    known_BUD: torch.Tensor | None = None  # features of the source by the frozen identity encoder
    voice_B: torch.Tensor | None = None  # augments the voice, see `speech_features.log_mel`
    speech_kept_B: torch.Tensor | None = None  # 0: nothing is known of the speech (classifier-free guidance)
    source_kept_B: torch.Tensor | None = None  # 0: of the person only the mean face is known
    drop: Drop = no_dropout  # of training
    features_BTD: torch.Tensor | None = None  # the column's values of clip and source, where the model hears one
    source_features_BUD: torch.Tensor | None = None


class MotionModel(nn.Module):
    """Denoiser with its speech and identity encoders; `forward` predicts x0."""

    def __init__(self, config: MotionConfig):
        super().__init__()
        self.config = config
        # The frozen identity encoder: set by `load_model`; in training the recipe holds it.
        self.extractor: IdentityEncoder | None = None
        self.window_frames = WINDOW_FRAMES  # the longest it was trained on, set by `load_model`
        self.knows_silent_sources = False  # whether it was trained with some, set by `load_model`
        self.knows_no_speech = False  # whether some examples had none: what guidance needs, set by `load_model`
        self.guidance = 1.0  # of the speech when sampling, see `generate`
        self.features_by: dict[str, Any] | None = None  # what made the column that it hears, set by `load_model`
        self.hear: Hear | None = None  # computes that column of any sound, see mytalk/speech/encoder.py
        self.steps: int | None = None  # of the sampler, where it is distilled for so many; set by `load_model`
        width = config.width
        block = (width, config.heads, config.hidden, config.kernel)
        assert bool(config.column) == bool(config.features_width), "the width is the column's"
        self.speech_in = nn.Linear(
            config.features_width or speech_features.MEL_PER_FRAME * speech_features.BANDS, width
        )
        heard = (width, config.speech_heads or config.heads, config.speech_hidden or config.hidden, config.kernel)
        self.speech_blocks = nn.ModuleList(Block(*heard) for _ in range(config.speech_layers))
        self.source_in = nn.Linear(2 * COUNT, width)
        self.shape_in = nn.Linear(3 * COUNT, width)
        if config.extractor_width:
            self.known_in = nn.Linear(config.extractor_width, width)
        self.identity_blocks = nn.ModuleList(Block(*block) for _ in range(config.identity_layers))
        self.motion_in = nn.Linear(2 * len(NOISED), width)
        self.seen_in = nn.Linear(2 * len(CLEAN) + pose.FEATURES, width)
        self.time_mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(*block, conditioned=True) for _ in range(config.layers))
        self.out = nn.Linear(width, 2 * len(NOISED))
        self.deviation_K2: torch.Tensor | None
        # Set by training, kept with the weights.
        self.register_buffer("deviation_K2", torch.ones(len(NOISED), 2) if config.whiten else None)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def column(self) -> str:
        """The column of shards that it hears; empty: the sound."""
        return self.config.column

    def encode_speech(
        self,
        audio_BS: torch.Tensor,
        mask_BT: torch.Tensor,
        voice_B: torch.Tensor | None = None,
        drop: Drop = no_dropout,
        features_BTD: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, T * 640) samples -> (B, T, D). `voice_B` augments the voice, see `speech_features.log_mel`.

        A model that hears a column hears `features_BTD` instead. Raises UserError where it has none.
        """
        if self.column:
            given_BTD = speech_features.of_column(features_BTD, "motion", self.column, self.config.features_width)
            x_BTD = self.speech_in(given_BTD.to(self.speech_in.weight.dtype))
        else:
            x_BTD = self.speech_in(self._mel(audio_BS, mask_BT, voice_B))
        for block in self.speech_blocks:
            x_BTD = block(x_BTD, mask_BT, drop=drop)
        return x_BTD

    def _mel(self, audio_BS: torch.Tensor, mask_BT: torch.Tensor, voice_B: torch.Tensor | None) -> torch.Tensor:
        """The log-mel energies of each frame, (B, T, 320)."""
        with torch.autocast(audio_BS.device.type, enabled=False):  # log-mel energies need float32
            audio_BS = speech_features.levelled(audio_BS) if self.config.speech_level else audio_BS
            mel_BMC = speech_features.log_mel(audio_BS, voice_B)
            mel_BMC = speech_features.about_mean(mel_BMC, mask_BT) if self.config.speech_mean else mel_BMC
            mel_BMC = mel_BMC.to(self.speech_in.weight.dtype)
        return mel_BMC.unflatten(1, (-1, speech_features.MEL_PER_FRAME)).flatten(2)

    def encode_identity(
        self,
        source_BUF: torch.Tensor,
        shape_BF: torch.Tensor,
        mask_BU: torch.Tensor,
        audio_BS: torch.Tensor,
        known_BUD: torch.Tensor | None = None,
        voice_B: torch.Tensor | None = None,
        kept_B: torch.Tensor | None = None,
        drop: Drop = no_dropout,
        features_BUD: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Source motion, mean face, source speech and the identity encoder's features `known_BUD` -> condition tokens
        (B, U + 1, D), their mask (B, U + 1).

        The paper's condition is the identity encoder's features of the landmarks alone. With the speech the source
        also shows how wide this person opens the mouth for a sound, and how late (measured in docs/decisions.md).
        What cannot be heard is no sound of the person's: the source then shows its motion alone. Where `kept_B` is 0,
        only the mean face is attended to.
        """
        dtype = self.source_in.weight.dtype
        x_BUD = self.source_in(source_BUF.to(dtype))
        if self.config.extractor_width:
            assert known_BUD is not None, "this model is conditioned on an identity encoder"
            x_BUD = x_BUD + self.known_in(known_BUD.to(dtype))
        if self.config.source_speech:
            heard_B11 = speech_features.audible(audio_BS)[:, None, None].to(x_BUD.dtype)
            x_BUD = x_BUD + heard_B11 * self.encode_speech(audio_BS, mask_BU, voice_B, drop, features_BUD)
        for block in self.identity_blocks:
            x_BUD = block(x_BUD, mask_BU, drop=drop)
        if kept_B is not None:
            mask_BU = mask_BU * kept_B[:, None]
        shape_B1D = self.shape_in(shape_BF.to(dtype))[:, None]
        return torch.cat([shape_B1D, x_BUD], dim=1), torch.cat([torch.ones_like(mask_BU[:, :1]), mask_BU], 1)

    def denoise(
        self,
        noised_BTK2: torch.Tensor,
        t_B: torch.Tensor,
        seen_BTF: torch.Tensor,
        mask_BT: torch.Tensor,
        speech_BTD: torch.Tensor,
        identity_BMD: torch.Tensor,
        identity_mask_BM: torch.Tensor,
        drop: Drop = no_dropout,
    ) -> torch.Tensor:
        """x0 from x_t and the encoded conditions, whatever the network predicts: (B, T, K, 2)."""
        dtype = self.motion_in.weight.dtype
        time_BD = self.time_mlp(time_embedding(t_B, self.config.width).to(dtype))
        x_BTD = self.motion_in(noised_BTK2.flatten(2).to(dtype)) + self.seen_in(seen_BTF.to(dtype))
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT, speech_BTD, time_BD, identity_BMD, identity_mask_BM, drop)
        output_BTK2 = self.out(x_BTD).unflatten(-1, (len(NOISED), 2)).to(noised_BTK2.dtype)
        return diffusion.x0_of(output_BTK2, noised_BTK2, t_B, self.config.prediction)

    def heard(self, c: Conditions) -> torch.Tensor:
        """The speech of the conditions, encoded: (B, T, D); zeros where it is not to be heard."""
        speech_BTD = self.encode_speech(c.audio_BS, c.mask_BT, c.voice_B, c.drop, c.features_BTD)
        return speech_BTD if c.speech_kept_B is None else speech_BTD * c.speech_kept_B[:, None, None]

    def know(self, c: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
        """The person of the conditions, as `encode_identity` returns it."""
        return self.encode_identity(
            c.prepared.source_BUF,
            c.prepared.shape_BF,
            c.source_mask_BU,
            c.source_audio_BS,
            c.known_BUD,
            c.voice_B,
            c.source_kept_B,
            c.drop,
            c.source_features_BUD,
        )

    def forward(self, noised_BTK2: torch.Tensor, t_B: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """The whole network in one call, as training needs it: x0 predicted from x_t, (B, T, K, 2)."""
        c = conditions
        speech_BTD, known = self.heard(c), self.know(c)
        return self.denoise(noised_BTK2, t_B, c.prepared.seen_BTF, c.mask_BT, speech_BTD, *known, c.drop)


def denoiser(model: MotionModel, conditions: Conditions, written: slice = WHOLE) -> diffusion.Denoise:
    """(x_t, t_B) -> x0, with the conditions encoded once and the model's guidance: what `diffusion.sample` asks.

    x_t and x0 are of the frames `written`; the conditions are encoded with what lies around them.
    """
    c = conditions
    speech_BTD, seen_BTF, mask_BT = (each[:, written] for each in (model.heard(c), c.prepared.seen_BTF, c.mask_BT))
    known = model.know(c)

    def predicted(x_BTK2: torch.Tensor, t_B: torch.Tensor, heard_BTD: torch.Tensor) -> torch.Tensor:
        return model.denoise(x_BTK2, t_B, seen_BTF, mask_BT, heard_BTD, *known, c.drop)

    def denoise(x_BTK2: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        heard_BTK2 = predicted(x_BTK2, t_B, speech_BTD)
        if model.guidance == 1:
            return heard_BTK2
        unheard_BTK2 = predicted(x_BTK2, t_B, torch.zeros_like(speech_BTD))
        return unheard_BTK2 + model.guidance * (heard_BTK2 - unheard_BTK2)

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
    `amplitude` multiplies the motion, what the face differs by from the person's mean. With `hold` each step's
    estimate of the clean motion is moved onto what is promised (mytalk/dub/promises.py), so the result holds it too.

    A distilled model is sampled in its own number of steps, whatever `steps` says: it knows no other times.
    """
    frames = len(landmarks_TN3)
    audio_S, source_audio_S = _checked_audio(audio_S, frames), source.samples()
    device = model.out.weight.device

    def batch_of_one(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32))[None].to(device)

    clip_BTN3, source_BUN3 = batch_of_one(landmarks_TN3), batch_of_one(source.landmarks_UN3)
    mask_BT, source_mask_BU = torch.ones_like(clip_BTN3[..., 0, 0]), torch.ones_like(source_BUN3[..., 0, 0])
    prepared = prepare(clip_BTN3, mask_BT, source_BUN3, source_mask_BU, model.config)
    features_BTD, features_BUD = (
        None if values_TD is None else batch_of_one(values_TD) for values_TD in (features_TD, source.features_UD)
    )
    extractor = extractor or model.extractor
    known_BUD = extractor.features(prepared.source_head_BUN2, source_mask_BU) if extractor else None
    conditions = Conditions(
        prepared,
        mask_BT,
        batch_of_one(audio_S),
        source_mask_BU,
        batch_of_one(source_audio_S),
        known_BUD,
        features_BTD=features_BTD,
        source_features_BUD=features_BUD,
    )
    written = slice(context[0], frames - context[1])
    denoise = denoiser(model, conditions, written)
    scale = amplitude if model.deviation_K2 is None else amplitude * model.deviation_K2

    def held(x_BTK2: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        motion_BTK2 = denoise(x_BTK2, t_B)
        if hold is None:
            return motion_BTK2
        lower_TK2 = (motion_BTK2 * scale * model.config.unit_px + prepared.mean_BK2[:, None])[0].double()
        moved_BTK2 = torch.from_numpy(hold(lower_TK2.cpu().numpy())).to(lower_TK2)[None] - prepared.mean_BK2[:, None]
        return (moved_BTK2 / (scale * model.config.unit_px)).to(motion_BTK2.dtype)

    noise_BTK2 = batch_of_one(start_noise(seed, first_frame, frames - sum(context)))
    config, steps = model.config, model.steps or steps
    motion_BTK2 = diffusion.sample(held, noise_BTK2, steps, config.times, config.sampler) * scale
    read_BTK2 = torch.nn.functional.pad(motion_BTK2, (0, 0, 0, 0, *context))
    return restore(read_BTK2, prepared, clip_BTN3, model.config.unit_px)[0, written].cpu().numpy()


def start_noise(seed: int, first_frame: int, frames: int) -> np.ndarray:
    """Normal noise that belongs to each frame of a video, whatever window asks for it: (T, K, 2) float32."""
    first, last = first_frame // NOISE_BLOCK, (first_frame + frames - 1) // NOISE_BLOCK
    size = (NOISE_BLOCK, len(NOISED), 2)
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
        identity.save_model(extractor.state_dict(), extractor.config, Path(folder) / EXTRACTOR)
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
    model.features_by = speech_features.features_by(facts)
    model.steps = weights.own_steps(folder)
    if model.config.extractor_width:
        model.extractor = identity.load_model(Path(folder) / EXTRACTOR, device)
        expected, width = model.config.extractor_width, model.extractor.config.width
        if width != expected:
            raise UserError(
                f"the weights in {Path(folder) / EXTRACTOR} do not fit its config: the motion model expects "
                f"extractor_width {expected}, not {width}; copy or export the model again"
            )
    return model
