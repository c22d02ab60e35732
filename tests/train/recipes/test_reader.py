"""The reader of lips: where its crops lie, what is measured, its examples, its facts, and the loss that it teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.face.landmarks import MOUTH, NOISED
from mytalk.networks import reader
from mytalk.networks.reader import LipReader, ReaderConfig
from tests.helpers import talkers
from tests.helpers.appearance_models import talking
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes import appearance_losses
from train.recipes.appearance_losses import LossConfig, Reading
from train.recipes.reader import ReaderRecipe, ReaderTrainConfig, correlation

ALONE = Ranks(0, 1, torch.device("cpu"))
SMALL = ReaderConfig(side=16, channels=[4, 4, 8, 8], hidden=16)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> ReaderRecipe:
    shards = talkers.write(tmp_path_factory.mktemp("reader"), {"train": 2, "val": 2, "unseen": 1}, 1, 24, video=True)
    words = [f"shards={shards}", "scored_frames=4"]
    return ReaderRecipe(config.load(ReaderTrainConfig, ROOT / "tests" / "helpers" / "tiny_reader.yaml", words))


def saved(folder, mean: float):
    """A reader that has not learnt, of this correlation."""
    torch.manual_seed(0)
    facts = {reader.MEASURED: intervals.against_chance([mean - 0.01, mean, mean + 0.01], 0.0, 0.8)}
    reader.save_model(LipReader(SMALL).state_dict(), SMALL, folder, {"validation": facts})
    return folder


def test_crops_are_placed_by_what_does_not_speak():
    """Moving every noised point moves no crop; turning and scaling the face turns and scales it."""
    points = torch.from_numpy(talking(3)[..., :2]).double()
    where, moved = reader.place(points), points.clone()
    moved[:, NOISED] += 7.0
    assert torch.equal(reader.place(moved).middle_B2, where.middle_B2)
    angle = torch.tensor(0.4, dtype=torch.float64)
    turn = torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]], dtype=torch.float64)
    units, turned = where.units(points), 1.7 * points @ turn + 3.0
    torch.testing.assert_close(reader.place(turned).units(turned), units)
    torch.testing.assert_close(where.px(units), points)
    assert units[:, MOUTH].abs().max() < 1, "the mouth lies in its crop"


def test_a_crop_shows_what_lies_there():
    """A picture whose colours are its pixels' coordinates: a crop of it has the coordinates of its places."""
    points = torch.from_numpy(talking(2)[..., :2]).double()
    at = torch.arange(256, dtype=torch.float64) + 0.5
    picture = torch.stack([at.expand(256, 256), at[:, None].expand(256, 256), torch.zeros(256, 256)])
    where = reader.place(points)
    seen = reader.crops(picture.expand(2, -1, -1, -1), where, 16)
    steps = (torch.arange(16, dtype=torch.float64) + 0.5) / 8 - 1
    units = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1).expand(2, -1, -1)
    torch.testing.assert_close(seen[:, :2].flatten(2).transpose(1, 2), where.px(units))


def test_each_measure_follows_its_part_alone():
    lips = torch.zeros(1, len(MOUTH), 2)
    for index in (37, 0, 267, 82, 13, 312):
        lips[0, MOUTH.index(index), 1] = -0.1
    lips[0, MOUTH.index(61), 0], lips[0, MOUTH.index(291), 0] = -0.4, 0.4
    torch.testing.assert_close(reader.measures(lips), torch.tensor([[0.1, 0.8, -0.1]]))


def test_a_slot_holds_the_same_crops_in_any_batch_and_validation_is_not_disturbed(recipe):
    whole, pair = recipe.examples([3, 8, 5]), recipe.examples([5, 3])
    assert torch.equal(whole.crops_BF3SS[[2, 0]], pair.crops_BF3SS)
    assert torch.equal(whole.lips_BFM2[[2, 0]], pair.lips_BFM2)
    batch = recipe.validation([0])
    rows = recipe.validation.selection.rows_n
    from data_pipeline.shards import reader as shards

    landmarks = torch.from_numpy(shards.read_landmarks(recipe.manifest, int(rows[0]))).float()[..., :2]
    first = landmarks[int(batch.starts_B[0])][None]
    torch.testing.assert_close(batch.lips_BFM2[0, :1], reader.place(first).units(first[:, MOUTH]))


def test_validation_is_told_against_chance_and_a_guess_is_at_chance(recipe):
    """A network that answers one mouth whatever it sees follows nobody."""
    (model,) = modules_of(recipe).values()
    with torch.no_grad():
        model.points[-1].weight.zero_()
    validated = recipe.validate({"reader": model.eval()}, ALONE)
    assert validated.scores[reader.MEASURED] == 0
    assert intervals.proven(validated.facts[reader.MEASURED])[0] is False
    assert validated.at_chance.startswith("lip correlation AT CHANCE")
    (shown,) = recipe.pictures({"reader": model}).values()
    assert shown.dtype == np.uint8


def test_correlation_leaves_out_what_stands_still():
    moves, stands = np.sin(np.arange(20.0)), np.full(20, 0.3)
    truth = np.stack([moves, stands, moves], 1)
    assert correlation(truth, np.stack([moves, moves, -moves], 1)) == pytest.approx(0)
    assert correlation(np.stack([stands] * 3, 1), truth) is None


def test_the_painters_loss_refuses_an_unproven_reader_and_pulls_lips_to_the_frames(tmp_path):
    """0 for the frame itself; the gradient reaches the picture inside the crop and nowhere else."""
    with pytest.raises(UserError, match=r"losses.reading cannot use reader .*BELOW WHAT IT MUST REACH \(0.80\)"):
        Reading(LossConfig(reading=1.0, reader=str(saved(tmp_path / "poor", 0.5))), 256)
    loss = Reading(LossConfig(reading=1.0, reader=str(saved(tmp_path / "good", 0.9))), 256)
    points = torch.from_numpy(talking(2)[..., :2])
    frame = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert loss(frame, frame, points).tolist() == [0, 0]
    painted = (frame * 0.5).requires_grad_()
    off_B = loss(painted, frame, points)
    assert off_B.shape == (2,)
    assert (off_B > 0).all()
    (gradient,) = torch.autograd.grad(off_B.sum(), painted)
    units = reader.place(points).units(pixel_middles()).abs().amax(-1).unflatten(1, (256, 256))
    felt = gradient.abs().amax(1) > 0
    assert felt.any()
    assert not felt[units > 1.05].any()
    assert all(not weight.requires_grad for weight in loss.network.parameters())


def pixel_middles() -> torch.Tensor:
    at = torch.arange(256) + 0.5
    return torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1).expand(2, -1, -1)


def test_reading_without_a_reader_is_refused():
    with pytest.raises(ValueError, match=r"losses.reading needs losses.reader"):
        appearance_losses.LossConfig(reading=1.0)
