"""A clip at a glance: what the model sees of it, as one picture.

Shape suffixes: T frames, K moments shown, N landmarks, H height, W width, S audio samples, 3 = RGB or (x, y, z),
2 = (x, y).
"""

from __future__ import annotations

import numbers
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from mytalk import plot
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, MOUTH, OUTER_LIP, opening
from mytalk.face.region import regions
from mytalk.networks.appearance import inputs

MOMENTS = 8
TILE_PX, GAP_PX, LEFT_PX, RIGHT_PX = 184, 6, 124, 28
TITLE_PX, WAVE_PX, CURVE_PX, AXIS_PX = 78, 110, 140, 46
WIDTH_PX = LEFT_PX + MOMENTS * (TILE_PX + GAP_PX) - GAP_PX + RIGHT_PX
TIME_AXIS_PX = (LEFT_PX, WIDTH_PX - RIGHT_PX)  # the first and the last px of the axis of time
MOUTH_WIDE = 1.5  # side of the mouth's picture over the widest extent of the lips in the clip
QUIET = 0.05  # speech with a lower peak is not enlarged to fill its row
INK, FAINT, GRID, PAPER = (35, 35, 35), (110, 110, 110), (222, 222, 222), (255, 255, 255)
# Light blue and yellow stay apart for colour-blind readers, and from skin.
DOTS, LIPS, SPEECH, CURVE = (90, 205, 255), (255, 225, 0), (70, 110, 170), (200, 90, 20)
CHANNELS = [LIPS, (255, 120, 40), DOTS]  # of the generator's dots: inner lips, outer lips, all others
FACTS = {  # column of the manifest -> how it is written
    "face_px": "face {:.0f} px",
    "yaw_deg": "yaw {:+.0f}°",
    "roll_deg": "roll {:+.0f}°",
    "sync_offset": "sync offset {:+.1f} frames, corrected",
    "sync_confidence": "sync confidence {:.1f}",
}


