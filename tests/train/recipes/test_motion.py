"""The frozen identity encoder in stage 1: its features condition the denoiser, its loss is added, it never learns."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.columns import column
from data_pipeline.examples.settings import RunSettings
from data_pipeline.examples.windows import PLANNED
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import reader
from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import COUNT, NOISED, SAMPLES_PER_FRAME
from mytalk.networks import diffusion, identity
from mytalk.networks.identity import IdentityConfig, IdentityEncoder
from mytalk.networks.motion import generation, inputs
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import load_model, save_model
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.loss import identity_loss
from mytalk.networks.motion.network import MotionModel
from mytalk.networks.speech_features import log_mel
from mytalk.speech import encoder
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.motion_batches import padded, predict_and_learn, shaken
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipe import Validated
from train.recipes import motion as train_motion
from train.recipes.motion import MotionRecipe, MotionTrainConfig, of_extractor

SMALL = IdentityConfig(width=16, heads=2, layers=1, hidden=24, kernel=3, embedding=8)


@pytest.fixture(scope="module")
def extractor_folder(tmp_path_factory):
    """A small extractor with random weights, as `train identity` exports one that is good."""
    folder = tmp_path_factory.mktemp("identity")
    torch.manual_seed(3)
    identity.save_model(IdentityEncoder(SMALL).state_dict(), SMALL, folder, found([0.9, 0.92, 0.97]))
    return folder


def found(values: list[float], required: float | None = None) -> dict:
    """Facts of an extractor whose AUC over people is this."""
    return {"validation": {identity.MEASURED: intervals.against_chance(values, 0.5, required)}}


def made(shards, folder, *settings: str) -> MotionRecipe:
    given = [f"shards={shards}", f"identity={folder}", *settings]
    return MotionRecipe(config.load(MotionTrainConfig, ROOT / "tests" / "helpers" / "tiny_motion.yaml", given))


def plain(shards, *settings: str) -> MotionRecipe:
    """Without an identity encoder."""
    given = [f"shards={shards}", *settings]
    return MotionRecipe(config.load(MotionTrainConfig, ROOT / "tests" / "helpers" / "tiny_motion.yaml", given))


@pytest.fixture(scope="module")
def recipe(talker_shards, extractor_folder) -> MotionRecipe:
    return made(talker_shards, extractor_folder)


def double(recipe: MotionRecipe) -> MotionModel:
    model = modules_of(recipe)["motion"]
    assert isinstance(model, MotionModel)
    return shaken(model).double()  # type: ignore[return-value]


def batch_of(recipe: MotionRecipe):
    return recipe.examples([0, 1, 2]).to(torch.device("cpu"), torch.float64)


def test_the_loss_is_the_diffusion_loss_and_a_tenth_of_one_minus_cosine(recipe, talker_shards, extractor_folder):
    """Against the embeddings of the whole generated and source landmarks, put together here."""
    model, batch = double(recipe), batch_of(recipe)
    predicted_BTK2, loss_B, _ = predict_and_learn(recipe, model, batch)
    plain = made(talker_shards, extractor_folder, "identity_loss=0")
    _, plain_B, _ = predict_and_learn(plain, model, batch)
    ready = inputs.prepare(batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, recipe.model)
    crop_BTN3 = inputs.restore(predicted_BTK2, ready, batch.landmarks_BTN3, recipe.model)
    extractor = identity.load_model(extractor_folder).double()
    with torch.no_grad():
        source_BE = extractor(pose.to_own_head(batch.source_BUN3, batch.source_mask_BU), batch.source_mask_BU)
        depth_BN = pose.person_head(batch.source_BUN3, batch.source_mask_BU).depth_BN
        generated_BE = extractor(ready.pose.to_head(crop_BTN3, depth_BN), batch.mask_BT)
    expected_B = plain_B + 0.1 * (1 - torch.cosine_similarity(generated_BE, source_BE))
    assert (loss_B - plain_B).min() > 1e-6
    torch.testing.assert_close(loss_B - plain_B, expected_B - plain_B, rtol=1e-6, atol=0)


def test_the_identity_loss_counts_up_to_a_time(recipe, talker_shards, extractor_folder):
    """An example whose diffusion time is later adds nothing."""
    model, batch = double(recipe), batch_of(recipe)
    early, late = batch.t_B.min().item(), batch.t_B.max().item()
    until = made(talker_shards, extractor_folder, f"identity_until={(early + late) / 2}")
    whole, part = (r.loss({"motion": model}, batch).terms["identity"] for r in (recipe, until))
    counted = batch.t_B <= (early + late) / 2
    torch.testing.assert_close(part, whole * counted)
    assert 0 < counted.sum() < len(counted)
    assert (whole > 0).all()
    assert until.fixed() != recipe.fixed(), "a resumed run may not change it"


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_the_loss_of_another_prediction_is_l1_of_its_target(talker_shards, prediction):
    """A fresh network says 0, so the loss is the mean of the target itself over valid frames."""
    other = plain(talker_shards, f"model.prediction={prediction}")
    batch = batch_of(other)
    batch.t_B[0] = 1e-5
    ready = inputs.prepare(batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, other.model)
    alpha, sigma = (scale_B[:, None, None, None] for scale_B in diffusion.alpha_sigma(batch.t_B))
    noise, x0 = batch.noise_BTK2, ready.motion_BTK2
    target = {"v": alpha * noise - sigma * x0, "flow": noise - x0}[prediction]
    expected_B = (target.abs().mean((2, 3)) * batch.mask_BT).sum(1) / batch.mask_BT.sum(1)
    fresh = modules_of(other)["motion"].double()
    torch.testing.assert_close(other.loss({"motion": fresh}, batch).total_B, expected_B, rtol=1e-6, atol=0)
    assert other.fixed()["model"]["prediction"] == prediction, "a resumed run may not change it"


def test_loss_weights_are_of_the_error_in_x0(talker_shards):
    usual, even, snr = (plain(talker_shards, f"loss_weights={name}") for name in diffusion.LOSS_WEIGHTS)
    model, batch = double(usual), batch_of(usual)
    of_usual, of_even, of_snr = (one.loss({"motion": model}, batch) for one in (usual, even, snr))
    torch.testing.assert_close(of_usual.total_B, of_usual.terms["x0"] + of_usual.terms["eps"])
    assert torch.equal(of_even.total_B, of_usual.terms["x0"])
    weight_B = diffusion.loss_weight(batch.t_B, "x0", "min_snr")
    torch.testing.assert_close(of_snr.total_B, of_usual.terms["x0"] * weight_B)
    assert (weight_B < 1).any()
    assert "loss_weights" not in usual.fixed(), "runs begun before resume"
    assert snr.fixed() != even.fixed() != usual.fixed()


def test_all_points_may_be_noised_with_both_losses(talker_shards, extractor_folder):
    """Every weight learns, those of the upper face too; runs of before do not name the setting."""
    full, usual = (made(talker_shards, extractor_folder, f"model.noised={name}") for name in ("all", "lower"))
    model, batch = double(full), batch_of(full)
    assert batch.noise_BTK2.shape[2] == COUNT
    full.loss({"motion": model}, batch).total_B.sum().backward()
    assert model.out.weight.grad.abs().amin(1).gt(0).all()
    assert "noised" not in usual.fixed()["model"]
    assert full.fixed()["model"]["noised"] == "all"


@pytest.fixture(scope="module")
def heard_shards(talker_shards, tmp_path_factory):
    """Shards with a column of features of the speech, three values a frame."""
    folder = shutil.copytree(talker_shards, tmp_path_factory.mktemp("heard") / "shards")

    def values(manifest, row: int) -> np.ndarray:
        audio_TS = reader.read_audio(manifest, row).reshape(-1, SAMPLES_PER_FRAME)
        return np.stack([audio_TS.std(1), audio_TS.min(1), audio_TS.max(1)], axis=1)

    column.add(folder, "heard", values, 3, of="audio")
    return folder


def test_a_column_is_heard_in_the_place_of_log_mel(heard_shards):
    """With log-mel energies as its values the network is that of before; the sound itself is no longer heard."""
    mel, heard = plain(heard_shards), plain(heard_shards, "model.features=heard")
    planned = PLANNED["motion"](heard.manifest, SamplingConfig(), RunSettings(keys={"model": {"features": "heard"}}))
    assert planned.members == heard.examples.windows.members == ("landmarks", "audio", "heard")
    assert modules_of(heard)["motion"].speech_in.in_features == 3
    batch = replace(batch_of(heard), voice_B=torch.ones(3, dtype=torch.float64))
    wide = replace(heard.model, features_width=320)
    model, as_mel = double(mel), MotionModel(wide).double()
    as_mel.load_state_dict(model.state_dict())
    energies = [
        log_mel(audio_BS).unflatten(1, (-1, 4)).flatten(2) for audio_BS in (batch.audio_BS, batch.source_audio_BS)
    ]
    of_mel = replace(batch, features_BTD=energies[0], source_features_BUD=energies[1])
    expected_B = mel.loss({"motion": model}, batch).total_B
    torch.testing.assert_close(heard.loss({"motion": as_mel}, of_mel).total_B, expected_B)
    own = double(heard)
    before_B = heard.loss({"motion": own}, batch).total_B
    louder = replace(batch, audio_BS=2 * batch.audio_BS, source_audio_BS=2 * batch.source_audio_BS)
    assert torch.equal(heard.loss({"motion": own}, louder).total_B, before_B)
    for name in ("features_BTD", "source_features_BUD"):
        other = replace(batch, **{name: 2 * getattr(batch, name)})
        assert (heard.loss({"motion": own}, other).total_B - before_B).abs().min() > 1e-9, name


def test_an_example_with_a_column_is_the_same_alone_and_in_a_batch(heard_shards):
    recipe = plain(heard_shards, "model.features=heard", "voice_stretch=0")
    model, slots = double(recipe), [0, 1, 2]
    alone_B = [
        recipe.loss({"motion": model}, recipe.examples([slot]).to(torch.device("cpu"), torch.float64)).total_B
        for slot in slots
    ]
    torch.testing.assert_close(recipe.loss({"motion": model}, batch_of(recipe)).total_B, torch.cat(alone_B))


def test_a_model_that_hears_a_column_needs_it(heard_shards, tmp_path):
    """Validation generates with it, the exported model says which it is, and what has none is told."""
    recipe = plain(heard_shards, "model.features=heard", "scored_clips=2")
    model = shaken(modules_of(recipe)["motion"])
    assert set(recipe.validate({"motion": model}, Ranks(0, 1, torch.device("cpu")))) >= {"lmd_px"}
    recipe.export({"motion": model.state_dict()}, tmp_path, Validated({}))
    loaded = load_model(tmp_path)
    assert loaded.column == "heard"
    landmarks, audio = talkers.clip(np.random.default_rng(2), talkers.base_face(np.random.default_rng(2)), 10.0, 10)
    source = SourceStretch(landmarks, audio, np.zeros((10, 3)))
    written = generation.generate(loaded, landmarks, source, audio, 0, 1, features_TD=np.zeros((10, 3)))
    assert written.shape == (10, 478, 3)
    with pytest.raises(UserError, match=r"hears the column 'heard'.* model.features=mel"):
        generation.generate(loaded, landmarks, source, audio, 0, 1)
    with pytest.raises(UserError, match="3 values a frame in column 'heard', not 4"):
        generation.generate(loaded, landmarks, source, audio, 0, 1, features_TD=np.zeros((10, 4)))
    with pytest.raises(UserError, match="hears the column 'heard'"):
        encoder.give(loaded, "motion", None)
    with pytest.raises(UserError, match=r"no column holds 'hubert'; there are: .*heard"):
        plain(heard_shards, "model.features=hubert")
    for wrong, said in (
        ("recorded=0.5", "recorded changes the sound"),
        ("model.features_width=3", "follows from"),
        ("model.speech_level=true", "changes what is heard"),
        ("model.speech_mean=true", "changes what is heard"),
    ):
        with pytest.raises((ValueError, UserError), match=said):
            plain(heard_shards, "model.features=heard", wrong)


def test_the_same_landmarks_are_the_same_person(extractor_folder):
    """Generated equal to the source: no loss."""
    extractor = identity.load_model(extractor_folder).double()
    random = np.random.default_rng(0)
    landmarks, _ = talkers.clip(random, talkers.base_face(random), 10.0, 12)
    clip_BTN3, mask_BT = torch.from_numpy(landmarks)[None], torch.ones(1, 12, dtype=torch.float64)
    sizes = MotionConfig(width=16, heads=2, layers=1, hidden=16, kernel=3)
    ready = inputs.prepare(clip_BTN3, mask_BT, clip_BTN3, mask_BT, sizes)
    known_BUD = extractor.features(ready.source_head_BUN2, mask_BT)
    true_BTK2 = (ready.head_BTN2[:, :, NOISED] - ready.mean_BK2[:, None]) / sizes.unit_px
    loss_B = identity_loss(extractor, true_BTK2, ready, mask_BT, known_BUD, mask_BT, sizes)
    assert loss_B.abs().max() < 1e-9
    other_B = identity_loss(extractor, true_BTK2 + 1, ready, mask_BT, known_BUD, mask_BT, sizes)
    assert other_B.min() > 1e-4


def test_the_extractor_stays_as_it_is(recipe):
    """The loss reaches the denoiser through it, and none of its own weights takes a gradient."""
    model, batch = double(recipe), batch_of(recipe)
    before = {name: weight.clone() for name, weight in recipe.extractor.state_dict().items()}
    recipe.loss({"motion": model}, batch).total_B.mean().backward()
    assert all(weight.grad is None for weight in recipe.extractor.parameters())
    assert all(weight.grad is not None for weight in model.parameters())
    for name, weight in recipe.extractor.state_dict().items():
        assert torch.equal(weight, before[name].to(weight))


def test_padding_changes_nothing_with_an_extractor(recipe):
    model, batch = double(recipe), batch_of(recipe)
    own, more = (predict_and_learn(recipe, model, b) for b in (batch, padded(batch, 9, 4)))
    torch.testing.assert_close(more[1], own[1], rtol=1e-9, atol=0)


def test_each_use_has_a_switch(recipe, talker_shards, extractor_folder):
    """Without the condition, which takes away the frozen features only (our own encoder of the source stays), and
    without the loss.
    """
    assert recipe.model.extractor_width == SMALL.width
    unconditioned = made(talker_shards, extractor_folder, "identity_condition=false")
    assert unconditioned.model.extractor_width == 0
    names = {name for name, _ in modules_of(unconditioned)["motion"].named_parameters()}
    assert not any("known" in name for name in names)
    batch = batch_of(recipe)
    model = double(recipe)
    changed = replace(recipe.extractor.config)
    torch.manual_seed(9)
    other = made(talker_shards, extractor_folder, "identity_loss=0")
    before = other.loss({"motion": model}, batch).total_B
    other.extractor = IdentityEncoder(changed).requires_grad_(False)
    assert (other.loss({"motion": model}, batch).total_B - before).abs().min() > 1e-6, "the condition is seen"


def test_the_model_folder_brings_its_extractor(recipe, tmp_path):
    """What is exported generates alone what it generated in training with the recipe's extractor."""
    model = modules_of(recipe)["motion"]
    shaken(model)
    recipe.export({"motion": model.state_dict()}, tmp_path, Validated({}))
    loaded = load_model(tmp_path)
    random = np.random.default_rng(2)
    landmarks, audio = talkers.clip(random, talkers.base_face(random), 10.0, 10)
    audio = audio[: 10 * SAMPLES_PER_FRAME]
    source = SourceStretch(landmarks)
    ours = generation.generate(model, landmarks, source, audio, 0, 2, extractor=recipe.extractor.float())
    np.testing.assert_allclose(generation.generate(loaded, landmarks, source, audio, 0, 2), ours, atol=1e-4)
    (tmp_path / "identity" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="missing"):
        load_model(tmp_path)


