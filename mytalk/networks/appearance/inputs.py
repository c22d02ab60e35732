"""The inputs of the appearance generator, and the masks that blend its painting: windows, dots, masks.

Points and polygons are in crop px where nothing else is said; "window px" are those of the network's pictures.

Shape suffixes: B batch, N landmarks (478), V vertices of the region's polygon, H height, W width, 3 = RGB, 2 = (x, y).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from mytalk.face import warp
from mytalk.face.landmarks import COUNT, CROP_PX, INNER_LIP, OUTER_LIP
from mytalk.face.warp import BLACK

if TYPE_CHECKING:
    from mytalk.networks.appearance.config import AppearanceConfig

Pixels = TypeVar("Pixels", torch.Tensor, np.ndarray)
EDGE_PX, EDGE_SIGMA_PX = 21, 11.0  # Gaussian edge of the mask, at 256 px (default: as IP_LAP)
RIM_PX = 8  # of the crop, over which the mask fades towards a side of the window or of the crop
OWN_PX = 10  # from the region's edge inwards over which a network's own picture comes in, at 256 px
NEAR_PX = 8  # reach of the base picture's filling, at 256 px
USUAL_GAIN = 0.3  # logarithm of a ratio of light at which a pixel counts half
DARKEST, MOST_GAIN = 0.05, 0.7  # light that is added before a ratio of two is taken; largest logarithm of that ratio
ABOVE = 2 * DARKEST - BLACK  # the same for pixels from -1 to 1
DOT_PX = 1.0  # radius of a landmark in its picture (paper's siblings)


def corners(region_BV2: np.ndarray, config: AppearanceConfig) -> np.ndarray:
    """The left and top of each frame's window, the region in its middle: (B, 2) crop px, whole window px."""
    size_2, whole_px = np.array(config.window_px[::-1]), max(int(config.step_px), 1)
    middle_B2 = (region_BV2.min(1) + region_BV2.max(1)) / 2
    corner_B2 = np.round((middle_B2 - size_2 / 2) / whole_px).astype(int) * whole_px
    return np.clip(corner_B2, 0, CROP_PX - size_2)


def cut(
    frames_BHW3: np.ndarray, corner_B2: np.ndarray, config: AppearanceConfig, out_B3HW: np.ndarray | None = None
) -> np.ndarray:
    """The windows of uint8 crops as the network takes them, resized by area mean: (B, 3, H, W) float32 in [-1, 1].

    The crops have a side of 256 or 512 px; those of 256 are enlarged for a network that sees 512. Written to `out_B3HW`
    where that is passed.
    """
    times, shape = frames_BHW3.shape[1] // CROP_PX, config.shape
    height, width = (times * side for side in config.window_px)
    step = height // shape[0]
    out = np.empty((len(frames_BHW3), 3, *shape), np.float32) if out_B3HW is None else out_B3HW
    for target_3HW, frame_HW3, (x, y) in zip(torch.from_numpy(out), frames_BHW3, times * corner_B2):
        window_3HW = torch.from_numpy(frame_HW3[y : y + height, x : x + width]).permute(2, 0, 1)
        window_3HW = window_3HW.contiguous()  # permuting bytes and then converting is twice as fast as both at once
        if step > 1:
            window_3HW = window_3HW.reshape(3, shape[0], step, shape[1], step).float().mean((2, 4))
        elif step < 1:
            window_3HW = F.interpolate(window_3HW[None].float(), size=shape, mode="bilinear")[0]
        target_3HW.copy_(window_3HW).div_(127.5).sub_(1)
    return out


def rims(corner_B2: np.ndarray, config: AppearanceConfig, times: int = 1) -> np.ndarray:
    """The most that a mask may be in each window: (B, H, W) float32, `times` px for a px of the crop.

    1, falling to 0 over RIM_PX towards each side that lies inside the crop. Towards the crop's own border
    nothing falls here: mytalk/dub/compositing.py fades there.
    """
    sides, rim_px = [], times * RIM_PX
    for axis, size in enumerate(config.window_px[::-1]):
        at, low_B1 = np.arange(times * size), corner_B2[:, axis, None]
        from_low_BX = np.where(low_B1 > 0, at, rim_px)
        from_high_BX = np.where(low_B1 + size < CROP_PX, at[::-1], rim_px)
        sides.append(np.minimum(from_low_BX, from_high_BX).clip(max=rim_px) / rim_px)
    across_BW, down_BH = sides
    return np.minimum(down_BH[:, :, None], across_BW[:, None]).astype(np.float32)


