"""`gaps.html`: the gaps as one page that needs no other file: a panel of every metric, group by group.

Above, where each group lies, with its people; below, how far each is from the reference, beside a line at no gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_pipeline.page.html import render
from eval.metrics.metric import DIRECTIONS
from eval.report import plots
from eval.score_file import ClipScore
from mytalk.intervals import person_means, shown

NAME = "gaps.html"
TEMPLATE = Path(__file__).with_name("gaps.html.j2")
COLOURS = (  # light and dark; groups beyond take turns
    *(("#7b828c", "#98a0aa"), ("#1f5fbf", "#6ea8ff"), ("#c8700a", "#f0a04b"), ("#7a4fa0", "#b793dc")),
    *(("#0b8080", "#4cc2c2"), ("#a3195b", "#ff8fc0"), ("#4a6b00", "#a6cf4f"), ("#8a4b00", "#e0a15c")),
)


def html(gaps: dict[str, Any], groups: Mapping[str, list[ClipScore]]) -> str:
    """The page of what `gaps.json` holds; `groups` are the clips that it was computed from."""
    classes = {name: f"group-{number}" for number, name in enumerate(gaps["people"])}
    panels = []
    for metric, found in gaps["table"].items():
        stated = gaps["metrics"][metric]
        lies = [(name, entry, _people(groups[name], gaps["row"], metric)) for name, entry in found["groups"].items()]
        apart = [(name, gap, list[float]()) for name, gap in found["gaps"].items() if gap is not None]
        spoken = "; ".join(f"{name} {entry['mean']:.3g}" for name, entry, _ in lies)
        panels.append(
            {
                "metric": metric,
                "group": stated.get("group", ""),
                "unit": stated["unit"],
                "better": DIRECTIONS[stated["better"]],
                "lies": Markup(plots.intervals(f"{metric}, means: {spoken}", lies, classes, plots.LONG_NAMES)),
                "apart": Markup(
                    plots.intervals(f"{metric}, gaps", apart, classes, plots.LONG_NAMES, at=0.0) if apart else ""
                ),
                "words": "; ".join(f"{name} {shown(gap)}" for name, gap, _ in apart),
            }
        )
    colours = {classes[name]: COLOURS[place % len(COLOURS)] for place, name in enumerate(classes)}
    return render(TEMPLATE, gaps=gaps, panels=panels, classes=classes, colours=colours)


def _people(clips: list[ClipScore], row: str, metric: str) -> list[float]:
    values = ((c.person, c.methods[row][metric]) for c in clips if metric in c.methods.get(row, {}))
    return list(person_means(values).values())
