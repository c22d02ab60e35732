"""References moved to the landmarks that are asked for: the person's own skin, beard and lips where they belong.

Each pixel is followed back to the reference: by the affine map that fits all landmarks best, and by what that leaves of
the landmarks near the pixel (inverse distance weighting, Shepard 1968). What no reference shows stays black. Nothing
is learnt. It is our stand-in for the alignment by flow of the paper's sibling IP_LAP.

Shape suffixes: B batch, R references, N landmarks, P places of a coarse grid, H height, W width, 3 = RGB, 2 = (x, y),
4 = RGB as light above black, and whether the pixel is seen.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from mytalk.face.landmarks import INNER_LIP, INNER_LIP_PAIRS

BLACK = -1.0  # as the painter's pixels run, from -1 to 1
MESH = 468  # landmarks without the irises
GRID_PX = 6  # between the places where the movement is computed; 8 loses 0.2 dB at the mouth of real people
NEAR = 1.0  # px^2, added to a squared distance: nearer than a px to a landmark, its own movement holds
RIDGE = 1e-3  # px^2; a map exists even where all landmarks lie on one line
MOST = 3  # references that are moved, the likest first
SEEN = 0.1  # share of the weights from which on a pixel counts as shown
PRESSED = 0.25  # px of distance for a mouth that is open once wider than is asked for; 0.5 is no better
LIKENESS_PX = 0.5  # distance from the asked landmarks, up to an affine map, by which a weight falls to 1 / e


def seen(references_BR3HW: torch.Tensor) -> torch.Tensor:
    """References as `moved` takes them, made once a clip: light above black, and 1 where not black; (B, R, 4, H, W)."""
    light_BR3HW = references_BR3HW - BLACK
    return torch.cat([light_BR3HW, (light_BR3HW.amax(2, keepdim=True) > 0).to(light_BR3HW.dtype)], 2)


def moved(references_BR4HW: torch.Tensor, theirs_BRN2: torch.Tensor, asked_BN2: torch.Tensor) -> torch.Tensor:
    """The mean of the likest references, each moved to the landmarks that are asked for: (B, 3, H, W) in [-1, 1].

    References as `seen` makes them, landmarks in px of the pictures. References of batch 1 are every example's. Weights
    are by likeness, half of the face and half of the inner lips, so that among many references one with a pose and a
    mouth as asked for is taken, and none whose teeth would be pressed to a light line between closed lips, if there is
    another.
    """
    asked_BN2 = asked_BN2[:, :MESH].float()
    theirs_BRN2 = theirs_BRN2[..., :MESH, :].float().expand(len(asked_BN2), -1, -1, -1)
    affine_BR32, left_BRN2 = fitted(asked_BN2, theirs_BRN2)
    left_BRN = left_BRN2.norm(dim=-1)
    unlike_BR = (left_BRN.mean(-1) + left_BRN[..., INNER_LIP].mean(-1)) / 2
    unlike_BR = unlike_BR + PRESSED * pressed(asked_BN2, theirs_BRN2, affine_BR32)
    weight_BR = (-unlike_BR / LIKENESS_PX).softmax(-1)
    weight_BR, chosen_BR = weight_BR.topk(min(MOST, weight_BR.shape[1]))
    row_B1 = torch.arange(len(chosen_BR), device=chosen_BR.device)[:, None]
    chosen_BR4HW = references_BR4HW[row_B1 if len(references_BR4HW) > 1 else 0, chosen_BR]
    at_BRHW2 = followed(asked_BN2, affine_BR32[row_B1, chosen_BR], left_BRN2[row_B1, chosen_BR], chosen_BR4HW.shape[3:])
    both_X4HW, at_XHW2 = chosen_BR4HW.flatten(0, 1), at_BRHW2.flatten(0, 1).to(chosen_BR4HW.dtype)
    sampled_BRX = F.grid_sample(both_X4HW, at_XHW2, align_corners=False).reshape(*chosen_BR.shape, -1)
    share_B1R = (weight_BR / weight_BR.sum(1, keepdim=True)).to(sampled_BRX.dtype)[:, None]
    light_B3HW, seen_B1HW = (share_B1R @ sampled_BRX).view(-1, *both_X4HW.shape[1:]).split((3, 1), 1)
    return light_B3HW * torch.where(seen_B1HW > SEEN, 1 / seen_B1HW, 0.0) + BLACK


def pressed(asked_BN2: torch.Tensor, theirs_BRN2: torch.Tensor, affine_BR32: torch.Tensor) -> torch.Tensor:
    """How many times wider each reference's mouth is open than is asked for, in the asked face's px: (B, R), from 0."""
    size_BR = torch.linalg.det(affine_BR32[..., :2, :]).abs().sqrt().clamp(min=1e-3)
    asked_B1 = opened(asked_BN2)[:, None]
    return (opened(theirs_BRN2) / size_BR - asked_B1).clamp(min=0) / (asked_B1 + 1)


def opened(landmarks_XN2: torch.Tensor) -> torch.Tensor:
    """Distance of the inner lips, px: (..., N, 2) -> (...)."""
    upper, lower = zip(*INNER_LIP_PAIRS)
    return (landmarks_XN2[..., list(upper), :] - landmarks_XN2[..., list(lower), :]).norm(dim=-1).mean(-1)


def fitted(asked_BN2: torch.Tensor, theirs_BRN2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The affine maps from the asked landmarks to each reference's, (B, R, 3, 2), and what they leave, (B, R, N, 2)."""
    from_B12, to_BR12 = asked_BN2.mean(1, keepdim=True), theirs_BRN2.mean(2, keepdim=True)
    apart_BN2 = asked_BN2 - from_B12
    spread_B22 = apart_BN2.transpose(1, 2) @ apart_BN2 + RIDGE * torch.eye(2, device=asked_BN2.device)
    turn_BR22 = torch.linalg.solve(spread_B22[:, None], apart_BN2.transpose(1, 2)[:, None] @ (theirs_BRN2 - to_BR12))
    left_BRN2 = theirs_BRN2 - to_BR12 - apart_BN2[:, None] @ turn_BR22
    return torch.cat([turn_BR22, to_BR12 - from_B12[:, None] @ turn_BR22], 2), left_BRN2


