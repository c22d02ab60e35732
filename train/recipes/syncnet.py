"""The recipe of SyncNet (mytalk/networks/syncnet.py): match lips, or pixels of a mouth, to the speech of the moment."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from data_pipeline.examples.syncnet import SyncBatch, SyncExamples
from data_pipeline.examples.windows import FRAMES
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import requirements
from mytalk import config
from mytalk.command import UserError
from mytalk.intervals import against_chance, person_means, proven
from mytalk.networks import syncnet
from mytalk.networks.reader import mouths
from mytalk.networks.syncnet import SyncConfig, SyncNet, two_way_accuracy
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Networks, Player, Recipe, Validated, but
from train.recipes import pictures

CHANCE = 0.5
PLAIN = asdict(SyncConfig())
LATER = {  # off they are not named: runs begun before resume
    name: PLAIN[name] for name in ("features", "features_width", "sees", "side", "channels")
}
SCORED_FRAMES = 64  # of a validation clip, where they have to be decoded
STUCK = (
    "if it stays there: is the sound in time with the picture (column sync_offset)? is global_batch large enough, "
    "optimizer.lr small enough? do the clips show who speaks?"
)


@dataclass
class SyncTrainConfig(LoopConfig):
    """Keys of `python -m train syncnet` beyond those of every recipe."""

    run: str = "runs/syncnet"
    frames: int = setting(FRAMES, "length of an example; window_frames + min_shift_frames or more", unit="frames")
    min_shift_frames: int = setting(
        syncnet.APART_FRAMES,
        "speech nearer than this to the mouth's moment is neither true nor false",
        unit="frames",
        at_least=1,
    )
    scale: float = setting(8.0, "what cosines are multiplied with in the softmax", above=0)
    voice_stretch: float = setting(
        0.1, "augmentation: frequencies of a training voice are stretched by up to +- this share", at_least=0, below=0.5
    )
    required_accuracy: float = setting(
        0.75, "two-way accuracy in validation below which no score may use the model", above=CHANCE, at_most=1
    )
    pictured_clips: int = setting(2, "validation clips drawn in TensorBoard", unit="clips", at_least=0)
    model: SyncConfig = field(default_factory=SyncConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < self.least_frames:
            raise ValueError(f"frames must be {self.least_frames} or more for a false pair, not {self.frames}")
        if self.model.features_width:
            raise ValueError("model.features_width follows from model.features=NAME; leave it out")

    @property
    def least_frames(self) -> int:
        """The shortest clip that holds a false pair."""
        return self.model.window_frames + self.min_shift_frames


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train syncnet`."""
    return cli.arguments(
        "syncnet",
        "Train SyncNet, which scores how well speech and lips fit, from shards.",
        "shards=data/shards run=runs/mysync steps=300",
        SyncTrainConfig,
    )


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(SyncTrainConfig, args.config, args.settings)
    return cli.start(settings, lambda: SyncRecipe(settings), args)


def pair_loss(
    mouth_BWD: torch.Tensor, speech_BWD: torch.Tensor, valid_BW: torch.Tensor, min_shift: int, scale: float
) -> torch.Tensor:
    """Which speech belongs to a mouth window, and which mouth to a speech window: (B,) cross-entropy.

    A softmax of scaled cosines over the windows of one stretch: the true one, and all that lie `min_shift` frames
    or more away. The mean over a stretch's valid windows, of both directions. 0 for a stretch without any.
    """
    order = torch.arange(mouth_BWD.shape[1], device=mouth_BWD.device)
    apart_WW = (order[:, None] - order).abs()
    valid_BWW = valid_BW[:, :, None] & valid_BW[:, None]
    asked_BWW = (apart_WW == 0) | ((apart_WW >= min_shift) & valid_BWW)
    logits_BWW = (scale * mouth_BWD @ speech_BWD.transpose(1, 2)).masked_fill(~asked_BWW, -torch.inf)
    right_BW = (logits_BWW.log_softmax(1) + logits_BWW.log_softmax(2)).diagonal(dim1=1, dim2=2)
    return -0.5 * (right_BW * valid_BW).sum(1) / valid_BW.sum(1).clamp_min(1)


