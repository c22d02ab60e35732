"""The Conformer block: its order, relative positions, padding, examples that do not see each other."""

from __future__ import annotations

import pytest
import torch

from mytalk.networks import conformer

WIDTH, HEADS = 16, 2


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64 with every weight drawn anew, so that nothing is zero."""
    random = torch.Generator().manual_seed(1)
    module = module.double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, dtype=torch.float64, generator=random))
    return module


@pytest.fixture
def block() -> conformer.Block:
    return shaken(conformer.Block(WIDTH, HEADS, 24, kernel=5, conditioned=True))


def conditions(batch: int, frames: int) -> dict[str, torch.Tensor]:
    return {
        "speech_BTD": tensor(batch, frames, WIDTH, seed=2),
        "time_BD": tensor(batch, WIDTH, seed=3),
        "identity_BMD": tensor(batch, 4, WIDTH, seed=4),
        "identity_mask_BM": torch.ones(batch, 4, dtype=torch.float64),
    }


def test_the_block_is_in_the_papers_order(block):
    """Fig. 2a: half-step FFN, speech, self-attention, convolution, identity, half-step FFN; t first, FiLM late."""
    called = []
    names = ("time", "first", "speech", "attention", "convolution", "cross", "film", "last", "norm")
    for name in names:
        getattr(block, name).register_forward_hook(lambda *_, name=name: called.append(name))
    block(tensor(1, 6, WIDTH), torch.ones(1, 6), **conditions(1, 6))
    assert called == list(names)


def test_the_data_flows_in_that_order(block):
    """The block equals its parts applied one after another: none of them is called and left out."""
    x, mask, more = tensor(2, 6, WIDTH), torch.ones(2, 6, dtype=torch.float64), conditions(2, 6)
    y = x + block.time(more["time_BD"])[:, None]
    y = y + 0.5 * block.first.back(torch.nn.functional.silu(block.first.wide(block.first.norm(y))))
    y = y + block.speech(more["speech_BTD"])
    y = block.convolution(block.attention(y, mask), mask)
    y = block.cross(y, more["identity_mask_BM"], more["identity_BMD"])
    scale, shift = block.film(more["time_BD"]).chunk(2, -1)
    y = block.norm(block.last(y * (1 + scale[:, None]) + shift[:, None]))
    torch.testing.assert_close(block(x, mask, **more), y, rtol=1e-12, atol=1e-12)


def test_attention_equals_written_out_attention():
    """Softmax of rotated queries and keys over the valid frames, head by head."""
    attention = shaken(conformer.Attention(WIDTH, HEADS))
    x = tensor(1, 5, WIDTH)
    mask = torch.tensor([[1.0, 1, 1, 0, 1]], dtype=torch.float64)
    normed = attention.norm(x)[0]
    query, (key, value) = attention.query(normed), attention.key_value(normed).chunk(2, -1)
    heads = []
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        q, k = conformer.rotate(query[:, part]), conformer.rotate(key[:, part])
        scores = (q @ k.T / (WIDTH // HEADS) ** 0.5).masked_fill(mask[0] == 0, -torch.inf)
        heads.append(scores.softmax(-1) @ value[:, part])
    expected = x + attention.out(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x, mask), expected, rtol=1e-10, atol=1e-10)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    """One query and one key put at every pair of frames: the products are constant along each diagonal."""
    query, key = tensor(2, 1, 8)
    queries, keys = conformer.rotate(query.expand(40, 8)), conformer.rotate(key.expand(40, 8))
    torch.testing.assert_close(queries.norm(dim=-1), query.norm().expand(40), rtol=1e-6, atol=0)
    products = queries @ keys.T
    for distance in range(-39, 40):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=2e-5)
    assert products[0].std() > 0.05, "and it does depend on distance"


@pytest.mark.parametrize("shift", [1, 7, 100])
def test_self_attention_does_not_know_the_absolute_frame(shift):
    attention = shaken(conformer.Attention(WIDTH, HEADS))
    x = tensor(1, 9, WIDTH)
    later = torch.cat([tensor(1, shift, WIDTH, seed=9), x], dim=1)
    mask = torch.cat([torch.zeros(1, shift), torch.ones(1, 9)], dim=1)
    torch.testing.assert_close(attention(later, mask)[:, shift:], attention(x, mask[:, shift:]), rtol=0, atol=1e-4)
    swapped = attention(x.flip(1), mask[:, shift:]).flip(1)
    assert (swapped - attention(x, mask[:, shift:])).abs().max() > 1e-2, "order does matter"


def test_padding_changes_nothing(block):
    """Frames and tokens behind the mask may hold anything."""
    x, more = tensor(2, 6, WIDTH), conditions(2, 6)
    own = block(x, torch.ones(2, 6, dtype=torch.float64), **more)
    wide = {
        "speech_BTD": torch.cat([more["speech_BTD"], tensor(2, 5, WIDTH, seed=11)], 1),
        "time_BD": more["time_BD"],
        "identity_BMD": torch.cat([more["identity_BMD"], 50 * tensor(2, 3, WIDTH, seed=12)], 1),
        "identity_mask_BM": torch.cat([more["identity_mask_BM"], torch.zeros(2, 3, dtype=torch.float64)], 1),
    }
    mask = torch.tensor([[1.0] * 6 + [0.0] * 5] * 2, dtype=torch.float64)
    padded = block(torch.cat([x, 50 * tensor(2, 5, WIDTH, seed=10)], 1), mask, **wide)
    torch.testing.assert_close(padded[:, :6], own, rtol=1e-10, atol=1e-10)


def test_no_example_sees_another(block):
    x = tensor(3, 6, WIDTH).requires_grad_()
    made = block(x, torch.ones(3, 6, dtype=torch.float64), **conditions(3, 6))
    (gradient,) = torch.autograd.grad(made[1].sum() + made[1].square().sum(), x)
    assert gradient[1].abs().min() > 0
    assert not gradient[[0, 2]].any()


def test_convolution_reaches_half_its_kernel():
    """Kernel 5: a frame sees two frames on either side."""
    convolution = shaken(conformer.Convolution(WIDTH, 5))
    x = tensor(1, 11, WIDTH).requires_grad_()
    (gradient,) = torch.autograd.grad(convolution(x, torch.ones(1, 11))[0, 5].sum(), x)
    assert gradient[0].abs().sum(-1).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


def test_film_begins_as_nothing_and_then_conditions_on_time():
    """t enters at the block's input; FiLM starts at zero, and once it is not, t scales the features too."""
    block = conformer.Block(WIDTH, HEADS, 24, kernel=5, conditioned=True).double()
    assert not block.film.weight.any()
    assert not block.film.bias.any()
    x, mask, more = tensor(1, 6, WIDTH), torch.ones(1, 6), conditions(1, 6)
    other = {**more, "time_BD": more["time_BD"] + 1}
    with torch.no_grad():
        block.time.weight.zero_()
        block.time.bias.zero_()
    torch.testing.assert_close(block(x, mask, **other), block(x, mask, **more), rtol=0, atol=0)
    with torch.no_grad():
        block.film.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert (block(x, mask, **other) - block(x, mask, **more)).abs().max() > 0.1
