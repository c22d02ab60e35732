"""MFCC as the public SyncNet hears them, against the definition written out in loops, and closed forms."""

from __future__ import annotations

import cmath
import math
from itertools import pairwise

import numpy as np
import pytest

from eval.judges.mfcc import BANDS, filters, mfcc


def by_hand(samples: list[float], step: int) -> list[float]:
    """One step, by the definitions alone: pre-emphasis, Fourier sum, triangles, logarithm, cosines, lifter."""
    emphasised = [samples[0]] + [b - 0.97 * a for a, b in pairwise(samples)]
    window = (emphasised + [0.0] * 400)[160 * step : 160 * step + 400]
    power = []
    for k in range(257):
        total = sum(x * cmath.exp(-2j * math.pi * k * n / 512) for n, x in enumerate(window))
        power.append(abs(total) ** 2 / 512)
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = [math.floor(513 * 700 * (10 ** (top * i / 27 / 2595) - 1) / 16000) for i in range(28)]
    logs = []
    for low, middle, high in zip(edges, edges[1:], edges[2:]):
        energy = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        energy += sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))
        logs.append(math.log(energy))
    cepstra = []
    for c in range(13):
        scale = math.sqrt((1 if c == 0 else 2) / 26)
        total = scale * sum(v * math.cos(math.pi * c * (2 * b + 1) / 52) for b, v in enumerate(logs))
        cepstra.append(total * (1 + 11 * math.sin(math.pi * c / 22)))
    return [math.log(sum(power)), *cepstra[1:]]


def test_it_is_the_definition_written_out() -> None:
    random = np.random.default_rng(0)
    samples_S = np.round(random.normal(0, 3000, 900))
    found = mfcc(samples_S / 32768)
    assert found.shape == (1 + math.ceil(500 / 160), 13)
    for step in (0, 3):
        np.testing.assert_allclose(found[step], by_hand(samples_S.tolist(), step), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16_000, 99)])
def test_steps_of_10_ms_the_last_filled_with_silence(samples, steps) -> None:
    assert mfcc(np.full(samples, 0.1)).shape == (steps, 13)


def test_silence_has_the_least_energy_and_no_shape() -> None:
    """All bands are equal, so every cosine but the first sums to nothing."""
    found = mfcc(np.zeros(1600))
    np.testing.assert_allclose(found[:, 0], math.log(np.finfo(float).eps))
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-9)
    with pytest.raises(ValueError, match="no sound"):
        mfcc(np.zeros(0))


def test_the_triangles_reach_1_at_their_middle_and_neighbours_add_up_between() -> None:
    bands_BF = filters()
    assert bands_BF.shape == (BANDS, 257)
    assert bands_BF.max(axis=1) == pytest.approx(1)
    first, last = bands_BF.argmax(axis=1)[[0, -1]]
    assert bands_BF[:, first:last].sum(axis=0) == pytest.approx(1)
