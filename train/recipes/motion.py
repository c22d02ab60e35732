"""The recipe of stage 1: train the speech-to-motion diffusion model (mytalk/networks/motion)."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from data_pipeline.examples.motion import MotionBatch, MotionDraws, MotionExamples
from data_pipeline.sample.windows import WindowConfig
from data_pipeline.shards.table import requirements
from mytalk import config
from mytalk.command import UserError
from mytalk.networks import diffusion, identity, speech_features, weights
from mytalk.networks.motion import inputs
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import save_model
from mytalk.networks.motion.inputs import Conditions
from mytalk.networks.motion.loss import identity_loss
from mytalk.networks.motion.network import MotionModel
from mytalk.networks.slot_dropout import SlotDropout, no_dropout
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Loss, Networks, Player, Recipe, Validated, but
from train.recipes import lips
from train.recipes.whole_clips import WholeClips

WHITENED_EXAMPLES = 256  # from which the points' deviations are measured
LEAST_DEVIATION_PX = 0.1
# A resumed run may not change these. Off they are not named: runs begun before there were any resume.
EVERY_TIME = 1.0  # the identity loss counts at all times
SWITCHED: dict[str, Any] = {
    **dict.fromkeys(("recorded", "source_sound_dropout", "source_dropout", "speech_dropout", "dropout"), 0.0),
    "even_times": False,
    "identity_until": EVERY_TIME,
    "loss_weights": "target",
}
# Of the model, likewise where they are what every run was begun with before.
LATER: dict[str, Any] = {
    "noised": "lower",
    "speech_heads": 0,
    "speech_hidden": 0,
    "speech_mean": False,
    "sampler": "exponential",
    "prediction": "x0",
    "features": speech_features.MEL,
    "features_width": 0,
}


@dataclass
class MotionTrainConfig(LoopConfig):
    """Keys of `python -m train motion` beyond those of every recipe."""

    run: str = "runs/motion"
    pictured_clips: int = setting(2, "validation clips drawn in TensorBoard", unit="clips", at_least=0)
    sampling_steps: int = setting(30, "of the diffusion sampler, in those pictures", unit="steps", at_least=1)
    scored_clips: int = setting(
        24, "validation clips generated to be scored as eval motion does, evenly over people", unit="clips", at_least=0
    )
    scoring_steps: int = setting(5, "of the diffusion sampler, for those scores", unit="steps", at_least=1)
    voice_stretch: float = setting(
        0.1,
        "augmentation: frequencies of a training voice are stretched by up to +- this share; not those of a column",
        at_least=0,
        below=0.5,
    )
    recorded: float = setting(
        0.0, "augmentation: share of examples in another room, noise, band and loudness", at_least=0, at_most=1
    )
    source_sound_dropout: float = setting(
        0.0, "share of examples whose source has no sound, as a silent video", at_least=0, below=1
    )
    source_dropout: float = setting(
        0.0, "share of examples of whose person only the mean face is seen", at_least=0, below=1
    )
    speech_dropout: float = setting(0.0, "share of examples whose speech is not heard", at_least=0, below=1)
    dropout: float = setting(
        0.0, "share of what each module adds that is dropped; its masks are the slot's", at_least=0, below=1
    )
    even_times: bool = setting(
        False, "whether the diffusion times of slots in a row are spread evenly, not drawn one by one"
    )
    loss_weights: str = setting(
        "target",
        "what an error counts at each diffusion time: L1 of what is predicted; the same at all; or as in min-SNR",
        choices=diffusion.LOSS_WEIGHTS,
    )
    identity: str = setting("", "model folder of a trained identity encoder (run/model of train identity); empty: none")
    identity_condition: bool = setting(True, "whether its features of the source condition the denoiser")
    identity_loss: float = setting(
        0.1, "weight of 1 - cos between its embeddings of source and result; 0: no identity loss", at_least=0
    )
    identity_until: float = setting(
        EVERY_TIME, "diffusion time up to which the identity loss counts: later x0 is hardly known", above=0, at_most=1
    )
    window: WindowConfig = field(default_factory=WindowConfig)
    model: MotionConfig = field(default_factory=MotionConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.extractor_width:
            raise ValueError("model.extractor_width follows from identity=FOLDER; leave it out")
        if self.model.features_width:
            raise ValueError("model.features_width follows from model.features=NAME; leave it out")
        if self.recorded and self.model.column:
            raise ValueError(
                f"recorded changes the sound, and the model hears the column {self.model.features}; set recorded=0"
            )


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train motion`."""
    return cli.arguments(
        "motion",
        "Train the speech-to-motion diffusion model from shards.",
        "shards=data/shards run=runs/mine steps=500",
        MotionTrainConfig,
    )


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(MotionTrainConfig, args.config, args.settings)

    def recipe() -> MotionRecipe:
        if os.environ.get("RANK", "0") == "0" and (line := of_extractor(settings)):
            print(line, flush=True)
        return MotionRecipe(settings)

    return cli.start(settings, recipe, args)


