"""Fixtures of the tests of dubbing."""

from __future__ import annotations

import types

import pytest
import torch

from mytalk.dub import dubbing, first_pass
from mytalk.face import region
from mytalk.networks.motion.network import MotionModel
from tests.helpers.stand_ins import TINY, Inverter


@pytest.fixture
def stand_ins(monkeypatch):
    """A painter and a detector that need no model, in the place of the true ones."""
    monkeypatch.setattr("mytalk.networks.appearance.painter.Painter", Inverter)
    monkeypatch.setattr(region, "regions", lambda landmarks_TN3: landmarks_TN3[:, :4])
    monkeypatch.setattr(first_pass, "find_faces", lambda frames, seer, *more: seer.find_faces(frames, *more))
    monkeypatch.setattr(first_pass, "follow", lambda frames, seer, *more: seer.follow(frames, *more))
    Inverter.calls = []


@pytest.fixture(scope="package")
def models() -> dubbing.Models:
    """An untrained motion model that moves, and no painter."""
    torch.manual_seed(0)
    network = MotionModel(TINY).eval()
    torch.nn.init.normal_(network.out.weight, std=0.3)  # it begins at zero, which says nothing
    generator = types.SimpleNamespace(config=types.SimpleNamespace(side_px=256, size_px=256))
    return dubbing.Models(network, generator)  # type: ignore[arg-type]
