"""The recipe of the reader of lips (mytalk/networks/reader.py): lip points from true crops of mouths."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from data_pipeline.examples.reader import ReaderBatch, ReaderExamples
from data_pipeline.shards import reader as shards
from data_pipeline.shards.table import requirements
from mytalk import config
from mytalk.intervals import against_chance, person_means, proven
from mytalk.networks import reader
from mytalk.networks.reader import LipReader, ReaderConfig
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Loss, Networks, Player, Recipe, Validated
from train.recipes.pictures import RESULT, TRUTH

CHANCE = 0.0
STILL = 0.004  # of a measure's standard deviation in a clip, units of the crop: one that is smaller does not move
PICTURE_PX = 192


@dataclass
class ReaderTrainConfig(LoopConfig):
    """Keys of `python -m train reader` beyond those of every recipe."""

    run: str = "runs/reader"
    frames: int = setting(4, "of a clip in an example", unit="frames", at_least=1)
    measure_weight: float = setting(0.5, "of L1 of opening, width and upper lip, beside L1 of the points", at_least=0)
    scored_frames: int = setting(24, "of each validation clip that are read", unit="frames", at_least=2)
    required_correlation: float = setting(
        0.8, "of what is read with the truth, below which no loss or score may use the model", above=CHANCE, at_most=1
    )
    pictured_clips: int = setting(2, "validation clips drawn in TensorBoard", unit="clips", at_least=0)
    model: ReaderConfig = field(default_factory=ReaderConfig)


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train reader`."""
    words = "Train the reader of lip points, which teaches and judges painters, from shards with frames."
    return cli.arguments("reader", words, "shards=data/shards run=runs/reader steps=400", ReaderTrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(ReaderTrainConfig, args.config, args.settings)
    return cli.start(settings, lambda: ReaderRecipe(settings), args)


def correlation(truth_F3: np.ndarray, read_F3: np.ndarray) -> float | None:
    """Mean Pearson correlation of the MEASURES that move in a clip; None where all stand still."""
    correlations = []
    for true_F, read_F in zip(truth_F3.T, read_F3.T):
        if true_F.std() >= STILL:
            correlations.append(float(np.corrcoef(true_F, read_F)[0, 1]) if read_F.std() > 0 else 0.0)
    return float(np.mean(correlations)) if correlations else None


class ReaderRecipe(Recipe):
    """One player; L1 of the points, and of what is measured on them."""

    name = "reader"
    scores = MappingProxyType({reader.MEASURED: "higher", "error_px": "lower"})

    def __init__(self, settings: ReaderTrainConfig):
        self.settings = settings
        self.manifest = settings.manifest()
        side = settings.model.side
        self.examples = ReaderExamples(self.manifest, settings.sampling(), settings.frames, side)
        self.validation = ReaderExamples(self.manifest, settings.validation_sampling(), settings.scored_frames, side)
        for examples in (self.examples, self.validation):
            requirements.refuse_other_crops(self.manifest, examples.selection.rows_n)

    def players(self) -> dict[str, Player]:
        return {"reader": Player(LipReader(self.settings.model), self.settings.optimizer, self.loss)}

    def fixed(self) -> dict[str, Any]:
        kept = ("frames", "measure_weight")
        return {"model": asdict(self.settings.model), **{name: getattr(self.settings, name) for name in kept}}

    def loss(self, networks: Networks, batch: ReaderBatch) -> Loss:
        read_KM2 = networks["reader"](batch.crops_BF3SS.flatten(0, 1)).to(batch.lips_BFM2.dtype)
        true_KM2 = batch.lips_BFM2.flatten(0, 1)
        frames = batch.lips_BFM2.shape[:2]
        points_B = (read_KM2 - true_KM2).abs().mean((1, 2)).unflatten(0, frames).mean(1)
        off_K3 = (reader.measures(read_KM2) - reader.measures(true_KM2)).abs()
        measures_B = off_K3.mean(1).unflatten(0, frames).mean(1)
        loss_B = points_B + self.settings.measure_weight * measures_B
        return Loss(loss_B, {"points": points_B, "measures": measures_B})

    def read(self, model: LipReader, slot: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, ReaderBatch]:
        """The lips of a validation clip as read, and the truth, (F, M, 2) each."""
        batch = self.validation([slot]).to(device)
        with torch.no_grad():
            return model(batch.crops_BF3SS[0]), batch.lips_BFM2[0], batch

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> Validated:
        """Correlation of opening, width and upper lip with the truth, and the points' mean error, of unseen people."""
        model = models["reader"]
        assert isinstance(model, LipReader)

        def scores(slot: int) -> torch.Tensor:
            read_FM2, true_FM2, batch = self.read(model, slot, ranks.device)
            measured = (reader.measures(lips).double().cpu().numpy() for lips in (true_FM2, read_FM2))
            followed = correlation(*measured)
            error = ((read_FM2 - true_FM2).norm(dim=-1).mean(-1) * batch.half_px_BF[0]).mean()
            return torch.tensor([np.nan if followed is None else followed, float(error)])

        found_C2, read_C = validation.of_clips(scores, self.validation.lengths, ranks)
        rows = self.validation.selection.rows_n[read_C.cpu().numpy()]
        scores_C2 = found_C2[read_C].cpu().numpy()
        people = [str(self.manifest.at(row, "identity")) for row in rows]
        moving = [(who, value) for who, (value, _) in zip(people, scores_C2.tolist()) if np.isfinite(value)]
        error_px = float(scores_C2[:, 1].mean())
        if not moving:
            return Validated({"error_px": error_px}, "no lips move in the validation clips", {})
        values = list(person_means(moving).values())
        facts = against_chance(values, CHANCE, self.settings.required_correlation)
        words = proven(facts)[1]
        warning = f"lip correlation {words}" if words.startswith("AT CHANCE") else ""
        measured = {reader.MEASURED: facts["mean"], "error_px": error_px}
        return Validated(measured, warning, {reader.MEASURED: facts, "error_px": error_px})

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Crops of validation clips, the true lip points and those that are read."""
        model = models["reader"]
        assert isinstance(model, LipReader)
        shown = {}
        device = next(model.parameters()).device
        for slot in range(min(self.settings.pictured_clips, len(self.validation))):
            try:
                read_FM2, true_FM2, batch = self.read(model, slot, device)
            except shards.ClipError:  # a damaged clip has no picture
                continue
            tiles = zip(batch.crops_BF3SS[0, :6], true_FM2, read_FM2)
            shown[f"{self.settings.validation_split}/{batch.keys_B[0]}"] = np.concatenate(
                [tile(*one) for one in tiles], axis=1
            )
        return shown

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        """Write the model with its correlation against chance, and print that."""
        facts = {**validated.facts, "split": self.settings.validation_split, "manifest": self.manifest.digest}
        reader.save_model(states["reader"], self.settings.model, folder, {"validation": facts})
        print(f"reader: lip correlation {proven(validated.facts.get(reader.MEASURED))[1]}", flush=True)


def tile(crop_3SS: torch.Tensor, true_M2: torch.Tensor, read_M2: torch.Tensor) -> np.ndarray:
    """A crop with the true points and those read: (PICTURE_PX, PICTURE_PX, 3) uint8."""
    pixels = ((crop_3SS + 1) * 127.5).clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels).resize((PICTURE_PX, PICTURE_PX))
    pen = ImageDraw.Draw(image)
    for points_M2, colour in ((true_M2, TRUTH), (read_M2, RESULT)):
        for x, y in ((points_M2 + 1) * PICTURE_PX / 2).tolist():
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=colour)
    return np.asarray(image)
