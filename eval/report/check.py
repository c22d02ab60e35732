"""The report: `report.json`, refused unless every number in it can be traced (invariant 7).

    methods.<name>.<metric> = {mean, ci95: [lo, hi] or null, n, total, clips}
    sets = {<measure>: {definition, unit, better, frames, clips, rows: {<name>: value}}}: of all scored clips together
        (absent where there is none)
    refused = {<metric>: reason}: metrics omitted: model missing, or at chance (absent where there are none)
    coverage = {people: {scored, total}, clips: {scored, total}, misses: [{key, person, reason, message}],
        notes: {<note>: clips}, unmeasured: {<metric>: {<reason>: clips}}} (notes: of scored clips by which rule;
        unmeasured: scored clips on which a metric has no value in any row; either is absent where there are none)
    gate = {rule, above: {<baseline>: true or false}, passed} (absent where one of its rows is)
    ordering = {rule, pairs: {"<row> > <row>": above, below, overlaps or no_interval}, found, holds}: of sync
        confidence (absent where that was not measured)
    ridge = {<fact>: value} of the ridge regression behind the row of that name; against_<row> of ridge and of one_step
        = {rule, metrics: {<metric>: {difference: {mean, ...}, found}}} (each absent where there is no such row)
    protocol, digests: how the numbers were measured, and from what

`n` of `total` people were scored, in `clips` clips.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from eval.report import verdicts
from mytalk import atomic
from mytalk.command import UserError

FORMAT = 1
INPUTS = ("manifest", "shards")  # what is scored, where the protocol names nothing else
NAME = "report.json"
SCORE_KEYS = {"mean", "ci95", "n", "total", "clips"}


class UntraceableReport(ValueError):
    """A report with a number that cannot be traced to a protocol, digests and coverage."""


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write `report.json` atomically. Raises UntraceableReport, and then writes nothing."""
    check(report)
    atomic.write_json(folder / NAME, report)


def read(folder: Path) -> dict[str, Any] | None:
    """The report of a folder, None without one. Raises UserError for a file that is no report."""
    try:
        report = json.loads((folder / NAME).read_text())
        check(report)
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise UserError(
            f"{folder / NAME} is not a report of this format ({error}); name another folder, or replace it with --force"
        ) from None
    return report


def finished(folder: Path) -> dict[str, Any]:
    """The report of a folder. Raises UserError where there is none."""
    report = read(folder)
    if report is None:
        raise UserError(f"no {NAME} in {folder}; name the folder of a finished score, benchmark or motion")
    return report


def provenance(report: dict[str, Any]) -> dict[str, Any]:
    """How a report's numbers were measured, and from what."""
    return {"protocol": report["protocol"], "digests": report["digests"]}


def check(report: dict[str, Any]) -> None:
    """Raises UntraceableReport, naming the place, where a number lacks what it rests on or contradicts it."""
    _require(report.get("format") == FORMAT, f"format is not {FORMAT}")
    for name in ("methods", "coverage", "protocol", "digests"):
        _require(bool(report.get(name)), f"'{name}' is missing")
    _check_digests(report["digests"], report["protocol"], verdicts.RIDGE in report["methods"])
    _check_coverage(report["coverage"])
    _check_refused(report)
    for method, scores in report["methods"].items():
        _require(method in report["protocol"].get("methods", {}), f"methods.{method} has no definition")
        stated = report["protocol"].get("metrics", {})
        measured = {name for name in stated if method in stated[name].get("rows", [method])}
        measured -= set(report.get("refused", {}))
        for metric, score in scores.items():
            _check_score(f"methods.{method}.{metric}", metric, score, report)
        _require(set(scores) == measured, f"methods.{method} must hold {', '.join(sorted(measured))}")
    _require(report.get("gate") == verdicts.gate(report["methods"]), "gate is not what the scores give")
    _require((verdicts.RIDGE in report["methods"]) == bool(report.get("ridge")), "ridge: its row or its facts")
    for row in verdicts.AGAINST:
        _check_against(row, report)
    _check_sets(report)
    _require(report.get("ordering") == verdicts.ordering(report["methods"]), "ordering is not what the scores give")


