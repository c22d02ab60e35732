"""The provenance of a report's numbers: the protocol they were measured by, and digests of data and models.

The texts are part of the protocol on disk: with another wording, folders that were scored before do not resume.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.shards.manifest import Manifest
from eval.metrics import LANDMARK_METRICS, PEOPLE_METRICS, VIDEO_METRICS
from eval.metrics.metric import NO_MOUTH, Evaluators, Metric
from eval.options import EVALUATORS
from eval.report import check
from eval.rows import ridge
from eval.score_file import FLOOR
from eval.tasks import MIN_SCORED_FRAMES, ScoringTask, Settings
from mytalk import intervals
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.face.detector import DEFAULT, module_of
from mytalk.face.landmarks import CROP_PX, FRAME_HZ
from mytalk.networks import weights

if TYPE_CHECKING:
    from eval.rows.pairs import Pair

SHOWN_TO_MODEL = (
    "upper-face landmarks and head pose of the scored clip with its lower face erased, and another clip of the same "
    f"person; a person's only clip gives its beginning instead, which is not scored (at least {MIN_SCORED_FRAMES} "
    "frames must remain)"
)
RIDGE_LEFT_OUT = "ridge_left_out"  # why the row is missing
MODELS = {
    "motion": "speech to motion (python -m train motion)",
    "motion_extractor": "ID extractor inside the motion model's folder, which conditions it (python -m train identity)",
    "appearance": "motion to frames (python -m train appearance)",
    "syncnet": "judge of sync, trained on landmarks and speech of the training people (python -m train syncnet)",
    "pixels": "judge of sync by pixels (python -m train syncnet model.sees=pixels); none of painters that it taught",
    "identity": "judge of identity, trained on landmarks of the training people (python -m train identity)",
    "reader": "judge of lips by pixels, taught the detector's points of the training people (python -m train reader)",
}
TRUE_SPEECH, SAID_SPEECH = "the clip's true speech in every row", "the speech that each row says"
SAME_NETWORK = "; the encoder is the same network that conditioned the motion model, so no independent judge"


@dataclass(frozen=True)
class Kind:
    """A kind of report: its name, its rows and metrics by definition, and whatever else decides its numbers."""

    name: str
    rows: dict[str, str]
    metrics: Mapping[str, Metric]
    facts: dict[str, Any]


def landmarks(model: Path, seeds: int = 1) -> Kind:
    """The report of `motion`: landmarks that a motion model generates, of so many seeds (eval/rows/seeds.py)."""
    from eval.rows import seeds as several
    from eval.rows.landmarks import ROWS

    models = {"": MODELS["motion"]}
    if conditioned(model):
        models["extractor"] = MODELS["motion_extractor"]
    facts = {"models": models, "truth": "detected landmarks of the shards", "shown_to_model": SHOWN_TO_MODEL}
    rows, metrics = ROWS | several.rows(seeds), LANDMARK_METRICS | several.metrics(seeds)
    return Kind("landmarks, same audio", rows, metrics, facts)


def videos(
    digests: dict[str, str],
    detector: str = DEFAULT,
    judges: Mapping[str, str] | None = None,
    judged_frames: int | None = None,
) -> Kind:
    """The report of `benchmark` with the models of these digests.

    `judges` are the weights of others that judge it, each with its source; `judged_frames` as in Evaluators.

    Raises ModuleNotFoundError without the detector's package.
    """
    from eval.rows.videos import REFERENCES, ROWS

    detector_module = module_of(detector)
    metrics = dict(VIDEO_METRICS)
    if "identity_weights" in digests and digests["identity_weights"] == digests.get("motion_extractor_weights"):
        for name, metric in metrics.items():
            if metric.needs == "identity":
                metrics[name] = replace(metric, definition=metric.definition + SAME_NETWORK)
    facts: dict[str, Any] = {
        "models": {name: words for name, words in MODELS.items() if f"{name}_weights" in digests},
        "judges": dict(judges or {}),
        "judged_frames": "all" if judged_frames is None else judged_frames,
        "truth": "detected landmarks and frames of the shards",
        "detector": f"{detector_module.NAME}; {detector} {detector_module.version()}; on the decoded mp4 of every row",
        "encoder": "every row is an mp4 of mytalk.media.write_video (H.264 and AAC), read again",
        "shown_to_model": SHOWN_TO_MODEL,
        "references": f"up to {REFERENCES} frames of the source stretch, never of the scored clip",
    }
    return Kind("dubbed video, same audio", ROWS, metrics, facts)


def cross_audio(kind: Kind, by_csv: bool) -> Kind:
    """A benchmark in which every row but the real video says another clip's speech."""
    from eval.rows.videos import CROSS_ROWS as rows
    from eval.rows.videos import ROWS as same

    facts = {
        "pairing": "a CSV, as eval clips writes it" if by_csv else "the list that eval clips writes for this seed",
        "truth": "none of the mouth",
        **({"inputs": [*kind.facts.get("inputs", check.INPUTS), "pairs"]} if by_csv else {}),
        RIDGE_LEFT_OUT: "what it is compared by needs a true mouth, of which cross audio has none",
    }
    rows = {**rows, **{name: words for name, words in kind.rows.items() if name not in same}}
    metrics = _of_cross_audio(kind.metrics, tuple(name for name in rows if name != FLOOR))
    return Kind("dubbed video, cross audio", rows, metrics, kind.facts | facts)


