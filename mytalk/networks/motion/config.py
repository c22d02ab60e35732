"""Size of the motion model, what it hears and sees, and how its diffusion runs."""

from __future__ import annotations

from dataclasses import dataclass

from mytalk.face.landmarks import COUNT, NOISED
from mytalk.networks import diffusion
from mytalk.networks.conformer import check_sizes
from mytalk.networks.speech_features import MEL
from mytalk.settings import Settings, setting

UPPER_FACES = ("pose", "landmarks")
NOISINGS = ("lower", "all")


@dataclass
class MotionConfig(Settings):
    """Size of the motion model. The defaults are those of the paper's siblings (GAIA); configs/demo is far smaller."""

    part = "model"

    width: int = setting(768, "features of each frame; a multiple of 2 x heads", at_least=1)
    heads: int = setting(12, "of attention", at_least=1)
    layers: int = setting(12, "of the denoiser", at_least=1)
    hidden: int = setting(2048, "width inside the feed-forward blocks", at_least=1)
    kernel: int = setting(13, "of the convolutions over time; odd", unit="frames", at_least=1)
    speech_layers: int = setting(4, "of the speech encoder", at_least=0)
    speech_heads: int = setting(0, "of its attention; 0: as many as the denoiser has", at_least=0)
    speech_hidden: int = setting(0, "width inside its feed-forward blocks; 0: as in the denoiser", at_least=0)
    identity_layers: int = setting(6, "of the encoder of the source stretch", at_least=0)
    noised: str = setting(
        "lower",
        "which landmarks are noised and generated: the lower face (partial noising), or, as an ablation, all, of which "
        "the lower face is kept and none is seen clean",
        choices=NOISINGS,
    )
    unit_px: float = setting(16.0, "lower-face motion that counts as 1 in the diffusion process", unit="px", above=0)
    upper_face: str = setting(
        "pose", "what is seen of the clean side: its slow pose and mean shape, or all landmarks", choices=UPPER_FACES
    )
    slow_frames: float = setting(12.0, "sigma of the smoothing of the pose", unit="frames", above=0)
    source_speech: bool = setting(True, "whether the identity condition includes the speech of the source")
    speech_level: bool = setting(
        False, "whether speech is brought to one level, so that quiet speech moves the mouth as loud speech does"
    )
    speech_mean: bool = setting(
        False, "whether each band is heard about its mean over the speech: a microphone's or room's colour says nothing"
    )
    whiten: bool = setting(
        False, "whether the diffusion works on each point's motion in units of its standard deviation over training"
    )
    times: str = setting(
        "uniform",
        "diffusion times of training and sampling: evenly in time, in log-SNR, or on the path of flow matching",
        choices=diffusion.TIMES,
    )
    prediction: str = setting(
        "x0",
        "what the network predicts, and the loss is L1 of: x0 (and the noise that follows), v, or the flow's velocity",
        choices=diffusion.PREDICTIONS,
    )
    sampler: str = setting(
        "exponential",
        "steps of sampling: of first order, of second, or the siblings' Euler",
        choices=diffusion.SAMPLERS,
    )
    features: str = setting(
        MEL, f"what is heard of the speech: {MEL}, computed from the sound, or the name of a column of the shards"
    )
    features_width: int = setting(0, "values a frame of that column; 0: no column", unit="values", at_least=0)
    extractor_width: int = setting(
        0, "width of the frozen identity encoder's features in the condition; 0: none", at_least=0
    )

    @property
    def points(self) -> list[int]:
        """The landmarks that are noised and generated, K of them."""
        return NOISED if self.noised == "lower" else list(range(COUNT))

    @property
    def lower(self) -> list[int]:
        """Where among these the lower face is."""
        return list(range(len(NOISED))) if self.noised == "lower" else NOISED

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.width, self.heads, self.kernel)
        if not self.features:
            raise ValueError(f"model.features must be {MEL} or the name of a column")
        for name in ("speech_level", "speech_mean"):
            if getattr(self, name) and self.column:
                raise ValueError(f"model.{name} changes what is heard, and column {self.features} is as it was stored")
        if self.speech_heads and self.width % (2 * self.speech_heads):
            raise ValueError(
                f"model.width {self.width} must be a multiple of 2 x model.speech_heads ({self.speech_heads})"
            )

    @property
    def column(self) -> str:
        """The column of shards that is heard; empty: the sound."""
        return "" if self.features == MEL else self.features