def followed(
    asked_BN2: torch.Tensor, affine_BR32: torch.Tensor, left_BRN2: torch.Tensor, shape: torch.Size
) -> torch.Tensor:
    """Where each pixel lies in each reference, as grid_sample takes it: (B, R, H, W, 2) in [-1, 1]."""
    height, width = shape
    rows, columns = height // GRID_PX + 1, width // GRID_PX + 1
    y_H, x_W = (torch.linspace(0.5, side - 0.5, count) for side, count in ((height, rows), (width, columns)))
    place_P3 = F.pad(torch.cartesian_prod(y_H, x_W).flip(1).to(asked_BN2), (0, 1), value=1.0)
    weight_BPN = near(place_P3, asked_BN2).reciprocal_().square_()
    left_BNX = left_BRN2.transpose(1, 2).flatten(2)
    sums_BPX = weight_BPN @ F.pad(left_BNX, (0, 1), value=1.0)  # the last are the weights' own
    mean_BPX = sums_BPX[..., :-1] / sums_BPX[..., -1:]
    at_BRP2 = place_P3 @ affine_BR32 + mean_BPX.unflatten(2, left_BRN2.shape[1::2]).transpose(1, 2)
    at_BRP2 = 2 * at_BRP2 / at_BRP2.new_tensor([width, height]) - 1
    coarse_BR2HW = at_BRP2.transpose(2, 3).unflatten(3, (rows, columns))
    return (between(height, rows).to(at_BRP2) @ coarse_BR2HW @ between(width, columns).to(at_BRP2).T).movedim(2, 4)


def near(place_P3: torch.Tensor, asked_BN2: torch.Tensor) -> torch.Tensor:
    """Squared distances of places (x, y, 1) from landmarks, and NEAR: (B, P, N) px^2, by one product of matrices."""
    of_place_P4 = torch.cat([place_P3, place_P3[:, :2].square().sum(1, keepdim=True) + NEAR], 1)
    of_asked_BN4 = F.pad(torch.cat([-2 * asked_BN2, asked_BN2.square().sum(2, keepdim=True)], 2), (0, 1), value=1.0)
    return of_place_P4 @ of_asked_BN4.transpose(1, 2)


@functools.cache
def between(pixels: int, places: int) -> torch.Tensor:
    """What each of `places` that are spread evenly adds to each pixel from the first to the last: (pixels, places)."""
    at_X1 = torch.linspace(0, places - 1, pixels)[:, None]
    return (1 - (at_X1 - torch.arange(places)).abs()).clamp(min=0)
