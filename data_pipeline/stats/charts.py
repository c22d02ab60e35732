"""Histograms as SVG: kept clips, rejected spans upon them, and the limits of the rules as lines."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from data_pipeline.page.svg import drawing, tick_label
from data_pipeline.stats.findings import number
from data_pipeline.stats.histogram import Histogram
from data_pipeline.stats.spread import Spread
from mytalk import plot

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 150, 34, 10, 18, 24


def histogram(spread: Spread) -> str:
    """The drawing of a fact. Every bar has its numbers as a title."""
    bins, floor = spread.histogram, HEIGHT - BOTTOM
    x = plot.axis(float(bins.edges_B1[0]), float(bins.edges_B1[-1]), 5, LEFT, WIDTH - RIGHT)
    y = plot.rounded_axis(0, max(int((bins.kept_B + bins.rejected_B).max()), 1), 3, floor, TOP)
    levels = [(level, f"{float(label):.0f}") for level, label in y.ticks() if float(label).is_integer()]
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
        f"{tick_label(LEFT - 5, level + 4, 'end', label)}"
        for level, label in levels
    ]
    parts += [tick_label(at, floor + 16, "middle", label) for at, label in x.ticks()]
    parts += [*_bars(bins, x, y), *_limits(spread, x)]
    counted = f"{int(bins.kept_B.sum())} kept, {int(bins.rejected_B.sum())} rejected"
    return drawing(WIDTH, HEIGHT, f"{spread.name}: {counted}", parts)


def _bars(bins: Histogram, x: plot.Axis, y: plot.Axis) -> Iterator[str]:
    """The rejected spans of each bin stand on the kept clips."""
    for left, right, kept, rejected in zip(bins.edges_B1, bins.edges_B1[1:], bins.kept_B, bins.rejected_B):
        title = f"{number(left)} to {number(right)}: {kept} kept, {rejected} rejected"
        for name, low, high in (("kept", 0, kept), ("rejected", kept, kept + rejected)):
            if high > low:
                place = f'x="{x.px(left):.1f}" y="{y.px(high):.1f}"'
                size = f'width="{x.px(right) - x.px(left):.2f}" height="{y.px(low) - y.px(high):.2f}"'
                yield f'<rect class="{name}" {place} {size}><title>{escape(title)}</title></rect>'


def _limits(spread: Spread, x: plot.Axis) -> Iterator[str]:
    for threshold in spread.thresholds:
        for limit in threshold.places():
            at = x.px(limit)
            anchor = "start" if at < (LEFT + WIDTH) / 2 else "end"
            name = f"{escape(threshold.rule.name)} {number(limit)}"
            yield f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            yield f'<text class="limit-name" x="{at:.1f}" y="{TOP - 5}" text-anchor="{anchor}">{name}</text>'