def of_clip(manifest: Manifest, row: int) -> Image.Image:
    """The picture of a clip. Raises ClipError where it is damaged, OSError."""
    landmarks_TN3 = reader.read_landmarks(manifest, row) * (CROP_PX / _crop_px(manifest, row))
    audio_S = reader.read_audio(manifest, row)
    frames = len(landmarks_TN3)
    moments = np.unique(np.linspace(0, frames - 1, MOMENTS).round().astype(int))
    shown_KHW3 = _frames(manifest, row, moments)
    strips = _strips(landmarks_TN3, moments, shown_KHW3)
    height = TITLE_PX + len(strips) * (TILE_PX + GAP_PX) + WAVE_PX + CURVE_PX + AXIS_PX
    picture = Image.new("RGB", (WIDTH_PX, height), PAPER)
    draw = ImageDraw.Draw(picture)
    key, facts = title(manifest, row, frames, shown_KHW3 is not None)
    _fitted(draw, 8, key, 28, INK)
    _fitted(draw, 45, facts, 18, FAINT)
    y = TITLE_PX
    for label, tiles in strips:
        _label(draw, y + TILE_PX // 2, label)
        for at, tile in enumerate(tiles):
            picture.paste(tile, (LEFT_PX + at * (TILE_PX + GAP_PX), y))
            if y == TITLE_PX:
                _stamp(draw, LEFT_PX + at * (TILE_PX + GAP_PX), y, f"{moments[at] / FRAME_HZ:.2f} s")
        y += TILE_PX + GAP_PX
    _wave(draw, y, audio_S)
    _curve(draw, y + WAVE_PX, opening(landmarks_TN3), moments)
    return picture


# What the rows show


def _strips(landmarks_TN3: np.ndarray, moments: np.ndarray, shown_KHW3: np.ndarray | None) -> list[tuple[str, list]]:
    """Rows of tiles with their labels; of a clip without frames the dots alone."""
    landmarks_KN3 = landmarks_TN3[moments]
    dots_K3HW = inputs.draw(torch.from_numpy(landmarks_KN3[..., :2]), TILE_PX)
    coloured_K3HW = torch.zeros_like(dots_K3HW)
    for channel, colour in reversed(list(enumerate(CHANNELS))):  # the inner lips uppermost
        paint_311 = torch.tensor(colour)[:, None, None] / 255
        coloured_K3HW = torch.lerp(coloured_K3HW, paint_311.expand_as(dots_K3HW), dots_K3HW[:, channel, None])
    dots = ("dots\nto paint", [Image.fromarray(picture) for picture in _as_uint8(coloured_K3HW * 2 - 1)])
    if shown_KHW3 is None:
        return [dots]
    masks_K1HW = inputs.polygon_mask(torch.from_numpy(regions(landmarks_TN3)[moments]), CROP_PX)
    frames_K3HW = torch.from_numpy(shown_KHW3).permute(0, 3, 1, 2) / 127.5 - 1
    hidden_KHW3 = _as_uint8(inputs.black_out(frames_K3HW, masks_K1HW))
    everything_K3 = np.tile([0.0, 0.0, CROP_PX], (len(moments), 1))
    faces = zip(shown_KHW3, landmarks_KN3, everything_K3)
    mouths = zip(shown_KHW3, landmarks_KN3, _mouth_squares(landmarks_TN3)[moments])
    return [
        ("landmarks", [_dotted(*face, radius_px=0.9) for face in faces]),
        (
            "mouth",
            [_dotted(*mouth, radius_px=1.6, lips_alone=True) for mouth in mouths],
        ),
        dots,
        ("frame\nto fill", [_tile(picture) for picture in hidden_KHW3]),
    ]


def _mouth_squares(landmarks_TN3: np.ndarray) -> np.ndarray:
    """Squares of one size round every frame's lips: (T, 3) left, top and side in crop px."""
    lips_TN2 = landmarks_TN3[:, OUTER_LIP, :2]
    low_T2, high_T2 = lips_TN2.min(1), lips_TN2.max(1)
    side = max(float((high_T2 - low_T2).max()) * MOUTH_WIDE, 8.0)
    corner_T2 = (low_T2 + high_T2 - side) / 2
    return np.concatenate([corner_T2, np.full((len(corner_T2), 1), side)], axis=1)


def _dotted(
    frame_HW3: np.ndarray, landmarks_N3: np.ndarray, square_3: np.ndarray, radius_px: float, lips_alone: bool = False
) -> Image.Image:
    """A square of a frame (left, top and side in crop px) as a tile, with its landmarks as dots of tile px."""
    left, top, side = square_3.tolist()
    enlarged = 3  # drawn larger, then reduced: dots are round, and may lie between pixels
    big_px = TILE_PX * enlarged
    scale = big_px / side
    to_crop = (1 / scale, 0, left, 0, 1 / scale, top)
    big = Image.fromarray(frame_HW3).transform(
        (big_px, big_px), Image.Transform.AFFINE, to_crop, Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(big)
    others = [] if lips_alone else [index for index in range(len(landmarks_N3)) if index not in set(MOUTH)]
    for indices, colour in ((others, DOTS), (MOUTH, LIPS)):
        for x, y in ((landmarks_N3[indices, :2] - (left, top)) * scale).tolist():
            reach = radius_px * enlarged
            draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=colour)
    return big.resize((TILE_PX, TILE_PX), Image.Resampling.BOX)


def _tile(picture_HW3: np.ndarray) -> Image.Image:
    return Image.fromarray(picture_HW3).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)