def _of_cross_audio(metrics: Mapping[str, Metric], dubbed: tuple[str, ...]) -> dict[str, Metric]:
    """Those that need no true mouth; those of the original mouth are of all `dubbed` rows."""
    stated = {}
    for name, metric in metrics.items():
        if metric.applies(cross_audio=True):
            said = metric.definition.replace(TRUE_SPEECH, SAID_SPEECH)
            stated[name] = replace(metric, definition=said, rows=None if metric.rows is None else dubbed)
    return stated


def with_methods(kind: Kind, names: Collection[str]) -> Kind:
    """A benchmark with the rows of methods of others, given as videos."""
    from eval.rows import given, pairs

    words = (
        "the clip dubbed by another method, as its video shows it in the clip's crop, through the same codec once more"
    )
    facts = {"inputs": [*check.INPUTS, *(f"{pairs.METHOD}{name}" for name in names)], "given": given.RULES}
    return replace(kind, rows=kind.rows | dict.fromkeys(names, words), facts=kind.facts | facts)


def given(
    method: str,
    cross_audio: bool,
    by_csv: bool,
    digests: dict[str, str],
    detector: str = DEFAULT,
    judges: Mapping[str, str] | None = None,
) -> Kind:
    """The report of `score`: videos of a method against real ones, with the judges of these digests.

    `judges` are the weights of others, each with its source.

    Raises ModuleNotFoundError without the detector's package.
    """
    from eval.rows import given, pairs

    audio = "cross audio" if cross_audio else "same audio"
    detector_module = module_of(detector)
    metrics = {name: metric for name, metric in VIDEO_METRICS.items() if metric.applies(cross_audio)}
    if cross_audio:
        metrics = _of_cross_audio(metrics, (method,))
    facts: dict[str, Any] = {
        "inputs": ["predictions", "real_videos", "pairs"],
        "models": {name: MODELS[name] for name in EVALUATORS if f"{name}_weights" in digests},
        "judges": dict(judges or {}),
        "judged_frames": Evaluators.judged_frames,
        "pairing": "a CSV" if by_csv else pairs.BY_NAME,
        "person": pairs.PERSON,
        "truth": "none of the mouth" if cross_audio else "landmarks detected in the real video, and its pictures",
        "source": "the real video itself",
        "detector": f"{detector_module.NAME}; {detector} {detector_module.version()}; on the decoded mp4 of every row",
        "encoder": "every row is an mp4 of mytalk.media.write_video (H.264 and AAC), read again",
        **given.RULES,
    }
    rows = {
        given.REAL: "the real video's crop, through the same codec: what codec and detector cost",
        method: "the given video in the real one's crop, through the same codec",
    }
    return Kind(f"given video, {audio}", rows, metrics, facts)


