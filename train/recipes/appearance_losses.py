"""What a painting is compared with, beyond L1: a Laplacian pyramid, perceptual features, the discriminator's features.

All are losses per example. ST-LPIPS scores with its VGG trunk and teaches with its AlexNet trunk, so that no judge has
taught what it judges. Shape suffixes: B batch, J windows of speech, K their frames, S audio samples, D embedding,
C channels, H height, W width, 3 = RGB from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from data_pipeline import weights
from data_pipeline.examples.spoken import MARGIN
from mytalk.command import UserError
from mytalk.face.landmarks import CROP_PX, INNER_LIP, MOUTH
from mytalk.networks import reader, st_lpips, syncnet
from mytalk.networks.appearance import inputs
from mytalk.settings import Settings, setting

MOUTH_MARGIN = 0.15  # of the mouth's width, round its landmarks
INNER_PX = 2  # window px round what lies between the lips
LEVELS = 4  # of the pyramid, the last one without its band: what is left
TEACHER, TRUNK = "st-lpips-alex", "alex"
LARGEST_FACTOR = 1e4  # of the adaptive weight (latent-diffusion)
LEAST_SIDE_PX = 32  # of a picture that the perceptual network takes


@dataclass
class LossConfig(Settings):
    """Weights of the painter's further losses; 0 leaves a loss out."""

    part = "losses"

    pyramid: float = setting(0.0, f"of L1 in the {LEVELS} levels of a Laplacian pyramid, in the region", at_least=0)
    perceptual: float = setting(
        0.0, "of ST-LPIPS (AlexNet; extra [judges]) between the result and the frame", at_least=0
    )
    perceptual_step: int = setting(1, "px, each way, that are averaged into one before", unit="px", at_least=1)
    feature_matching: float = setting(
        0.0, "of L1 between the discriminator's features of result and frame, once it plays (pix2pixHD: 10)", at_least=0
    )
    inner_mouth: float = setting(0.0, "of L1 between the lips, where references show other teeth", at_least=0)
    reading: float = setting(
        0.0, "per px at 256, of the distance between the lips that `reader` reads in result and frame", at_least=0
    )
    reading_width: float = setting(1.0, "of the mouth's width, beside the points, in `reading`", at_least=0)
    reading_upper_lip: float = setting(1.0, "of the upper lip's height, beside the points, in `reading`", at_least=0)
    reader: str = setting("", "folder of the reader of lips (python -m train reader), which stays as it is")
    sync: float = setting(
        0.0, "of the distance, 1 - cosine, of painted mouths from their speech, as `syncnet` sees them", at_least=0
    )
    sync_share: float = setting(
        0.25, "share of examples for `sync`; in each the frames of a window are painted", above=0, at_most=1
    )
    syncnet: str = setting(
        "", "folder of a SyncNet of pixels (python -m train syncnet model.sees=pixels), which stays as it is"
    )
    wrong_landmarks: bool = setting(
        False, "whether the discriminator refuses true frames with another frame's mouth as landmarks (GAN-CLS)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reading and not self.reader:
            raise ValueError("losses.reading needs losses.reader, the folder of a trained reader of lips")
        if self.sync and not self.syncnet:
            raise ValueError("losses.sync needs losses.syncnet, the folder of a trained SyncNet of pixels")


def mouth_box(landmarks_BN2: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """1 in the box round each mouth, with a margin: (B, 1, H, W). Landmarks in px of the picture."""
    mouth_BM2 = landmarks_BN2[:, MOUTH]
    low_B2, high_B2 = mouth_BM2.amin(1), mouth_BM2.amax(1)
    margin_B1 = MOUTH_MARGIN * (high_B2 - low_B2)[:, :1]
    low_B2, high_B2 = low_B2 - margin_B1, high_B2 + margin_B1
    box_BHW = torch.ones(len(mouth_BM2), *shape, device=mouth_BM2.device, dtype=mouth_BM2.dtype)
    for axis, length in ((0, shape[1]), (1, shape[0])):
        at_L = torch.arange(length, device=mouth_BM2.device) + 0.5
        within_BL = (at_L > low_B2[:, axis, None]) & (at_L < high_B2[:, axis, None])
        box_BHW = box_BHW * (within_BL[:, None, :] if axis == 0 else within_BL[:, :, None])
    return box_BHW[:, None]


def between_lips(landmarks_BN2: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """1 between the lips and up to INNER_PX from there, so that closed lips count too: (B, 1, H, W)."""
    inner_B1HW = inputs.region_mask(landmarks_BN2[:, INNER_LIP], shape)
    dots_B1HW = (inputs.landmark_dots(landmarks_BN2, shape)[:, :1] > 0).to(inner_B1HW.dtype)  # the inner lips' alone
    return F.max_pool2d(torch.maximum(inner_B1HW, dots_B1HW), 2 * INNER_PX + 1, 1, INNER_PX)


def masked_mean(values_B3HW: torch.Tensor, weight_B1HW: torch.Tensor) -> torch.Tensor:
    """The weighted mean of each example over its channels and pixels: (B,)."""
    total_B = weight_B1HW.flatten(1).sum(1).clamp(min=1e-6)
    return (values_B3HW.mean(1, keepdim=True) * weight_B1HW).flatten(1).sum(1) / total_B


def pyramid_l1(painted_B3HW: torch.Tensor, frame_B3HW: torch.Tensor, soft_B1HW: torch.Tensor) -> torch.Tensor:
    """L1 of the bands of a Laplacian pyramid of the difference, each a mean over the region: (B,).

    The pyramid is linear, so that of the difference is the difference of both (Burt and Adelson 1983; as a loss
    Bojanowski et al. 2018). Blur is dear here: where L1 sees one error, each band of it counts.
    """
    rest_B3HW = (painted_B3HW - frame_B3HW) * soft_B1HW
    area_B = soft_B1HW.flatten(1).sum(1).clamp(min=1e-6)
    total_B = torch.zeros_like(area_B)
    for level in range(LEVELS):
        band_B3HW = rest_B3HW
        if level < LEVELS - 1:
            rest_B3HW = F.avg_pool2d(rest_B3HW, 2, ceil_mode=True)
            wide_B3HW = F.interpolate(rest_B3HW, scale_factor=2.0, mode="bilinear", align_corners=False)
            band_B3HW = band_B3HW - wide_B3HW[..., : band_B3HW.shape[-2], : band_B3HW.shape[-1]]
        total_B = total_B + 4**level * band_B3HW.abs().mean(1).flatten(1).sum(1) / area_B
    return total_B


def feature_distance(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> torch.Tensor:
    """Mean L1 over layers, each a mean over its channels and places: (B,) (pix2pixHD, eq. 4)."""
    return torch.stack([(a - b).abs().flatten(1).mean(1) for a, b in zip(ours, theirs, strict=True)]).mean(0)


def refuse_missing(config: LossConfig, shape: tuple[int, int]) -> None:
    """UserError where what a loss needs is not installed, or does not fit a window of this `shape` in px."""
    if config.perceptual:
        teacher(config.perceptual_step, shape)


def teacher(step_px: int, shape: tuple[int, int]) -> Path:
    """The weights of the perceptual network. Raises UserError where they are not installed, or do not fit."""
    entry = weights.registered()[TEACHER]
    found = weights.located(entry)
    if found is None:
        raise UserError(f"losses.perceptual needs {TEACHER}; type: {entry.install}, or set losses.perceptual=0")
    if min(shape) < LEAST_SIDE_PX * step_px:
        raise UserError(
            f"losses.perceptual sees pictures of {LEAST_SIDE_PX} px or more; the window's {min(shape)} px with "
            f"losses.perceptual_step={step_px} are fewer"
        )
    return found[0]


class Perceptual:
    """ST-LPIPS with its AlexNet trunk, frozen. Raises UserError where its weights are not installed, or others."""

    def __init__(self, step_px: int, shape: tuple[int, int]):
        found = teacher(step_px, shape)
        self.step_px = step_px
        self.network = st_lpips.from_published(torch.load(found, map_location="cpu", weights_only=True), TRUNK)

    def __call__(self, result_B3HW: torch.Tensor, frame_B3HW: torch.Tensor) -> torch.Tensor:
        """The distance of each example: (B,). The frame takes no gradient."""
        network = self.network.to(result_B3HW.device, result_B3HW.dtype)
        with torch.no_grad():
            true = network.features(self._reduced(frame_B3HW))
        return network.distance(network.features(self._reduced(result_B3HW)), true)

    def _reduced(self, picture_B3HW: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(picture_B3HW, self.step_px) if self.step_px > 1 else picture_B3HW


class Reading:
    """How far lips are read from where they are read in the true frame, by a frozen reader shown to read lips.

    Both are read, so that what the reader misreads of a person is asked of nobody. Raises UserError where the reader is
    not proven (mytalk/networks/reader.py).
    """

    def __init__(self, config: LossConfig, size_px: int):
        self.network = reader.load_proven(config.reader, "losses.reading")
        self.weights_3 = torch.tensor([0.0, config.reading_width, config.reading_upper_lip])
        self.to_crop_px = CROP_PX / size_px

    def __call__(
        self, result_B3HW: torch.Tensor, frame_B3HW: torch.Tensor, landmarks_BN2: torch.Tensor
    ) -> torch.Tensor:
        """The weighted distance of each example, (B,) px at 256. The frame takes no gradient; landmarks place crops."""
        network = self.network.to(result_B3HW.device, result_B3HW.dtype)
        where = reader.place(landmarks_BN2)
        side = network.config.side
        with torch.no_grad():
            true_BM2 = network(reader.crops(frame_B3HW, where, side))
        read_BM2 = network(reader.crops(result_B3HW, where, side))
        points_B = (read_BM2 - true_BM2).abs().mean((1, 2))
        off_B3 = (reader.measures(read_BM2) - reader.measures(true_BM2)).abs()
        return self.to_crop_px * where.half_px_B * (points_B + (off_B3 * self.weights_3.to(off_B3)).sum(-1))


class Sync:
    """How far painted mouths are from their speech: 1 - cosine, by a frozen SyncNet of pixels shown to tell sync.

    `corpora` are those that are painted. Raises UserError where the SyncNet is not proven on people of each, or sees
    something else (mytalk/networks/syncnet.py).
    """

    def __init__(self, config: LossConfig, corpora: Iterable[str]):
        self.network = syncnet.load_proven(config.syncnet, "losses.sync", corpora)
        self.window_frames = self.network.config.window_frames

    def __call__(
        self, pictures_K3HW: torch.Tensor, landmarks_KN2: torch.Tensor, speech_JS: torch.Tensor
    ) -> torch.Tensor:
        """The distance of each window, (J,), of the pictures of all windows in order; landmarks place the crops.

        The speech is that of a window with MARGIN frames on either side.
        """
        network = self.network.to(pictures_K3HW.device, pictures_K3HW.dtype)
        with torch.autocast(pictures_K3HW.device.type, enabled=False):  # cosines near 1 need their digits
            crops_K3SS = reader.crops(pictures_K3HW, reader.place(landmarks_KN2), network.config.side)
            mouth_J1D = network.mouth(crops_K3SS.unflatten(0, (-1, self.window_frames)))
            with torch.no_grad():
                speech_JD = network.speech(speech_JS)[:, MARGIN]
            return 1 - (mouth_J1D[:, 0] * speech_JD).sum(-1)


def adaptive_weight(reconstruction_B3HW: torch.Tensor, adversarial_B3HW: torch.Tensor) -> torch.Tensor:
    """Ratio of the norms of the gradients of both losses with respect to the picture, per example: (B,).

    Latent-diffusion's factor, there from the last layer's weights over the whole batch; from each picture
    instead, no example knows another, and no engine's hooks are passed.
    """
    norms = (gradient.flatten(1).norm(dim=1) for gradient in (reconstruction_B3HW, adversarial_B3HW))
    ours_B, theirs_B = norms
    return (ours_B / (theirs_B + 1e-6)).clamp(0, LARGEST_FACTOR)


def with_gradient(
    value_B: torch.Tensor,
    picture_F3HW: torch.Tensor,
    gradient_F3HW: torch.Tensor,
    example_F: torch.Tensor | None = None,
) -> torch.Tensor:
    """Losses of these values whose gradient with respect to the pictures is the one given: (B,).

    A picture for each loss, or of the examples that `example_F` names.
    """
    surrogate_F = surrogate_B = (picture_F3HW * gradient_F3HW).flatten(1).sum(1)
    if example_F is not None:
        surrogate_B = torch.zeros_like(value_B).index_add(0, example_F, surrogate_F)
    return surrogate_B - surrogate_B.detach() + value_B.detach()
