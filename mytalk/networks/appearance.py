"""Stage 2, landmarks to pixels: a generator that paints the lower face of a frame (paper, Sec. 3.3).

It has three inputs: the landmarks to be painted, as a picture of dots; the frame with its lower face blacked
out; and a set of reference frames of the person that show nothing but their lower face. Each has an encoder.
FusionNet combines the two appearance maps; the landmark features bypass it into the decoder, so that the shape
of the mouth comes from the landmarks alone.

Outside the region the frame is kept, so only a window round it is read and painted. Points and polygons are
in crop px (the crop is 256 x 256) where nothing else is said; "window px" are those of the network's pictures.

Shape suffixes: B batch, R references, T frames, N 478 landmarks, V vertices of the region's polygon, H height,
W width, D features, 3 = RGB or (x, y, z), 2 = (x, y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mytalk.face.landmarks import CROP_PX, PICTURES_PX
from mytalk.face.region import regions
from mytalk.networks import weights
from mytalk.networks.appearance_inputs import (
    BLACK,
    around_frames,
    base_picture,
    black_out,
    blend,
    corners,
    cut,
    keep_region,
    landmark_dots,
    mean_around,
    own_share,
    region_mask,
    rims,
    soften,
    time_pictures,
)
from mytalk.settings import Settings, setting

FUSIONS = ("attention", "concat", "add")
BASES = ("moved", "mean")
SHOWN_AT_FIRST = 3.0  # logit of the share of moved references
MOST_KEPT = 0.97  # of the base picture: at 1 (in bf16 soon reached) the colour that is painted would never learn again
LIPS_PX, RAMP_PX = 20, 8  # reach of what counts as lips, and over how much more it falls, at 256 px


@dataclass
class AppearanceConfig(Settings):
    """Size of generator and discriminator. The defaults are those of the paper's siblings (latent-diffusion f4)."""

    part = "model"

    size_px: int = setting(
        256, "the whole crop as the network would see it; divides 256, or is 512", unit="px", at_least=1
    )
    window_px: list[int] = setting(
        [256, 256], "height and width of what it sees of the crop, round the region", unit="px of the crop at 256"
    )
    stem: int = setting(1, "pixels that a first layer folds into features, each way; 4 is fast", unit="px", at_least=1)
    channels: list[int] = setting(
        [256, 512, 1024], "per level, each at half the resolution of the one before; multiples of 4", at_least=4
    )
    blocks: list[int] = setting([2, 2, 4], "residual blocks per level, of each encoder and of the decoder", at_least=0)
    heads: int = setting(8, "of FusionNet's attention; divides the last of channels", at_least=1)
    fusion: str = setting(
        "attention", "or, as ablations, the references' mean beside or upon the frame's map", choices=FUSIONS
    )
    base: str = setting(
        "moved",
        "what pixels may be copied from: references moved to the landmarks, or, as an ablation, their mean",
        choices=BASES,
    )
    landmark_frames: int = setting(
        1, "frames whose landmarks it sees, the painted one in their middle; an odd number", unit="frames", at_least=1
    )
    previous_frame: bool = setting(
        False, "whether it sees the frame painted before; in training the true one, as `previous` disturbs it"
    )
    appearance_encoders: int = setting(2, "1, as an ablation: lips and the rest share an encoder", choices=(1, 2))
    discriminator_channels: int = setting(64, "of its first level; a multiple of 4", at_least=4)
    discriminator_landmarks: bool = setting(False, "whether it sees the landmarks beside the picture")

    def __post_init__(self) -> None:
        super().__post_init__()
        if CROP_PX % self.size_px and self.size_px not in PICTURES_PX:
            raise ValueError(f"model.size_px must divide {CROP_PX} or be {max(PICTURES_PX)}, not be {self.size_px}")
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError(f"model.channels {self.channels} and model.blocks {self.blocks} must be of one length")
        if any(width % 4 for width in (*self.channels, self.discriminator_channels)):
            raise ValueError("model.channels and model.discriminator_channels must be multiples of 4")
        if self.landmark_frames % 2 == 0:
            raise ValueError(f"model.landmark_frames must be odd, not {self.landmark_frames}")
        if self.channels[-1] % self.heads:
            raise ValueError(f"the last of model.channels {self.channels} must be a multiple of model.heads")
        unit_px = max(self.step_px * self.stride, 1)  # a window lies at whole px of the crop
        least_px = 32 * self.step_px  # the discriminator needs 32 window px
        if len(self.window_px) != 2 or any(s % unit_px or not least_px <= s <= CROP_PX for s in self.window_px):
            raise ValueError(
                f"model.window_px {self.window_px} must be two multiples of {unit_px:g} (256 / size_px x stem x 2 per "
                f"further level) from {least_px:g} to {CROP_PX}"
            )

    @property
    def moves(self) -> bool:
        """Whether pixels may be copied from references that are moved to the landmarks."""
        return self.base == "moved"

    @property
    def time_channels(self) -> int:
        """Of what neighbouring frames add to a frame's own pictures."""
        return 3 * (self.landmark_frames - 1 + self.previous_frame)

    @property
    def step_px(self) -> float:
        """Crop px (at 256) per window px; a whole number but at 512."""
        return CROP_PX // self.size_px if self.size_px <= CROP_PX else CROP_PX / self.size_px

    @property
    def side_px(self) -> int:
        """Of the crop's pictures that windows are cut from."""
        return max(CROP_PX, self.size_px)

    @property
    def stride(self) -> int:
        """Window px per place of the bottleneck."""
        return self.stem * 2 ** (len(self.channels) - 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's pictures, window px."""
        height, width = (int(side / self.step_px) for side in self.window_px)
        return height, width


# The networks


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


def positions(height: int, width: int, features: int, like: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of each place of a map, half of the features for its row, half for its column: (H W, D)."""
    quarter = features // 4
    rate = torch.exp(-math.log(100.0) * torch.arange(quarter, device=like.device, dtype=like.dtype) / quarter)
    parts = []
    for length, shape in ((height, (height, 1)), (width, (1, width))):
        angle = torch.arange(length, device=like.device, dtype=like.dtype).view(*shape, 1) * rate
        parts += [angle.sin().expand(height, width, quarter), angle.cos().expand(height, width, quarter)]
    return torch.cat(parts, -1).flatten(0, 1)


class Fusion(nn.Module):
    """FusionNet on the coarsest maps: the frame's map attends to those of the references.

    By cross-attention (our default; the paper draws a box): queries are the frame's places, keys and values
    the places of all references, in any number and order; residual; 1 x 1 convolution. References of batch 1 are
    those of every frame.
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

    def forward(self, frame_BDHW: torch.Tensor, lips_BRDHW: torch.Tensor) -> torch.Tensor:
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
        offered_BKD, placed_BKD = offered_BRPD.flatten(1, 2), (offered_BRPD + where_PD).flatten(1, 2)

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

    For every pixel it predicts the share taken from a base picture (see `base_picture`) and the colour of the rest
    (our default): skin is sharp from the first steps of training on. Where the base picture is the references' mean,
    nothing is taken from it at the lips, so that no reference's mouth is shown instead of the painted one. Moved
    references are nearly right, so what is left is added to them as well, 0 at first: light, shadows, small movements.
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
        made = nn.Conv2d(widths[0], (7 if config.moves else 4) * config.stem**2, 3, padding=1)
        self.last = nn.Sequential(groups(widths[0]), nn.SiLU(), made, nn.PixelShuffle(config.stem))
        if config.moves:
            assert made.bias is not None
            with torch.no_grad():  # at first the base is shown, and nothing added to it
                made.bias[3 * config.stem**2 : 4 * config.stem**2] = SHOWN_AT_FIRST
                for weight in made.parameters():
                    weight[4 * config.stem**2 :] = 0

    def forward(
        self,
        fused: list[torch.Tensor],
        landmarks: list[torch.Tensor],
        base_B3HW: torch.Tensor,
        lips_B1HW: torch.Tensor,
    ) -> torch.Tensor:
        x = self.levels[0](torch.cat([fused[-1], landmarks[-1]], 1))
        for index, (up, level) in enumerate(zip(self.ups, self.levels[1:]), 2):
            x = level(torch.cat([up(x), fused[-index], landmarks[-index]], 1))
        x = self.last(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        kept_B1HW = MOST_KEPT * x[:, 3:4].sigmoid() * (1 - lips_B1HW)
        painted_B3HW = kept_B1HW * base_B3HW + (1 - kept_B1HW) * x[:, :3].tanh()
        return painted_B3HW if x.shape[1] == 4 else (painted_B3HW + x[:, 4:].tanh()).clamp(-1, 1)


class Generator(nn.Module):
    """Paints a window: landmark, lip and non-lip encoders, FusionNet, decoder (paper, Fig. 2b)."""

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        self.config = config
        self.landmarks = Encoder(config, (6 if config.moves else 3) + config.time_channels)
        self.frame = Encoder(config)
        self.lips = Encoder(config) if config.appearance_encoders == 2 else None
        self.fusion, self.decoder = Fusion(config), Decoder(config)
        self.finer = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in config.channels[:-1])

    def forward(
        self,
        landmark_image_B3HW: torch.Tensor,
        lips_BR3HW: torch.Tensor,
        masked_B3HW: torch.Tensor,
        base_B3HW: torch.Tensor,
        time_BDHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1], of which the part outside the soft mask is discarded.

        `base_B3HW` is what pixels may be copied from, `time_BDHW` what a model with `time_channels` sees of the frames
        around: `base_picture` and `time_pictures` of mytalk/networks/appearance_inputs.py.
        """
        encoded = self.encode_frame(self.encode_lips(lips_BR3HW), masked_B3HW)
        return self.decode(landmark_image_B3HW, encoded, base_B3HW, time_BDHW)

    def encode_lips(self, lips_BR3HW: torch.Tensor) -> list[torch.Tensor]:
        """The references' mean maps (B, D, H, W), and of the coarsest level all, (B, R, D, H, W)."""
        encoder = self.frame if self.lips is None else self.lips
        levels = [map_RDHW.unflatten(0, lips_BR3HW.shape[:2]) for map_RDHW in encoder(lips_BR3HW.flatten(0, 1))]
        return [*(map_BRDHW.mean(1) for map_BRDHW in levels[:-1]), levels[-1]]

    def encode_frame(
        self, lips: list[torch.Tensor], masked_B3HW: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What does not depend on the landmarks: the fused maps of every level, and where they show (`own_share`).

        References of batch 1 are every frame's.
        """
        frame = self.frame(masked_B3HW)
        finer = [theirs.expand_as(own) for own, theirs in zip(frame, lips[:-1])]
        fused = [mix(torch.cat([own, theirs], 1)) for mix, own, theirs in zip(self.finer, frame, finer)]
        fused.append(self.fusion(frame[-1], lips[-1]))
        own_B1HW = (
            own_share(masked_B3HW, self.config.size_px) if self.config.moves else torch.ones_like(masked_B3HW[:, :1])
        )
        return fused, own_B1HW

    def decode(
        self,
        landmark_image_B3HW: torch.Tensor,
        encoded: tuple[list[torch.Tensor], torch.Tensor],
        base_B3HW: torch.Tensor,
        time_BDHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The picture of these landmarks, from what `encode_frame` gave of the frame.

        Along the region's edge it is the base picture, which turns into the frame there without a step.
        """
        fused, own_B1HW = encoded
        seen = [landmark_image_B3HW]
        if self.config.moves:
            seen.append(base_B3HW.to(landmark_image_B3HW.dtype))
        if time_BDHW is not None:
            seen.append(time_BDHW.to(landmark_image_B3HW.dtype))
        landmarks = self.landmarks(torch.cat(seen, 1))
        if self.config.moves:
            made_B3HW = self.decoder(fused, landmarks, base_B3HW, torch.zeros_like(base_B3HW[:, :1]))
            return base_B3HW + own_B1HW * (made_B3HW - base_B3HW)
        return self.decoder(fused, landmarks, base_B3HW, near_lips(landmark_image_B3HW, self.config.size_px))


class Discriminator(nn.Module):
    """PatchGAN of 3 layers (pix2pix), with GroupNorm: a score for every patch of a picture, (B, 1, H', W').

    With `discriminator_landmarks` it sees the landmarks too, and so whether the mouth is the one that was asked for.
    """

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        width = config.discriminator_channels
        self.sees_landmarks = config.discriminator_landmarks
        layers: list[nn.Module] = [nn.Conv2d(6 if self.sees_landmarks else 3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for times, stride in ((1, 2), (2, 2), (4, 1)):
            inner = nn.Conv2d(times * width, 2 * times * width, 4, stride, 1, bias=False)
            layers += [inner, groups(2 * times * width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> torch.Tensor:
        return self.layers(self._seen(picture_B3HW, landmark_image_B3HW))

    def features(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """After each activation, (B, D, H', W') each, and last the scores of `forward`."""
        x, found = self._seen(picture_B3HW, landmark_image_B3HW), []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                found.append(x)
        return [*found, x]

    def _seen(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> torch.Tensor:
        if self.sees_landmarks:
            picture_B3HW = torch.cat([picture_B3HW, landmark_image_B3HW.to(picture_B3HW.dtype)], 1)
        return picture_B3HW.contiguous(memory_format=torch.channels_last)


# Using a trained one


class Painter:
    """Paints the frames of a clip with one person's references, which are encoded once.

    `references_RHW3` are uint8 crops of the person, 256 or 512 px, `reference_landmarks_RN3` their landmarks;
    any number, of any of their clips. Frames are crops of `side_px`. Landmarks are px at 256 for all of them.
    """

    def __init__(self, generator: Generator, references_RHW3: np.ndarray, reference_landmarks_RN3: np.ndarray):
        self.generator, self.config = generator, generator.config
        self.device, self.side_px = next(generator.parameters()).device, generator.config.side_px
        with torch.no_grad():
            lips_R3HW, inside_R1HW, corner_R2 = self._windows(
                np.asarray(references_RHW3), regions(reference_landmarks_RN3)
            )
            kept_1R3HW = keep_region(lips_R3HW, inside_R1HW)[None]
            self.shown_1R3HW = lips_R3HW[None] if self.config.moves else kept_1R3HW
            self.theirs_1RN2 = self._points(reference_landmarks_RN3[..., :2], corner_R2, self.config.step_px)[None]
            self.lips = generator.encode_lips(kept_1R3HW)

    def paint(
        self, frames_BHW3: np.ndarray, landmarks_BN3: np.ndarray, regions_BV2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give frames the lower face of `landmarks_BN3`: (painted (B, H, W, 3) uint8, mask (B, H, W)).

        `regions_BV2` are those of the frames' own clip (see `regions`). The mask is 1 in the region, falls to 0
        over 20 px (at 256) round it, and over 8 px towards a side of the window that lies inside the crop, so that no
        edge shows there. Where it is 0, painted is the frame bit for bit. The frames are a stretch of their own: what
        a model sees of frames around, it sees of these.
        """
        [painted_BHW3], mask_BHW = self.paint_each(frames_BHW3, [landmarks_BN3], regions_BV2)
        return painted_BHW3, mask_BHW

    @torch.no_grad()
    def paint_each(
        self,
        frames_BHW3: np.ndarray,
        several: Sequence[np.ndarray],
        regions_BV2: np.ndarray,
        start: int = 0,
        before: Sequence[np.ndarray] | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """`paint` of the same frames with each of `several` landmarks; frames are encoded once for all.

        Landmarks (F, N, 3) are of the whole stretch, in which the frames stand from `start` on: a model may see those
        around. `before` is what was painted last of each, (H, W, 3), where the stretch has begun earlier.
        """
        frames_BHW3, config = np.asarray(frames_BHW3), self.config
        times = frames_BHW3.shape[1] // CROP_PX  # px of the pictures per px of the crop
        height, width = (times * side for side in config.window_px)
        frame_B3HW, inside_B1HW, corner_B2 = self._windows(frames_BHW3, regions_BV2)
        masked_B3HW = black_out(frame_B3HW, inside_B1HW)
        encoded = self.generator.encode_frame(self.lips, masked_B3HW)
        edge_B1HW = soft_B1HW = soften(inside_B1HW, config.size_px)
        if config.shape != (height, width):  # what is blended has the pictures' pixels
            full_B1HW = region_mask(self._points(regions_BV2, corner_B2, 1 / times), (height, width))
            soft_B1HW = soften(full_B1HW, times * CROP_PX)
        soft_BHW1 = soft_B1HW.permute(0, 2, 3, 1).cpu().numpy()
        soft_BHW1 = np.minimum(soft_BHW1, rims(corner_B2, config, times)[..., None])
        there = [(i, slice(y, y + height), slice(x, x + width)) for i, (x, y) in enumerate(times * corner_B2)]
        mask_BHW = np.zeros(frames_BHW3.shape[:3], np.float32)
        for place, soft_HW1 in zip(there, soft_BHW1):
            mask_BHW[place] = soft_HW1[..., 0]
        painted = []
        for number, landmarks_FN3 in enumerate(several):
            last_HW3 = None if before is None else before[number]
            points_BKN2 = self._around(np.asarray(landmarks_FN3), start, corner_B2)
            asked = points_BKN2[:, config.landmark_frames // 2]
            base_B3HW = base_picture(masked_B3HW, edge_B1HW, self.shown_1R3HW, self.theirs_1RN2, asked, config)
            painted_BHW3 = frames_BHW3.copy()
            for part in self._in_order(len(frames_BHW3)):
                time = time_pictures(points_BKN2[part], self._previous(last_HW3, corner_B2[part]), config)
                fused, own_B1HW = [level[part] for level in encoded[0]], encoded[1][part]
                dots = landmark_dots(asked[part], config.shape)
                window_B3HW = self.generator.decode(dots, (fused, own_B1HW), base_B3HW[part], time).float()
                window_B3HW = resized(window_B3HW, (height, width))
                window_BHW3 = ((window_B3HW + 1) * 127.5).permute(0, 2, 3, 1).cpu().numpy()
                for place, window_HW3, soft_HW1 in zip(there[part], window_BHW3, soft_BHW1[part]):
                    composed_HW3 = blend(window_HW3, frames_BHW3[place].astype(np.float32), soft_HW1)
                    painted_BHW3[place] = np.rint(composed_HW3).clip(0, 255)
                last_HW3 = painted_BHW3[part][-1]
            painted.append(painted_BHW3)
        return painted, mask_BHW

    def _in_order(self, frames: int) -> list[slice]:
        """What is painted at once: all frames, or one after the other where each sees the one before."""
        return [slice(at, at + 1) for at in range(frames)] if self.config.previous_frame else [slice(0, frames)]

    def _around(self, landmarks_FN3: np.ndarray, start: int, corner_B2: np.ndarray) -> torch.Tensor:
        """The landmarks that each frame sees, in px of its window: (B, K, N, 2); beyond an end, the end's."""
        at_BK = around_frames(start + np.arange(len(corner_B2)), len(landmarks_FN3), self.config)
        return self._points(landmarks_FN3[at_BK][..., :2], corner_B2[:, None], self.config.step_px)

    def _previous(self, last_HW3: np.ndarray | None, corner_B2: np.ndarray) -> torch.Tensor | None:
        """The frame that was painted before, cut as the frames to be painted are; black where there is none."""
        if not self.config.previous_frame:
            return None
        if last_HW3 is None:
            return torch.full((len(corner_B2), 3, *self.config.shape), BLACK, device=self.device)
        return torch.from_numpy(cut(last_HW3[None], corner_B2, self.config)).to(self.device)

    def _windows(self, frames_BHW3: np.ndarray, region_BV2: np.ndarray):
        """Windows (B, 3, H, W), their regions' masks (B, 1, H, W), and their corners in the crop (B, 2)."""
        corner_B2 = corners(region_BV2, self.config)
        frame_B3HW = torch.from_numpy(cut(frames_BHW3, corner_B2, self.config)).to(self.device)
        region = self._points(region_BV2, corner_B2, self.config.step_px)
        return frame_B3HW, region_mask(region, self.config.shape), corner_B2

    def _points(self, points_BN2: np.ndarray, corner_B2: np.ndarray, step_px: float) -> torch.Tensor:
        """Crop px -> px of the window, on the device."""
        moved = (np.asarray(points_BN2) - corner_B2[..., None, :]) / step_px
        return torch.from_numpy(moved.astype(np.float32)).to(self.device)


def resized(window_B3HW: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Windows in the size of the pictures that they are blended into: bicubic, or, where smaller, by area mean."""
    height, width = window_B3HW.shape[2:]
    if (height, width) == shape:
        return window_B3HW
    if height > shape[0]:
        return F.avg_pool2d(window_B3HW, height // shape[0])
    return F.interpolate(window_B3HW, size=shape, mode="bicubic").clamp(-1, 1)


def save_model(state: dict[str, torch.Tensor], config: AppearanceConfig, folder: str | Path) -> None:
    """Write a generator for `load_model`."""
    weights.save(state, "appearance", config, folder)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator that `save_model` wrote, in evaluation mode. Raises UserError where there is none."""
    return weights.load(folder, "appearance", AppearanceConfig, Generator, device)
