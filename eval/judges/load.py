"""Which judges are there, with what weights; and loading them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import weights
from data_pipeline.annotate import recogniser
from eval.judges import arcface, distances, lip_reading, lpips, perception, public_syncnet, speech
from mytalk.command import UserError
from mytalk.speech import phones

if TYPE_CHECKING:
    import torch

Loader = Callable[[Mapping[str, Path], "torch.device | str"], Any]
INSTALL = "pip install -e '.[judges]'"
THERE, MISSING, WRONG = "there", "missing", "wrong digest"


@dataclass(frozen=True)
class Judge:
    """What a judge is made of: entries of configs/weights.yaml, packages, and what loads it."""

    weights: tuple[str, ...]
    packages: tuple[str, ...]
    load: Loader


JUDGES: dict[str, Judge] = {  # by the field of `Evaluators`
    "person": Judge(recogniser.WEIGHTS, recogniser.PACKAGES, lambda files, device: recogniser.FaceRecogniser(files)),
    "arcface": Judge(arcface.WEIGHTS, arcface.PACKAGES, lambda files, device: arcface.ArcFaceJudge(files)),
    "inception": Judge((distances.INCEPTION,), distances.PACKAGES, lambda files, device: distances.Inception(files)),
    "i3d": Judge((distances.I3D,), distances.PACKAGES, lambda files, device: distances.I3d(files)),
    "lip_reading": Judge(
        lip_reading.WEIGHTS, lip_reading.PACKAGES, lambda files, device: lip_reading.LipReadingJudge(files)
    ),
    "lpips": Judge(lpips.WEIGHTS, lpips.PACKAGES, lpips.LpipsJudge),
    "perception": Judge(perception.WEIGHTS, perception.PACKAGES, perception.PerceptionJudge),
    "phones": Judge(phones.WEIGHTS, phones.PACKAGES, lambda files, device: phones.PhoneDecoder(files)),
    "lse": Judge(public_syncnet.WEIGHTS, public_syncnet.PACKAGES, public_syncnet.PublicSyncNet),
    "speech": Judge(speech.WEIGHTS, speech.PACKAGES, lambda files, device: speech.load(files)),
}


@dataclass(frozen=True)
class State:
    """Of one entry of the registry: there, missing or wrong digest; its SHA-256 where it is there."""

    name: str
    weights: weights.WeightFile
    state: str
    sha256: str = ""


def states() -> list[State]:
    """Every entry of the registry, in its order."""
    entries = []
    for name, entry in weights.registered().items():
        try:
            place = weights.located(entry)
        except UserError:
            entries.append(State(name, entry, WRONG))
            continue
        entries.append(State(name, entry, MISSING) if place is None else State(name, entry, THERE, place[1]))
    return entries


def missing() -> dict[str, str]:
    """The judges that cannot be loaded, each with what to type. Raises UserError for weights that are not the named."""
    registry, reasons = weights.registered(), {}
    for name, judge in JUDGES.items():
        lacking = [part for part in judge.weights if weights.located(registry[part]) is None]
        packages = [package for package in judge.packages if importlib.util.find_spec(package) is None]
        if lacking or packages:
            what = " and ".join([*lacking, *packages])
            install = registry[lacking[0]].install if lacking and not registry[lacking[0]].package else INSTALL
            reasons[name] = f"{what} not there; type: {install}"
    return reasons


def sources(names: Iterable[str]) -> dict[str, str]:
    """Where all weights of these judges are from, for a protocol: their name in the registry -> source."""
    registry = weights.registered()
    return {part: registry[part].source for name in names for part in JUDGES[name].weights}


def digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of all weights of these judges, for a report: `judge_NAME` -> digest."""
    registry, digest_of = weights.registered(), {}
    for part in (part for name in names for part in JUDGES[name].weights):
        place = weights.located(registry[part])
        assert place is not None, f"{part} is not there"
        digest_of[f"judge_{part}"] = place[1]
    return digest_of


def load(names: Iterable[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """These judges by name, none of which may be `missing`."""
    registry, loaded = weights.registered(), {}
    for name in names:
        files = {}
        for part in JUDGES[name].weights:
            place = weights.located(registry[part])
            assert place is not None, f"{part} is not there"
            files[part] = place[0]
        loaded[name] = JUDGES[name].load(files, device)
    return loaded
