"""The benchmark of painters: what it refuses, and what it measures of results that are known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks import painters, painting
from benchmarks.people import painted
from benchmarks.people.painted import Judges
from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.command import UserError
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.dub.person import PersonReference
from mytalk.networks.appearance.generator import Generator
from tests.helpers import talkers
from tests.helpers.appearance_models import TINY, talking


class Told:
    """Stands for the detector: answers these landmarks, one frame after another."""

    def __init__(self, landmarks_TN3: np.ndarray):
        self.answers = iter(landmarks_TN3)

    def landmarks(self, frame_HW3, region):
        return next(self.answers)


class Difference:
    """Stands for the judge of pictures: the mean difference of grey levels."""

    def seen(self, crops_KHW3):
        return crops_KHW3.astype(np.float64)

    def distances(self, one, other):
        return np.abs(one - other).mean((1, 2, 3))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = talkers.write(tmp_path_factory.mktemp("painted"), {"train": 1, "unseen": 1}, 1, 40, video=True)
    manifest = Manifest.load(folder)
    (made,) = painted.clips(manifest, manifest.rows("unseen").tolist(), 12)
    return made


def test_the_true_frames_are_perfect(clip):
    found = painted.measured(clip, painted.painted(clip, None), Judges(Told(clip.landmarks_TN3), Difference()))
    assert "psnr_db" not in found
    assert found["st_lpips"] == 0
    assert found["flicker"] == 1
    assert found["amplitude"] == pytest.approx(1)
    assert found["opening"] == pytest.approx(1)
    assert "sync" not in found
    assert len(clip.references_RHW3) == painted.REFERENCES


def test_a_mouth_that_opens_half_as_far_has_half_the_amplitude(clip):
    half_TN3 = clip.landmarks_TN3.copy()
    half_TN3 += 0.5 * (half_TN3.mean(0) - half_TN3)
    lighter_THW3 = np.clip(clip.frames_THW3.astype(int) + 5, 0, 255).astype(np.uint8)
    found = painted.measured(clip, lighter_THW3, Judges(Told(half_TN3), Difference()))
    assert found["amplitude"] == pytest.approx(0.5, abs=0.05)
    assert found["st_lpips"] > 0
    assert 30 < found["psnr_db"] < 40


def test_without_a_network_the_moved_references_are_shown(clip):
    torch.manual_seed(0)
    shown = painted.painted(clip, painted.unpainted())
    assert shown.shape == clip.frames_THW3.shape
    assert not np.array_equal(shown, clip.frames_THW3)
    assert np.abs(shown.astype(int) - clip.frames_THW3).mean() < 10


def test_what_cannot_be_run_is_refused():
    parse = painters.arguments().parse_args
    with pytest.raises(UserError, match="no variant nothing; there are l1"):
        painters.chosen(parse(["out", "--shards", "x", "--variants", "nothing"]))
    with pytest.raises(UserError, match="variant reading needs --reader"):
        painters.chosen(parse(["out", "--shards", "x", "--variants", "reading"]))
    with pytest.raises(UserError, match="variant sync needs --syncnet"):
        painters.chosen(parse(["out", "--shards", "x", "--variants", "sync"]))
    with pytest.raises(UserError, match="write NAME=FOLDER"):
        painters.named(["folder"])


class Blind:
    """Stands for the detector: sees no face."""

    def find(self, frame_HW3):
        return []

    def landmarks(self, frame_HW3, region):
        raise AssertionError("there is no face to look at")


def test_a_painted_frame_is_measured_stage_by_stage(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (10, 256, 256, 3), np.uint8)
    media.write_video(tmp_path / "film.mp4", frames, 25)
    landmarks = talking(10)
    span = FaceSpan(0, 10, np.repeat(np.eye(2, 3)[None], 10, 0), landmarks)
    faces = FirstPass(tmp_path / "film.mp4", Fraction(25), 256, 256, 10, [span])
    person = PersonReference(landmarks, np.zeros(0, np.float32), frames[:2], landmarks[:2])
    generator, finder = Generator(TINY).eval(), Blind()
    made = painting.measured(faces, person, generator, finder)
    assert all(spent > inside >= 0 for spent, inside in made["cpu_ms"].values())
    assert [stage for stage, (_, inside) in made["cpu_ms"].items() if inside > 0] == [painting.FIND, painting.PAINT]
    assert "decode" not in vars(generator), "the clock is taken off again"
    made["cpu_ms"][painting.PAINT] = [8.0, 6.0]
    lines = painting.table({"fp32": [made], "bf16": [made]})
    assert "| share of the networks in painting |  | 0.75 |  | 0.75 |" in lines
    assert len({line.count("|") for line in lines}) == 1