def of_extractor(settings: MotionTrainConfig) -> str:
    """A line for the user: no identity encoder is named, or it is not above chance.

    Empty where neither holds. Raises UserError where the folder holds no encoder.
    """
    if not (settings.identity_condition or settings.identity_loss):
        return ""
    if not settings.identity:
        return "motion: no identity encoder is named, so its condition and loss are off; name one with identity=FOLDER"
    shown, words = weights.above_chance(settings.identity, "identity", identity.MEASURED)
    return "" if shown else f"motion: warning: identity encoder {settings.identity}: {words}"


def require_proven(settings: MotionTrainConfig) -> None:
    """Raises UserError where the identity loss would use an encoder that is not above chance."""
    if settings.identity_loss:
        shown, words = weights.above_chance(settings.identity, "identity", identity.MEASURED)
        if not shown:
            raise UserError(
                f"identity_loss cannot use identity encoder {settings.identity}: {words}; train it longer "
                "(python -m train identity), or set identity_loss=0"
            )


def deviation(examples: MotionExamples, model: MotionConfig) -> torch.Tensor:
    """The standard deviation of each noised point's motion over some training clips, in `unit_px`: (K, 2).

    About the mean face of the source, as the diffusion sees it. The first examples of the run show the clips.
    """
    square_K2, frames = torch.zeros(len(model.points), 2, dtype=torch.float64), 0.0
    for slot in range(min(WHITENED_EXAMPLES, len(examples))):
        batch = examples([slot]).to(torch.device("cpu"), torch.float64)
        prepared = inputs.prepare(batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, model)
        square_K2 += (prepared.motion_BTK2.square() * batch.mask_BT[..., None, None]).sum((0, 1))
        frames += float(batch.mask_BT.sum())
    return (square_K2 / frames).sqrt().clamp_min(LEAST_DEVIATION_PX / model.unit_px).float()


