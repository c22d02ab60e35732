"""Reports read from their folders, and whether their numbers may stand side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import score_file
from eval.report import check
from eval.score_file import FLOOR, OURS, ClipScore
from mytalk.command import UserError

# What is a method's own, so that two methods may differ in it.
OWN_FIELDS = {
    "methods",
    "sampler_steps",
    "guidance",
    "person_guidance",
    "precision",
    "ridge_left_out",
    "ridge",
    "trained_on",
    "inputs",
    "given",
}
OWN_DIGESTS = {"config", "weights", "predictions", "ridge"}
OWN_MODELS = ("motion", "appearance", "extractor", "method_")  # prefixes
MISSING = "no such field"


@dataclass(frozen=True)
class Method:
    """One method of one report, with its scores of every clip that has some, by key."""

    name: str  # as it is shown
    row: str
    folder: Path
    report: dict[str, Any]
    clips: dict[str, ClipScore]


def methods(words: list[str]) -> list[Method]:
    """The methods that are typed as FOLDER or FOLDER=METHOD. Raises UserError."""
    chosen = [_method(word) for word in words]
    for method in chosen:
        if sum((method.folder.resolve(), method.row) == (m.folder.resolve(), m.row) for m in chosen) > 1:
            raise UserError(f"{method.folder}={method.row} is named twice; a method cannot differ from itself")
    rows = [method.row for method in chosen]
    if len(set(rows)) == len(rows):
        return chosen
    return [
        Method(f"{m.folder.name}/{m.row}" if rows.count(m.row) > 1 else m.row, m.row, m.folder, m.report, m.clips)
        for m in chosen
    ]


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """What two reports must agree in: how was measured, on which data, by which judges. `block.name` -> value."""
    protocol, digests = report["protocol"], report["digests"]
    facts = {f"protocol.{name}": value for name, value in protocol.items() if name not in {*OWN_FIELDS, "models"}}
    facts["protocol.metrics"] = {
        name: {part: words for part, words in stated.items() if part != "rows"}  # a row is named after its method
        for name, stated in protocol["metrics"].items()
    }
    facts |= {f"protocol.models.{name}": words for name, words in protocol.get("models", {}).items() if not _own(name)}
    return facts | {f"digests.{name}": digests[name] for name in shared_digests(digests)}


def shared_digests(digests: dict[str, str]) -> list[str]:
    """The names of digests that are of data and judges, not a method's own."""
    return [name for name in digests if name not in OWN_DIGESTS and not _own(name)]


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names in which two reports differ though they must agree; of metrics, which."""
    facts, others = comparable(one), comparable(other)
    names = []
    for name in sorted({*facts, *others}):
        a, b = facts.get(name, MISSING), others.get(name, MISSING)
        if a != b and name == "protocol.metrics" and MISSING not in (a, b):
            names += [f"{name}.{metric}" for metric in sorted({*a, *b}) if a.get(metric) != b.get(metric)]
        elif a != b:
            names.append(name)
    return names


def _method(word: str) -> Method:
    folder, row = Path(word), ""
    if not folder.exists() and "=" in word:
        typed, _, row = word.rpartition("=")
        folder = Path(typed)
    report = check.finished(folder)
    rows = [name for name in report["methods"] if name != FLOOR]
    if not row:
        if OURS not in rows and len(rows) != 1:
            raise UserError(f"{folder} holds {', '.join(rows)}; name one: {folder}={rows[0] if rows else 'METHOD'}")
        row = OURS if OURS in rows else rows[0]
    if row not in report["methods"]:
        raise UserError(f"{folder} has no method '{row}'; it holds {', '.join(report['methods'])}")
    file = folder / score_file.WHOLE
    if not file.is_file():
        raise UserError(f"no {score_file.WHOLE} in {folder}, which holds the scores of each clip; score it again")
    provenance, scores = score_file.read(file)
    if provenance != check.provenance(report):
        raise UserError(f"{file} is of another scoring than {check.NAME} beside it; type that command again")
    return Method(row, row, folder, report, {score.key: score for score in scores if score.reason is None})


def _own(name: str) -> bool:
    return name.startswith(OWN_MODELS) or name == ""