def _as_uint8(pictures_K3HW: torch.Tensor) -> np.ndarray:
    """[-1, 1] -> (K, H, W, 3) uint8."""
    return ((pictures_K3HW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def _frames(manifest: Manifest, row: int, moments: np.ndarray) -> np.ndarray | None:
    """The frames of these moments at CROP_PX, (K, H, W, 3) uint8; None where the shards have no frames column."""
    if not _fact(manifest, row, "video_size"):
        return None
    try:
        frames_KHW3 = video_reader.read_video(manifest, row, moments.tolist())
    except FileNotFoundError:
        return None
    if frames_KHW3.shape[1:3] == (CROP_PX, CROP_PX):
        return frames_KHW3
    resized = [Image.fromarray(frame).resize((CROP_PX, CROP_PX), Image.Resampling.LANCZOS) for frame in frames_KHW3]
    return np.stack([np.asarray(frame) for frame in resized])


# Words and curves


def title(manifest: Manifest, row: int, frames: int, has_video: bool) -> tuple[str, str]:
    """The key; and below it the person, where the clip is from, and the facts that the manifest has."""
    values = {name: _fact(manifest, row, name) for name in ("identity", "corpus", "split", *FACTS)}
    facts = [f"person {values['identity']}", f"corpus {values['corpus']}", f"split {values['split'] or 'none yet'}"]
    facts.append(f"{frames} frames, {frames / FRAME_HZ:.2f} s")
    facts += [form.format(values[name]) for name, form in FACTS.items() if isinstance(values[name], numbers.Real)]
    if not has_video:
        facts.append("these shards hold no frames")
    return _text(manifest.column("key")[row]), "   ·   ".join(map(_text, facts))


def _fitted(draw: ImageDraw.ImageDraw, y: int, text: str, size: int, colour: tuple[int, int, int]) -> None:
    """A line of text, smaller or cut where it would be too long."""
    room = WIDTH_PX - 2 * RIGHT_PX
    while size > 13 and draw.textlength(text, font=ImageFont.load_default(size)) > room:
        size -= 1
    font = ImageFont.load_default(size)
    while draw.textlength(text, font=font) > room:
        text = text[: len(text) * 9 // 10 - 3] + "..."
    draw.text((RIGHT_PX, y), text, fill=colour, font=font)


def _label(draw: ImageDraw.ImageDraw, y: int, text: str) -> None:
    font = ImageFont.load_default(17)
    draw.multiline_text((LEFT_PX - 30, y), text, fill=INK, font=font, anchor="rm", align="right")


def _stamp(draw: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    font = ImageFont.load_default(15)
    draw.rectangle([x, y, x + draw.textlength(text, font=font) + 10, y + 21], fill=(0, 0, 0))
    draw.text((x + 5, y + 2), text, fill=(255, 255, 255), font=font)


def _wave(draw: ImageDraw.ImageDraw, top: int, audio_S: np.ndarray) -> None:
    """Speech as the range of its samples under every px of the axis."""
    peak = float(np.abs(audio_S).max(initial=0.0))
    _label(draw, top + WAVE_PX // 2, f"speech\npeak {peak:.2f}")
    middle, reach = top + WAVE_PX / 2, (WAVE_PX / 2 - 8) / max(peak, QUIET)
    x0, x1 = TIME_AXIS_PX
    edges = np.linspace(0, len(audio_S), x1 - x0 + 1).round().astype(int)
    draw.line([(x0, middle), (x1, middle)], fill=GRID)
    for x, (start, stop) in enumerate(pairwise(edges), x0):
        part_S = audio_S[start : max(stop, start + 1)]
        if part_S.size:
            draw.line(
                [(x, middle - reach * float(part_S.max())), (x, middle - reach * float(part_S.min()))], fill=SPEECH
            )


def _curve(draw: ImageDraw.ImageDraw, top: int, opening_T: np.ndarray, moments: np.ndarray) -> None:
    """How far the mouth is open, each frame in the middle of its 40 ms; and where the moments above were taken."""
    _label(draw, top + CURVE_PX // 2, "mouth\nopening\n(px at 256)")
    bottom, frames = top + CURVE_PX, len(opening_T)
    x = plot.axis(0, frames / FRAME_HZ, 12, *TIME_AXIS_PX)
    y = plot.rounded_axis(0, max(float(opening_T.max()), 1.0), 5, bottom, top + 14)
    plot.draw_levels(draw, x, y, GRID, FAINT, ImageFont.load_default(13))
    plot.draw_below(draw, x, bottom, "s", INK, ImageFont.load_default(16))
    x_T = x.px((np.arange(frames) + 0.5) / FRAME_HZ)
    for at in x_T[moments].tolist():
        draw.line([(at, top - WAVE_PX + 4), (at, bottom)], fill=FAINT)
        draw.polygon([(at - 5, top - WAVE_PX), (at + 5, top - WAVE_PX), (at, top - WAVE_PX + 8)], fill=FAINT)
    plot.draw_curve(draw, x_T, y.px(opening_T), CURVE, 3)


# What the manifest says


def _fact(manifest: Manifest, row: int, name: str) -> Any:
    """A column's value in a row; None where the column or the value is missing, or is NaN."""
    value = manifest.at(row, name) if manifest.has(name) else None
    return None if value is None or value != value else value


def _crop_px(manifest: Manifest, row: int) -> float:
    return float(_fact(manifest, row, "crop_px") or CROP_PX)


def _text(value: Any) -> str:
    """Text in one line for a picture."""
    return "".join(character if character.isprintable() else "?" for character in str(value))
