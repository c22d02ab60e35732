"""ST-LPIPS against the published code.

The package's own code does not import here (it wants torchvision). Its two missing imports were stubbed by hand in a
throwaway process, and both networks looked at the pictures of `waves`, at 64, 97, 128 and 256 px and at noise: they
differ by 1.2e-7 at most. What the published code gave at 64 px are the values below.
"""

from __future__ import annotations

import pytest
import torch

from data_pipeline import weights
from mytalk.networks import st_lpips

PUBLISHED = {"vgg": [0.6321518421, 0.6696105600, 0.6776390076], "alex": [0.5135733485, 0.5733121634, 0.5490534902]}
PUBLISHED_97 = {"vgg": 0.6994931698, "alex": 0.5966330766}  # the first pair at 97 px: sides that no pool divides


def waves(side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of pictures that need no random generator."""
    axis = torch.arange(side, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    one, other = [], []
    for b in range(count):
        one.append([torch.sin((0.05 + 0.03 * c + 0.01 * b) * x + (0.11 - 0.02 * c) * y + b) for c in range(3)])
        other.append([torch.cos((0.04 + 0.02 * c) * x - (0.07 + 0.01 * b) * y + c) * 0.8 for c in range(3)])
    return tuple(torch.stack([torch.stack(picture) for picture in side]).float() for side in (one, other))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def networks() -> dict[str, st_lpips.StLpips]:
    """Both trunks with the published weights."""
    loaded = {}
    for trunk in st_lpips.TRUNKS:
        found = weights.located(weights.registered()[f"st-lpips-{trunk}"])
        if found is None:
            pytest.skip("stlpips-pytorch is not installed")
        state = torch.load(found[0], map_location="cpu", weights_only=True)
        loaded[trunk] = st_lpips.from_published(state, trunk)
    return loaded


@pytest.mark.parametrize("trunk", st_lpips.TRUNKS)
@torch.inference_mode()
def test_it_gives_what_the_published_code_gives(networks, trunk) -> None:
    count = 3 if trunk == "alex" else 1
    assert networks[trunk](*waves(64, count)).tolist() == pytest.approx(PUBLISHED[trunk][:count], abs=1e-5)
    assert float(networks[trunk](*waves(97, 1))) == pytest.approx(PUBLISHED_97[trunk], abs=1e-5)


@torch.inference_mode()
def test_equal_pictures_are_at_0_and_a_shift_of_a_pixel_costs_less_than_a_blur(networks) -> None:
    picture = waves(80, 1)[0]
    cut = picture[..., 8:-8, 8:-8]
    assert float(networks["alex"](cut, cut)) == 0
    shifted = float(networks["alex"](cut, picture[..., 8:-8, 9:-7]))
    other = float(networks["alex"](cut, waves(64, 1)[1]))
    assert 0 < shifted < 0.1 * other


def test_a_file_of_the_other_trunk_or_with_more_in_it_is_refused(networks) -> None:
    state = {
        "scaling_layer.shift": torch.zeros(1, 3, 1, 1),
        "scaling_layer.scale": torch.ones(1, 3, 1, 1),
        "net.slice1.0.weight": torch.zeros(64, 3, 11, 11),
    }
    with pytest.raises(ValueError, match="not those of ST-LPIPS with the trunk vgg"):
        st_lpips.from_published(state, "vgg")
    found = weights.located(weights.registered()["st-lpips-alex"])
    assert found is not None
    whole = torch.load(found[0], map_location="cpu", weights_only=True)
    with pytest.raises(ValueError, match="has no lin9"):
        st_lpips.from_published({**whole, "lin9.weight": torch.zeros(1)}, "alex")
