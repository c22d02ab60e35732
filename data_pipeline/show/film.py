"""A source video with what extraction made of it drawn in: tracks, who speaks, cuts, and the verdict on every span.

Nothing is detected again. Boxes are the spans' median boxes in the ledger, lips those of the kept clips.
Shape suffixes: T frames, H height, W width, 2 = (x, y), 3 = RGB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.extract.listing import names
from data_pipeline.shards import reader
from data_pipeline.show.story import DrawnSpan, Story, crop_of
from mytalk import media, plot
from mytalk.command import UserError
from mytalk.face import crop
from mytalk.face.landmarks import FRAME_HZ, INNER_LIP, OUTER_LIP
from mytalk.progress import Progress

LONGEST_PX = 1280  # side of the film: larger sources are shrunk
CUT_FRAMES = 8  # for which a cut is marked
LANE_PX, AXIS_PX = 16, 20  # of the timeline: a lane for each track, the seconds
HELD_LIPS = 8  # clips
INK, PAPER, PLAYHEAD, LIPS = (235, 235, 235), (24, 24, 28), (255, 255, 255), (255, 225, 0)


def write(told: Story, videos: Path, out: Path) -> None:
    """Write the film, with the source's sound. Raises MediaError, UserError where the video is missing, OSError."""
    path = videos / names.to_path(told.source)
    if not path.is_file():
        raise UserError(f"no file {names.to_text(path)}; name with --videos the folder that was extracted")
    progress = Progress("show", told.frames, "frames")
    media.write_video(out, _frames(told, path, progress), FRAME_HZ, _sound(path))
    progress.finish()


def _sound(path: Path) -> np.ndarray | None:
    try:
        return media.read_audio(path, notes=media.Notes())
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        return None


def _frames(told: Story, path: Path, progress: Progress) -> Iterator[np.ndarray]:
    canvas: Canvas | None = None
    for number, frame_HW3 in enumerate(media.read_frames(path, notes=media.Notes())):
        canvas = canvas or Canvas(told, frame_HW3.shape[1], frame_HW3.shape[0])
        yield canvas.frame(frame_HW3, number)
        progress.step()


class Canvas:
    """Draws the frames of a source of `width` x `height` px, with a timeline below."""

    def __init__(self, told: Story, width: int, height: int):
        self.told = told
        self.scale = min(1.0, LONGEST_PX / max(width, height))
        self.width, self.height = (2 * max(round(side * self.scale / 2), 1) for side in (width, height))
        self.font_px = max(12, round(self.height / 32))
        self.font = ImageFont.load_default(self.font_px)
        self.small = ImageFont.load_default(11)
        self.timeline = self._timeline()
        self._lips: dict[int, np.ndarray] = {}

    def frame(self, frame_HW3: np.ndarray, number: int) -> np.ndarray:
        """One frame with what is known of it: (H + timeline, W, 3)."""
        picture = Image.new("RGB", (self.width, self.height + self.timeline.height), PAPER)
        picture.paste(Image.fromarray(frame_HW3).resize((self.width, self.height), Image.Resampling.BILINEAR), (0, 0))
        picture.paste(self.timeline, (0, self.height))
        draw = ImageDraw.Draw(picture)
        for span in self.told.spans:
            if span.start <= number < span.stop:
                self._span(draw, span, number)
        self._head(draw, number)
        x = self._x(number)
        draw.line([(x, self.height), (x, picture.height)], fill=PLAYHEAD, width=2)
        return np.asarray(picture)

    def _span(self, draw: ImageDraw.ImageDraw, span: DrawnSpan, number: int) -> None:
        if span.box_3 is not None:
            x, y, side = (value * self.scale for value in span.box_3)
            left, top = x - side / 2, y - side / 2
            draw.rectangle([left, top, left + side, top + side], outline=span.colour, width=3)
            self._words(draw, left, top - self.font_px - 8, span.words, span.colour)
        else:
            lane = self.told.lanes[span.track]
            self._words(draw, 8, (lane + 2) * (self.font_px + 8), span.words, span.colour)
        if span.row is not None:
            lips_TN2 = self._lips_of(span.row)
            for ring in np.split(lips_TN2[number - span.start], [len(OUTER_LIP)]):
                draw.polygon([tuple(point) for point in ring.tolist()], outline=LIPS)

    def _lips_of(self, row: int) -> np.ndarray:
        """The rings of the lips in px of the film, (T, outer and inner, 2); only the clips under way are kept."""
        if row not in self._lips:
            landmarks_TN3 = reader.read_landmarks(self.told.manifest, row)[:, [*OUTER_LIP, *INNER_LIP]]
            back_23 = crop.invert(crop_of(self.told.manifest, row))
            if len(self._lips) >= HELD_LIPS:
                del self._lips[next(iter(self._lips))]
            self._lips[row] = crop.apply(landmarks_TN3[..., :2], back_23) * self.scale
        return self._lips[row]

    def _head(self, draw: ImageDraw.ImageDraw, number: int) -> None:
        """Time and shot at the top; a cut as a bright frame for a moment."""
        shots = [cut for cut in self.told.cuts if 0 < cut <= number]
        words = f"{number / FRAME_HZ:.2f} s   shot {len(shots) + 1}   {self.told.source}: {self.told.state}"
        self._words(draw, 8, 6, words, INK)
        if shots and number - shots[-1] < CUT_FRAMES:
            draw.rectangle([0, 0, self.width - 1, self.height - 1], outline=PLAYHEAD, width=6)
            self._words(draw, self.width - 8 - draw.textlength("cut", font=self.font), 6, "cut", PLAYHEAD)

    def _words(self, draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: tuple[int, int, int]) -> None:
        """A line of text on a dark ground, inside the picture."""
        text = "".join(character if character.isprintable() else "?" for character in text)
        width, height = draw.textlength(text, font=self.font), self.font_px + 6
        x, y = max(min(x, self.width - width - 4), 0), max(min(y, self.height - height), 0)
        draw.rectangle([x, y, x + width + 8, y + height], fill=PAPER)
        draw.text((x + 4, y + 2), text, fill=colour, font=self.font)

    def _x(self, number: float) -> float:
        return number / max(self.told.frames, 1) * (self.width - 1)

    def _timeline(self) -> Image.Image:
        """Lanes of spans in their colours, cuts as lines through them, seconds below."""
        lanes = max(self.told.lanes.values(), default=0) + 1
        picture = Image.new("RGB", (self.width, 2 * ((lanes * LANE_PX + AXIS_PX) // 2)), PAPER)
        draw = ImageDraw.Draw(picture)
        for span in self.told.spans:
            top = self.told.lanes[span.track] * LANE_PX + 2
            draw.rectangle([self._x(span.start), top, self._x(span.stop) - 1, top + LANE_PX - 5], fill=span.colour)
        for cut in self.told.cuts:
            draw.line([(self._x(cut), 0), (self._x(cut), lanes * LANE_PX)], fill=INK)
        axis = plot.axis(0, max(self.told.frames, 1) / FRAME_HZ, 12, 0, self.width - 1)
        for x, label in axis.ticks():
            draw.line([(x, lanes * LANE_PX), (x, lanes * LANE_PX + 4)], fill=INK)
            draw.text((min(x + 3, self.width - 24), lanes * LANE_PX + 4), label, fill=INK, font=self.small)
        return picture
