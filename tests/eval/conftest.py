"""Models and shards that tests of several modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import save_model
from mytalk.networks.motion.network import MotionModel
from tests.helpers import coded_films, talkers


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A tiny motion model with random weights that moves the mouth by some px."""
    config = MotionConfig(width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)
    torch.manual_seed(0)
    network = MotionModel(config)
    torch.nn.init.normal_(network.out.weight, std=0.2)
    folder = tmp_path_factory.mktemp("model")
    save_model(network.state_dict(), config, folder)
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """Three unseen people of two clips each."""
    return talkers.write(tmp_path_factory.mktemp("shards"), {"train": 1, "unseen": 3})


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """Three unseen people of two coded clips each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talkers, "pictures", coded_films.coded)
        return talkers.write(tmp_path_factory.mktemp("shards"), {"train": 1, "unseen": 3}, frames=26, video=True)


@pytest.fixture
def stand_ins(monkeypatch):
    """Detector, painter and date are those of coded films."""
    coded_films.Writer.shown, coded_films.Writer.dark = [], set()
    coded_films.stand_in(monkeypatch)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny models with random weights, for a benchmark with stand-ins."""
    return coded_films.write_models(tmp_path_factory.mktemp("models"))
