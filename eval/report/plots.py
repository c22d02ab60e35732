"""The drawings of reports: intervals and mouth openings as SVG for the page, openings as a picture for `motion`.

In SVG, colours come from the page's style sheet: an element of class `of-ROW` has the row's colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.page.svg import drawing, tick_label
from eval.score_file import ClipScore
from mytalk import plot
from mytalk.face.landmarks import FRAME_HZ

WIDTH, LINE, TOP, AXIS = 340, 24, 6, 26  # of an interval panel; TOP above the rows, AXIS below
NAMES, LONG_NAMES = 108, 200  # for the rows' names at the left; for those of groups
CURVE_WIDTH, CURVE_HEIGHT = 600, 190
CURVE_LEFT, CURVE_BOTTOM, CURVE_TOP = 34, 26, 8
COMPARED = ("mytalk", "shuffled_audio")  # rows whose curves are shown with the truth's

WIDTH_PX, PANEL_PX, HEAD_PX = 1200, 220, 34  # of the picture
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 52, 16, 30, 26  # margins of a panel's plot
INK, GRID = (40, 40, 40), (225, 225, 225)
# Blue, orange and grey stay apart for colour-blind readers; the truth is drawn widest, below the others.
CURVES = {
    "truth": ((150, 150, 150), 5),
    "shuffled_audio": ((230, 145, 40), 2),
    "mytalk": ((30, 100, 200), 2),
}


def intervals(
    label: str,
    rows: list[tuple[str, dict[str, Any], list[float]]],
    classes: Mapping[str, str] | None = None,
    names: int = NAMES,
    at: float | None = None,
) -> str:
    """A panel of one metric: a line a row of (name, entry of the report, people's means). `label` is read aloud.

    `classes`: of-CLASS instead of of-NAME; `names`: px for the names; `at`: a value that is marked by a line.
    """
    values = [v for _, entry, people in rows for v in (entry["mean"], *(entry["ci95"] or ()), *people)]
    values += [] if at is None else [at]
    width = WIDTH + names - NAMES
    x = plot.rounded_axis(min(values), max(values), 4, names, width - 14)
    bottom = TOP + LINE * len(rows)
    parts = [
        f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>'
        f"{tick_label(at, bottom + 16, 'middle', tick)}"
        for at, tick in x.ticks()
    ]
    if at is not None:
        parts.append(f'<line class="at" x1="{x.px(at):.1f}" x2="{x.px(at):.1f}" y1="{TOP}" y2="{bottom}"/>')
    for index, (name, entry, people) in enumerate(rows):
        y = TOP + LINE * (index + 0.5)
        marks = [f'<circle class="person" cx="{x.px(v):.1f}" cy="{y:.1f}" r="2.6"/>' for v in people]
        if entry["ci95"]:
            a, b = map(x.px, entry["ci95"])
            marks.append(f'<line class="interval" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<circle class="mean" cx="{x.px(entry["mean"]):.1f}" cy="{y:.1f}" r="4.4"/>')
        title = f'<text class="name" x="0" y="{y + 4:.1f}">{escape(name)}</text>'
        parts.append(f'<g class="of-{escape((classes or {}).get(name, name))}">{title}{"".join(marks)}</g>')
    return drawing(width, bottom + AXIS, label, parts)


def curves(label: str, openings_px: dict[str, list[float]], marks: Iterable[int] = ()) -> str:
    """Openings over time, px over seconds, the first the broadest; `marks` are frames to point at."""
    bottom = CURVE_HEIGHT - CURVE_BOTTOM
    x, y = _axes(openings_px, (CURVE_LEFT, CURVE_WIDTH - 8), (bottom, CURVE_TOP), 4)
    parts = [
        f'<line class="grid" x1="{CURVE_LEFT}" x2="{CURVE_WIDTH - 8}" y1="{level:.1f}" y2="{level:.1f}"/>'
        f"{tick_label(CURVE_LEFT - 6, level + 4, 'end', tick)}"
        for level, tick in y.ticks()
    ]
    for frame in marks:
        at = x.px(frame / FRAME_HZ)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{CURVE_TOP}" y2="{bottom}"/>')
    parts += [tick_label(at, bottom + 17, "middle", tick if float(tick) else f"{tick} s") for at, tick in x.ticks()]
    for name, curve in openings_px.items():
        points = " ".join(f"{x.px(i / FRAME_HZ):.1f},{y.px(value):.1f}" for i, value in enumerate(curve))
        parts.append(f'<polyline class="curve of-{escape(name)}" points="{points}"/>')
    return drawing(CURVE_WIDTH, CURVE_HEIGHT, label, parts)


def histogram(label: str, values: dict[str, list[int]]) -> str:
    """How often each whole number from 0 on is among the values of each row: bars side by side, counts above them."""
    numbers = range(max(max(row, default=0) for row in values.values()) + 1)
    most = max(row.count(number) for row in values.values() for number in numbers)
    bottom = CURVE_HEIGHT - CURVE_BOTTOM
    each = (CURVE_WIDTH - CURVE_LEFT) / len(numbers)
    width = min(each * 0.8 / len(values), 40.0)
    parts = [f'<line class="grid" x1="{CURVE_LEFT}" x2="{CURVE_WIDTH}" y1="{bottom}" y2="{bottom}"/>']
    for number in numbers:
        middle = CURVE_LEFT + each * (number + 0.5)
        parts.append(tick_label(middle, bottom + 17, "middle", str(number)))
        for place, (name, row) in enumerate(values.items()):
            if count := row.count(number):
                height = (bottom - CURVE_TOP - 14) * count / most
                x = middle + width * (place - len(values) / 2)
                parts.append(
                    f'<rect class="bar of-{escape(name)}" x="{x:.1f}" y="{bottom - height:.1f}" width="{width:.1f}" '
                    f'height="{height:.1f}"/>{tick_label(x + width / 2, bottom - height - 4, "middle", str(count))}'
                )
    return drawing(CURVE_WIDTH, CURVE_HEIGHT, label, parts)


def _axes(
    openings_px: dict[str, list[float]], x_px: tuple[float, float], y_px: tuple[float, float], steps: int
) -> tuple[plot.Axis, plot.Axis]:
    """Axes of seconds and of opening in px, between these px of the drawing."""
    frames = max(len(curve) for curve in openings_px.values())
    highest = max(max(curve) for curve in openings_px.values())
    return plot.axis(0, max(frames - 1, 1) / FRAME_HZ, 12, *x_px), plot.rounded_axis(0, highest, steps, *y_px)


def openings_picture(scores: list[ClipScore]) -> Image.Image:
    """A panel for each clip that has its curves: opening in px at 256 over seconds."""
    picture = Image.new("RGB", (WIDTH_PX, HEAD_PX + PANEL_PX * len(scores)), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    x = LEFT_PX
    for name, (colour, width) in CURVES.items():
        draw.line([(x, 18), (x + 30, 18)], fill=colour, width=width)
        draw.text((x + 38, 9), name, fill=INK, font=font)
        x += 70 + round(draw.textlength(name, font=font))
    draw.text((x + 20, 9), "mouth opening (px at 256)", fill=INK, font=font)
    for index, score in enumerate(scores):
        _panel(draw, font, HEAD_PX + PANEL_PX * index, score)
    return picture


def _panel(draw: ImageDraw.ImageDraw, font, top_px: int, score: ClipScore) -> None:
    bottom_px = top_px + PANEL_PX - BOTTOM_PX
    x, y = _axes(score.openings_px, (LEFT_PX, WIDTH_PX - RIGHT_PX), (bottom_px, top_px + TOP_PX), 5)
    plot.draw_levels(draw, x, y, GRID, INK, font)
    plot.draw_below(draw, x, bottom_px, "s", INK, font)
    for name, (colour, width_px) in CURVES.items():
        curve = np.array(score.openings_px[name])
        plot.draw_curve(draw, x.px(np.arange(len(curve)) / FRAME_HZ), y.px(curve), colour, width_px)
    correlations = [f"{name} {score.methods[name]['opening_correlation']:.2f}" for name in COMPARED]
    draw.text((LEFT_PX, top_px + 8), f"{score.key}    correlation: {', '.join(correlations)}", fill=INK, font=font)
