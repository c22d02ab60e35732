"""Motion examples of talking people, as the tests of windows and of the order share them."""

from __future__ import annotations

import pytest

from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards.manifest import Manifest
from tests.helpers.motion_windows import WINDOW


@pytest.fixture(scope="module")
def talkers(talker_shards) -> Manifest:
    return Manifest.load(talker_shards)


@pytest.fixture(scope="module")
def examples(talkers) -> MotionExamples:
    return MotionExamples(talkers, SamplingConfig(seed=1), WINDOW, MotionDraws(voice_stretch=0.2))
