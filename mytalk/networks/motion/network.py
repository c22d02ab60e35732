"""The denoiser with its encoders of speech and of the person.

Shape suffixes: see mytalk/networks/motion/__init__.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT
from mytalk.networks import diffusion, speech_features
from mytalk.networks.conformer import Block, Drop
from mytalk.networks.identity import IdentityEncoder
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.inputs import Conditions
from mytalk.networks.slot_dropout import no_dropout

WINDOW_FRAMES = 250  # the longest window of training, where a model's folder does not state it
Hear = Callable[[np.ndarray], np.ndarray]  # speech, (S,) -> features, (T, D)


def time_embedding(t_B: torch.Tensor, width: int) -> torch.Tensor:
    """Sinusoidal embedding of t in [0, 1], as if it ran to 1000: (B,) -> (B, width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=t_B.device, dtype=t_B.dtype) * (-math.log(10_000.0) / half))
    angle = 1000.0 * t_B[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


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
        self.knows_no_source = False  # the same of the person's source
        self.guidance, self.person_guidance = 1.0, 1.0  # when sampling, see `generate`
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
        self.motion_in = nn.Linear(2 * len(config.points), width)
        self.seen_in = nn.Linear(2 * len(CLEAN) + pose.FEATURES, width)
        self.time_mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(*block, conditioned=True) for _ in range(config.layers))
        self.out = nn.Linear(width, 2 * len(config.points))
        self.deviation_K2: torch.Tensor | None
        # Set by training, kept with the weights.
        self.register_buffer("deviation_K2", torch.ones(len(config.points), 2) if config.whiten else None)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def guide(self, guidance: float, person_guidance: float = 1.0) -> None:
        """Follow the speech, and the person's way of moving, that strongly when sampling, see `generate`; 0 or more.

        Raises ValueError below 0, UserError where the model was trained with nothing missing.
        """
        for option, asked, knows, setting in (
            ("--guidance", guidance, self.knows_no_speech, "speech_dropout"),
            ("--person-guidance", person_guidance, self.knows_no_source, "source_dropout"),
        ):
            if not 0 <= asked < float("inf"):
                raise ValueError(f"{option} must be 0 or more, not {asked}")
            if asked != 1 and not knows:
                raise UserError(f"{option} {asked}: the motion model was trained without {setting}; leave it out")
        self.guidance, self.person_guidance = guidance, person_guidance

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
        output_BTK2 = self.out(x_BTD).unflatten(-1, (-1, 2)).to(noised_BTK2.dtype)
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
