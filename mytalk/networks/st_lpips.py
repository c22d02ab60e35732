"""ST-LPIPS: a learned distance of pictures that ignores shifts of a pixel or two; and the features it is made of.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric" (ECCV 2022). The weights are those of the package
stlpips-pytorch (configs/weights.yaml); the network is written anew, since that code imports torchvision. Each pool is a
maximum without a stride, then a blur with one, which is what makes it tolerant: it certifies neither seams nor where
the lips are. Shape suffixes: B batch, C channels, H height, W width, 3 = RGB from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

TRUNKS = ("vgg", "alex")
WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}  # channels at the five depths
EPS = 1e-10  # added to the norm of a place's features
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB, as LPIPS scales its input


class Blur(nn.Module):
    """Binomial filter of 3 x 3 and a stride of 2, the border reflected by two places (the paper's `pad_more`)."""

    filt: torch.Tensor

    def __init__(self, channels: int):
        super().__init__()
        row_3 = torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(row_3, row_3) / 16
        self.register_buffer("filt", kernel.repeat(channels, 1, 1, 1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(x_BCHW, (2, 2, 2, 2), mode="reflect")
        return functional.conv2d(padded, self.filt, stride=2, groups=x_BCHW.shape[1])


class StLpips(nn.Module):
    """The distance: differences of unit features at five depths, weighted by channel, averaged over places, summed."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, trunk: str = "vgg"):
        super().__init__()
        assert trunk in TRUNKS, trunk
        self.trunk = trunk
        self.parts = nn.ModuleList(_vgg() if trunk == "vgg" else _alex())
        self.heads = nn.ParameterList([torch.zeros(width) for width in WIDTHS[trunk]])
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def features(self, pictures_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """Features at the five depths, (B, C, H', W') each. Pictures run from -1 to 1 and have 32 px a side or more."""
        x, depths = (pictures_B3HW - self.shift) / self.scale, []
        for part in self.parts:
            x = part(x)
            depths.append(x)
        return depths

    def distance(self, one: list[torch.Tensor], other: list[torch.Tensor]) -> torch.Tensor:
        """The distance of two batches by their `features`: (B,), 0 where they are the same."""
        total = torch.zeros(one[0].shape[0], device=one[0].device)
        for a, b, head_C in zip(one, other, self.heads, strict=True):
            difference = (_unit(a) - _unit(b)).square().mean(dim=(2, 3))
            total = total + difference @ head_C
        return total

    def forward(self, one_B3HW: torch.Tensor, other_B3HW: torch.Tensor) -> torch.Tensor:
        """The distance of two batches of pictures, (B,)."""
        return self.distance(self.features(one_B3HW), self.features(other_B3HW))


def from_published(state: Mapping[str, torch.Tensor], trunk: str) -> StLpips:
    """The network with the tensors of a published file, whose layers are numbered through its five slices.

    Raises ValueError where the file is of another network.
    """
    network = StLpips(trunk)
    given = {name: tensor for name, tensor in state.items() if not name.startswith("scaling_layer.")}
    with torch.no_grad():
        try:
            for slice_, part in enumerate(network.parts, 1):
                layers = [layer for layer in part.children() if isinstance(layer, nn.Conv2d | Blur)]
                for layer, place in zip(layers, _numbered(given, f"net.slice{slice_}."), strict=True):
                    for name, own in layer.state_dict().items():
                        _copy(own, given.pop(f"{place}.{name}"))
            for depth in range(len(network.heads)):
                _copy(network.heads[depth], given.pop(f"lin{depth}.model.1.weight").reshape(-1))
            _copy(network.shift, state["scaling_layer.shift"])
            _copy(network.scale, state["scaling_layer.scale"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"the weights are not those of ST-LPIPS with the trunk {trunk} ({error})") from None
    if given:
        raise ValueError(f"ST-LPIPS with the trunk {trunk} has no {', '.join(sorted(given))}")
    return network.eval().requires_grad_(False)


def _numbered(given: Mapping[str, torch.Tensor], start: str) -> list[str]:
    """`net.slice1.0`, `net.slice1.2`, ...: the layers with tensors, in order."""
    numbers = sorted({int(name[len(start) :].split(".")[0]) for name in given if name.startswith(start)})
    return [f"{start}{number}" for number in numbers]


def _copy(own: torch.Tensor, given: torch.Tensor) -> None:
    if own.shape != given.shape:
        raise ValueError(f"{tuple(given.shape)} instead of {tuple(own.shape)}")
    own.copy_(given)


def _unit(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW / (x_BCHW.norm(dim=1, keepdim=True) + EPS)


def _vgg() -> list[nn.Sequential]:
    """VGG-16 to its thirteenth convolution."""
    parts: list[nn.Sequential] = []
    channels = 3
    for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers: list[nn.Module] = [nn.MaxPool2d(2, stride=1), Blur(channels)] if parts else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        parts.append(nn.Sequential(*layers))
    return parts


def _alex() -> list[nn.Sequential]:
    """AlexNet's five convolutions; the first takes no stride, its blur does."""
    return [
        nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), Blur(64), nn.ReLU(inplace=True)),
        nn.Sequential(nn.MaxPool2d(3, stride=1), Blur(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True)),
        nn.Sequential(nn.MaxPool2d(3, stride=1), Blur(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]
