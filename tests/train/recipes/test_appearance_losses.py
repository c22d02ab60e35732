"""The painter's further losses, each against its closed form or against autograd of its plain form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data_pipeline import weights
from data_pipeline.examples.other_frames import with_mouth_of
from mytalk import config
from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT, INNER_LIP, MOUTH
from mytalk.networks.appearance import inputs
from tests.helpers import talkers
from tests.helpers.appearance_models import shaken, talking, tiny_settings
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.recipes import appearance_losses
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.recipes.appearance_losses import (
    LossConfig,
    Perceptual,
    between_lips,
    feature_distance,
    masked_mean,
    mouth_box,
    pyramid_l1,
)

CPU = torch.device("cpu")
ALL = (
    "model.discriminator_landmarks=true",
    "losses.wrong_landmarks=true",
    "losses.pyramid=0.7",
    "losses.inner_mouth=0.6",
    "losses.feature_matching=2.5",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> AppearanceRecipe:
    shards = talkers.write(tmp_path_factory.mktemp("losses"), {"train": 2, "val": 1, "unseen": 1}, 1, 30, video=True)
    return AppearanceRecipe(tiny_settings(shards, *ALL))


def late_batch(recipe: AppearanceRecipe):
    """Of a step in which the generator plays, in float64."""
    late = recipe.settings.adversarial_from_step * recipe.settings.global_batch
    return recipe.examples([late + 1, late + 4]).to(CPU, torch.float64)


def test_a_pyramid_sees_even_light_once_and_fine_detail_once():
    """A constant error lies in the last level alone; one that changes its sign with each pixel in the first alone."""
    frame, soft = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    even = torch.full_like(frame, 0.3)
    torch.testing.assert_close(pyramid_l1(even, frame, soft), torch.tensor([0.3]))
    fine = 0.2 * (-1.0) ** torch.arange(16).expand(1, 3, 16, 16)
    torch.testing.assert_close(pyramid_l1(fine, frame, soft), torch.tensor([0.2]))
    half = soft.clone()
    half[..., :8, :] = 0
    torch.testing.assert_close(pyramid_l1(fine, frame, half), torch.tensor([0.2]), msg="a mean over the region")


def test_a_pyramid_takes_sides_that_no_two_divides():
    frame = torch.zeros(2, 3, 13, 19)
    loss_B = pyramid_l1(torch.rand_like(frame), frame, torch.ones(2, 1, 13, 19))
    assert loss_B.shape == (2,)
    assert (loss_B > 0).all()


def test_between_the_lips_is_what_lies_in_their_inner_ring_and_at_closed_lips_the_line():
    open_N2 = torch.full((1, COUNT, 2), -50.0)
    at = torch.arange(len(INNER_LIP)) / len(INNER_LIP) * 2 * torch.pi
    open_N2[0, INNER_LIP] = torch.stack([30 + 12 * at.cos(), 20 + 6 * at.sin()], -1)
    closed_N2 = open_N2.clone()
    closed_N2[0, INNER_LIP, 1] = 20
    marked = between_lips(torch.cat([open_N2, closed_N2]), (40, 60))[:, 0]
    assert marked[0, 20, 30]
    assert marked[1, 20, 30]
    assert marked[0, 25, 30] > marked[1, 25, 30] == 0
    assert not marked[:, :, :14].any()
    assert 0.9 < marked[0].sum() / (torch.pi * 15 * 9) < 1.2
    masked = masked_mean(torch.ones(2, 3, 40, 60), marked[:, None])
    assert masked.tolist() == [1, 1]


def test_features_are_compared_layer_by_layer():
    ours = [torch.ones(2, 1, 1, 2), torch.zeros(2, 3, 1, 1)]
    theirs = [torch.tensor([[[[1.0, 3.0]]], [[[1.0, 1.0]]]]), torch.full((2, 3, 1, 1), 0.5)]
    assert feature_distance(ours, theirs).tolist() == [0.75, 0.25]


def test_the_generator_learns_by_the_sum_of_all_its_losses(recipe):
    """Value and gradient against the plain form by autograd, the weight of the adversary given."""
    networks = {name: shaken(module).double() for name, module in modules_of(recipe).items()}
    batch = late_batch(recipe)
    found = recipe.generator_loss(networks, batch)
    weights_of = list(networks["generator"].parameters())
    gradient = torch.autograd.grad(found.total_B.sum(), weights_of)

    seen, painted = recipe.painted(networks["generator"], batch)
    composed = inputs.blend(painted, batch.frame_B3HW, seen.soft_B1HW)
    judge = networks["discriminator"]
    (*true, _), (*made, score) = (judge.features(p, seen.image_B3HW) for p in (batch.frame_B3HW, composed))
    expected_B = (
        0.7 * pyramid_l1(painted, batch.frame_B3HW, seen.soft_B1HW)
        + 2.5 * feature_distance(made, true)
        - found.terms["adversarial_weight"] * score.mean((1, 2, 3))
    )
    distance = (painted - batch.frame_B3HW).abs().mean(1, keepdim=True)
    box = mouth_box(batch.landmarks_BN2, recipe.settings.model.shape) * seen.soft_B1HW
    between = between_lips(batch.landmarks_BN2, recipe.settings.model.shape) * seen.soft_B1HW
    for weight, part in ((1.0, seen.soft_B1HW), (recipe.settings.mouth_weight, box), (0.6, between)):
        expected_B = expected_B + weight * (distance * part).sum((1, 2, 3)) / part.sum((1, 2, 3))
    torch.testing.assert_close(found.total_B, expected_B, rtol=1e-9, atol=0)
    for ours, theirs in zip(gradient, torch.autograd.grad(expected_B.sum(), weights_of)):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9 + 1e-7 * theirs.abs().max().item())


def test_without_its_weight_there_is_no_discriminator(recipe):
    """What the generator learns by is what it learns by before the discriminator plays."""
    alone = AppearanceRecipe(replace(recipe.settings, adversarial_weight=0.0, losses=LossConfig()))
    assert list(alone.players()) == ["generator"]
    networks, batch = modules_of(recipe), recipe.examples([0, 1])
    found = alone.generator_loss({"generator": networks["generator"]}, batch)
    before = AppearanceRecipe(replace(recipe.settings, losses=LossConfig())).generator_loss(networks, batch)
    assert set(before.terms) - set(found.terms) == {"adversarial", "adversarial_weight"}
    assert torch.equal(found.total_B, before.total_B)


def test_the_discriminator_refuses_true_frames_with_a_wrong_mouth(recipe):
    """0.5 (real + 0.5 (painted + wrong)), the wrong as far as they are another mouth; and it does see landmarks."""
    judge = shaken(modules_of(recipe)["discriminator"]).double()
    batch = late_batch(recipe)
    batch = replace(batch, wrong_B=torch.tensor([1.0, 0.25], dtype=torch.float64))
    painted = batch.frame_B3HW * 0.5
    shape = recipe.settings.model.shape
    image, wrong = (inputs.landmark_dots(p, shape) for p in (batch.landmarks_BN2, batch.wrong_landmarks_BN2))
    real_B, fake_B, wrong_B = (
        (1 + sign * judge(picture, dots)).clamp(min=0).mean((1, 2, 3))
        for sign, picture, dots in ((-1, batch.frame_B3HW, image), (1, painted, image), (1, batch.frame_B3HW, wrong))
    )
    found = recipe.adversary.loss({"discriminator": judge}, batch, painted)
    expected_B = 0.5 * (real_B + 0.5 * (fake_B + batch.wrong_B * wrong_B))
    torch.testing.assert_close(found.total_B, expected_B, rtol=1e-9, atol=0)
    assert (judge(batch.frame_B3HW, image) - judge(batch.frame_B3HW, wrong)).abs().max() > 1e-3


def test_before_its_step_the_discriminator_learns_nothing(recipe):
    settings = replace(recipe.settings, discriminator_from_step=3)
    late = AppearanceRecipe(settings)
    judge = shaken(modules_of(late)["discriminator"])
    size = settings.global_batch
    batch = late.examples([3 * size - 1, 3 * size])
    loss_B = late.adversary.loss({"discriminator": judge}, batch, batch.frame_B3HW * 0.5).total_B
    assert loss_B[0] == 0
    assert loss_B[1] > 0


def test_wrong_landmarks_are_another_mouth_on_the_same_head(recipe):
    """Points that are not noised stay; the lips are those of another frame of the clip, by the head's frame."""
    batch = recipe.examples([0, 1, 2, 3])
    moved_BN = (batch.wrong_landmarks_BN2 - batch.landmarks_BN2).norm(dim=-1)
    assert moved_BN[:, CLEAN].max() < 1e-4
    assert (moved_BN[:, MOUTH].mean(1) > 0.1).all()
    assert ((batch.wrong_B > 0) & (batch.wrong_B <= 1)).all()
    again = recipe.examples([2])
    assert torch.equal(again.wrong_landmarks_BN2[0], batch.wrong_landmarks_BN2[2])
    face, other = talking()[[3, 17]]
    both = torch.from_numpy(talking()[[3, 17]]).double()[None]
    head = pose.person_head(both, torch.ones(1, 2, dtype=torch.float64))
    wrong = torch.from_numpy(with_mouth_of(face, other))
    lifted = torch.cat([wrong, torch.from_numpy(face[:, 2:]).double()], -1)[None, None]
    theirs = pose.fit(both, head.rigid_BR3).to_head(both, head.depth_BN)[0, 1, MOUTH]
    ours = pose.fit(lifted, head.rigid_BR3).to_head(lifted, head.depth_BN)[0, 0, MOUTH]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05)


