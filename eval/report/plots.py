"""The drawings of reports: intervals and mouth openings as SVG for the page, openings as a picture for `score`.

In SVG, colours come from the page's style sheet: an element of class `of-ROW` has the row's colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.score_file import ClipScore
from mytalk.face.landmarks import FRAME_HZ

WIDTH, LINE, TOP, AXIS = 340, 24, 6, 26  # of an interval panel; TOP above the rows, AXIS below
NAMES = 108  # for the rows' names at the left
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


def intervals(label: str, rows: list[tuple[str, dict[str, Any], list[float]]]) -> str:
    """A panel of one metric: a line a row of (name, entry of the report, people's means). `label` is read aloud."""
    values = [v for _, entry, people in rows for v in (entry["mean"], *(entry["ci95"] or ()), *people)]
    step, ticks = nice(min(values), max(values), 4)
    low, high = ticks[0], ticks[-1]
    height = TOP + LINE * len(rows) + AXIS

    def x(value: float) -> float:
        return NAMES + (value - low) / (high - low) * (WIDTH - NAMES - 14)

    bottom = TOP + LINE * len(rows)
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="tick" x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{number(t, step)}</text>'
        for t in ticks
    ]
    for index, (name, entry, people) in enumerate(rows):
        y = TOP + LINE * (index + 0.5)
        drawn = [f'<circle class="person" cx="{x(v):.1f}" cy="{y:.1f}" r="2.6"/>' for v in people]
        if entry["ci95"]:
            a, b = (x(end) for end in entry["ci95"])
            drawn.append(f'<line class="interval" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<circle class="mean" cx="{x(entry["mean"]):.1f}" cy="{y:.1f}" r="4.4"/>')
        title = f'<text class="name" x="0" y="{y + 4:.1f}">{escape(name)}</text>'
        parts.append(f'<g class="of-{escape(name)}">{title}{"".join(drawn)}</g>')
    return _svg(WIDTH, height, label, parts)


def curves(label: str, openings_px: dict[str, list[float]], marks: Iterable[int] = ()) -> str:
    """Openings over time, px over seconds, the first the broadest; `marks` are frames to point at."""
    frames = max(len(curve) for curve in openings_px.values())
    step, ticks = nice(0, max(max(curve) for curve in openings_px.values()), 4)
    bottom = CURVE_HEIGHT - CURVE_BOTTOM

    def x(frame: float) -> float:
        return CURVE_LEFT + frame / max(frames - 1, 1) * (CURVE_WIDTH - CURVE_LEFT - 8)

    def y(value: float) -> float:
        return bottom - value / ticks[-1] * (bottom - CURVE_TOP)

    parts = [
        f'<line class="grid" x1="{CURVE_LEFT}" x2="{CURVE_WIDTH - 8}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" x="{CURVE_LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{number(t, step)}</text>'
        for t in ticks
    ]
    parts += [f'<line class="mark" x1="{x(m):.1f}" x2="{x(m):.1f}" y1="{CURVE_TOP}" y2="{bottom}"/>' for m in marks]
    for second in range((frames - 1) // FRAME_HZ + 1):
        at = x(second * FRAME_HZ)
        unit = " s" if second == 0 else ""
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{second}{unit}</text>')
    for name, curve in openings_px.items():
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(curve))
        parts.append(f'<polyline class="curve of-{escape(name)}" points="{points}"/>')
    return _svg(CURVE_WIDTH, CURVE_HEIGHT, label, parts)


def nice(low: float, high: float, count: int) -> tuple[float, list[float]]:
    """(step, ticks) of an axis: about `count` steps of 1, 2 or 5 times a power of ten, round both ends."""
    if high == low:
        low -= 0.1 * abs(high) or 1.0
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return step, [tick * step for tick in range(first, max(last, first + 1) + 1)]


def number(value: float, step: float) -> str:
    """A tick's value with as many digits as its step needs; the minus sign is a real one."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


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
    draw.text((x + 20, 9), "mouth opening (px at 256) over time (s)", fill=INK, font=font)
    for index, score in enumerate(scores):
        _panel(draw, font, HEAD_PX + PANEL_PX * index, score)
    return picture


def _panel(draw: ImageDraw.ImageDraw, font, top_px: int, score: ClipScore) -> None:
    step, ticks = nice(0, max(max(curve) for curve in score.openings_px.values()), 5)
    frames = len(score.openings_px["truth"])
    x0, x1 = LEFT_PX, WIDTH_PX - RIGHT_PX
    y0, y1 = top_px + PANEL_PX - BOTTOM_PX, top_px + TOP_PX

    def place(seconds, opening_px):
        return x0 + seconds * FRAME_HZ / max(frames - 1, 1) * (x1 - x0), y0 - opening_px / ticks[-1] * (y0 - y1)

    for value in ticks:
        y = place(0, value)[1]
        draw.line([(x0, y), (x1, y)], fill=GRID)
        draw.text((x0 - 8, y), number(value, step), fill=INK, font=font, anchor="rm")
    for second in range((frames - 1) // FRAME_HZ + 1):
        x = place(second, 0)[0]
        draw.line([(x, y0), (x, y0 + 4)], fill=INK)
        draw.text((x, y0 + 5), str(second), fill=INK, font=font, anchor="ma")
    for name, (colour, width) in CURVES.items():
        curve = np.array(score.openings_px[name])
        x, y = place(np.arange(len(curve)) / FRAME_HZ, curve)
        draw.line(list(zip(x.tolist(), y.tolist())), fill=colour, width=width, joint="curve")
    correlations = [f"{name} {score.methods[name]['opening_correlation']:.2f}" for name in COMPARED]
    draw.text((x0, top_px + 8), f"{score.key}    correlation: {', '.join(correlations)}", fill=INK, font=font)


def _svg(width: int, height: int, label: str, parts: list[str]) -> str:
    opened = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return opened + "".join(parts) + "</svg>"
