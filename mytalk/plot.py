"""The axes of every plot: round ticks, and the px of a value; drawn with pillow (SVG takes px and ticks alone)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Colour: TypeAlias = "tuple[int, int, int]"
Values = TypeVar("Values", float, np.ndarray)


@dataclass(frozen=True)
class Axis:
    """`low` lies at `start_px` and `high` at `stop_px`; ticks are the multiples of `step` between them."""

    low: float
    high: float
    step: float
    start_px: float
    stop_px: float

    def px(self, values: Values) -> Values:
        return self.start_px + (values - self.low) / (self.high - self.low) * (self.stop_px - self.start_px)

    def ticks(self) -> list[tuple[float, str]]:
        """(px, label) of each tick; a label has as many digits as the step needs."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        values = [number * self.step + 0.0 for number in range(first, last + 1)]
        return [(self.px(value), f"{value:.{digits}f}") for value in values]


def axis(low: float, high: float, steps: int, start_px: float, stop_px: float) -> Axis:
    """An axis from `low` to `high` with at most `steps` steps, each 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / steps))
    step = next(times * power for times in (1, 2, 5, 10) if (high - low) / (times * power) <= steps)
    return Axis(low, high, step, start_px, stop_px)


def rounded_axis(low: float, high: float, steps: int, start_px: float, stop_px: float) -> Axis:
    """As `axis`, extended to a tick at both ends. `low` and `high` may be equal."""
    if high == low:
        low -= 0.1 * abs(high) or 1.0
    step = axis(low, high, steps, start_px, stop_px).step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, max(last, first + 1) * step, step, start_px, stop_px)


def draw_levels(draw: ImageDraw.ImageDraw, x: Axis, y: Axis, line: Colour, ink: Colour, font: Font) -> None:
    """A line across at each tick of y, with its label to the left."""
    for y_px, label in y.ticks():
        draw.line([(x.start_px, y_px), (x.stop_px, y_px)], fill=line)
        draw.text((x.start_px - 6, y_px), label, fill=ink, font=font, anchor="rm")


def draw_below(draw: ImageDraw.ImageDraw, x: Axis, y_px: float, unit: str, ink: Colour, font: Font) -> None:
    """The horizontal axis, at `y_px`: its line, and a mark and a label at each tick, the label 0 with the unit."""
    draw.line([(x.start_px, y_px), (x.stop_px, y_px)], fill=ink)
    for x_px, label in x.ticks():
        draw.line([(x_px, y_px), (x_px, y_px + 4)], fill=ink)
        draw.text((x_px, y_px + 6), label if float(label) else f"{label} {unit}", fill=ink, font=font, anchor="ma")


def draw_curve(draw: ImageDraw.ImageDraw, x_px: np.ndarray, y_px: np.ndarray, colour: Colour, width_px: int) -> None:
    """A curve through these points."""
    draw.line(list(zip(x_px.tolist(), y_px.tolist())), fill=colour, width=width_px, joint="curve")