def test_the_teacher_is_alexnet_and_0_where_nothing_differs():
    if weights.located(weights.registered()[appearance_losses.TEACHER]) is None:
        pytest.skip("stlpips-pytorch is not installed")
    teacher = Perceptual(2, (64, 64))
    assert teacher.network.trunk == "alex", "vgg scores"
    assert not any(weight.requires_grad for weight in teacher.network.parameters())
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = picture.clone()
    result[1, :, 20:40] = 0
    result.requires_grad_()
    loss_B = teacher(result, picture)
    assert loss_B[0] == 0
    assert loss_B[1] > 0.01
    (gradient,) = torch.autograd.grad(loss_B.sum(), result)
    assert gradient[1].abs().max() > 0
    with pytest.raises(UserError, match="32 px or more"):
        Perceptual(4, (64, 64))


def test_a_missing_teacher_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(weights, "located", lambda entry: None)
    with pytest.raises(UserError, match=r"losses\.perceptual needs st-lpips-alex; type: pip install"):
        Perceptual(1, (64, 64))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["losses.wrong_landmarks=true"], "needs model.discriminator_landmarks=true"),
        (["discriminator_from_step=9"], "lies after adversarial_from_step 3"),
        (["adversarial_weight=0", "losses.feature_matching=1"], "need a discriminator"),
        (["losses.pyramid=-1"], "losses.pyramid"),
    ],
)
def test_impossible_losses_are_refused(typed, said):
    with pytest.raises((ValueError, UserError), match=said):
        config.load(AppearanceTrainConfig, ROOT / "tests" / "helpers" / "tiny_appearance.yaml", typed)
