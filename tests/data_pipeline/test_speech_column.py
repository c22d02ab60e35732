"""The column `speech`: its features are those of the sound, train motion and syncnet, and are the same in `dub`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.annotate import sync
from data_pipeline.annotate.annotation import Options
from data_pipeline.columns import command
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from data_pipeline.tasks.runner import Runner
from data_pipeline.verify.command import verified
from mytalk import config
from mytalk.command import UserError
from mytalk.dub import dubbing
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.dub.person import PersonReference
from mytalk.networks import syncnet
from mytalk.networks.motion import generation
from mytalk.networks.motion.files import load_model
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from mytalk.speech import encoder
from tests.helpers import encoders
from tests.helpers.checkout import ROOT
from tests.helpers.motion_batches import shaken
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipe import Validated
from train.recipes.motion import MotionRecipe, MotionTrainConfig
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig

pytest.importorskip("transformers", reason="needs the extra speech")
HERE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {kind: encoders.write(tmp_path_factory.mktemp(kind), kind) for kind in ("xlsr", "hubert")}


@pytest.fixture(scope="module")
def heard_shards(talker_shards, folders, tmp_path_factory) -> Path:
    """Shards with the column, written by the command."""
    folder = shutil.copytree(talker_shards, tmp_path_factory.mktemp("heard") / "shards")
    assert run(folder, "speech", "--encoder", folders["xlsr"], "--layer", 1, "--as", "xlsr") == 0
    return folder


def run(*typed: object) -> int:
    return command.run(command.arguments().parse_args([*(str(word) for word in typed), "--workers", "0"]))


def recipe_of(kind, schema, shards: Path, *settings: str):
    given = [f"shards={shards}", "model.features=xlsr", *settings]
    return kind(config.load(schema, ROOT / "tests" / "helpers" / f"tiny_{kind.name}.yaml", given))


@pytest.fixture(scope="module")
def model_folder(heard_shards, tmp_path_factory) -> Path:
    """A motion model that hears the column, as training exports it."""
    folder = tmp_path_factory.mktemp("model")
    recipe = recipe_of(MotionRecipe, MotionTrainConfig, heard_shards)
    recipe.export({"motion": shaken(modules_of(recipe)["motion"]).state_dict()}, folder, Validated({}))
    return folder


def test_the_column_holds_what_the_encoder_makes_of_each_clip(heard_shards, folders):
    made, hears = Manifest.load(heard_shards), encoder.load(folders["xlsr"], 1)
    assert made.later("xlsr")["made_by"] == {**hears.made_by, "layer": 1}
    assert made.later("xlsr")["of"] == "audio"
    assert verified(str(heard_shards), 1.0, Runner(0))["findings"] == []
    for row in (0, len(made) - 1):
        stored_TD = reader.read_features(made, "xlsr", row)
        assert np.array_equal(stored_TD, hears(reader.read_audio(made, row)).astype(np.float32))
    with pytest.raises(UserError, match="column 'xlsr' exists with other values"):
        run(heard_shards, "speech", "--encoder", folders["hubert"], "--as", "xlsr")
    with pytest.raises(UserError, match="speech needs --encoder FOLDER_OR_HUB_ID"):
        run(heard_shards, "speech")
    with pytest.raises(UserError, match="mel has no --layer"):
        run(heard_shards, "mel", "--layer", 3)


def test_dub_hears_what_the_column_would_hold(heard_shards, model_folder, folders):
    """Motion written from a clip's sound is that of its column, and only the encoder of training will do."""
    model, made = load_model(model_folder), Manifest.load(heard_shards)
    landmarks_TN3, audio_S = reader.read_landmarks(made, 0), reader.read_audio(made, 0)
    span = FaceSpan(0, len(landmarks_TN3), np.repeat(np.eye(3)[None, :2], len(landmarks_TN3), 0), landmarks_TN3)
    faces = FirstPass(Path("none"), Fraction(25), 256, 256, len(landmarks_TN3), [span])
    person = PersonReference(landmarks_TN3, audio_S, np.zeros((1, 256, 256, 3), np.uint8), landmarks_TN3[:1])
    encoder.give(model, "motion", folders["xlsr"])
    (dubbed_TN3,) = dubbing.write_motion(faces, audio_S, model, person, seed=3, steps=2)
    features_TD = reader.read_features(made, "xlsr", 0)
    source = SourceStretch(landmarks_TN3, audio_S, features_TD)
    expected_TN3 = generation.generate(model, landmarks_TN3, source, audio_S, 3, 2, features_TD=features_TD)
    away_px = np.abs(dubbed_TN3 - expected_TN3).max()
    other = generation.generate(model, landmarks_TN3, source, audio_S, 3, 2, features_TD=features_TD[::-1].copy())
    assert away_px < 0.2 < 1 < np.abs(other - expected_TN3).max(), away_px

    def refused(said: str, typed, asked: MotionModel = model) -> None:
        with pytest.raises(UserError, match=said) as caught:
            encoder.give(asked, "motion", typed)
        assert "\n" not in str(caught.value)

    refused("is the hubert encoder .* was trained on features of the wav2vec2 encoder", folders["hubert"])
    refused("hears features of the wav2vec2 encoder .*--speech-encoder FOLDER", None)
    deaf = MotionModel(replace(model.config, features="mel", features_width=0))
    refused("hears log-mel energies; leave the option out", folders["xlsr"], deaf)
    encoder.give(deaf, "motion", None)


