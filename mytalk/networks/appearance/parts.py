"""The parts of the generator: encoder, FusionNet, decoder, and the blocks that they are built of.

Shape suffixes: see mytalk/networks/appearance/__init__.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from mytalk.face.landmarks import CROP_PX
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.inputs import mean_around

MOST_KEPT = (
    0.97  # of the references' mean: at 1 (in bf16 soon reached) the colour that is painted would never learn again
)
MOST_PLACES = 256  # of the references' coarsest maps that each place of the frame's attends to
LIPS_PX, RAMP_PX = 20, 8  # reach of what counts as lips, and over how much more it falls, at 256 px


def groups(channels: int) -> nn.GroupNorm:
    """GroupNorm with at least 4 channels a group: examples of a batch do not influence each other."""
    return nn.GroupNorm(math.gcd(channels // 4, 32), channels)


class Block(nn.Module):
    """Residual block: norm, SiLU, convolution, twice (latent-diffusion)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.inner = nn.Sequential(
            groups(inputs),
            nn.SiLU(),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            groups(outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.short = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x_BDHW: torch.Tensor) -> torch.Tensor:
        return self.short(x_BDHW) + self.inner(x_BDHW)


class Encoder(nn.Module):
    """A picture (B, 3, H, W), or two of them (B, 6, H, W), as features of every level, the finest first."""

    def __init__(self, config: AppearanceConfig, inputs: int = 3):
        super().__init__()
        widths = config.channels
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(config.stem), nn.Conv2d(inputs * config.stem**2, widths[0], 3, padding=1)
        )
        self.levels = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.blocks)):
            down = [nn.Conv2d(widths[level - 1], width, 3, stride=2, padding=1)] if level else []
            self.levels.append(nn.Sequential(*down, *(Block(width, width) for _ in range(count))))

    def forward(self, picture_B3HW: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(picture_B3HW.contiguous(memory_format=torch.channels_last))
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


def positions(height: int, width: int, features: int, like: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Sines and cosines of each place of a map, half of the features for its row, half for its column: (H W, D).

    The map may be of the means of squares of `times` places: its own lie in their middles.
    """
    quarter = features // 4
    rate = torch.exp(-math.log(100.0) * torch.arange(quarter, device=like.device, dtype=like.dtype) / quarter)
    parts = []
    for length, shape in ((height, (height, 1)), (width, (1, width))):
        place = torch.arange(length, device=like.device, dtype=like.dtype) * times + (times - 1) / 2
        angle = place.view(*shape, 1) * rate
        parts += [angle.sin().expand(height, width, quarter), angle.cos().expand(height, width, quarter)]
    return torch.cat(parts, -1).flatten(0, 1)


class Fusion(nn.Module):
    """FusionNet on the coarsest maps: the frame's map attends to those of the references.

    By cross-attention (our default; the paper draws a box): queries are the frame's places, keys and values
    the places of all references, in any number and order (see `pooled`); residual; 1 x 1 convolution. References of
    batch 1 are those of every frame.
    """

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        width = config.channels[-1]
        self.kind, self.heads = config.fusion, config.heads
        if self.kind == "attention":
            self.asked, self.offered = nn.LayerNorm(width), nn.LayerNorm(width)
            self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
            self.value, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
            # Equal, so that at first every position attends to the same position in the references.
            with torch.no_grad():
                self.key.weight.copy_(self.query.weight)
        self.mix = nn.Conv2d(2 * width if self.kind == "concat" else width, width, 1)

    def pooled(self, lips_BRDHW: torch.Tensor) -> torch.Tensor:
        """What is kept of the references' maps: all, or their mean where together they have over MOST_PLACES places.

        A mean that has more itself is pooled by squares.
        """
        references, _, height, width = lips_BRDHW.shape[1:]
        if references * height * width <= MOST_PLACES:
            return lips_BRDHW
        mean_BDHW = lips_BRDHW.mean(1)
        if self.kind == "attention" and height * width > MOST_PLACES:
            times = math.ceil(math.sqrt(height * width / MOST_PLACES))
            mean_BDHW = F.avg_pool2d(mean_BDHW, times, ceil_mode=True)
        return mean_BDHW[:, None]

    def forward(self, frame_BDHW: torch.Tensor, lips_BRDHW: torch.Tensor) -> torch.Tensor:
        """`lips_BRDHW` is what `pooled` kept."""
        if self.kind == "concat":
            return self.mix(torch.cat([frame_BDHW, lips_BRDHW.mean(1).expand_as(frame_BDHW)], 1))
        if self.kind == "add":
            return self.mix(frame_BDHW + lips_BRDHW.mean(1))
        return self.mix(frame_BDHW + self.attended(frame_BDHW, lips_BRDHW))

    def attended(self, frame_BDHW: torch.Tensor, lips_BRDHW: torch.Tensor) -> torch.Tensor:
        batch, width, height, across = frame_BDHW.shape
        asked_BPD = self.asked(frame_BDHW.flatten(2).transpose(1, 2))
        offered_BRPD = self.offered(lips_BRDHW.flatten(3).transpose(2, 3))
        where_PD = positions(height, across, width, asked_BPD)
        rows, columns = lips_BRDHW.shape[3:]
        theirs_PD = positions(rows, columns, width, asked_BPD, math.ceil(height / rows))
        offered_BKD, placed_BKD = offered_BRPD.flatten(1, 2), (offered_BRPD + theirs_PD).flatten(1, 2)

        def split(x_BPD: torch.Tensor) -> torch.Tensor:
            return x_BPD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = self.query(asked_BPD + where_PD), self.key(placed_BKD), self.value(offered_BKD)
        query = query.reshape(len(lips_BRDHW), -1, width)  # frames that share references ask as one
        taken = F.scaled_dot_product_attention(split(query), split(key), split(value))
        taken_BPD = taken.transpose(1, 2).reshape(asked_BPD.shape)
        return self.out(taken_BPD).transpose(1, 2).view(batch, width, height, across)


def any_within(marks: torch.Tensor, reach: int, axis: int) -> torch.Tensor:
    """Whether a mark is within `reach` along an axis, by how many there are up to each place."""
    counted, size = marks.cumsum(axis, dtype=torch.int32), marks.shape[axis]
    places = torch.arange(size, device=marks.device)
    upto = counted.index_select(axis, (places + reach).clamp(max=size - 1))
    before = counted.index_select(axis, (places - reach - 1).clamp(min=0))
    along = [-1 if other == axis else 1 for other in range(marks.dim())]
    return upto > torch.where((places > reach).view(along), before, 0)


def near_lips(landmark_image_B3HW: torch.Tensor, size_px: int) -> torch.Tensor:
    """1 between the lips and close to them, falling to 0 within 28 px (at 256): (B, 1, H, W)."""
    reach, ramp = round(LIPS_PX * size_px / CROP_PX), round(RAMP_PX * size_px / CROP_PX)
    dots_B1HW = landmark_image_B3HW[:, :2].amax(1, keepdim=True)
    near_B1HW = dots_B1HW > 0
    for axis in (3, 2):
        near_B1HW = any_within(near_B1HW, reach, axis)
    near_B1HW = near_B1HW.to(dots_B1HW.dtype)
    inside_B1HW = mean_around(torch.ones_like(near_B1HW[:1]), ramp)  # beyond the border there is no pixel to count
    return mean_around(near_B1HW, ramp) / inside_B1HW


class Decoder(nn.Module):
    """Fused maps and landmark features, up to a picture. Each level has both (the paper draws one).

    What it shows is the base picture (see `base_picture`) and what it makes of that (our default): skin is sharp from
    the first step of training on. To moved references, which are nearly right, it adds what is missing, nothing at
    first: light, shadows, small movements, teeth. Of the references' mean it predicts for every pixel the share that is
    taken, and the colour of the rest; at the lips nothing is taken, so that no reference's mouth is shown instead of
    the painted one.
    """

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        widths = config.channels
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            parts = 2 if level == len(widths) - 1 else 3  # fused, landmarks, and what comes from the level below
            more = (Block(widths[level], widths[level]) for _ in range(config.blocks[level] - 1))
            self.levels.append(nn.Sequential(Block(parts * widths[level], widths[level]), *more))
            if level:
                wide = nn.Conv2d(widths[level], 4 * widths[level - 1], 3, padding=1)
                self.ups.append(nn.Sequential(wide, nn.PixelShuffle(2)))
        self.moves = config.moves
        made = nn.Conv2d(widths[0], (3 if config.moves else 4) * config.stem**2, 3, padding=1)
        self.last = nn.Sequential(groups(widths[0]), nn.SiLU(), made, nn.PixelShuffle(config.stem))
        if config.moves:
            with torch.no_grad():
                for weight in made.parameters():
                    weight.zero_()

    def forward(
        self,
        fused: list[torch.Tensor],
        landmarks: list[torch.Tensor],
        base_B3HW: torch.Tensor,
        lips_B1HW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1]. `lips_B1HW` is 1 where nothing is taken of the references' mean."""
        x = self.levels[0](torch.cat([fused[-1], landmarks[-1]], 1))
        for index, (up, level) in enumerate(zip(self.ups, self.levels[1:]), 2):
            x = level(torch.cat([up(x), fused[-index], landmarks[-index]], 1))
        x = self.last(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        base_B3HW = base_B3HW.to(x.dtype)
        if self.moves:
            return (base_B3HW + 2 * x.tanh()).clamp(-1, 1)
        assert lips_B1HW is not None
        return x[:, :3].tanh().lerp(base_B3HW, MOST_KEPT * x[:, 3:].sigmoid() * (1 - lips_B1HW))
