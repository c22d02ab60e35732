"""The frame rate of a dub where a video's pictures do not come evenly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from mytalk import media
from mytalk.dub.first_pass import frame_rate
from tests.helpers import numbered


@pytest.mark.parametrize("still_s", [0.5, 11])
def test_a_picture_that_stands_does_not_slow_the_others_down(tmp_path, still_s):
    """25 pictures a second, one of which stands for long: at the mean rate of 75 in 14 s a mouth would jerk."""
    times = [Fraction(k, 25) + (still_s if k >= 25 else 0) for k in range(75)]
    video = numbered.write(tmp_path / "still.mp4", times)
    mean = media.probe(video).fps
    assert float(frame_rate(video)) == pytest.approx(25 if still_s > 10 else mean, rel=1e-4)
    assert mean < 23


def test_a_slow_film_keeps_its_rate(tmp_path):
    """Most pictures stand alike: nothing says that it is meant to be faster."""
    video = numbered.write(tmp_path / "slow.mp4", numbered.regular(8, 2), rate=2)
    assert frame_rate(video) == 2


def test_without_time_stamps_there_is_no_usual_rate(tmp_path: Path):
    assert media.usual_hz(numbered.write(tmp_path / "one.mp4", numbered.regular(1))) == 0
