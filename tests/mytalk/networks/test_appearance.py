"""The appearance model: regions and pictures, what no network may see, the losses of the GAN, examples, painting."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_pipeline.examples import appearance as appearance_examples
from data_pipeline.examples.appearance import AppearanceBatch, AppearanceExamples, ReferenceConfig
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards.manifest import Manifest
from mytalk import config
from mytalk.command import UserError
from mytalk.face import pose, region
from mytalk.face.landmarks import CLEAN, COUNT, CROP_PX, INNER_LIP, MOUTH, NOISED, OUTER_LIP
from mytalk.face.region import JAW
from mytalk.networks import appearance
from mytalk.networks import appearance_inputs as inputs
from mytalk.networks.appearance import AppearanceConfig, Discriminator, Generator, Painter
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes import appearance as recipes
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig

TINY = AppearanceConfig(
    size_px=64,
    window_px=[128, 192],
    stem=2,
    channels=[8, 16],
    blocks=[0, 1],
    heads=2,
    discriminator_channels=4,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return talkers.write(tmp_path_factory.mktemp("seen"), {"train": 3, "val": 2, "unseen": 1}, 1, 40, video=True)


@pytest.fixture(scope="module")
def recipe(shards) -> AppearanceRecipe:
    return AppearanceRecipe(tiny_settings(shards))


def tiny_settings(shards: Path, *more: str) -> AppearanceTrainConfig:
    return config.load(
        AppearanceTrainConfig, ROOT / "tests" / "helpers" / "tiny_appearance.yaml", [f"shards={shards}", *more]
    )


@functools.cache
def generator() -> Generator:
    """A generator whose weights are drawn anew: its picture depends on all it sees."""
    return shaken(Generator(TINY))


def shaken(module):
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in module.parameters():
            drawn = torch.randn(weight.shape, generator=random)
            weight.copy_(drawn / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.7 + 0.3 * drawn)
    return module.eval()


def talking(frames: int = 30, seed: int = 4, gain_px: float = 12.0) -> np.ndarray:
    """(T, 478, 2) px: a face with a jaw that falls as the mouth opens, on a head that sways."""
    random = np.random.default_rng(seed)
    face = talkers.outlined(talkers.base_face(random))
    landmarks, _ = talkers.clip(random, face, gain_px, frames)
    open_T1 = landmarks[:, talkers.LOWER, 1].mean(1, keepdims=True) - landmarks[:, CLEAN, 1].mean(1, keepdims=True)
    landmarks[:, JAW[5:12], 1] += 0.8 * (open_T1 - open_T1.mean())
    return landmarks.astype(np.float32)


def filled(polygon_V2: np.ndarray, size_px: int, grow: int = 0) -> np.ndarray:
    """The polygon by pillow, 8 times finer, as (size, size) bool; `grow` px dilated, or eroded below 0."""
    fine = Image.new("1", (8 * size_px, 8 * size_px))
    ImageDraw.Draw(fine).polygon([tuple(point) for point in (8 * polygon_V2).tolist()], fill=1)
    mask = torch.from_numpy(np.asarray(fine)[4::8, 4::8].copy()).float()[None, None]
    reach = abs(grow)
    around = torch.nn.functional.pad(mask, [reach] * 4)  # beyond the picture nothing is filled
    if grow > 0:
        mask = torch.nn.functional.max_pool2d(around, 2 * reach + 1, 1)
    elif grow < 0:
        mask = 1 - torch.nn.functional.max_pool2d(1 - around, 2 * reach + 1, 1)
    return mask[0, 0].numpy() > 0


# Regions and pictures


@given(st.integers(0, 10_000), st.sampled_from([16, 64, 256]))
@settings(max_examples=20, deadline=None)
def test_polygon_mask_agrees_with_pillow_but_for_the_rim(seed, size_px):
    """Star-shaped polygons, some reaching outside the picture."""
    random = np.random.default_rng(seed)
    angle = (np.arange(9) + 0.3 * random.random(9)) / 9 * 2 * np.pi
    radius = 40 + 80 * random.random(9)
    polygon = 128 + 40 * random.standard_normal(2) + np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    made = inputs.polygon_mask(torch.from_numpy(polygon)[None], size_px)[0, 0].numpy() > 0
    scaled = polygon * size_px / CROP_PX
    assert not (made & ~filled(scaled, size_px, 1)).any()
    assert not (~made & filled(scaled, size_px, -1)).any()


def test_polygon_mask_is_even_odd_at_pixel_middles():
    square = torch.tensor([[[64.0, 64.0], [128.0, 64.0], [128.0, 192.0], [64.0, 192.0]]])
    made = inputs.polygon_mask(square, 16)[0, 0]
    expected = torch.zeros(16, 16)
    expected[4:12, 4:8] = 1
    assert torch.equal(made, expected)
    bow = torch.tensor([[[0.0, 0.0], [256.0, 256.0], [256.0, 0.0], [0.0, 256.0]]])
    row = inputs.polygon_mask(bow, 64)[0, 0, 20]
    assert row[:20].all()
    assert not row[21:43].any(), "between its wings"
    assert row[44:].all()
    twice = torch.cat([square, square], 1)
    assert not inputs.polygon_mask(twice, 16).any(), "twice round is outside"


def test_draw_puts_dots_where_they_belong_in_the_channel_of_their_kind():
    landmarks = torch.full((1, COUNT, 2), -50.0)
    other = next(index for index in CLEAN if index not in MOUTH)
    places = {INNER_LIP[3]: (40.5, 60.5), OUTER_LIP[5]: (100.5, 20.5), other: (200.5, 220.5)}
    for index, place in places.items():
        landmarks[0, index] = torch.tensor(place)
    made = inputs.draw(landmarks, 256)[0]
    for channel, (x, y) in enumerate(places.values()):
        column, row = int(x), int(y)
        expected = torch.zeros(256, 256)
        expected[row, column] = 1
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            expected[row + dy, column + dx] = 0.5
        for dy, dx in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            expected[row + dy, column + dx] = 1.5 - 2**0.5
        torch.testing.assert_close(made[channel], expected)


def test_draw_shows_less_than_a_pixel_and_adds_nothing_up():
    landmarks = torch.full((3, COUNT, 2), 100.0)
    landmarks[1] += 0.25
    landmarks[2, 1:] = -50
    made = inputs.draw(landmarks, 128)
    assert (made[0] - made[1]).abs().max() > 0.05
    assert torch.equal(made[0].amax(0), made[2].amax(0)), "478 dots on one place look like one"
    assert made.max() <= 1


def test_draw_leaves_out_what_lies_outside():
    landmarks = torch.full((1, COUNT, 2), 300.0)
    landmarks[0, 0] = torch.tensor([-0.5, 255.9])
    made = inputs.draw(landmarks, 256)[0]
    assert made[1].count_nonzero() == made.count_nonzero() == 1
    assert made[1, 255, 0] > 0


def test_regions_hold_the_lower_face_with_any_jaw():
    """Lips, and the jaw where it has fallen by a fifth of the face below the nose, as the widest mouths do."""
    landmarks = talking(gain_px=18)
    made = region.regions(landmarks)
    fall_px = 0.2 * (landmarks[0, 152, 1] - landmarks[0, 2, 1])
    for polygon_V2, face_N2 in zip(made, landmarks):
        mask = filled(polygon_V2, 256, 2)
        for points in (face_N2[MOUTH], face_N2[JAW[2:-2]], face_N2[JAW[4:-4]] + [0, fall_px]):
            at = points.round().astype(int)
            assert mask[at[:, 1], at[:, 0]].all()
        top = filled(polygon_V2, 256).nonzero()[0].min()
        assert top > face_N2[2, 1], "begins below the nose"


def test_a_region_tells_nothing_of_its_frames_mouth():
    """The lower faces of two frames change places, in the head's frame: no region changes."""
    landmarks = torch.from_numpy(talking())[None].double()
    everywhere = torch.ones(landmarks.shape[:2], dtype=torch.float64)
    posed = pose.fit(landmarks, pose.rigid_shape(landmarks, everywhere))
    head = posed.to_head(landmarks)
    order = torch.randperm(landmarks.shape[1], generator=torch.Generator().manual_seed(0))
    head[:, :, NOISED] = head[:, order][:, :, NOISED]
    other = posed.to_crop(head)[0].numpy()
    assert np.abs(other - landmarks[0].numpy()).max() > 5
    rigid = pose.RIGID
    np.testing.assert_allclose(other[:, rigid], landmarks[0, :, rigid].numpy(), atol=1e-9)
    made = region.regions(landmarks[0].numpy())
    np.testing.assert_allclose(region.regions(other), made, atol=1e-3)
    assert np.ptp(made, axis=0).max() > 0.5, "but it moves with the head"


