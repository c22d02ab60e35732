"""Dropout from a counter: known answers of the generator; masks hang on key, layer, frame and feature alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mytalk.networks.slot_dropout import SlotDropout, kept, philox

# Counter, key and result of philox4x32 with 10 rounds, from kat_vectors of the authors' Random123.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_generator_gives_the_known_answers(counter, key, answer):
    words = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(word.item() for word in words) == answer


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4),
    st.integers(0, 99),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(0, 5),
)
def test_an_example_has_its_mask_alone_in_a_batch_and_with_more_frames(keys, layer, frames, features, more):
    together = kept(torch.tensor(keys), layer, frames + more, features, 0.3)
    for mask, key in zip(together, keys):
        assert torch.equal(mask[:frames], kept(torch.tensor([key]), layer, frames, features, 0.3)[0])


def test_masks_are_kept_at_the_rate_and_independent():
    """A million values: the share kept, and the correlation between layers, keys, frames and features."""
    masks = kept(torch.tensor([3, 2**40 + 3]), 5, 1000, 512, 0.1)
    assert abs(masks.double().mean().item() - 0.9) < 4 * np.sqrt(0.09 / masks.numel())
    other = kept(torch.tensor([3, 2**40 + 3]), 6, 1000, 512, 0.1)
    for one, two in (
        (masks, other),
        (masks[0], masks[1]),
        (masks[:, 1:], masks[:, :-1]),
        (masks[..., 1:], masks[..., :-1]),
        (masks[..., 2:], masks[..., :-2]),
    ):
        pair = np.stack([one.flatten().numpy(), two.flatten().numpy()]).astype(np.float64)
        assert abs(np.corrcoef(pair)[0, 1]) < 4 / np.sqrt(pair.shape[1])


def test_layers_are_counted_and_the_mean_is_kept():
    x_BTD = torch.ones(2, 500, 64, dtype=torch.float64)
    drop = SlotDropout(torch.tensor([1, 2]), 0.25)
    first, second = drop(x_BTD), drop(x_BTD)
    assert not torch.equal(first, second)
    assert torch.equal(second > 0, kept(torch.tensor([1, 2]), 1, 500, 64, 0.25))
    assert set(first.unique().tolist()) == {0.0, 1 / 0.75}
    assert abs(first.mean().item() - 1) < 0.01
