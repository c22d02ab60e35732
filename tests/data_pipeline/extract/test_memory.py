"""Memory of an extraction: it does not grow with the length of a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import extract
from data_pipeline.synthetic import performance
from tests.helpers import needs

pytestmark = needs.drawn_scenes
HOUR_MIB = 1536


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    """Two seconds of a drawn person."""
    path = tmp_path_factory.mktemp("person") / "p.mp4"
    path.write_bytes(performance.film(0, 0, performance.perform(0, 0, 0, 2.0, 25), 512))
    return path


@pytest.mark.parametrize(
    ("short_s", "long_s"),
    [
        (15, 45),  # more than the 11 s of a face that are held
        pytest.param(60, 300, marks=pytest.mark.full),
    ],
)
def test_memory_does_not_grow_with_length(person, tmp_path, short_s, long_s):
    short, long = (extract.looped(person, tmp_path / f"{seconds}.mp4", seconds) for seconds in (short_s, long_s))
    assert extract.peak_mib(long) < 1.05 * extract.peak_mib(short)


@pytest.mark.full
def test_an_hour_takes_less_than_one_and_a_half_gib(person, tmp_path):
    mib = extract.peak_mib(extract.looped(person, tmp_path / "hour.mp4", 3600))
    print(f"an hour: {mib:.0f} MiB")
    assert mib < HOUR_MIB
