"""LPIPS with a trunk that the user brings, against its definition written out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from eval.judges import lpips
from eval.judges.lpips import LpipsJudge
from mytalk.command import UserError

PLACES = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A trunk with random weights, which has a classifier too, and the published heads."""
    torch.manual_seed(0)
    trunk = {"classifier.1.weight": torch.zeros(2, 2)}
    for place, (taken, given, side) in PLACES.items():
        trunk[f"features.{place}.weight"] = torch.randn(given, taken, side, side) / (taken * side * side) ** 0.5
        trunk[f"features.{place}.bias"] = torch.randn(given) * 0.1
    torch.save(trunk, tmp_path / "trunk.pth")
    spec = importlib.util.find_spec("torchmetrics")
    assert spec is not None
    assert spec.origin is not None
    heads = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    return {lpips.TRUNK: tmp_path / "trunk.pth", lpips.HEADS: heads}


def by_definition(files: dict[str, Path], one_HW3: np.ndarray, other_HW3: np.ndarray) -> float:
    trunk, heads = (torch.load(files[name], map_location="cpu", weights_only=True) for name in lpips.WEIGHTS)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    sides = []
    for picture in (one_HW3, other_HW3):
        x = ((torch.from_numpy(picture) / 127.5 - 1 - shift) / scale).float().permute(2, 0, 1)[None]
        depths = []
        for depth, place in enumerate(PLACES):
            if depth in (1, 2):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = trunk[f"features.{place}.weight"], trunk[f"features.{place}.bias"]
            stride, padding = (4, 2) if depth == 0 else (1, weight.shape[-1] // 2)
            x = functional.conv2d(x, weight, bias, stride, padding).relu()
            depths.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        sides.append(depths)
    return sum(
        float(functional.conv2d((a - b) ** 2, heads[f"lin{depth}.model.1.weight"]).mean())
        for depth, (a, b) in enumerate(zip(*sides))
    )


def test_it_is_the_published_distance(files) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), np.uint8)
    found = LpipsJudge(files).distances(pictures[:, 0], pictures[:, 1])
    assert found == pytest.approx([by_definition(files, *pair) for pair in pictures], rel=1e-4)
    assert LpipsJudge(files).distances(pictures[:1, 0], pictures[:1, 0]) == pytest.approx(0)


def test_another_file_is_refused_in_one_line(files, tmp_path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "trunk.pth")
    with pytest.raises(UserError, match=r"is no AlexNet trunk of LPIPS"):
        LpipsJudge(files)
