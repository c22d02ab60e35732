"""The appearance recipe: what no network may see, the losses of the GAN, validation and pictures."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from mytalk.face import region, warp
from mytalk.face.landmarks import COUNT, MOUTH
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.generator import Generator
from mytalk.networks.appearance.painter import Painter
from tests.helpers.appearance_models import TINY, referred, shaken, tiny_recipe, tiny_settings
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes import appearance as recipes
from train.recipes.appearance import AppearanceRecipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> AppearanceRecipe:
    return tiny_recipe(tmp_path_factory.mktemp("seen"))


def test_the_painting_does_not_know_the_pixels_that_it_replaces(recipe):
    """Whatever stands in the region of the target: generator's inputs and output stay bit for bit."""
    model = shaken(Generator(recipe.settings.model))
    batch = recipe.examples([0, 1])
    inside = inputs.region_mask(batch.region_BV2, recipe.settings.model.shape) > 0
    assert 0.05 < inside.float().mean() < 0.5
    noise = torch.rand(batch.frame_B3HW.shape, generator=torch.Generator().manual_seed(0))
    other = replace(batch, frame_B3HW=torch.where(inside, noise, batch.frame_B3HW))
    outside = replace(batch, frame_B3HW=torch.where(inside, batch.frame_B3HW, noise))
    with torch.no_grad():
        _, own = recipe.painted(model, batch)
        assert torch.equal(recipe.painted(model, other)[1], own)
        assert not torch.equal(recipe.painted(model, outside)[1], own), "what surrounds the region is seen"


def test_references_show_nothing_but_the_lower_face(recipe):
    model = shaken(Generator(recipe.settings.model))
    batch = recipe.examples([0, 1])
    inside = inputs.region_mask(batch.reference_regions_BRV2.flatten(0, 1), recipe.settings.model.shape) > 0
    inside = inside.unflatten(0, batch.references_BR3HW.shape[:2])
    noise = torch.rand(batch.references_BR3HW.shape, generator=torch.Generator().manual_seed(0))
    other = replace(batch, references_BR3HW=torch.where(inside, batch.references_BR3HW, noise))
    lips = replace(batch, references_BR3HW=torch.where(inside, noise, batch.references_BR3HW))
    with torch.no_grad():
        seen, own = recipe.painted(model, batch)
        assert (seen.lips_BR3HW[(~inside).expand_as(noise)] == inputs.BLACK).all()
        assert torch.equal(recipe.painted(model, other)[0].lips_BR3HW, seen.lips_BR3HW)
        assert not torch.equal(recipe.painted(model, lips)[1], own)
        mean = replace(recipe.settings.model, base="mean")
        assert torch.equal(recipes.prepare(other, mean).base_B3HW, recipes.prepare(batch, mean).base_B3HW)


def hinge_parts(recipe, batch, networks):
    """Reconstruction and adversarial loss of the composed picture as plain functions of the generator's output."""
    seen, painted = recipe.painted(networks["generator"], batch)
    distance = (painted - batch.frame_B3HW).abs().mean(1)
    soft, box = seen.soft_B1HW[:, 0], recipes.mouth_box(batch.landmarks_BN2, recipe.settings.model.shape)[:, 0]
    both = soft * box
    region = (distance * soft).sum((1, 2)) / soft.sum((1, 2))
    mouth = (distance * both).sum((1, 2)) / both.sum((1, 2))
    composed = batch.frame_B3HW * (1 - seen.soft_B1HW) + painted * seen.soft_B1HW
    fooling = -networks["discriminator"](composed, seen.image_B3HW).mean((1, 2, 3))
    return painted, region + recipe.settings.mouth_weight * mouth, fooling