def test_shards_of_another_encoder_are_refused(heard_shards, talker_shards, model_folder, folders, tmp_path):
    shards = shutil.copytree(talker_shards, tmp_path / "shards")
    assert run(shards, "speech", "--encoder", folders["hubert"], "--layer", 1, "--as", "xlsr") == 0
    model = load_model(model_folder)
    requirements.refuse_other_features(Manifest.load(heard_shards), model.column, model.features_by)
    with pytest.raises(UserError, match=r"was not trained on features as column 'xlsr' holds .encoder "):
        requirements.refuse_other_features(Manifest.load(shards), model.column, model.features_by)
    with pytest.raises(UserError, match="was not trained on features"):
        run(shards, "predicted", "--model", model_folder)
    assert run(heard_shards, "predicted", "--model", model_folder) == 0


def test_syncnet_hears_the_column(heard_shards, talker_shards, tmp_path, monkeypatch):
    """Its loss, validation, pictures and the annotation `sync` follow the column and not the sound; scorers, who have a
    sound, are told.
    """
    recipe = recipe_of(SyncRecipe, SyncTrainConfig, heard_shards, "voice_stretch=0")
    model, batch = modules_of(recipe)["syncnet"].double(), recipe.examples([0, 1, 2])
    batch = batch.to(HERE.device, torch.float64)
    before_B = recipe.loss({"syncnet": model}, batch)
    assert torch.equal(recipe.loss({"syncnet": model}, replace(batch, audio_BS=2 * batch.audio_BS)), before_B)
    other = replace(batch, features_BTF=batch.features_BTF.flip(1))
    assert (recipe.loss({"syncnet": model}, other) - before_B).abs().min() > 1e-6
    alone_B = [recipe.loss({"syncnet": model}, recipe.examples([n]).to(HERE.device, torch.float64)) for n in range(3)]
    torch.testing.assert_close(before_B, torch.cat(alone_B))
    models = {"syncnet": model.float()}
    validated = recipe.validate(models, HERE)
    assert 0 < validated.scores[syncnet.MEASURED] < 1
    assert recipe.pictures(models)
    recipe.export({"syncnet": model.state_dict()}, tmp_path, validated)
    with pytest.raises(UserError, match="the syncnet model hears the column 'xlsr'"):
        syncnet.load_model(tmp_path)
    with pytest.raises(UserError, match="no column holds 'xlsr'"):
        recipe_of(SyncRecipe, SyncTrainConfig, talker_shards)
    manifest, of_clip = Manifest.load(heard_shards), sync.measure(Options(syncnet=str(tmp_path)))
    longest = int(manifest.column("frames").argmax())
    measured = of_clip(manifest, longest)
    assert 0 < measured["sync_accuracy"] < 1
    corrected = reader.read_features(manifest, "xlsr", longest)
    monkeypatch.setattr(reader, "late_frames", lambda *asked: 3.0)
    assert not np.array_equal(reader.read_features(manifest, "xlsr", longest), corrected)
    assert of_clip(manifest, longest) == measured, "what an earlier annotation says is not measured on"
    with pytest.raises(UserError, match="no column holds 'xlsr'"):
        of_clip(Manifest.load(talker_shards), longest)
    with pytest.raises(UserError, match="follows from"):
        recipe_of(SyncRecipe, SyncTrainConfig, heard_shards, "model.features_width=3")
    mel = SyncRecipe(config.load(SyncTrainConfig, None, [f"shards={talker_shards}"]))
    assert "features" not in mel.fixed()["model"], "runs begun before resume"
