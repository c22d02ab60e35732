"""A report as text: for a terminal, and the sentences that its page shares."""

from __future__ import annotations

from typing import Any

from eval.report import verdicts
from mytalk.intervals import shown


def in_words(report: dict[str, Any]) -> str:
    """The report for a terminal: its table and coverage, then its verdicts, a line each."""
    methods = report["methods"]
    head = [f"mean over people{of_corpora(report['protocol'])} [95 % interval]", *methods]
    lines = [head]
    for metric, stated in measured(report).items():
        name = f"{metric} ({stated['better']} is better)"
        lines.append([name, *(_cell(scores[metric]) for scores in methods.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    text.append(coverage(report["coverage"]))
    if "gate" in report:
        text.append(verdicts.gate_in_words(methods))
    if "ordering" in report:
        text.append(verdicts.ordering_in_words(methods))
    if "against_ridge" in report:
        text.append(verdicts.ridge_in_words(report["against_ridge"]))
    elif "ridge_left_out" in report["protocol"]:
        text.append(f"ridge: left out: {report['protocol'].get('ridge_left_out')}")
    return "\n".join([*text, *(f"refused: {', '.join(names)}: {why}" for why, names in refused(report).items())])


def of_corpora(protocol: dict[str, Any]) -> str:
    """Which corpora the clips are of, as ` of drawn-v2`; nothing for a report that does not name them."""
    return f" of {', '.join(protocol['corpora'])}" if protocol.get("corpora") else ""


def measured(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The metrics of the protocol that were not omitted."""
    omitted = report.get("refused", {})
    return {name: stated for name, stated in report["protocol"]["metrics"].items() if name not in omitted}


def coverage(coverage: dict[str, Any]) -> str:
    """How many people and clips were scored, and for which reasons the others were not."""
    people, clips = coverage["people"], coverage["clips"]
    text = f"scored {people['scored']}/{people['total']} people, {clips['scored']}/{clips['total']} clips"
    reasons = [miss["reason"] for miss in coverage["misses"]]
    if reasons:
        text += "; missed: " + ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    if coverage.get("notes"):
        text += "; of the scored: " + ", ".join(f"{count} {note}" for note, count in coverage["notes"].items())
    return text


def refused(report: dict[str, Any]) -> dict[str, list[str]]:
    """Each reason for omitted metrics, with their names."""
    names: dict[str, list[str]] = {}
    for metric, reason in report.get("refused", {}).items():
        names.setdefault(reason, []).append(metric)
    return names


def _cell(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f}" if score["ci95"] is None else shown(score)