def test_the_adversarial_weight_is_the_textbooks_for_each_example(recipe):
    """Value and gradient equal rec + 0.5 |d rec/d painting| / |d adv/d painting| adv, by autograd in float64."""
    networks = {name: shaken(module).double() for name, module in modules_of(recipe).items()}
    late = recipe.settings.adversarial_from_step * recipe.settings.global_batch
    batch = recipe.examples([late + 1, late + 2, late + 5]).to(CPU, torch.float64)
    loss_B = recipe.generator_loss(networks, batch).total_B
    weights = list(networks["generator"].parameters())
    found = torch.autograd.grad(loss_B.mean(), weights)

    painted, rec_B, adv_B = hinge_parts(recipe, batch, networks)
    (of_rec,) = torch.autograd.grad(rec_B.sum(), painted, retain_graph=True)
    (of_adv,) = torch.autograd.grad(adv_B.sum(), painted, retain_graph=True)
    ratio_B = of_rec.flatten(1).norm(dim=1) / (of_adv.flatten(1).norm(dim=1) + 1e-6)
    expected_B = rec_B + 0.5 * ratio_B.detach() * adv_B
    torch.testing.assert_close(loss_B, expected_B, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(found, torch.autograd.grad(expected_B.mean(), weights)):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10 + 1e-7 * theirs.abs().max().item())
    assert (ratio_B.max() / ratio_B.min()) > 1.01, "each has its own"


def test_before_its_step_the_adversary_weighs_nothing(recipe):
    networks = {name: shaken(module).double() for name, module in modules_of(recipe).items()}
    batch = recipe.examples([0, 1]).to(CPU, torch.float64)
    loss_B = recipe.generator_loss(networks, batch).total_B
    torch.testing.assert_close(loss_B, hinge_parts(recipe, batch, networks)[1], rtol=1e-9, atol=0)


def test_the_discriminator_learns_by_the_hinge_and_teaches_the_generator_nothing(recipe):
    networks = {name: shaken(module).double() for name, module in modules_of(recipe).items()}
    batch = recipe.examples([0, 1]).to(CPU, torch.float64)
    made_B3HW = recipe.generator_loss(networks, batch).output
    loss_B = recipe.adversary.loss(networks, batch, made_B3HW).total_B
    seen, painted = recipe.painted(networks["generator"], batch)
    made = inputs.blend(painted, batch.frame_B3HW, seen.soft_B1HW)
    judge = functools.partial(networks["discriminator"], landmark_image_B3HW=seen.image_B3HW)
    expected_B = 0.5 * ((1 - judge(batch.frame_B3HW)).clamp(min=0) + (1 + judge(made)).clamp(min=0)).mean((1, 2, 3))
    torch.testing.assert_close(loss_B, expected_B, rtol=1e-9, atol=0)
    loss_B.mean().backward()
    assert all(weight.grad is None for weight in networks["generator"].parameters())
    assert all(weight.grad.norm() > 1e-9 for weight in networks["discriminator"].parameters())


def test_a_model_that_sees_frames_around_learns_each_example_by_itself(recipe):
    """The losses of a batch are those of its examples alone; neighbours and the frame before take part; fixed tells."""
    more = ("model.landmark_frames=3", "model.previous_frame=true", "previous.dropout=0", "model.base=mean")
    seeing = AppearanceRecipe(tiny_settings(recipe.settings.shards, *more))
    networks = {name: shaken(module).double() for name, module in modules_of(seeing).items()}
    batch = seeing.examples([0, 1]).to(CPU, torch.float64)
    loss_B = seeing.generator_loss(networks, batch).total_B
    for at in range(2):
        alone = seeing.generator_loss(networks, seeing.examples([at]).to(CPU, torch.float64)).total_B
        torch.testing.assert_close(alone, loss_B[at : at + 1], rtol=1e-6, atol=1e-9)
    for name in ("around_BKN2", "previous_B3HW"):
        other = replace(batch, **{name: getattr(batch, name).flip(0)})
        assert (seeing.generator_loss(networks, other).total_B != loss_B).all(), name
    assert seeing.fixed()["previous"]["dropout"] == 0
    assert seeing.fixed()["model"]["landmark_frames"] == 3
    assert {"previous", "model.landmark_frames"}.isdisjoint([*recipe.fixed(), *recipe.fixed()["model"]])


