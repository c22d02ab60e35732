"""Size of the generator and its discriminator, the window that they see, and the ablations of both."""

from __future__ import annotations

from dataclasses import dataclass

from mytalk.face.landmarks import CROP_PX, PICTURES_PX
from mytalk.settings import Settings, setting

FUSIONS = ("attention", "concat", "add")
BASES = ("moved", "mean")
PRECISIONS = ("fp32", "bf16")  # in which a trained generator paints


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