def _check_digests(digests: dict[str, str], protocol: dict[str, Any], ridge: bool) -> None:
    """The protocol lists its inputs, its judges, and its models: the names before a digest's; a lone model has none."""
    models = protocol.get("models", {"": ""})
    names = {f"{model}{'_' if model else ''}{what}" for model in models for what in ("config", "weights")}
    judges = {f"judge_{name}" for name in protocol.get("judges", {})}
    required = {*protocol.get("inputs", INPUTS), *names, *judges, *([verdicts.RIDGE] if ridge else [])}
    _require(required <= set(digests), f"digests of {', '.join(sorted(required - set(digests)))}")
    unknown = sorted(set(digests) - required)
    _require(not unknown, f"digests of {', '.join(unknown)}, which the protocol does not name")
    for name, digest in digests.items():
        _require(len(digest) == 64 and set(digest) <= set("0123456789abcdef"), f"digests.{name} is no SHA-256")


def _check_refused(report: dict[str, Any]) -> None:
    for metric, reason in report.get("refused", {}).items():
        _require(metric in report["protocol"].get("metrics", {}), f"refused.{metric} is no metric of the protocol")
        _require(bool(reason), f"refused.{metric} has no reason")


def _check_sets(report: dict[str, Any]) -> None:
    for name, measure in report.get("sets", {}).items():
        stated = all(measure.get(what) for what in ("definition", "unit", "better"))
        _require(stated, f"sets.{name} has no definition, unit or direction")
        _require(set(measure["rows"]) == set(report["methods"]), f"sets.{name} is of other rows")
        _require(measure["clips"] == report["coverage"]["clips"]["scored"], f"sets.{name} contradicts coverage")
        _require(measure["frames"] >= 2, f"sets.{name} has no covariance")
        finite = all(math.isfinite(value) and value >= 0 for value in measure["rows"].values())
        _require(finite, f"sets.{name} is no distance")


def _check_against(row: str, report: dict[str, Any]) -> None:
    methods, name = report["methods"], f"against_{row}"
    block = report.get(name)
    _require((row in methods) == (block is not None), f"{name} or its row")
    if block is None:
        return
    differences = {metric: entry["difference"] for metric, entry in block["metrics"].items()}
    _require(set(differences) == set(verdicts.COMPARED), f"{name} is of other metrics")
    _require(block == verdicts.against(row, differences), f"{name} is not what the differences give")
    for metric, difference in differences.items():
        place = f"{name}.{metric}"
        _check_score(place, metric, difference, report)
        means = [methods[method][metric]["mean"] for method in (verdicts.MODEL, row)]
        _require(math.isclose(difference["mean"], means[0] - means[1], abs_tol=1e-9), f"{place} contradicts methods")


def _check_score(place: str, metric: str, score: dict[str, Any], report: dict[str, Any]) -> None:
    stated = report["protocol"].get("metrics", {}).get(metric, {})
    _require(bool(stated.get("definition")) and bool(stated.get("unit")), f"{place} has no definition or unit")
    _require(set(score) == SCORE_KEYS, f"{place} must hold {', '.join(sorted(SCORE_KEYS))}")
    numbers = [score["mean"], *(score["ci95"] or [])]
    _require(len(numbers) in (1, 3) and all(math.isfinite(number) for number in numbers), f"{place} is not finite")
    people, clips = report["coverage"]["people"], report["coverage"]["clips"]
    _require((score["ci95"] is None) == (score["n"] == 1), f"{place}: one person has no interval, more have one")
    _require(score["total"] == people["total"], f"{place} contradicts coverage")
    if stated.get("over") == "people":  # of clips that could not be scored too, and of those that tell a trait
        within = 0 < score["n"] <= people["total"] and 0 < score["clips"] <= clips["total"]
        _require(within, f"{place} contradicts coverage")
        return
    left_out = sum(report["coverage"].get("unmeasured", {}).get(metric, {}).values())
    most = people["scored"]
    _require(0 < score["n"] <= most and (left_out > 0 or score["n"] == most), f"{place} contradicts coverage")
    _require(score["clips"] + left_out == clips["scored"], f"{place}.clips contradicts coverage")


def _check_coverage(coverage: dict[str, Any]) -> None:
    people, clips, misses = coverage["people"], coverage["clips"], coverage["misses"]
    _require(0 < people["scored"] <= people["total"], "coverage.people does not add up")
    _require(clips["scored"] + len(misses) == clips["total"], "coverage.clips and misses do not add up")
    _require(all(miss["key"] and miss["reason"] for miss in misses), "coverage.misses: every miss has a reason")
    counts = [count for reasons in coverage.get("unmeasured", {}).values() for count in reasons.values()]
    _require(all(type(count) is int and count > 0 for count in counts), "coverage.unmeasured: a reason without clips")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise UntraceableReport(what)