class SyncRecipe(Recipe):
    """One player, both encoders; the loss tells true from shifted speech inside a stretch of one clip."""

    name = "syncnet"
    scores = MappingProxyType({syncnet.MEASURED: "higher"})

    def __init__(self, settings: SyncTrainConfig):
        self.settings = settings
        self.manifest = settings.manifest()
        self.model, self.column = settings.model, settings.model.column
        if self.column:
            self.features = self.manifest.later(self.column)
            self.model = replace(self.model, features_width=self.features["width"])
        self.side_px = self.model.side if self.model.sees == syncnet.PIXELS else 0
        self.examples = SyncExamples(
            self.manifest, settings.sampling(), settings.frames, settings.voice_stretch, self.column, self.side_px
        )
        rows = self.manifest.rows(settings.validation_split, settings.shards_until, with_speech=True)
        for chosen in (self.examples.selection.rows_n, rows):
            requirements.refuse_other_crops(self.manifest, chosen)
        if self.side_px:
            rows = rows[self.manifest.column("video_size")[rows] > 0]
        self.rows = rows[self.manifest.column("frames")[rows] >= settings.least_frames].tolist()
        if not self.rows:
            raise UserError(
                f"{settings.shards}: no clip of split '{settings.validation_split}' has {settings.least_frames} "
                "frames; lower min_shift_frames, or extract longer clips"
            )

    def players(self) -> dict[str, Player]:
        return {"syncnet": Player(SyncNet(self.model), self.settings.optimizer, self.loss)}

    def fixed(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "frames": settings.frames,
            "min_shift_frames": settings.min_shift_frames,
            "scale": settings.scale,
            "voice_stretch": settings.voice_stretch,
            "model": but(LATER, asdict(self.model)),
        }

    def loss(self, networks: Networks, batch: SyncBatch) -> torch.Tensor:
        mouth, speech = networks["syncnet"](
            batch.seen, batch.mask_BT, batch.audio_BS, batch.voice_B, batch.features_BTF
        )
        valid_BW = batch.mask_BT.unfold(1, self.settings.model.window_frames, 1).amin(-1) > 0
        with torch.autocast(mouth.device.type, enabled=False):  # near the end of training, cosines differ by little
            return pair_loss(mouth, speech, valid_BW, self.settings.min_shift_frames, self.settings.scale)

    def measure(self, model: SyncNet, ranks: Ranks) -> dict[str, Any]:
        """The two-way accuracy over the people of the validation split, and over those of each corpus."""

        def accuracy(index: int) -> torch.Tensor:
            row = self.rows[index]
            stop = min(SCORED_FRAMES, int(self.manifest.at(row, "frames"))) if self.side_px else None
            seen = torch.from_numpy(self.seen(row, stop))[None].to(ranks.device)
            mouth, speech = model.mouth(seen), self.speech(model, row, stop)
            return two_way_accuracy(mouth[0], speech[0], self.settings.min_shift_frames)

        with torch.no_grad():
            found_C, read_C = validation.of_clips(accuracy, self.manifest.column("frames")[self.rows], ranks)
        of_corpora: dict[str, list[tuple[str, float]]] = {}
        for row, value, read in zip(self.rows, found_C.tolist(), read_C.tolist()):
            if read:
                scored = (str(self.manifest.at(row, "identity")), value)
                of_corpora.setdefault(str(self.manifest.at(row, "corpus")), []).append(scored)

        def standing(scores: Iterable[tuple[str, float]]) -> dict[str, Any]:
            return against_chance(list(person_means(scores).values()), CHANCE, self.settings.required_accuracy)

        everyone = standing(itertools.chain.from_iterable(of_corpora.values()))
        return {
            syncnet.MEASURED: everyone,
            syncnet.CORPORA: {corpus: standing(scores) for corpus, scores in sorted(of_corpora.items())},
        }

    def seen(self, row: int, stop: int | None = None) -> np.ndarray:
        """What the network sees of a clip up to a frame, `SyncNet.mouth`. Raises ClipError, OSError."""
        landmarks_TN3 = reader.read_landmarks(self.manifest, row, 0, stop)
        if not self.side_px:
            return landmarks_TN3
        pixels_THW3 = video_reader.read_video(self.manifest, row, range(len(landmarks_TN3)))
        return mouths(pixels_THW3, landmarks_TN3, self.side_px).numpy()

    def speech(self, model: SyncNet, row: int, stop: int | None = None) -> torch.Tensor:
        """What the network makes of a clip's speech up to a frame: (1, W, D). Raises ClipError, OSError."""
        device = next(model.parameters()).device
        audio_BS = torch.from_numpy(reader.read_audio(self.manifest, row, 0, stop))[None].to(device)
        features_TF = reader.read_features(self.manifest, self.column, row, 0, stop)
        features_BTF = None if features_TF is None else torch.from_numpy(features_TF)[None].to(device)
        return model.speech(audio_BS, features_BTF=features_BTF)

    @torch.no_grad()
    def _embedded(self, model: SyncNet, row: int, stop: int) -> torch.Tensor:
        return self.speech(model, row, stop)[0]

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> Validated:
        """The two-way accuracy on whole clips of people who are not trained on; chance is 0.5."""
        model = models["syncnet"]
        assert isinstance(model, SyncNet)
        facts = self.measure(model, ranks)
        words = proven(facts[syncnet.MEASURED])[1]
        warning = f"two-way accuracy {words}; {STUCK}" if words.startswith("AT CHANCE") else ""
        return Validated({syncnet.MEASURED: facts[syncnet.MEASURED]["mean"]}, warning, facts)

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Distance over offsets from -15 to 15 of a clip with its own speech, and with the next clip's."""
        model = models["syncnet"]
        assert isinstance(model, SyncNet)
        shown = {}
        frames = self.manifest.column("frames")
        offsets = np.arange(-syncnet.REACH_FRAMES, syncnet.REACH_FRAMES + 1)
        for row, other in list(zip(self.rows, self.rows[1:]))[: self.settings.pictured_clips]:
            both = int(min(frames[row], frames[other]))
            if both < self.settings.model.window_frames + syncnet.REACH_FRAMES:
                continue
            with contextlib.suppress(ClipError):  # a damaged clip has no picture
                seen = self.seen(row, both)
                curves = {}
                for colour, speaker in ((pictures.TRUTH, row), (pictures.RESULT, other)):
                    audio_S = reader.read_audio(self.manifest, speaker, 0, both)
                    speech = functools.partial(self._embedded, model, speaker, both)
                    curves[colour] = syncnet.distances(model, seen, audio_S, speech=speech)
                key = self.manifest.at(row, "key")
                shown[f"{self.settings.validation_split}/{key}"] = pictures.curve_plot(curves, offsets, "frames", 512)
        return shown

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        """Write the model with its accuracy against chance, and print that."""
        facts = {
            **validated.facts,
            "min_shift_frames": self.settings.min_shift_frames,
            "split": self.settings.validation_split,
            "manifest": self.manifest.digest,
        }
        by = {"features_by": self.features.get("made_by", {})} if self.column else {}
        syncnet.save_model(states["syncnet"], self.model, folder, {"validation": facts, **by})
        print(f"syncnet: two-way accuracy {proven(validated.facts[syncnet.MEASURED])[1]}", flush=True)
        corpora = validated.facts[syncnet.CORPORA]
        for corpus, facts_of_corpus in corpora.items() if len(corpora) > 1 else ():
            print(f"syncnet: on '{corpus}', {proven(facts_of_corpus)[1]}", flush=True)