def test_a_run_says_what_its_extractor_is_worth(extractor_folder, tmp_path):
    """None, one of which nothing is known, one at chance, one above; silent where none is wanted or all is well."""
    assert of_extractor(MotionTrainConfig()) == (
        "motion: no identity encoder is named, so its condition and loss are off; name one with identity=FOLDER"
    )
    assert of_extractor(MotionTrainConfig(identity_condition=False, identity_loss=0)) == ""
    for facts, said in (
        (None, f"motion: warning: identity encoder {tmp_path}: NOT MEASURED"),
        (found([0.4, 0.6, 0.8]), "AT CHANCE: 0.60"),
        (found([0.8, 0.9, 0.91]), ""),
    ):
        identity.save_model(IdentityEncoder(SMALL).state_dict(), SMALL, tmp_path, facts)
        line = of_extractor(MotionTrainConfig(identity=str(tmp_path)))
        assert said in line
        assert bool(said) == bool(line)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (None, "NOT MEASURED"),
        (found([0.9]), "NOT SHOWN TO BE ABOVE CHANCE"),
        (found([0.4, 0.6, 0.8]), "AT CHANCE: 0.60"),
        (found([0.7, 0.72, 0.74], 0.75), "BELOW WHAT IT MUST REACH (0.75): 0.72"),
    ],
    ids=["unknown", "one person", "chance", "below"],
)
def test_the_loss_refuses_an_extractor_that_is_not_proven(talker_shards, tmp_path, facts, said):
    """The condition alone may use it: what it does not know it cannot teach."""
    identity.save_model(IdentityEncoder(SMALL).state_dict(), SMALL, tmp_path, facts)
    with pytest.raises(UserError, match="identity_loss=0") as refused:
        made(talker_shards, tmp_path)
    assert said in str(refused.value)
    assert made(talker_shards, tmp_path, "identity_loss=0").extractor is not None


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_only_rank_0_prints_the_warning(monkeypatch, capsys, talker_shards, tmp_path, rank, lines):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train_motion.cli, "start", lambda settings, make, args: make() and 0)
    tiny = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
    typed = ["--config", tiny, f"shards={talker_shards}", f"run={tmp_path}"]
    assert train_motion.run(train_motion.arguments().parse_args(typed)) == 0
    assert capsys.readouterr().out.count("no identity encoder is named") == lines


