"""`report.html`: the benchmark as one page that needs no other file and no network.

`page.html.j2` is the page; here is what it shows, taken from the report and the saved videos. Every number is the
report's, rounded. The template escapes all text.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_pipeline.page.html import data_uri, render
from eval.metrics.metric import DIRECTIONS, REAL, badness
from eval.report import plots, text
from eval.report.cases import cases
from eval.report.heading import heading, main_row, verdict_items
from eval.report.pictured import PicturedClip, pictured_clips
from eval.score_file import FLOOR, OURS, ClipScore
from mytalk import atomic
from mytalk.intervals import person_means

NAME = "report.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
CLIPS_BYTES = 4_500_000  # of all playable clips before base64: the page stays under 8 MB
STRIP_NAMES = {FLOOR: "truth"}  # others by their own names
ROLES = {
    FLOOR: "the clip itself: the floor of codec and detector",
    OURS: "dubbed with its own speech",
    "shuffled_audio": "dubbed with another clip\N{RIGHT SINGLE QUOTATION MARK}s speech",
    "silent_audio": "dubbed with silence",
    "frozen_mouth": "its mean mouth, painted",
    "ridge": "a ridge regression on its own speech, painted",
}
COLOURS = [("#a3195b", "#ff8fc0"), ("#4a6b00", "#a6cf4f"), ("#8a4b00", "#e0a15c"), ("#5a5aa8", "#b0b0ff")]


def write(out: Path, report: dict[str, Any], scores: list[ClipScore]) -> None:
    """Write the page of a report into its folder, atomically. Raises UserError, OSError."""
    atomic.write_bytes(out / NAME, html(report, scores, pictured_clips(out, scores)).encode())


def html(report: dict[str, Any], scores: list[ClipScore], pictured: list[PicturedClip]) -> str:
    """The whole page."""
    protocol, metrics = report["protocol"], report["protocol"]["metrics"]
    return render(
        TEMPLATE,
        heading=heading(report),
        protocol=protocol,
        verdicts=verdict_items(report),
        floor=FLOOR,
        main=main_row(report),
        colours=_colours(report["methods"]),
        cases=cases(report, scores),
        methods=report["methods"],
        roles={name: ROLES.get(name, "") for name in report["methods"]},
        groups=text.groups(report),
        directions=DIRECTIONS,
        columns=columns(report["methods"]),
        cells=_cells(report),
        panels=_panels(report, scores),
        people=_people(pictured),
        coverage=text.coverage(report["coverage"]),
        misses=[[m[name] for name in ("key", "person", "reason", "message")] for m in report["coverage"]["misses"]],
        definitions=[[name, m["unit"], DIRECTIONS[m["better"]], m["definition"]] for name, m in metrics.items()],
        settings=_settings(report),
        digests=report["digests"],
    )


# Scores ---------------------------------------------------------------------------------------------------


def columns(methods: dict[str, Any]) -> list[str]:
    """The rows of a report as columns of the table: the dubbed ones, then the clip itself."""
    return [*(name for name in methods if name != FLOOR), *([FLOOR] if FLOOR in methods else [])]


def digits(entries: list[dict[str, Any]]) -> int:
    """Decimals with which a metric is printed: the larger its numbers, the fewer."""
    largest = max(abs(entry["mean"]) for entry in entries)
    return 3 if largest < 2 else 2 if largest < 20 else 1


def best(methods: dict[str, Any], metric: str, better: str) -> set[str]:
    """The dubbed rows whose mean is best, none where all are alike; the ground truth does not compete."""
    real = methods[FLOOR][metric]["mean"] if FLOOR in methods and metric in methods[FLOOR] else None
    if better == REAL and real is None:
        return set()
    rows = {name: scores[metric]["mean"] for name, scores in methods.items() if name != FLOOR and metric in scores}
    bad = {name: badness(better, mean, real) for name, mean in rows.items()}
    winners = {name for name, value in bad.items() if value == min(bad.values())}
    return winners if len(winners) < len(bad) else set()


def _cells(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every metric's cells, in the order of the columns."""
    methods, names = report["methods"], columns(report["methods"])
    cells = {}
    for metric, stated in text.measured(report).items():
        places = digits([methods[name][metric] for name in names if metric in methods[name]])
        winners = best(methods, metric, stated["better"])
        cells[metric] = [
            {
                "mean": _number(methods[name][metric]["mean"], places),
                "ci95": _interval(methods[name][metric]["ci95"], places),
                "best": name in winners,
                "floor": name == FLOOR,
            }
            if metric in methods[name]
            else {"mean": "\N{EN DASH}", "ci95": "", "best": False, "floor": name == FLOOR}
            for name in names
        ]
    return cells


