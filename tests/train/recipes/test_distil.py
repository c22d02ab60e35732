"""A student of a motion model: what it is taught, that it learns it, and how it is sampled afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mytalk import config
from mytalk.command import UserError
from mytalk.face.landmarks import NOISED, SAMPLES_PER_FRAME
from mytalk.networks import diffusion, weights
from mytalk.networks.identity import IdentityConfig, IdentityEncoder
from mytalk.networks.motion import generation
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import load_model, save_model
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from tests.helpers.checkout import ROOT
from tests.helpers.motion_batches import shaken
from tests.helpers.train_matrix import modules_of
from tests.helpers.training import curve, train
from train import check
from train.recipes.distil import DistilRecipe, DistilTrainConfig

ENCODER = IdentityConfig(width=16, heads=2, layers=1, hidden=24, kernel=3, embedding=8)
SIZES = MotionConfig(
    width=16,
    heads=2,
    layers=1,
    hidden=24,
    kernel=5,
    speech_layers=1,
    identity_layers=1,
    whiten=True,
    times="log_snr",
    extractor_width=ENCODER.width,
)
STEPS = 3


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A motion model with random weights, an identity encoder and a deviation of its own."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model, encoder = shaken(MotionModel(SIZES)), IdentityEncoder(ENCODER)
    model.deviation_K2.fill_(0.3)
    facts = {"window_frames": 24, "source_sound_dropout": 0.2, "speech_dropout": 0.1}
    save_model(model.state_dict(), SIZES, folder, encoder, facts)
    return folder


def settings(shards, teacher, *more: str) -> DistilTrainConfig:
    """Of the smallest run, with the teacher's sizes in it."""
    words = [f"shards={shards}", f"teacher={teacher}", f"teacher_steps={STEPS}", *more]
    return config.load(DistilTrainConfig, ROOT / "tests" / "helpers" / "tiny_distil.yaml", words)


@pytest.fixture(scope="module")
def recipe(talker_shards, teacher) -> DistilRecipe:
    return DistilRecipe(settings(talker_shards, teacher))


def sampled(recipe, teacher, batch, guidance=1.0):
    """Where the teacher's path ends: its whole network called in every step."""
    model = load_model(teacher).double()
    conditions, _ = recipe.conditions(batch)

    def denoise(x, t_B):
        said = model(x, t_B, conditions)
        if guidance == 1:
            return said
        unheard = model(x, t_B, replace(conditions, speech_kept_B=torch.zeros_like(t_B)))
        return unheard + guidance * (said - unheard)

    return diffusion.sample(denoise, batch.noise_BTK2, STEPS, "log_snr"), conditions


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_loss_is_the_distance_from_where_the_teacher_ends(talker_shards, teacher, guidance):
    """In px: the mean over valid frames of what the student says of the start noise."""
    made = DistilRecipe(settings(talker_shards, teacher, f"teacher_guidance={guidance}"))
    batch = made.examples([0, 1, 2]).to(torch.device("cpu"), torch.float64)
    student = shaken(modules_of(made)["motion"]).double()
    with torch.no_grad():
        loss_B = made.loss({"motion": student}, batch).total_B
        wanted_BTK2, conditions = sampled(made, teacher, batch, guidance)
        start = batch.noise_BTK2 / diffusion.START_TEMPERATURE
        said_BTK2 = student(start, torch.ones(3, dtype=torch.float64), conditions)
    error_BT = 0.3 * (said_BTK2 - wanted_BTK2).abs().mean((2, 3))
    expected_B = (error_BT * batch.mask_BT).sum(1) / batch.mask_BT.sum(1)
    torch.testing.assert_close(loss_B, expected_B, rtol=1e-6, atol=0)


def test_the_truth_of_the_mouth_teaches_nothing(recipe):
    """With another lower face in the clip, where its pose and source are the same, the loss is the same."""
    batch = recipe.examples([0, 1]).to(torch.device("cpu"), torch.float64)
    student = shaken(modules_of(recipe)["motion"]).double()
    moved_BTN3 = batch.landmarks_BTN3.clone()
    moved_BTN3[:, :, NOISED] += 5.0
    with torch.no_grad():
        one, other = (
            recipe.loss({"motion": student}, replace(batch, landmarks_BTN3=points)).total_B
            for points in (batch.landmarks_BTN3, moved_BTN3)
        )
    torch.testing.assert_close(one, other)


def trained(folder, shards, teacher, world: int):
    """The folder of a run of 12 steps by so many processes."""
    words = [f"shards={shards}", f"teacher={teacher}", f"run={folder / str(world)}"]
    train(folder, world, [["distil", str(ROOT / "tests" / "helpers" / "tiny_distil.yaml"), words]])
    return folder / str(world)


@pytest.fixture(scope="module")
def alone(talker_shards, teacher, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("distilled"), talker_shards, teacher, 1)


def test_a_run_begins_as_its_teacher_and_learns(alone):
    losses = curve(alone, "loss/motion")
    assert losses[-3:].mean() < 0.8 * losses[:3].mean()
    assert json.loads((alone / "init_from.json").read_text())["not_found"] == []


@pytest.mark.full
def test_invariant_2_two_processes_have_the_same_curve(alone, talker_shards, teacher, tmp_path):
    np.testing.assert_allclose(curve(trained(tmp_path, talker_shards, teacher, 2)), curve(alone), rtol=1e-4)


def test_its_model_is_sampled_in_one_step(alone, teacher):
    """It remembers that it knows no other."""
    model = load_model(alone / "model")
    assert weights.own_steps(alone / "model") == model.steps == 1
    assert weights.own_steps(teacher) is None
    face_TN3 = np.random.default_rng(0).uniform(60, 200, (12, 478, 3)).astype(np.float32)
    source, audio_S = SourceStretch(face_TN3), np.zeros(12 * SAMPLES_PER_FRAME, np.float32)
    np.testing.assert_array_equal(
        *(generation.generate(model, face_TN3, source, audio_S, seed=0, steps=steps) for steps in (1, 30))
    )


def test_what_cannot_be_learnt_is_refused(talker_shards, teacher, tmp_path):
    with pytest.raises(UserError, match="name the trained motion model"):
        DistilRecipe(DistilTrainConfig())
    model = MotionModel(replace(SIZES, extractor_width=0))
    save_model(model.state_dict(), model.config, tmp_path)
    with pytest.raises(UserError, match="needs a teacher trained with speech_dropout"):
        DistilRecipe(settings(talker_shards, tmp_path, "teacher_guidance=1.5"))


def test_train_check_tells_of_a_missing_teacher(tmp_path):
    for words, said in (("distil", "name the trained motion model"), (f"distil teacher={tmp_path}", "no model in")):
        with pytest.raises(UserError, match=said):
            check.run(check.arguments().parse_args([words]))


def test_a_resumed_run_keeps_its_teacher(recipe, teacher):
    assert recipe.fixed()["teacher_steps"] == STEPS
    assert recipe.teachers()["teacher"] == str(teacher)
    assert recipe.facts()["sampling_steps"] == 1