def draw(landmarks_BN2: torch.Tensor, size_px: int) -> torch.Tensor:
    """Landmarks in crop px as white dots on black: (B, 3, size_px, size_px) in [0, 1].

    Unconnected filled dots of radius 1 px, as the paper draws them, with a soft rim, so that a shift by less
    than a pixel shows. Inner lips, outer lips and all other points have a channel each (our default): in one,
    nearly closed lips cannot be distinguished.
    """
    return landmark_dots(landmarks_BN2 * (size_px / CROP_PX), (size_px, size_px))


def polygon_mask(polygon_BV2: torch.Tensor, size_px: int) -> torch.Tensor:
    """1 at pixels whose middle lies inside a polygon in crop px, else 0: (B, 1, size_px, size_px)."""
    return region_mask(polygon_BV2 * (size_px / CROP_PX), (size_px, size_px))


def landmark_dots(points_BN2: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """`draw` in the pixels of a picture of `shape` (height, width): (B, 3, H, W)."""
    height, width = shape
    channel_N = torch.full((COUNT,), 2, device=points_BN2.device)
    channel_N[INNER_LIP], channel_N[OUTER_LIP] = 0, 1
    near = torch.arange(-2, 3, device=points_BN2.device)
    home_BN2 = points_BN2.floor().long()
    x_BN5, y_BN5 = home_BN2[..., :1] + near, home_BN2[..., 1:] + near
    across_BN5, down_BN5 = (x_BN5 + 0.5 - points_BN2[..., :1]) ** 2, (y_BN5 + 0.5 - points_BN2[..., 1:]) ** 2
    distance_BN55 = (down_BN5[..., :, None] + across_BN5[..., None, :]).sqrt()
    light_BN55 = (DOT_PX + 0.5 - distance_BN55).clamp(0, 1)
    seen_BN55 = ((y_BN5 >= 0) & (y_BN5 < height))[..., :, None] & ((x_BN5 >= 0) & (x_BN5 < width))[..., None, :]
    place_BN55 = (channel_N[:, None, None] * height + y_BN5[..., :, None]) * width + x_BN5[..., None, :]
    picture = points_BN2.new_zeros(len(points_BN2), 3 * height * width)
    place, light = torch.where(seen_BN55, place_BN55, 0), torch.where(seen_BN55, light_BN55, 0.0)
    picture.scatter_reduce_(1, place.flatten(1), light.flatten(1), "amax")
    return picture.view(-1, 3, height, width)


def region_mask(polygon_BV2: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """`polygon_mask` in the pixels of a picture of `shape`, by the even-odd rule: (B, 1, H, W)."""
    height, width = shape
    y_H = torch.arange(height, device=polygon_BV2.device, dtype=polygon_BV2.dtype) + 0.5
    x_BV1, y_BV1 = polygon_BV2[..., :1], polygon_BV2[..., 1:]
    next_x_BV1, next_y_BV1 = x_BV1.roll(-1, 1), y_BV1.roll(-1, 1)
    crossed_BVH = (y_BV1 > y_H) != (next_y_BV1 > y_H)
    rise_BV1 = torch.where(next_y_BV1 == y_BV1, 1.0, next_y_BV1 - y_BV1)
    at_BVH = x_BV1 + (y_H - y_BV1) / rise_BV1 * (next_x_BV1 - x_BV1)
    left_BVH = (at_BVH - 0.5).ceil().clamp(0, width).long()  # how many pixels of the row lie left of the crossing
    ends_BHW = torch.zeros(len(polygon_BV2), height, width + 1, dtype=torch.int32, device=polygon_BV2.device)
    ends_BHW.scatter_add_(2, left_BVH.transpose(1, 2), crossed_BVH.transpose(1, 2).int())
    right_BHW = ends_BHW.sum(2, keepdim=True) - ends_BHW.cumsum(2)  # crossings to the right of each pixel
    return (right_BHW[:, None, :, :width] % 2).to(polygon_BV2.dtype)


def soften(mask_B1HW: torch.Tensor, size_px: int) -> torch.Tensor:
    """A mask with a Gaussian edge: still 1 wherever it was 1, 0 beyond 20 px (at 256) from there.

    Widened by the edge's half and blurred (IP_LAP: 21 px, sigma 11), so that no blacked-out pixel of the
    frame shows through the edge.
    """
    half = round(EDGE_PX // 2 * size_px / CROP_PX)
    if half == 0:
        return mask_B1HW
    wide_B1HW = (along_both(mask_B1HW, within, half) > 0).to(mask_B1HW.dtype)
    blurred_B1HW = along_both(wide_B1HW, blurring, half, EDGE_SIGMA_PX * size_px / CROP_PX)
    return torch.where(mask_B1HW > 0, mask_B1HW, blurred_B1HW.clamp(0, 1))


def along_both(maps_BDHW: torch.Tensor, weights: Callable[..., torch.Tensor], *how: float) -> torch.Tensor:
    """Sums over rows and over columns of places, each weighted as `weights(size, *how)` (size, size) says."""
    down_HH, across_WW = (weights(size, *how).to(maps_BDHW) for size in maps_BDHW.shape[2:])
    return down_HH @ (maps_BDHW.flatten(0, 2) @ across_WW.T).view_as(maps_BDHW)


@functools.cache
def within(size: int, reach: int) -> torch.Tensor:
    """1 for places that are at most `reach` apart: (size, size)."""
    place = torch.arange(size)
    return ((place[:, None] - place).abs() <= reach).float()


@functools.cache
def blurring(size: int, half: int, sigma: float) -> torch.Tensor:
    """A Gaussian of 2 `half` + 1 places; what lies beyond the border is as its nearest place: (size, size)."""
    distance = torch.arange(-half, half + 1)
    kernel = torch.exp(-(distance**2) / (2 * sigma**2))
    from_place = (torch.arange(size)[:, None] + distance).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, from_place, (kernel / kernel.sum()).expand(size, -1))


def black_out(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Frames with the mask blacked out: x_lip- of the paper."""
    return torch.where(mask > 0, BLACK, frames)


def keep_region(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Frames with all but the mask blacked out: x_lip+ of the paper."""
    return torch.where(mask > 0, frames, BLACK)


def blend(painted: Pixels, frames: Pixels, soft: Pixels) -> Pixels:
    """The result: the painting where the soft mask is 1, the frame where it is 0."""
    return frames + soft * (painted - frames)


def base_picture(
    masked_B3HW: torch.Tensor,
    soft_B1HW: torch.Tensor,
    references_BRDHW: torch.Tensor,
    theirs_BRN2: torch.Tensor,
    asked_BN2: torch.Tensor,
    config: AppearanceConfig,
) -> torch.Tensor:
    """What the painter may copy pixels from: the frame, and in the region the references: (B, 3, H, W) in [-1, 1].

    With `base` "moved", whole windows of the references (as `warp.seen` makes them) moved to the landmarks that are
    asked for, as light as the frame, also where the soft mask falls: one picture turns into the other over its edge,
    and no step shows. With "mean", the mean of the references' lower faces, inside alone. Where nothing is known, the
    mean of nearby pixels.
    Landmarks in px of the window; references of batch 1 are every frame's.
    """
    seen_B1HW = masked_B3HW.amax(1, keepdim=True) > BLACK
    if config.moves:
        shown_B3HW = warp.moved(references_BRDHW, theirs_BRN2, asked_BN2)
        taken_B1HW = (soft_B1HW > 0) & (shown_B3HW.amax(1, keepdim=True) > BLACK)
        shown_B3HW = as_light(shown_B3HW, masked_B3HW, taken_B1HW & seen_B1HW)
    else:
        shown_B3HW, taken_B1HW = mean_shown(references_BRDHW), ~seen_B1HW
    base_B3HW = torch.where(taken_B1HW, shown_B3HW, masked_B3HW)
    known_B1HW = base_B3HW.amax(1, keepdim=True) > BLACK
    if bool(known_B1HW.all()):
        return base_B3HW
    reach = max(1, round(NEAR_PX * config.size_px / CROP_PX))
    one_pixel = 1 / (2 * reach + 1) ** 2
    share_B1HW = mean_around(known_B1HW.to(base_B3HW.dtype), reach).clamp(min=one_pixel)
    filled_B3HW = mean_around(base_B3HW - BLACK, reach) / share_B1HW + BLACK
    return torch.where(known_B1HW, base_B3HW, filled_B3HW)


def around_frames(frame_B: np.ndarray, count: int, config: AppearanceConfig) -> np.ndarray:
    """The frames whose landmarks are seen with each frame of a stretch of `count`: (B, K), its own in the middle."""
    half = config.landmark_frames // 2
    return np.clip(frame_B[:, None] + np.arange(-half, half + 1), 0, count - 1)


def time_pictures(
    points_BKN2: torch.Tensor, previous_B3HW: torch.Tensor | None, config: AppearanceConfig
) -> torch.Tensor | None:
    """What frames around show: the dots of each neighbour, then the frame before; (B, time_channels, H, W) or None."""
    middle = config.landmark_frames // 2
    others = [points_N2 for number, points_N2 in enumerate(points_BKN2.unbind(1)) if number != middle]
    pictures = [landmark_dots(points_BN2, config.shape) for points_BN2 in others]
    if previous_B3HW is not None:
        pictures.append(previous_B3HW)
    return torch.cat(pictures, 1) if pictures else None


def own_share(masked_B3HW: torch.Tensor, size_px: int) -> torch.Tensor:
    """Where a network may depart from the base picture: 0 outside the region and at its edge, 1 from OWN_PX inwards.

    So no network, however trained, puts a step back where one picture turns into the other: (B, 1, H, W).
    """
    inside_B1HW = (masked_B3HW.amax(1, keepdim=True) <= BLACK).to(masked_B3HW.dtype)
    reach = max(1, round(OWN_PX * size_px / CROP_PX))
    return (2 * mean_around(inside_B1HW, reach) - 1).clamp(0, 1) * inside_B1HW


def mean_shown(lips_BR3HW: torch.Tensor) -> torch.Tensor:
    """The mean of the references at each pixel, over those that are not black there: (B, 3, H, W)."""
    shown_BR1HW = (lips_BR3HW.amax(2, keepdim=True) > BLACK).to(lips_BR3HW.dtype)
    light_BR3HW = (lips_BR3HW - BLACK) * shown_BR1HW
    return light_BR3HW.sum(1) / shown_BR1HW.sum(1).clamp(min=1) + BLACK


def as_light(shown_B3HW: torch.Tensor, frame_B3HW: torch.Tensor, where_B1HW: torch.Tensor) -> torch.Tensor:
    """A picture made as light as the frame is where both are seen, each channel by one gain: (B, 3, H, W).

    Pixels that differ much, as hair before skin, count little. A gain leaves a dark mouth dark.
    """
    light_B3HW = shown_B3HW + ABOVE
    step_B3HW = ((frame_B3HW + ABOVE) / light_B3HW).log_()
    trust_B1HW = where_B1HW / (1 + (step_B3HW.abs().amax(1, keepdim=True) / USUAL_GAIN) ** 2)
    gain_B31 = step_B3HW.flatten(2) @ trust_B1HW.flatten(2).transpose(1, 2)
    gain_B31 = gain_B31 / trust_B1HW.sum((2, 3)).clamp(min=1e-6)[..., None]
    gain_B311 = gain_B31.clamp(-MOST_GAIN, MOST_GAIN).exp()[..., None]
    return torch.where(shown_B3HW > BLACK, (light_B3HW * gain_B311 - ABOVE).clamp(BLACK, 1), shown_B3HW)


def mean_around(maps_BDHW: torch.Tensor, reach: int) -> torch.Tensor:
    """The mean of each place's square of 2 `reach` + 1, zeros beyond the border: (B, D, H, W)."""
    with torch.autocast(maps_BDHW.device.type, enabled=False):
        return (along_both(maps_BDHW.float(), within, reach) / (2 * reach + 1) ** 2).to(maps_BDHW.dtype)