def given_block(kind: Kind, tasks: list[Pair]) -> dict[str, Any]:
    """The report's `protocol` of given videos. A prediction without a real video is no part of it."""
    real = [pair for pair in tasks if pair.real is not None]
    return {
        "name": kind.name,
        "people": len({pair.person for pair in real}),
        "clips": len(real),
        "crop_px": [CROP_PX],
        "fps": FRAME_HZ,
        **kind.facts,
        "aggregation": intervals.METHOD,
        "methods": kind.rows,
        "metrics": _stated(kind),
    }


def _stated(kind: Kind) -> dict[str, Any]:
    """The entries of a kind's metrics, and of those over people that need no other mouth than its."""
    mouths = {NO_MOUTH, *(metric.mouth for metric in kind.metrics.values())}
    over_people = {name: metric for name, metric in PEOPLE_METRICS.items() if metric.mouth in mouths}
    stated = {name: metric.stated() for name, metric in kind.metrics.items()}
    return stated | {name: metric.stated() for name, metric in over_people.items()}


def conditioned(model: Path) -> bool:
    """Whether a motion model's folder holds the identity encoder that conditions it."""
    return (model / weights.EXTRACTOR).is_dir()


def block(
    kind: Kind,
    manifest: Manifest,
    settings: Settings,
    tasks: list[ScoringTask],
    trained_on: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The report's `protocol`: everything but the data and weights that decides its numbers.

    `trained_on`: of every model, whether it has seen the people scored (eval/seen.py).
    """
    rows = [task.scored.row for task in tasks]
    no_ridge = kind.facts.get(RIDGE_LEFT_OUT) or ridge.left_out(manifest, settings)
    return {
        "name": kind.name,
        **settings.stated(),
        "people": len({task.person for task in tasks}),
        "clips": len(tasks),
        "corpora": sorted(set(manifest.column("corpus")[rows].tolist())),
        "source_is_same_clip": sum(t.source is not None and t.source.row == t.scored.row for t in tasks),
        "shuffled_is_same_person": _without_others(manifest, settings, tasks),
        "crop_px": sorted({int(px) for px in manifest.column("crop_px")[rows]}),
        "fps": FRAME_HZ,
        **kind.facts,
        **({} if trained_on is None else {"trained_on": trained_on}),
        **({} if no_ridge is None else {RIDGE_LEFT_OUT: no_ridge}),
        "aggregation": intervals.METHOD,
        "methods": {name: row for name, row in kind.rows.items() if name != ridge.NAME or no_ridge is None},
        "metrics": _stated(kind),
    }


def _without_others(manifest: Manifest, settings: Settings, tasks: list[ScoringTask]) -> int:
    """Clips whose shuffled speech can only be of their own person: all of them where the split has one person."""
    people = set(manifest.column("identity")[manifest.rows(settings.split, with_speech=True)].tolist())
    return len(tasks) if len(people) == 1 else 0


def digests(manifest: Manifest, settings: Settings, models: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """The report's `digests`, SHA-256 each: manifest table, list of shards, what the ridge regression is fitted on,
    and `model_digests`."""
    digest_by_name = {
        "manifest": manifest.digest,
        "shards": hashlib.sha256(json.dumps(manifest.header["shards"], sort_keys=True).encode()).hexdigest(),
    }
    if ridge.left_out(manifest, settings) is None:
        digest_by_name[ridge.NAME] = ridge.digest(manifest)
    return digest_by_name | model_digests(models)


def model_digests(models: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """SHA-256 of every model's config and weights.

    `models` maps a prefix of the digests' names to (kind of model, its folder). The identity encoder inside a motion
    model is a model of its own. Raises UserError where a folder holds no model.
    """
    models = dict(models)
    for prefix, (kind, folder) in list(models.items()):
        if kind == "motion" and conditioned(folder):
            models[f"{prefix}extractor_"] = ("identity", folder / weights.EXTRACTOR)
    digest_by_name = {}
    for prefix, (kind, folder) in models.items():
        for part, name in (("config", "config.json"), ("weights", "model.safetensors")):
            if not (folder / name).is_file():
                if part == "config":
                    raise weights.absent(folder, kind)
                raise UserError(f"no model in {folder}: {name} is missing; train one with: python -m train {kind}")
            digest_by_name[f"{prefix}{part}"] = sha256_of(folder / name)
    return digest_by_name