def test_the_folder_tells_the_longest_window(recipe, tmp_path):
    """Of training; 250 where the facts say nothing of the kind."""
    state = modules_of(recipe)["motion"].state_dict()
    recipe.export({"motion": state}, tmp_path, Validated({}))
    assert load_model(tmp_path).window_frames == recipe.settings.window.max_frames == 24
    for facts in (None, {"window_frames": "24"}, {"window_frames": 0}, {"window_frames": True}):
        save_model(state, recipe.model, tmp_path, recipe.extractor, facts)
        assert load_model(tmp_path).window_frames == 250


def test_another_extractor_is_another_run(recipe, talker_shards, tmp_path):
    identity.save_model(IdentityEncoder(SMALL).state_dict(), SMALL, tmp_path, found([0.9, 0.92, 0.97]))
    ours, theirs = recipe.fixed(), made(talker_shards, tmp_path).fixed()
    assert {key for key in ours if ours[key] != theirs[key]} == {"extractor"}


def test_settings_that_contradict_the_identity_encoder_are_refused(talker_shards, extractor_folder, tmp_path):
    with pytest.raises((ValueError, UserError), match="follows from identity"):
        made(talker_shards, extractor_folder, "model.extractor_width=16")
    with pytest.raises(UserError, match="train identity"):
        made(talker_shards, tmp_path / "nowhere")