def test_the_mouth_box_is_round_the_mouth():
    landmarks = torch.zeros(1, COUNT, 2)
    landmarks[0, MOUTH] = torch.tensor([20.0, 20.0])
    landmarks[0, MOUTH[0]] = torch.tensor([10.0, 12.0])
    landmarks[0, MOUTH[1]] = torch.tensor([30.0, 24.0])
    box = recipes.mouth_box(landmarks, (32, 40))[0, 0]
    assert box.nonzero().amin(0).tolist() == [9, 7]  # 12 - 3, 10 - 3
    assert box.nonzero().amax(0).tolist() == [26, 32]
    assert box.sum() == 18 * 26


def test_validation_and_pictures_show_the_model(recipe):
    class Perfect(torch.nn.Module):
        def forward(self, image, lips, masked, base):
            return torch.full_like(masked, 0.5)

    with torch.no_grad():
        scores = recipe.validate({"generator": Perfect()}, Ranks(0, 1, CPU))
    batches = [recipe.validation([slot]) for slot in range(len(recipe.validation))]
    inside = [inputs.region_mask(batch.region_BV2, recipe.settings.model.shape)[0, 0] > 0 for batch in batches]
    errors = [(0.5 - batch.frame_B3HW[0])[:, mask] for batch, mask in zip(batches, inside)]
    assert scores["l1"] == pytest.approx(np.mean([float(e.abs().mean()) for e in errors]), rel=1e-5)
    psnr = [10 * np.log10(4 / float(e.square().mean())) for e in errors]
    assert scores["psnr_db"] == pytest.approx(np.mean(psnr), rel=1e-5)
    shown = recipe.pictures({"generator": shaken(Generator(recipe.settings.model))})
    assert list(shown) == ["val/test/val0"]
    height, width = recipe.settings.model.shape
    assert shown["val/test/val0"].shape == (height, width * (recipe.settings.references.count + 4), 3)


def test_painting_equals_the_recipes_at_full_size(recipe):
    """At the network's own resolution, the painter and the training's picture are one."""
    model = replace(TINY, size_px=256, window_px=[128, 192])
    made = AppearanceRecipe(dataclasses.replace(recipe.settings, model=model))
    trained = shaken(Generator(model))
    batch = made.examples([5])
    row, frame, chosen = referred(made.examples, 5)
    from data_pipeline.shards import reader, video_reader

    landmarks = reader.read_landmarks(made.examples.manifest, row)
    pixels = video_reader.read_video(made.examples.manifest, row, [frame, *chosen])
    with torch.no_grad():
        seen, painted = made.painted(trained, batch)
    expected = inputs.blend(painted, batch.frame_B3HW, seen.soft_B1HW)
    painter = Painter(trained, pixels[1:], landmarks[chosen])
    regions = region.regions(landmarks)
    painter.shown_1RDHW = warp.seen(batch.references_BR3HW)  # theirs come from the references' own mean face
    painter.theirs_1RN2 = batch.reference_landmarks_BRN2
    painter.lips = trained.encode_lips(seen.lips_BR3HW)
    result, _ = painter.paint(pixels[:1], landmarks[[frame]], regions[[frame]])
    x, y = inputs.corners(regions[[frame]], model)[0]
    window = torch.from_numpy(result[0, y : y + 128, x : x + 192].astype(np.float32)).permute(2, 0, 1)
    expected = (expected[0] + 1) * 127.5
    inner = np.s_[:, 8:-8, 8:-8]  # beyond, the painter's mask falls to 0 and training's does not
    torch.testing.assert_close(window[inner], expected[inner], rtol=0, atol=0.51)
