"""The recipe of the identity encoder (mytalk/networks/identity.py): tell the people of the train split apart.

Trained like a face recogniser, with a margin softmax (CosFace, Wang et al. 2018) over the people of the split; the
classifier stays behind, and the embedding has to serve for people who were never seen. (The paper says of its
extractor's training no more than that it knows people from their landmarks.)

Shape suffixes: B batch, T frames, N landmarks (478), P people, E embedding, C clips, 3 = (x, y, z), 2 = (x, y) in the
head's frame.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from data_pipeline.examples.identity import IdentityBatch, IdentityExamples, people_digest
from data_pipeline.examples.windows import MAX_FRAMES, MIN_FRAMES
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError, ReadRequest
from data_pipeline.shards.table import requirements
from mytalk import config
from mytalk.face import pose
from mytalk.intervals import against_chance, proven
from mytalk.networks import identity
from mytalk.networks.identity import FACE, MEASURED, IdentityConfig, IdentityEncoder
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Networks, Player, Recipe, Validated, but

CHANCE = 0.5
CENTRED_CLIPS = 64  # of the train split, whose mean face the network is centred on
PICTURED_CLIPS, CELL_PX = 30, 12
LATER = {"sees": FACE}  # off it is not named: runs begun before resume


@dataclass
class IdentityTrainConfig(LoopConfig):
    """Keys of `python -m train identity` beyond those of every recipe."""

    run: str = "runs/identity"
    min_frames: int = setting(MIN_FRAMES, "the shortest stretch of a clip in an example", unit="frames", at_least=1)
    max_frames: int = setting(MAX_FRAMES, "the longest", unit="frames")
    verification_people: int = setting(
        200, "people of the validation split whose clips are compared; one alone cannot validate", at_least=2
    )
    verification_clips: int = setting(10, "clips of each of them, evenly over all", unit="clips", at_least=2)
    required_auc: float = setting(
        0.75, "verification AUC below which no loss and no score may use the model", above=CHANCE, at_most=1
    )
    scale: float = setting(16.0, "CosFace's s; the larger, the more people can be told apart", above=0)
    margin: float = setting(0.2, "CosFace's m, by which the right person's cosine must win", at_least=0, below=1)
    model: IdentityConfig = field(default_factory=IdentityConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_frames <= self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} must lie between 1 and max_frames {self.max_frames}")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train identity`."""
    return cli.arguments(
        "identity",
        "Train the landmark identity encoder, which the motion model knows people by, from shards.",
        "shards=data/shards run=runs/myidentity steps=300",
        IdentityTrainConfig,
    )


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(IdentityTrainConfig, args.config, args.settings)
    return cli.start(settings, lambda: IdentityRecipe(settings), args)


