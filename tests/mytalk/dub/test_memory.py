"""What a dub keeps of a long video."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from mytalk import machine
from mytalk.dub import long_form, retiming
from mytalk.face import pose, region
from mytalk.networks.motion import network
from tests.helpers import stub_dub_memory
from tests.helpers.appearance_models import talking
from tests.helpers.checkout import ROOT
from tests.helpers.measured_memory import most_given_out


def peak_kb(frames: int, *work: str) -> int:
    typed = [sys.executable, "-m", "tests.helpers.stub_dub_memory", str(frames), *work]
    return int(subprocess.run(typed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[0])


@pytest.mark.full
def test_memory_does_not_grow_with_the_length_of_the_video():
    """From 1 to 5 minutes at 30 frames/s: the sound, and less than a tenth of what the landmarks would take."""
    frames, more = 2_000, 8_000
    sound_kb, landmarks_kb = more * 640 * 4 / 1024, more * 478 * 3 * 4 / 1024
    assert peak_kb(frames + more) - peak_kb(frames) < sound_kb + 0.1 * landmarks_kb


@pytest.mark.full
def test_an_hour_of_motion_takes_no_more_memory_than_two_minutes():
    """Less than a hundredth of what its landmarks would take."""
    assert peak_kb(90_000, "motion") - peak_kb(3_000, "motion") < 0.01 * 87_000 * 478 * 3 * 4 / 1024


def test_motion_of_a_longer_clip_takes_no_more_memory(monkeypatch):
    """The short case, with windows and blocks of 64 frames: what grows with the clip lies on disk."""
    monkeypatch.setattr(machine, "ON_DISK_BYTES", 1)
    monkeypatch.setattr(network, "WINDOW_FRAMES", 64)
    for module in (long_form, pose, retiming):
        monkeypatch.setattr(module, "BLOCK_FRAMES", 64)
    with machine.most_threads(1):
        stub_dub_memory.write_motion(150)
        # Memory is looked at every ms or less often: on a busy machine a short peak is seen by one of several looks.
        short, long = (
            max(most_given_out(partial(stub_dub_memory.write_motion, frames)) for _ in range(times))
            for frames, times in ((150, 4), (900, 1))
        )
    assert long - short < 0.3 * 750 * 478 * 3 * 4, "sound or lower faces of all frames would be more"


def test_what_grows_lies_on_disk_and_is_gone_with_the_array(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(machine, "ON_DISK_BYTES", 1000)
    small, large = machine.zeros((5, 5)), machine.zeros((100, 5), np.float64)
    assert isinstance(large.base, np.memmap)
    assert not isinstance(small.base, np.memmap)
    assert not large.any()
    large[3] = 7
    assert large.sum() == 35
    assert list(tmp_path.iterdir()) == [], "it has no name that could be left behind"


def test_a_long_clip_in_blocks_is_what_it_is_at_once(monkeypatch):
    landmarks = talking(50)
    points, mask = torch.from_numpy(landmarks)[None], torch.ones(1, 50)
    expected = region.regions(landmarks), pose.person_head(points, mask)
    monkeypatch.setattr(pose, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(region.regions(landmarks), expected[0], atol=1e-3)
    head = pose.person_head(points, mask)
    torch.testing.assert_close(head.rigid_BR3, expected[1].rigid_BR3)
    torch.testing.assert_close(head.depth_BN, expected[1].depth_BN, atol=1e-4, rtol=1e-4)


def test_windows_are_joined_as_their_linear_fades():
    """Against the sum of windows weighted by hats of slope 1 / (fade + 1)."""
    first, second = np.full((10, 1, 1), 2.0), np.full((10, 1, 1), 5.0)
    joined = np.zeros((16, 1, 1))
    long_form.join(joined, 0, first, 0, 3)
    long_form.join(joined, 10, second, 6, 3)
    expected = [2.0] * 7 + [2.75, 3.5, 4.25] + [5.0] * 6
    np.testing.assert_allclose(joined[:, 0, 0], expected)
