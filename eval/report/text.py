"""A report as text: for a terminal, and the sentences that its page shares."""

from __future__ import annotations

from typing import Any

from eval.metrics.metric import DIRECTIONS
from eval.report import verdicts
from mytalk.intervals import shown


def in_words(report: dict[str, Any]) -> str:
    """The report for a terminal: its table and coverage, then its verdicts, a line each."""
    methods = report["methods"]
    head = [f"mean over people{of_corpora(report['protocol'])} [95 % interval]", *methods]
    lines = [head]
    for group, metrics in groups(report).items():
        lines += [[f"-- {group}", *([""] * len(methods))]] if group else []
        for metric, stated in metrics.items():
            name = f"{metric} ({DIRECTIONS[stated['better']]})"
            lines.append([name, *(_cell(scores.get(metric)) for scores in methods.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    text += sets(report)
    text.append(coverage(report["coverage"]))
    if "gate" in report:
        text.append(verdicts.gate_in_words(methods))
    if "ordering" in report:
        text.append(verdicts.ordering_in_words(methods))
    blocks = {row: report[f"against_{row}"] for row in verdicts.AGAINST if f"against_{row}" in report}
    text += [verdicts.against_in_words(row, block) for row, block in blocks.items()]
    if verdicts.RIDGE not in blocks and "ridge_left_out" in report["protocol"]:
        text.append(f"ridge: left out: {report['protocol'].get('ridge_left_out')}")
    without = report.get("environment", {}).get("sets_left_out", "none")
    text += [] if without == "none" else [f"left out: {without}"]
    return "\n".join([*text, *(f"refused: {', '.join(names)}: {why}" for why, names in refused(report).items())])


def of_corpora(protocol: dict[str, Any]) -> str:
    """Which corpora the clips are of, as ` of drawn-v2`; nothing for a report that does not name them."""
    return f" of {', '.join(protocol['corpora'])}" if protocol.get("corpora") else ""


def measured(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The metrics of the protocol that were not omitted."""
    omitted = report.get("refused", {})
    return {name: stated for name, stated in report["protocol"]["metrics"].items() if name not in omitted}


def groups(report: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The measured metrics under their headings, in order; without one under the empty heading."""
    by_group: dict[str, dict[str, dict[str, Any]]] = {}
    for metric, stated in measured(report).items():
        by_group.setdefault(stated.get("group", ""), {})[metric] = stated
    return by_group


def unmeasured(coverage: dict[str, Any]) -> dict[str, list[str]]:
    """On how many scored clips a metric has no value and why, as `3 no_silence`, with the metrics it is so of."""
    names: dict[str, list[str]] = {}
    for metric, reasons in coverage.get("unmeasured", {}).items():
        names.setdefault(", ".join(f"{count} {reason}" for reason, count in reasons.items()), []).append(metric)
    return names


def sets(report: dict[str, Any]) -> list[str]:
    """A line for each measure of all clips together."""
    return [
        f"{name} ({measure['frames']} {measure.get('of', 'frames')} of {measure['clips']} clips; {measure['better']} "
        "is better): " + ", ".join(f"{row} {value:.3g}" for row, value in measure["rows"].items())
        for name, measure in report.get("sets", {}).items()
    ]


def coverage(coverage: dict[str, Any]) -> str:
    """How many people and clips were scored, and for which reasons the others were not."""
    people, clips = coverage["people"], coverage["clips"]
    text = f"scored {people['scored']}/{people['total']} people, {clips['scored']}/{clips['total']} clips"
    reasons = [miss["reason"] for miss in coverage["misses"]]
    if reasons:
        text += "; missed: " + ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    if coverage.get("notes"):
        text += "; of the scored: " + ", ".join(f"{count} {note}" for note, count in coverage["notes"].items())
    for why, names in unmeasured(coverage).items():
        text += f"; without {', '.join(names)}: {why}"
    return text


def refused(report: dict[str, Any]) -> dict[str, list[str]]:
    """Each reason for omitted metrics, with their names."""
    names: dict[str, list[str]] = {}
    for metric, reason in report.get("refused", {}).items():
        names.setdefault(reason, []).append(metric)
    return names


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.3f}" if score["ci95"] is None else shown(score)