def test_the_window_lies_round_the_region_inside_the_crop():
    regions = region.regions(talking())
    low, high = inputs.corners(regions, TINY), inputs.corners(regions, TINY) + np.array([192, 128])
    assert low.min() >= 0
    assert high.max() <= CROP_PX
    middle = (regions.min(1) + regions.max(1)) / 2
    inner = (low[:, 1] > 0) & (high[:, 1] < CROP_PX)
    assert np.abs(((low + high) / 2 - middle)[inner]).max(initial=0) <= TINY.step_px / 2
    assert (inputs.corners(regions - 300, TINY) == 0).all()
    assert (inputs.corners(regions + 300, TINY) == [64, 128]).all()


def test_cut_is_the_area_mean_of_the_window():
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 256, 256, 3)).astype(np.uint8)
    corner = np.array([[64, 4], [0, 128]])
    made = inputs.cut(frames, corner, TINY)
    assert made.shape == (2, 3, 32, 48)
    expected = frames[1, 128 + 8 : 128 + 12, 20:24].astype(float).mean((0, 1)) / 127.5 - 1
    np.testing.assert_allclose(made[1, :, 2, 5], expected, atol=1e-6)


@pytest.mark.parametrize("size_px", [32, 128, 256])
def test_the_soft_mask_is_whole_in_the_region_and_nothing_far_from_it(size_px):
    mask = torch.zeros(1, 1, size_px, size_px)
    mask[..., size_px // 2 :, size_px // 4 : size_px // 2] = 1
    soft = inputs.soften(mask, size_px)
    assert (soft[mask > 0] == 1).all()
    reach = 2 * round(10 * size_px / 256)
    far = torch.nn.functional.max_pool2d(mask, 2 * reach + 1, 1, reach) == 0
    assert not soft[far].any()
    if reach > 2:
        edge = soft[0, 0, -1, size_px // 2 : size_px // 2 + reach]
        assert (edge.diff() < 0).all(), "it falls all the way"


# What no network may see


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
        assert torch.equal(recipe.painted(model, other)[1], own)
        assert not torch.equal(recipe.painted(model, lips)[1], own)


# The networks


def pictures(seed: int, references: int = 3):
    random = torch.Generator().manual_seed(seed)
    shape = TINY.shape
    image = torch.rand(2, 3, *shape, generator=random)
    lips = 2 * torch.rand(2, references, 3, *shape, generator=random) - 1
    return image, lips, 2 * torch.rand(2, 3, *shape, generator=random) - 1


@pytest.mark.parametrize("fusion", appearance.FUSIONS)
@pytest.mark.parametrize("encoders", [1, 2])
def test_references_are_a_set_of_any_size(fusion, encoders):
    model = shaken(Generator(replace(TINY, fusion=fusion, appearance_encoders=encoders))).double()
    image, lips, masked = (tensor.double() for tensor in pictures(0, 4))
    with torch.no_grad():
        own = model(image, lips, masked)
        assert own.shape == masked.shape
        assert own.abs().max() <= 1
        torch.testing.assert_close(model(image, lips[:, [2, 0, 3, 1]], masked), own, rtol=0, atol=1e-10)
        torch.testing.assert_close(model(image, torch.cat([lips, lips], 1), masked), own, rtol=0, atol=1e-10)
        for count in (1, 3):
            assert (model(image, lips[:, :count], masked) - own).abs().max() > 1e-4
        for changed in ((image.flip(0), lips, masked), (image, lips.flip(0), masked), (image, lips, masked.flip(0))):
            assert (model(*changed) - own).abs().max() > 1e-3, "each input matters"


def test_the_references_mean_picture_is_over_those_that_show_a_pixel():
    lips = torch.full((1, 3, 3, 1, 4), inputs.BLACK)
    lips[0, 0, :, 0, :3] = 0.5
    lips[0, 1, :, 0, 1:3] = -0.5
    lips[0, 2, 0, 0, 2] = 0.3  # red alone
    made = appearance.mean_shown(lips)[0, :, 0]
    torch.testing.assert_close(made[0], torch.tensor([0.5, 0.0, 0.1, -1.0]))
    torch.testing.assert_close(made[1], torch.tensor([0.5, 0.0, -1 / 3, -1.0]))


def test_a_decoder_that_keeps_everything_shows_the_base_picture_but_at_the_lips():
    """The frame, where that is blacked out the references, where they are too what is near; painted at the lips."""
    model = Generator(TINY).eval()
    picked = model.decoder.last[-2]
    image, lips, masked = pictures(6, 1)
    image[:, :2], image[:, 0, 4, 40] = 0, 1
    masked[..., 8:24, :] = inputs.BLACK
    lips[..., 23:, :] = inputs.BLACK
    with torch.no_grad():
        picked.weight.zero_()
        picked.bias.zero_()
        picked.bias[12:16] = 90  # the share that is kept, 2 x 2 pixels
        made = model(image, lips, masked)
    assert not made[..., :8, 37:44].any(), "a colour of its own, grey here, 3 px (12 at 256) round the lips"
    made, masked, lips = made[..., :33], masked[..., :33], lips[:, 0, ..., :33]
    torch.testing.assert_close(made[..., :8, :], masked[..., :8, :])
    torch.testing.assert_close(made[..., 8:23, :], lips[..., 8:23, :])
    torch.testing.assert_close(made[..., 24:, :], masked[..., 24:, :])
    expected = (lips[..., 21:23, 8:13].sum((-1, -2)) + masked[..., 24:26, 8:13].sum((-1, -2))) / 20
    torch.testing.assert_close(made[..., 23, 10], expected)


def test_fusion_sees_no_landmarks():
    """Other landmarks: what FusionNet gives stays bit for bit."""
    model, given = generator(), []
    hook = model.fusion.register_forward_hook(lambda _, inputs, output: given.append((*inputs, output)))
    with torch.no_grad():
        image, lips, masked = pictures(1)
        model(image, lips, masked)
        model(image.flip(0), lips, masked)
    hook.remove()
    assert all(torch.equal(a, b) for a, b in zip(*given))


def test_no_example_knows_another():
    models = generator(), shaken(Discriminator(TINY))
    image, lips, masked = pictures(2)
    with torch.no_grad():
        torch.testing.assert_close(models[0](image, lips, masked)[:1], models[0](image[:1], lips[:1], masked[:1]))
        torch.testing.assert_close(models[1](masked)[:1], models[1](masked[:1]))
    for model in models:
        assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size_px": 100}, "size_px must divide"),
        ({"window_px": [100, 192]}, "window_px"),
        ({"window_px": [64, 512]}, "window_px"),
        ({"channels": [8]}, "one length"),
        ({"channels": [8, 18]}, "multiples of 4"),
        ({"heads": 3}, "multiple of model.heads"),
        ({"fusion": "sum"}, "attention, concat or add"),
        ({"appearance_encoders": 3}, "1 or 2"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **wrong)


# Losses


def hinge_parts(recipe, batch, networks):
    """Reconstruction and adversarial loss of the composed picture as plain functions of the generator's output."""
    seen, painted = recipe.painted(networks["generator"], batch)
    distance = (painted - batch.frame_B3HW).abs().mean(1)
    soft, box = seen.soft_B1HW[:, 0], recipes.mouth_box(batch.landmarks_BN2, recipe.settings.model.shape)[:, 0]
    both = soft * box
    region = (distance * soft).sum((1, 2)) / soft.sum((1, 2))
    mouth = (distance * both).sum((1, 2)) / both.sum((1, 2))
    composed = batch.frame_B3HW * (1 - seen.soft_B1HW) + painted * seen.soft_B1HW
    fooling = -networks["discriminator"](composed).mean((1, 2, 3))
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
    recipe.generator_loss(networks, batch)
    loss_B = recipe.discriminator_loss(networks, batch).total_B
    seen, painted = recipe.painted(networks["generator"], batch)
    made = inputs.blend(painted, batch.frame_B3HW, seen.soft_B1HW)
    judge = networks["discriminator"]
    expected_B = 0.5 * ((1 - judge(batch.frame_B3HW)).clamp(min=0) + (1 + judge(made)).clamp(min=0)).mean((1, 2, 3))
    torch.testing.assert_close(loss_B, expected_B, rtol=1e-9, atol=0)
    loss_B.mean().backward()
    assert all(weight.grad is None for weight in networks["generator"].parameters())
    assert all(weight.grad.norm() > 1e-9 for weight in judge.parameters())


def test_the_mouth_box_is_round_the_mouth():
    landmarks = torch.zeros(1, COUNT, 2)
    landmarks[0, MOUTH] = torch.tensor([20.0, 20.0])
    landmarks[0, MOUTH[0]] = torch.tensor([10.0, 12.0])
    landmarks[0, MOUTH[1]] = torch.tensor([30.0, 24.0])
    box = recipes.mouth_box(landmarks, (32, 40))[0, 0]
    assert box.nonzero().amin(0).tolist() == [9, 7]  # 12 - 3, 10 - 3
    assert box.nonzero().amax(0).tolist() == [26, 32]
    assert box.sum() == 18 * 26


# Examples


def test_a_slot_holds_the_same_whoever_makes_it(recipe):
    together = recipe.examples([3, 4, 5])
    fresh = AppearanceRecipe(recipe.settings).examples
    for index, slot in enumerate((3, 4, 5)):
        alone = fresh([slot])
        for field in dataclasses.fields(AppearanceBatch):
            ours, theirs = getattr(together, field.name), getattr(alone, field.name)
            if isinstance(ours, torch.Tensor):
                assert torch.equal(ours[index : index + 1], theirs), field.name
        assert together.keys_B[index] == alone.keys_B[0]
    assert len({frame for slot in range(20) for frame in fresh([slot]).starts_B.tolist()}) > 5


def test_references_keep_their_distance_from_the_target(recipe):
    examples: AppearanceExamples = recipe.examples
    for slot in range(200):
        row, frame, chosen = referred(examples, slot)
        assert len(set(chosen)) == examples.references.count
        assert min(abs(reference - frame) for reference in chosen) >= examples.references.gap_frames
    wide = AppearanceExamples(examples.manifest, SamplingConfig(), examples.model, ReferenceConfig(3, 1000))
    for slot in range(50):
        row, frame, chosen = referred(wide, slot)
        away = [abs(reference - frame) for reference in chosen]
        assert min(away) >= (int(wide.windows.frames[row]) - 1) // 2, "as far as the clip allows"


@pytest.mark.parametrize("by", ["pose", "mouth"])
def test_references_may_be_those_that_differ_most(recipe, by):
    """Of the frames drawn, the three most unlike the target: turned heads for pose, open mouths for mouth."""
    examples = AppearanceExamples(recipe.examples.manifest, SamplingConfig(), TINY, ReferenceConfig(3, 5, by))
    random, found, asked = np.random.default_rng(0), 0, 0
    for slot in range(30):
        example = examples.windows.example(slot)
        count = int(examples.windows.frames[example.window.row])
        landmarks = np.repeat(random.normal(128, 40, (1, 478, 2)), count, 0).astype(np.float32)
        turned, opened = np.arange(count) % 4 == 1, np.arange(count) % 4 == 2
        landmarks[turned] = (landmarks[turned] - 128) @ np.array([[0.98, 0.2], [-0.2, 0.98]], np.float32) + 128
        landmarks[opened[:, None] & np.isin(np.arange(478), MOUTH)[None]] += 9
        wanted = turned if by == "pose" else opened
        if wanted[example.window.start]:
            continue
        chosen = examples.reference_frames(slot, example, landmarks)
        found += wanted[chosen].sum()
        asked += len(chosen)
        assert min(abs(np.array(chosen) - example.window.start)) >= 5
        assert chosen == examples.reference_frames(slot, example, landmarks)
    assert found / asked > 0.7, "a quarter, drawn blindly"


def referred(examples: AppearanceExamples, slot: int) -> tuple[int, int, list[int]]:
    """(row, frame, frames of the references) of a slot."""
    example = examples.windows.example(slot)
    row, frame, _ = example.window
    landmarks = np.zeros((int(examples.windows.frames[row]), 478, 2), np.float32)
    return row, frame, examples.reference_frames(slot, example, landmarks)


def of_lengths(*frames: int, split: str = "train") -> AppearanceExamples:
    """Examples of clips of these lengths, of which only places can be asked for."""
    count = len(frames)
    held = {"key": [str(i) for i in range(count)], "split": [split] * count, "frames": list(frames)}
    made = Manifest(Path("nowhere"), {}, pa.table({**held, "shard": [0] * count, "video_size": [1] * count}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appearance_examples, "refuse_without_frames", lambda *_: None)
        return AppearanceExamples(made, SamplingConfig(), TINY, ReferenceConfig())


def test_no_reference_is_the_target_however_short_the_clip():
    """A clip of one frame, which has no other, is left out."""
    examples = of_lengths(2, 1, 3, 1, 4)
    assert len(examples) == 3
    assert {examples.windows.example(slot).window.row for slot in range(60)} == {0, 2, 4}
    for slot in range(60):
        _, frame, chosen = referred(examples, slot)
        assert frame not in chosen
    with pytest.raises(UserError, match="no clip of split 'train' is as long as is needed"):
        of_lengths(1, 1)


def test_a_batch_shows_the_clips_own_frame(recipe):
    """The mouth's own colour, known from the synthetic talkers, stands where the landmarks of the batch say."""
    batch = recipe.examples([7])
    x, y = batch.landmarks_BN2[0, OUTER_LIP].mean(0).round().long().tolist()
    row, frame, _ = referred(recipe.examples, 7)
    shown = (batch.frame_B3HW[0, :, y, x] + 1) * 127.5
    from data_pipeline.shards import reader

    landmarks = reader.read_landmarks(recipe.examples.manifest, row)[frame]
    pixels = reader.read_video(recipe.examples.manifest, row, [frame])[0]
    mouth_x, mouth_y = landmarks[OUTER_LIP].mean(0).round().astype(int)
    step = recipe.settings.model.step_px
    near = pixels[mouth_y - step : mouth_y + step, mouth_x - step : mouth_x + step].reshape(-1, 3)
    assert (near.min(0) - 12 <= shown.numpy()).all()
    assert (shown.numpy() <= near.max(0) + 12).all()


def test_shards_without_frames_are_refused_in_one_line(talker_shards, tmp_path):
    with pytest.raises(UserError, match="needs frames") as told:
        AppearanceRecipe(tiny_settings(talker_shards))
    assert "\n" not in str(told.value)
    motion_alone = talkers.write(tmp_path, {"train": 2, "val": 1}, 1, video=True)
    for path in motion_alone.glob("frames-*.tar"):
        path.unlink()
    with pytest.raises(UserError, match=r"frames-000000\.tar is missing"):
        AppearanceRecipe(tiny_settings(motion_alone))


# Validation, pictures, painting, folders


def test_validation_and_pictures_show_the_model(recipe):
    class Perfect(torch.nn.Module):
        def forward(self, image, lips, masked):
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


@pytest.fixture(scope="module")
def painting():
    """Frames, landmarks and regions of a clip, and a painter with references from elsewhere in it.

    The head is so small that no region comes near the sides of its window.
    """
    landmarks = talking(12)
    frames = talkers.pictures(landmarks, 0)
    frames = (frames.astype(int) + np.random.default_rng(0).integers(-9, 9, frames.shape)).clip(0, 255).astype(np.uint8)
    painter = Painter(generator(), frames[6:], landmarks[6:])
    return painter, frames[:4], landmarks[:4], region.regions(landmarks)[:4]


def test_painting_keeps_every_pixel_outside_the_mask(painting):
    painter, frames, landmarks, regions = painting
    painted, mask = painter.paint(frames, landmarks, regions)
    assert painted.dtype == np.uint8
    assert mask.dtype == np.float32
    assert np.array_equal(painted[mask == 0], frames[mask == 0])
    assert not np.array_equal(painted[mask > 0], frames[mask > 0])
    for polygon_V2, mask_HW in zip(regions, mask):
        assert (mask_HW[filled(polygon_V2, 256, -1)] == 1).all()
        assert not mask_HW[~filled(polygon_V2, 256, 21)].any()
        assert 0.1 < mask_HW.mean() < 0.5


def test_the_mask_falls_to_nothing_towards_the_sides_of_the_window_and_not_at_the_crops(painting):
    """A region that reaches out of a window in the crop's corner: two sides fade, over 8 px; the others do not."""
    painter, frames, landmarks, _ = painting
    wide = np.array([[-300, -300], [230, -300], [230, 170], [-300, 170]], np.float32)
    _, mask = painter.paint(frames[:1], landmarks[:1], wide[None])
    expected = np.zeros((256, 256), np.float32)
    ramp = np.arange(8) / 8
    expected[:128, :192] = 1
    expected[120:128] *= ramp[::-1, None]
    expected[:, 184:192] = np.minimum(expected[:, 184:192], ramp[::-1])
    np.testing.assert_allclose(mask[0], expected, atol=1e-6)
    low = inputs.rims(np.array([[32, 64], [64, 128]]), TINY)
    assert not low[0, [0, -1]].any()
    assert not low[0][:, [0, -1]].any()
    assert (low[0, 8:-8, 8:-8] == 1).all()
    assert (low[1, -1, 8:] == 1).all(), "the crop's own border"
    assert (low[1, 8:, -1] == 1).all()
    assert (inputs.rims(np.zeros((1, 2), int), replace(TINY, window_px=[256, 256])) == 1).all()


@pytest.mark.parametrize("fusion", appearance.FUSIONS)
def test_references_shared_by_a_batch_are_asked_as_one(fusion):
    """Batch 1 of references gives what the same references give repeated, and its keys and values are made once."""
    model = shaken(Generator(replace(TINY, fusion=fusion))).double()
    image, lips, masked = (torch.cat([tensor.double()] * 2)[:3] for tensor in pictures(7))
    made = []
    if fusion == "attention":
        for part in (model.fusion.key, model.fusion.value):
            part.register_forward_hook(lambda _, inputs, output: made.append(output.shape[:2]))
    with torch.no_grad():
        encoded = model.encode_lips(lips[:1])
        together = model.paint(image, encoded, masked)
        places = lips.shape[1] * TINY.shape[0] * TINY.shape[1] // TINY.stride**2
        assert set(made) <= {(1, places)}
        assert len(made) == (2 if fusion == "attention" else 0)
        torch.testing.assert_close(together, model(image, lips[:1].expand_as(lips), masked), rtol=0, atol=1e-10)
        for k in range(3):
            here = slice(k, k + 1)
            torch.testing.assert_close(together[here], model.paint(image[here], encoded, masked[here]))


def test_painting_a_batch_equals_painting_one_by_one(painting):
    painter, frames, landmarks, regions = painting
    painted, mask = painter.paint(frames[:3], landmarks[:3], regions[:3])
    for k in range(3):
        here = slice(k, k + 1)
        alone, own = painter.paint(frames[here], landmarks[here], regions[here])
        assert np.abs(alone[0].astype(int) - painted[k]).max() <= 1  # of 255: rounding
        np.testing.assert_array_equal(own[0], mask[k])


def test_painting_is_a_function_of_landmarks_and_surroundings_alone(painting):
    """The frame's own lower face does not show, nor does a frame know those painted with it."""
    painter, frames, landmarks, regions = painting
    painted, mask = painter.paint(frames, landmarks, regions)
    other = frames.copy()
    other[mask == 1] = 255 - other[mask == 1]
    inside = np.stack([filled(polygon_V2, 256) for polygon_V2 in regions]) & (mask == 1)
    other[~inside] = frames[~inside]
    again, _ = painter.paint(other, landmarks, regions)
    step = painter.config.step_px  # a pixel of the network that lies across the region's rim holds both
    core = np.stack([filled(polygon_V2, 256, -2 * step) for polygon_V2 in regions])
    kept = frames.copy()
    kept[core] = 255 - kept[core]
    again, _ = painter.paint(kept, landmarks, regions)
    assert np.array_equal(again, painted)
    moved, _ = painter.paint(frames, landmarks + 3, regions)
    assert not np.array_equal(moved, painted)
    alone, _ = painter.paint(frames[2:3], landmarks[2:3], regions[2:3])
    assert np.abs(alone[0].astype(int) - painted[2]).max() <= 1


def test_painting_equals_the_recipes_at_full_size(recipe):
    """At the network's own resolution, the painter and the training's picture are one."""
    model = replace(TINY, size_px=256, window_px=[128, 192])
    made = AppearanceRecipe(dataclasses.replace(recipe.settings, model=model))
    trained = shaken(Generator(model))
    batch = made.examples([5])
    row, frame, chosen = referred(made.examples, 5)
    from data_pipeline.shards import reader

    landmarks = reader.read_landmarks(made.examples.manifest, row)
    pixels = reader.read_video(made.examples.manifest, row, [frame, *chosen])
    with torch.no_grad():
        seen, painted = made.painted(trained, batch)
    expected = inputs.blend(painted, batch.frame_B3HW, seen.soft_B1HW)
    painter = Painter(trained, pixels[1:], landmarks[chosen])
    regions = region.regions(landmarks)
    painter.lips = trained.encode_lips(seen.lips_BR3HW)  # theirs come from the references' own mean face
    result, _ = painter.paint(pixels[:1], landmarks[[frame]], regions[[frame]])
    x, y = inputs.corners(regions[[frame]], model)[0]
    window = torch.from_numpy(result[0, y : y + 128, x : x + 192].astype(np.float32)).permute(2, 0, 1)
    expected = (expected[0] + 1) * 127.5
    inner = np.s_[:, 8:-8, 8:-8]  # beyond, the painter's mask falls to 0 and training's does not
    torch.testing.assert_close(window[inner], expected[inner], rtol=0, atol=0.51)


def test_a_saved_generator_paints_the_same(tmp_path):
    model = generator()
    appearance.save_model(model.state_dict(), TINY, tmp_path)
    loaded = appearance.load_model(tmp_path)
    assert loaded.config == TINY
    image, lips, masked = pictures(5)
    with torch.no_grad():
        assert torch.equal(loaded(image, lips, masked), model(image, lips, masked))
    appearance.save_model(model.state_dict(), replace(TINY, channels=[8, 32]), tmp_path)
    with pytest.raises(UserError, match="do not fit") as told:
        appearance.load_model(tmp_path)
    assert "\n" not in str(told.value)