class MotionRecipe(Recipe):
    """One player, the denoiser with its encoders; the loss is L1 on what it predicts, or weighted otherwise by config:
    with x0 it is L1 on x0 and on the noise derived from it.

    With a trained identity encoder, which stays as it is, its features condition the denoiser, and its loss is added.
    """

    name = "motion"
    scores = MappingProxyType({"loss": "lower", **lips.BETTER})
    scored_by = (*Recipe.scored_by, "scored_clips", "scoring_steps")

    def __init__(self, settings: MotionTrainConfig):
        self.settings = settings
        self.manifest = settings.manifest()
        self.model, self.extractor, self.extractor_digest = settings.model, None, "none"
        if settings.identity:
            require_proven(settings)
            self.extractor = identity.load_model(settings.identity).requires_grad_(False)
            self.extractor_digest = weights.digest(settings.identity)
            width = self.extractor.config.width if settings.identity_condition else 0
            self.model = replace(settings.model, extractor_width=width)
        self.column = settings.model.column
        if self.column:
            self.features = self.manifest.later(self.column)
            self.model = replace(self.model, features_width=self.features["width"])
        draws = MotionDraws(
            voice_stretch=settings.voice_stretch,
            recorded=settings.recorded,
            source_sound_dropout=settings.source_sound_dropout,
            source_dropout=settings.source_dropout,
            speech_dropout=settings.speech_dropout,
            dropout=settings.dropout > 0,
            times=settings.model.times,
            even_times=settings.even_times,
            points=len(settings.model.points),
        )
        self.examples = MotionExamples(self.manifest, settings.sampling(), settings.window, draws, self.column)
        undrawn = MotionDraws(times=settings.model.times, points=len(settings.model.points))
        validated = settings.validation_sampling()
        self.validation = MotionExamples(self.manifest, validated, settings.window, undrawn, self.column)
        for examples in (self.examples, self.validation):
            requirements.refuse_other_crops(self.manifest, examples.selection.rows_n)
        self.whole_clips = WholeClips(self.validation, self.column, self.extractor)
        self.deviation_K2 = self.deviation()

    def deviation(self) -> torch.Tensor | None:
        """What the diffusion's unit is at each point, (K, 2) in `unit_px`; None where that is 1."""
        return deviation(self.examples, self.model) if self.model.whiten else None

    def unit(self, like: torch.Tensor) -> torch.Tensor:
        """That deviation, or 1, on the device and of the type of `like`."""
        return like.new_ones(()) if self.deviation_K2 is None else self.deviation_K2.to(like)

    def players(self) -> dict[str, Player]:
        model = MotionModel(self.model)
        if self.deviation_K2 is not None:
            model.deviation_K2 = self.deviation_K2.clone()
        return {"motion": Player(model, self.settings.optimizer, self.loss)}

    def fixed(self) -> dict[str, Any]:
        return {
            "window": asdict(self.settings.window),
            "voice_stretch": self.settings.voice_stretch,
            "model": but(LATER, asdict(self.model)),
            "extractor": self.extractor_digest,
            "identity_loss": self.settings.identity_loss if self.extractor else 0.0,
            **but(SWITCHED, {name: getattr(self.settings, name) for name in SWITCHED}),
        }

    def teachers(self) -> dict[str, str]:
        return {"identity": self.settings.identity} if self.extractor is not None else {}

    def conditions(self, batch: MotionBatch) -> tuple[Conditions, torch.Tensor | None]:
        """What a prediction is conditioned on, and the identity encoder's features of the source, if there is one."""
        prepared = inputs.prepare(
            batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, self.model
        )
        extractor, known_BUD = self.extractor, None
        if extractor:
            extractor.to(batch.noise_BTK2)  # where and in what the batch is
            with torch.no_grad():
                known_BUD = extractor.features(prepared.source_head_BUN2, batch.source_mask_BU)
        conditions = Conditions(
            prepared,
            batch.mask_BT,
            batch.audio_BS,
            batch.source_mask_BU,
            batch.source_audio_BS,
            known_BUD if self.model.extractor_width else None,
            batch.voice_B,
            batch.speech_kept_B,
            batch.source_kept_B,
            no_dropout if batch.dropout_B is None else SlotDropout(batch.dropout_B, self.settings.dropout),
            batch.features_BTD,
            batch.source_features_BUD,
        )
        return conditions, known_BUD

    def loss(self, networks: Networks, batch: MotionBatch) -> Loss:
        conditions, known_BUD = self.conditions(batch)
        prepared, extractor = conditions.prepared, self.extractor
        deviation_K2 = self.unit(prepared.motion_BTK2)
        noised_BTK2 = diffusion.add_noise(prepared.motion_BTK2 / deviation_K2, batch.t_B, batch.noise_BTK2)
        predicted_BTK2 = networks["motion"](noised_BTK2, batch.t_B, conditions)
        predicted_BTK2 = predicted_BTK2 * deviation_K2  # errors count in px at every point
        x0_B = diffusion.x0_error(prepared.motion_BTK2, predicted_BTK2, batch.mask_BT)
        weight_B = diffusion.loss_weight(batch.t_B, self.model.prediction, self.settings.loss_weights)
        loss_B, terms = x0_B * weight_B, {"x0": x0_B}
        if (self.model.prediction, self.settings.loss_weights) == ("x0", "target"):
            terms["eps"] = x0_B * (weight_B - 1)
        if extractor and known_BUD is not None and self.settings.identity_loss:
            unlike_B = identity_loss(
                extractor, predicted_BTK2, prepared, batch.mask_BT, known_BUD, batch.source_mask_BU, self.model
            )
            unlike_B = unlike_B * (batch.t_B <= self.settings.identity_until)
            loss_B = loss_B + self.settings.identity_loss * unlike_B
            terms["identity"] = unlike_B
        return Loss(loss_B, terms)

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        """The loss on every validation clip once, each at a time and noise of its own that never change; and what
        `eval motion` measures, of some whole clips."""
        model, settings = models["motion"], self.settings
        assert isinstance(model, MotionModel)

        def loss(slot: int) -> torch.Tensor:
            return self.loss(models, self.validation([slot]).to(ranks.device)).total_B[0]

        found_C, read_C = validation.of_clips(loss, self.validation.lengths, ranks)
        scores = self.whole_clips.scores(model, settings.scored_clips, settings.scoring_steps, ranks)
        return {"loss": found_C[read_C].mean().item(), **scores}

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Clips of people who are not trained on, one a person: truth, result, and their opening curves."""
        model, settings = models["motion"], self.settings
        assert isinstance(model, MotionModel)
        return self.whole_clips.pictures(
            model, settings.pictured_clips, settings.sampling_steps, settings.validation_split
        )

    def facts(self) -> dict[str, Any]:
        """What the model's folder says beside its weights."""
        return {
            "window_frames": self.settings.window.max_frames,
            "source_sound_dropout": self.settings.source_sound_dropout,
            "speech_dropout": self.settings.speech_dropout,
            "source_dropout": self.settings.source_dropout,
            **({"features_by": self.features.get("made_by", {})} if self.column else {}),
        }

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        save_model(states["motion"], self.model, folder, self.extractor, self.facts())
