"""Drawings of a report as inline SVG: a panel of intervals, and mouth openings over time.

Colours come from the page's style sheet: an element of class `of-ROW` has the row's colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

from mytalk.face.landmarks import FRAME_HZ

WIDTH, LINE, TOP, AXIS = 340, 24, 6, 26  # of an interval panel; TOP above the rows, AXIS below
NAMES = 108  # for the rows' names at the left
CURVE_WIDTH, CURVE_HEIGHT = 600, 190
CURVE_LEFT, CURVE_BOTTOM, CURVE_TOP = 34, 26, 8


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


def _svg(width: int, height: int, label: str, parts: list[str]) -> str:
    opened = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return opened + "".join(parts) + "</svg>"
