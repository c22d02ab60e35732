"""Validation measures what `eval motion` measures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.metrics import lips as scored
from mytalk.face.landmarks import NOISED
from tests.helpers import talkers
from train.recipes import lips


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    random = np.random.default_rng(4)
    return talkers.clip(random, talkers.outlined(talkers.base_face(random)), 9.0, 30)[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_definitions_are_those_of_eval(clip, seed):
    """On a turned, noisy copy of a clip, against the functions that score."""
    random = np.random.default_rng(seed)
    other = clip + random.normal(0, 2, clip.shape)
    other[:, NOISED] = other[:, NOISED] * 1.05 + 3
    pair = scored.aligned(clip, other)
    correlation, ratio, distance = lips.measure(clip, other)
    assert correlation == pytest.approx(scored.opening_correlation(pair), abs=1e-9)
    assert distance == pytest.approx(scored.lmd_px(pair), abs=1e-9)
    truth_T, other_T = pair.openings()
    assert ratio == pytest.approx(other_T.std() / truth_T.std(), abs=1e-9)


def test_mouths_that_stand_still(clip):
    """A still truth cannot be followed; a still result follows nothing."""
    still = np.repeat(clip[:1], len(clip), axis=0)
    correlation, ratio, _ = lips.measure(still, clip)
    assert math.isnan(correlation)
    assert math.isnan(ratio)
    assert lips.measure(clip, still)[:2] == (0.0, pytest.approx(0.0, abs=1e-6))
    assert lips.measure(clip, clip) == (pytest.approx(1.0), pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