def _interval(ci95: list[float] | None, places: int) -> str:
    return "no interval" if ci95 is None else f"[{_number(ci95[0], places)}, {_number(ci95[1], places)}]"


def _number(value: float, places: int) -> str:
    digits_ = f"{value:.{places}f}"
    return (digits_[1:] if float(digits_) == 0 and digits_.startswith("-") else digits_).replace("-", "\N{MINUS SIGN}")


def _panels(report: dict[str, Any], scores: list[ClipScore]) -> dict[str, Markup]:
    """A drawing of each metric: the mean of every row, its interval, and the people."""
    scored, panels = [score for score in scores if score.reason is None], {}
    for metric in text.measured(report):
        rows = []
        for name, entries in report["methods"].items():
            if metric in entries:
                having = (score for score in scored if metric in score.methods[name])
                people = person_means((score.person, score.methods[name][metric]) for score in having)
                rows.append((name, entries[metric], list(people.values())))
        spoken = "; ".join(f"{name} {entry['mean']:.3g}" for name, entry, _ in rows)
        panels[metric] = Markup(plots.intervals(f"{metric}, means: {spoken}", rows))
    return panels


# Pictures -------------------------------------------------------------------------------------------------


def _people(pictured: list[PicturedClip]) -> list[dict[str, Any]]:
    """What the page shows of each pictured clip; those whose video no longer fits have no `mp4`."""
    left_bytes, people = CLIPS_BYTES, []
    for clip in pictured:
        fits = len(clip.mp4) <= left_bytes
        left_bytes -= len(clip.mp4) if fits else 0
        score = clip.score
        follows = {name: score.methods.get(name, {}).get("opening_correlation") for name in score.openings_px}
        correlations = [f"{name} {value:.2f}" for name, value in follows.items() if value is not None]
        label = f"Mouth opening of {score.person} over time"
        people.append(
            {
                "score": score,
                "moments": len(clip.moments),
                "strips": [
                    {
                        "row": name,
                        "name": STRIP_NAMES.get(name, name),
                        "jpeg": data_uri("image/jpeg", jpeg),
                        "lips": Markup(clip.overlays.get(name, "")),
                    }
                    for name, jpeg in clip.strips.items()
                ],
                "curves": Markup(plots.curves(label, score.openings_px, clip.moments)),
                "correlations": ", ".join(correlations),
                "mp4": data_uri("video/mp4", clip.mp4) if fits else None,
                "poster": data_uri("image/jpeg", clip.poster),
                "beside": [STRIP_NAMES.get(name, name) for name in clip.beside],
            }
        )
    return people


def _colours(methods: dict[str, Any]) -> dict[str, str]:
    """The colours of rows that the style sheet does not know, by name."""
    return {
        name: f"light-dark({light}, {dark})"
        for name, (light, dark) in zip((name for name in methods if name not in ROLES), itertools.cycle(COLOURS))
    }


# How the numbers were made --------------------------------------------------------------------------------


def _settings(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything but rows and metrics that decides the numbers."""
    protocol = {name: value for name, value in report["protocol"].items() if name not in ("methods", "metrics")}
    facts = {"ridge": report["ridge"]} if "ridge" in report else {}
    stated = {**protocol, **facts, **report.get("environment", {})}
    return [(name, _in_words(value)) for name, value in stated.items()]


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {words}" for name, words in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)