class Classifier(nn.Module):
    """The extractor and one direction for each person of the train split."""

    def __init__(self, model: IdentityConfig, people: int, mean_face_N2: torch.Tensor):
        super().__init__()
        self.encoder = IdentityEncoder(model)
        if model.sees == FACE:
            self.encoder.centre(mean_face_N2)
        self.people_PE = nn.Parameter(torch.randn(people, model.embedding))

    def forward(self, landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Landmarks in crop px -> cosines between each example and each person, (B, P)."""
        embedding_BE = self.encoder(pose.to_own_head(landmarks_BTN3, mask_BT), mask_BT)
        with torch.autocast(landmarks_BTN3.device.type, enabled=False):  # cosines near 1 need their digits
            return embedding_BE.to(self.people_PE.dtype) @ F.normalize(self.people_PE, dim=-1).T


def cosface(cosine_BP: torch.Tensor, person_B: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """CosFace, eq. 4: (B,) cross-entropy of s (cos - m) for the right person against s cos for the others."""
    right_BP = F.one_hot(person_B, cosine_BP.shape[1]).to(cosine_BP.dtype)
    return F.cross_entropy(scale * (cosine_BP - margin * right_BP), person_B, reduction="none")


def auc(same: np.ndarray, different: np.ndarray) -> float:
    """Share of (same, different) comparisons in which `same` is the larger; ties count as half. Chance is 0.5."""
    ordered = np.sort(different)
    below = np.searchsorted(ordered, same, "left") + np.searchsorted(ordered, same, "right")
    return float(below.mean() / (2 * len(different)))


def equal_error_rate(same: np.ndarray, different: np.ndarray) -> float:
    """The error where as large a share of `same` is refused as of `different` is accepted. Chance is 0.5."""
    thresholds = np.concatenate([same, different])
    refused = np.searchsorted(np.sort(same), thresholds, "left") / len(same)
    accepted = (len(different) - np.searchsorted(np.sort(different), thresholds, "left")) / len(different)
    nearest = np.abs(refused - accepted).argmin()
    return float((refused[nearest] + accepted[nearest]) / 2)


def verification(embedding_CE: np.ndarray, people_C: list[str], required: float | None = None) -> dict[str, Any]:
    """How well embeddings tell whether two clips show one person: AUC over people against chance, and error rate.

    A person's AUC compares the pairs of their clips with the pairs of one of theirs and one of another's. Empty
    where that says nothing: with one person, or with nobody of two clips.
    """
    _, code_C = np.unique(np.array(people_C), return_inverse=True)
    cosine_CC = embedding_CE @ embedding_CE.T
    first, second = np.triu_indices(len(code_C), 1)
    alike = code_C[first] == code_C[second]
    if not alike.any() or alike.all():
        return {}
    cosine = cosine_CC[first, second]
    same, different, several = cosine[alike], cosine[~alike], np.unique(code_C[first[alike]])
    del first, second, cosine
    of_people = []
    for code in several:
        own, other = code_C == code, code_C != code
        of_pairs = cosine_CC[np.ix_(own, own)][np.triu_indices(int(own.sum()), 1)]
        of_people.append(auc(of_pairs, cosine_CC[np.ix_(own, other)].ravel()))
    return {
        MEASURED: against_chance(of_people, CHANCE, required),
        "equal_error_rate": equal_error_rate(same, different),
        "cosine_same": float(same.mean()),  # an order alone does not show embeddings that have all but collapsed
        "cosine_different": float(different.mean()),
    }


def evenly(values: list, most: int) -> list:
    """At most so many of the values, evenly over them, the first and the last among them."""
    return [values[i] for i in np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]


def verified_rows(manifest: Manifest, split: str, people: int, clips_each: int, shards_until: int = 0) -> list[int]:
    """The clips whose pairs are compared, in manifest order: at most so many people of a split, and clips of each.

    Pairs grow with the square of the clips. Both are taken evenly over the sorted people and over a person's clips.
    """
    rows_of = manifest.rows_of_people(split, shards_until)
    return sorted(row for person in evenly(sorted(rows_of), people) for row in evenly(rows_of[person], clips_each))


class IdentityRecipe(Recipe):
    """One player: the extractor with its classifier, which is not exported."""

    name = "identity"
    scores = MappingProxyType({MEASURED: "higher", "equal_error_rate": "lower"})

    def __init__(self, settings: IdentityTrainConfig):
        self.settings = settings
        self.manifest = settings.manifest()
        self.examples = IdentityExamples(self.manifest, settings.sampling(), settings.min_frames, settings.max_frames)
        self.rows = verified_rows(
            self.manifest,
            settings.validation_split,
            settings.verification_people,
            settings.verification_clips,
            settings.shards_until,
        )
        for rows in (self.examples.selection.rows_n, self.rows):
            requirements.refuse_other_crops(self.manifest, rows)
        self.mean_face_N2 = self.mean_face()

    def mean_face(self) -> torch.Tensor:
        """The mean face in the head's frame over some clips of the train split, (N, 2) px. Raises ClipError."""
        chosen = evenly(self.examples.selection.rows_n.tolist(), CENTRED_CLIPS)
        frames = int(self.manifest.column("frames")[chosen].min())
        stop = min(frames, self.settings.min_frames)
        wanted = [ReadRequest(row, "landmarks", 0, stop) for row in chosen]
        clips = reader.read(self.manifest, wanted)
        whole = [torch.from_numpy(points.astype(np.float32)) for points in clips if isinstance(points, np.ndarray)]
        if not whole and isinstance(clips[0], ClipError):
            raise clips[0]
        landmarks_BTN3 = torch.stack(whole)
        return pose.to_own_head(landmarks_BTN3, torch.ones_like(landmarks_BTN3[..., 0, 0])).mean((0, 1))

    def read(self, row: int, stop: int | None = None) -> torch.Tensor:
        """The first `stop` frames of a clip, or all: (T, N, 3)."""
        return torch.from_numpy(reader.read_landmarks(self.manifest, row, 0, stop))

    def players(self) -> dict[str, Player]:
        classifier = Classifier(self.settings.model, len(self.examples.people), self.mean_face_N2)
        return {"identity": Player(classifier, self.settings.optimizer, self.loss)}

    def fixed(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "people": people_digest(self.examples.people),
            "frames": [settings.min_frames, settings.max_frames],
            "scale": settings.scale,
            "margin": settings.margin,
            "model": but(LATER, asdict(settings.model)),
        }

    def loss(self, networks: Networks, batch: IdentityBatch) -> torch.Tensor:
        cosine_BP = networks["identity"](batch.landmarks_BTN3, batch.mask_BT)
        return cosface(cosine_BP, batch.person_B, self.settings.scale, self.settings.margin)

    def embeddings(self, encoder: IdentityEncoder, rows: list[int], ranks: Ranks) -> tuple[np.ndarray, list[int]]:
        """Of whole clips, (C, E), and their rows; a damaged one is left out."""

        def embed(index: int) -> torch.Tensor:
            landmarks_BTN3 = self.read(rows[index])[None].to(ranks.device)
            mask_BT = torch.ones_like(landmarks_BTN3[..., 0, 0])
            return encoder(pose.to_own_head(landmarks_BTN3, mask_BT), mask_BT)[0]

        with torch.no_grad():
            found_CE, read_C = validation.of_clips(embed, self.manifest.column("frames")[rows], ranks)
        kept = np.flatnonzero(read_C.cpu().numpy())
        return found_CE.cpu().numpy()[kept], [rows[index] for index in kept]

    def measure(self, encoder: IdentityEncoder, ranks: Ranks) -> dict[str, Any]:
        """Verification over all pairs of the clips of `verified_rows`."""
        embedding_CE, rows = self.embeddings(encoder, self.rows, ranks)
        people = [str(self.manifest.at(row, "identity")) for row in rows]
        return verification(embedding_CE, people, self.settings.required_auc)

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> Validated:
        """Verification of people who are not trained on: AUC, equal error rate, mean cosines."""
        model = models["identity"]
        assert isinstance(model, Classifier)
        measured = self.measure(model.encoder, ranks)
        scores = {name: value["mean"] if name == MEASURED else value for name, value in measured.items()}
        words = proven(measured.get(MEASURED))[1]
        return Validated(scores, f"verification AUC {words}" if words.startswith("AT CHANCE") else "", measured)

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Cosines between clips of people who are not trained on, people in order: black is -1, white 1."""
        model = models["identity"]
        assert isinstance(model, Classifier)
        rows = sorted(self.rows, key=lambda row: (self.manifest.at(row, "identity"), row))[:PICTURED_CLIPS]
        embedding_CE, _ = self.embeddings(model.encoder, rows, validation.alone(model.state_dict()))
        grey = np.round(127.5 * (1 + np.clip(embedding_CE @ embedding_CE.T, -1, 1))).astype(np.uint8)
        large = np.kron(grey, np.ones((CELL_PX, CELL_PX), np.uint8))
        return {f"{self.settings.validation_split}/cosines": np.repeat(large[..., None], 3, axis=2)}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        """Write the encoder with its AUC against chance, and print that."""
        prefix = "encoder."
        state = {name.removeprefix(prefix): w for name, w in states["identity"].items() if name.startswith(prefix)}
        facts = {
            **validated.facts,
            "clips": len(self.rows),
            "split": self.settings.validation_split,
            "manifest": self.manifest.digest,
        }
        identity.save_model(state, self.settings.model, folder, {"validation": facts})
        print(f"identity: verification AUC {proven(validated.facts.get(MEASURED))[1]}", flush=True)
