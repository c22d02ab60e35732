"""Mouth openings over time as a picture: does the generated mouth open when the true one does?"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.records import ClipScore
from mytalk.face.landmarks import FRAME_HZ

WIDTH_PX, PANEL_PX, HEAD_PX = 1200, 220, 34
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 52, 16, 30, 26  # margins of a panel's plot
TICKS_PX = (1, 2, 5, 10, 20, 50, 100)  # steps of the opening axis
INK, GRID = (40, 40, 40), (225, 225, 225)
# Blue, orange and grey stay apart for colour-blind readers; the truth is drawn widest, below the others.
CURVES = {
    "truth": ((150, 150, 150), 5),
    "shuffled_audio": ((230, 145, 40), 2),
    "mytalk": ((30, 100, 200), 2),
}


def openings(scores: list[ClipScore]) -> Image.Image:
    """A panel for each clip that kept its curves: opening in px at 256 over seconds."""
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
    highest = max(max(curve) for curve in score.openings_px.values())
    step = next((tick for tick in TICKS_PX if highest / tick <= 5), TICKS_PX[-1])
    scale_px = step * (int(highest / step) + 1)
    frames = len(score.openings_px["truth"])
    x0, x1 = LEFT_PX, WIDTH_PX - RIGHT_PX
    y0, y1 = top_px + PANEL_PX - BOTTOM_PX, top_px + TOP_PX

    def place(seconds, opening_px):
        return x0 + seconds * FRAME_HZ / max(frames - 1, 1) * (x1 - x0), y0 - opening_px / scale_px * (y0 - y1)

    for value in range(0, scale_px + 1, step):
        y = place(0, value)[1]
        draw.line([(x0, y), (x1, y)], fill=GRID)
        draw.text((x0 - 8, y), str(value), fill=INK, font=font, anchor="rm")
    for second in range((frames - 1) // FRAME_HZ + 1):
        x = place(second, 0)[0]
        draw.line([(x, y0), (x, y0 + 4)], fill=INK)
        draw.text((x, y0 + 5), str(second), fill=INK, font=font, anchor="ma")
    for name, (colour, width) in CURVES.items():
        curve = np.array(score.openings_px[name])
        x, y = place(np.arange(len(curve)) / FRAME_HZ, curve)
        draw.line(list(zip(x.tolist(), y.tolist())), fill=colour, width=width, joint="curve")
    found = [f"{name} {score.methods[name]['opening_correlation']:.2f}" for name in ("mytalk", "shuffled_audio")]
    draw.text((x0, top_px + 8), f"{score.key}    correlation: {', '.join(found)}", fill=INK, font=font)
