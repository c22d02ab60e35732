"""The tables and panels of `report.html`: the scores, and what they rest on. All text from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from eval import svg
from eval.records import ClipScore
from eval.report import coverage_in_words
from mytalk.intervals import person_means

FLOOR = "ground_truth"
ROLE = {
    "ground_truth": "the clip itself: the floor of codec and detector",
    "mytalk": "dubbed with its own speech",
    "shuffled_audio": "dubbed with another clip\N{RIGHT SINGLE QUOTATION MARK}s speech",
    "frozen_mouth": "its mean mouth, painted",
}
ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def digits(entries: list[dict[str, Any]]) -> int:
    """Decimals with which a metric is printed: the larger its numbers, the fewer."""
    largest = max(abs(entry["mean"]) for entry in entries)
    return 3 if largest < 2 else 2 if largest < 20 else 1


def best(methods: dict[str, Any], metric: str, better: str) -> set[str]:
    """The dubbed rows whose mean is best, none where all are alike; the ground truth competes with nobody."""
    means = {name: scores[metric]["mean"] for name, scores in methods.items() if name != FLOOR}
    top = max(means.values()) if better == "higher" else min(means.values())
    won = {name for name, mean in means.items() if mean == top}
    return won if len(won) < len(means) else set()


def _measured(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The metrics of the protocol that were not refused."""
    refused = report.get("refused", {})
    return {name: stated for name, stated in report["protocol"]["metrics"].items() if name not in refused}


def _columns(methods: dict[str, Any]) -> list[str]:
    return [*(name for name in methods if name != FLOOR), *([FLOOR] if FLOOR in methods else [])]


def table(report: dict[str, Any]) -> str:
    """Every score of the report as a table: metrics down, rows across."""
    methods = report["methods"]
    names = _columns(methods)
    head = "".join(
        f'<th scope="col" class="row of-{escape(name)}{" floor" if name == FLOOR else ""}">{escape(name)}</th>'
        for name in names
    )
    body = []
    for metric, stated in _measured(report).items():
        places = digits([methods[name][metric] for name in names])
        won = best(methods, metric, stated["better"])
        cells = "".join(_cell(methods[name][metric], places, name in won, name == FLOOR) for name in names)
        arrow = f'{ARROWS[stated["better"]]}<span class="hidden"> {stated["better"]} is better</span>'
        unit = f'<span class="unit">{escape(stated["unit"])}</span>'
        body.append(f'<tr><th scope="row">{escape(metric)} {arrow}{unit}</th>{cells}</tr>\n')
    return (
        '<div class="scroll"><table class="scores">\n<caption>Mean over people with its 95 % interval. Bold: the best '
        "dubbed row. Shaded: the clip itself, what codec and detector alone cost.</caption>\n"
        f'<thead><tr><th scope="col">metric</th>{head}</tr></thead>\n<tbody>\n{"".join(body)}</tbody>\n</table></div>'
    )


def _cell(entry: dict[str, Any], places: int, won: bool, floor: bool) -> str:
    mean = _number(entry["mean"], places)
    shown = f"<strong>{mean}</strong>" if won else mean
    ci95 = entry["ci95"]
    ends = "no interval" if ci95 is None else f"[{_number(ci95[0], places)}, {_number(ci95[1], places)}]"
    return f'<td{" class=" + chr(34) + "floor" + chr(34) if floor else ""}>{shown} <span class="ci">{ends}</span></td>'


def _number(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "\N{MINUS SIGN}")


def legend(methods: dict[str, Any]) -> str:
    """What the colours of the panels stand for."""
    items = "".join(
        f'<li class="of-{escape(name)}"><span>{escape(name)}: {escape(ROLE.get(name, ""))}</span></li>'
        for name in methods
    )
    note = '<p class="facts">Disc: mean over people. Bar: its 95 % interval. Circles: people.</p>'
    return f'<ul class="legend">{items}</ul>\n{note}'


def panels(report: dict[str, Any], scores: list[ClipScore]) -> str:
    """A picture of each metric: the mean of every row, its interval, and the people."""
    methods, figures = report["methods"], []
    scored = [score for score in scores if score.reason is None]
    for metric, stated in _measured(report).items():
        rows = []
        for name in methods:
            people = person_means((score.person, score.methods[name][metric]) for score in scored)
            rows.append((name, methods[name][metric], list(people.values())))
        spoken = "; ".join(f"{name} {entry['mean']:.3g}" for name, entry, _ in rows)
        arrow = f"{ARROWS[stated['better']]} {stated['better']} is better"
        figures.append(
            f'<figure><figcaption>{escape(metric)} <span class="unit">{escape(stated["unit"])}, {arrow}</span>'
            f"</figcaption>{svg.intervals(f'{metric}, means: {spoken}', rows)}</figure>\n"
        )
    return f'<div class="panels">\n{"".join(figures)}</div>'


def coverage(coverage: dict[str, Any]) -> str:
    """What was scored, and each clip that was not, with its reason."""
    words = f"<p>{escape(coverage_in_words(coverage))}. A clip that fails in one row is missing from all of them.</p>"
    if not coverage["misses"]:
        return words
    names = ("key", "person", "reason", "message")
    return words + _words_table(
        "Clips that were not scored", names, [[m[name] for name in names] for m in coverage["misses"]]
    )


def definitions(report: dict[str, Any]) -> str:
    """Rows and metrics in words."""
    protocol = report["protocol"]
    rows = [[name, said] for name, said in protocol["methods"].items()]
    metrics = [[name, s["unit"], s["better"], s["definition"]] for name, s in protocol["metrics"].items()]
    return _details(
        "Definitions",
        _words_table("Rows", ("row", "definition"), rows)
        + _words_table("Metrics", ("metric", "unit", "better", "definition"), metrics),
    )


def protocol(report: dict[str, Any]) -> str:
    """Everything else that decides the numbers."""
    protocol = {name: value for name, value in report["protocol"].items() if name not in ("methods", "metrics")}
    said = [(name, _in_words(value)) for name, value in {**protocol, **report.get("environment", {})}.items()]
    return _details("Protocol", _words_table("Everything else that decides the numbers", ("setting", "value"), said))


def digests(report: dict[str, Any]) -> str:
    """SHA-256 of data and models."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(digest)}</code></td></tr>\n'
        for name, digest in report["digests"].items()
    )
    head = '<thead><tr><th scope="col">of</th><th scope="col">SHA-256</th></tr></thead>'
    caption = "<caption>Data and models the numbers were made from</caption>"
    return _details(
        "Digests", f'<div class="scroll"><table class="words">{caption}{head}<tbody>\n{rows}</tbody></table></div>'
    )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {said}" for name, said in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def _words_table(caption: str, head: tuple[str, ...], rows: Any) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>'
        + "".join(f"<td>{escape(str(v))}</td>" for v in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table class="words"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{body}</details>\n"
