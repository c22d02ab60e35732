"""The column `predicted`: the landmarks that a model writes, aligned with each clip; the clip's mouth is not seen."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from data_pipeline.columns import command, predicted
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from data_pipeline.tasks.runner import Runner
from data_pipeline.verify.command import verified
from mytalk.command import UserError
from mytalk.face.landmarks import COUNT, NOISED
from mytalk.networks import weights
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import save_model
from mytalk.networks.motion.network import MotionModel
from tests.helpers import talkers
from tests.helpers.motion_batches import shaken


def run(*typed: object) -> int:
    return command.run(command.arguments().parse_args([*(str(word) for word in typed), "--workers", "0"]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = MotionConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, speech_layers=1, identity_layers=1)
    folder = tmp_path_factory.mktemp("model")
    save_model(shaken(MotionModel(config)).state_dict(), config, folder)
    return folder


def test_predicted_landmarks_are_a_column_of_the_shards(model, tmp_path):
    folder = talkers.write(tmp_path / "shards", {"train": 2}, clips_each=2, frames=14)
    plain = shutil.copytree(folder, tmp_path / "other")
    assert run(folder, "predicted", "--model", model) == 0
    made = Manifest.load(folder)
    assert made.later("predicted")["made_by"]["model"] == weights.digest(model)
    assert verified(str(folder), 1.0, Runner(0))["findings"] == []
    for row in range(len(made)):
        frames = int(made.at(row, "frames"))
        (values,) = reader.read(made, [ReadRequest(row, "predicted", 0, frames)])
        points_TN3, true_TN3 = (
            np.asarray(values, np.float32).reshape(frames, COUNT, 3),
            reader.read_landmarks(made, row),
        )
        rest = np.setdiff1d(np.arange(COUNT), NOISED)
        assert np.abs(points_TN3[:, rest] - true_TN3[:, rest]).max() < 0.3, "the upper face is the clip's"
        assert np.abs(points_TN3[:, NOISED] - true_TN3[:, NOISED]).max() > 1
    unseen = Manifest.load(plain)
    mouth_TN3 = reader.read_landmarks(unseen, 0)
    mouth_TN3[:, NOISED] = 100.0
    talkers.overwrite(unseen, 0, mouth_TN3)
    values = predicted.made(str(model)).values
    assert np.array_equal(values(unseen, 0), values(made, 0))


def test_what_is_needed_is_said(talker_shards, model, tmp_path):
    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    with pytest.raises(UserError, match="predicted needs --model FOLDER"):
        run(folder, "predicted")
    with pytest.raises(UserError, match="mel has no --model"):
        run(folder, "mel", "--model", model)
    with pytest.raises(UserError, match="no model in"):
        run(folder, "predicted", "--model", tmp_path)
