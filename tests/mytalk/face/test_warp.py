"""References moved to other landmarks: against maps that are known."""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import warp
from mytalk.face.landmarks import INNER_LIP_PAIRS
from tests.helpers.appearance_models import talking

SIDE = 64


def face() -> torch.Tensor:
    """Landmarks in a picture of 64 px: (1, 478, 2)."""
    return torch.from_numpy(talking(1)[:, :, :2] / 4)


def picture(seed: int = 0) -> torch.Tensor:
    """Smooth colours, none of them black: (1, 3, 64, 64)."""
    noise = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed)) - 0.4
    return torch.nn.functional.interpolate(noise, size=(SIDE, SIDE), mode="bicubic").clamp(-0.9, 0.9)


def moved(shown: torch.Tensor, theirs: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    return warp.moved(warp.seen(shown), theirs, asked)


def test_a_head_that_moved_by_whole_pixels_is_moved_back():
    shown, asked = picture(), face()
    theirs = asked + torch.tensor([5.0, -3.0])  # the reference's face lies 5 px to the right and 3 px higher
    made = moved(shown[:, None], theirs[:, None], asked)
    torch.testing.assert_close(made[..., 3:, :-5], shown[..., :-3, 5:], atol=2e-4, rtol=0)
    assert (made[..., :2, :] == warp.BLACK).all(), "what the reference does not show is black"
    assert (made[..., -4:] == warp.BLACK).all()


def test_a_turned_and_larger_head_is_brought_back_by_the_affine_map_alone():
    asked, turn = face(), 1.2 * np.exp(0.2j)
    matrix = torch.tensor([[turn.real, turn.imag], [-turn.imag, turn.real]], dtype=torch.float32)
    theirs = (asked - 32) @ matrix + 30
    affine, left = warp.fitted(asked[:, : warp.MESH], theirs[:, None, : warp.MESH])
    assert left.abs().max() < 1e-3
    at = warp.followed(asked[:, : warp.MESH], affine, left, (SIDE, SIDE))[0, 0]
    expected = (torch.tensor([40.5, 20.5]) - 32) @ matrix + 30
    torch.testing.assert_close((at[20, 40] + 1) * SIDE / 2, expected, atol=1e-2, rtol=0)


def test_what_moves_by_itself_is_shown_where_it_is_asked_for_and_the_rest_stays():
    """A spot on a chin that falls by 8 px follows it; one on the forehead stays."""
    random = torch.Generator().manual_seed(0)
    theirs = 40 + 176 * torch.rand(1, 478, 2, generator=random)
    asked = theirs.clone()
    asked[..., 1] += 8 * ((theirs[..., 1] - 128) / 40).clamp(0, 1)  # no affine map of the face
    y, x = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    spots, falls = [(128.0, 190.0), (100.0, 60.0)], (8.0, 0.0)
    shown = torch.full((1, 1, 3, 256, 256), -0.5)
    for channel, (across, down) in enumerate(spots):
        shown[0, 0, channel] += torch.exp(-((x - across) ** 2 + (y - down) ** 2) / 50)
    made = moved(shown, theirs[:, None], asked)[0] + 0.5
    for light, (across, down), fall in zip(made.clamp(min=0), spots, falls):
        found = torch.stack([(light * x).sum(), (light * y).sum()]) / light.sum()
        torch.testing.assert_close(found, torch.tensor([across, down + fall]), atol=0.7, rtol=0)


def test_the_likest_of_many_references_is_taken_in_any_order():
    asked = face()
    noise = torch.randn(1, 6, 478, 2, generator=torch.Generator().manual_seed(1))
    theirs = asked[:, None] + noise * torch.tensor([9, 9, 0, 9, 9, 9]).view(6, 1, 1)
    shown = torch.cat([picture(seed) for seed in range(6)])[None]
    made = moved(shown, theirs, asked)
    torch.testing.assert_close(made, moved(shown[:, 2:3], theirs[:, 2:3], asked), atol=1e-3, rtol=0)
    order = [3, 2, 5, 0, 1, 4]
    torch.testing.assert_close(moved(shown[:, order], theirs[:, order], asked), made)


def test_teeth_are_not_pressed_between_closed_lips_where_a_reference_is_closed(monkeypatch):
    """Closed lips are asked for: of a reference open by 4 px that is else nearer, and a closed one, the second shows.

    For a wide mouth the nearest is taken as before.
    """
    closed = torch.from_numpy(talking(1)[:, :, :2].copy())
    upper, lower = (list(side) for side in zip(*INNER_LIP_PAIRS))
    closed[:, lower] = closed[:, upper]
    slightly, wide = closed.clone(), closed.clone()
    slightly[:, lower, 1] += 4
    wide[:, lower, 1] += 20
    other = closed + 0.9 * torch.randn(closed.shape, generator=torch.Generator().manual_seed(2))
    other[:, lower] = other[:, upper]
    teeth, lips = torch.full((1, 3, 256, 256), 0.8), torch.full((1, 3, 256, 256), -0.6)
    shown, theirs = torch.stack([teeth, lips], 1), torch.stack([slightly, other], 1)
    x, y = closed[0, upper].mean(0).round().long().tolist()

    def light(asked: torch.Tensor) -> float:
        return moved(shown, theirs, asked)[0, :, y, x].mean().item()

    found = light(closed)
    assert light(wide) > 0.5
    monkeypatch.setattr(warp, "PRESSED", 0.0)
    assert light(closed) > found + 0.4
    assert found < 0.2


def test_references_of_batch_1_are_everybodys_and_nobody_knows_another():
    asked = torch.cat([face(), face() + 2, face() * 0.9])
    shown, theirs = torch.stack([picture(3), picture(4)], 1), torch.stack([face() + 1, face() + 2], 1)
    made = moved(shown, theirs, asked)
    for k in range(3):
        torch.testing.assert_close(made[k : k + 1], moved(shown, theirs, asked[k : k + 1]))
    three = [value.expand(3, *value.shape[1:]) for value in (shown, theirs)]
    torch.testing.assert_close(moved(*three, asked), made)


def test_black_is_not_mixed_in_where_another_reference_shows_something():
    asked, shown = face(), torch.stack([picture(3), picture(4)], 1)
    shown[:, 0, :, :32] = warp.BLACK
    theirs = asked[:, None].expand(1, 2, -1, -1)
    made = moved(shown, theirs, asked)
    torch.testing.assert_close(made[..., :30, :], shown[:, 1, :, :30], atol=1e-4, rtol=0)
    torch.testing.assert_close(made[..., 34:, :], shown[..., 34:, :].mean(1), atol=1e-4, rtol=0)


def test_landmarks_on_one_point_give_a_picture_all_the_same():
    made = moved(picture()[:, None], torch.full((1, 1, 478, 2), 20.0), torch.full((1, 478, 2), 30.0))
    assert torch.isfinite(made).all()
