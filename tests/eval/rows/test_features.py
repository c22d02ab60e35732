"""Features of clips on disk, and the distances of a report from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.metrics.frechet import Moments, distance
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Truth
from eval.rows import features
from mytalk.command import UserError
from tests.helpers.faces import WAVE, opened
from tests.helpers.judges import LevelPerception

ALONE = {"inception": "not there", "i3d": "not there"}  # the judge of perception
KEY = "a/strange \\ key\n"


def row(shift: int, perception: LevelPerception | None, seed: int = 0) -> Comparison:
    """A row whose frames are brighter than the clip's by `shift`."""
    levels_T = np.random.default_rng(seed).integers(50, 150, len(WAVE))
    frames_THW3 = np.broadcast_to(levels_T[:, None, None, None], (len(WAVE), 256, 256, 3)).astype(np.uint8)
    truth = Truth(frames_THW3, opened(WAVE), np.zeros(0), opened(WAVE))
    video = DetectedVideo(frames_THW3 + np.uint8(shift), opened(WAVE), np.ones(len(WAVE), bool))
    return Comparison(truth, video, Evaluators(perception=perception, judged_frames=None))


def test_the_distance_is_of_all_frames_of_all_clips_and_not_a_mean_of_clips(tmp_path: Path) -> None:
    judge, seen = LevelPerception(), {"same": Moments(2), "brighter": Moments(2), "truth": Moments(2)}
    for number, key in enumerate((KEY, "other")):
        rows = {"same": row(0, judge, number), "brighter": row(9, judge, number)}
        features.save(tmp_path, key, rows)
        for name, shift in (("same", 0), ("brighter", 9), ("truth", 0)):
            levels_K = np.random.default_rng(number).integers(50, 150, len(WAVE)) + shift
            seen[name].add(np.stack([levels_K, levels_K**2], axis=1))
    found = features.distances(tmp_path, [KEY, "other"], ["same", "brighter"], ALONE)[features.NAME]
    assert (found["frames"], found["clips"]) == (2 * len(WAVE), 2)
    assert found["rows"]["same"] == pytest.approx(0, abs=1e-3)
    assert found["rows"]["brighter"] == pytest.approx(distance(seen["brighter"], seen["truth"]), rel=1e-4)


def test_without_a_judge_there_is_none_and_missing_features_are_named(tmp_path: Path) -> None:
    features.save(tmp_path, KEY, {"same": row(0, None)})
    assert list(tmp_path.iterdir()) == []
    assert features.distances(tmp_path, [KEY], ["same"], ALONE) == {}
    features.save(tmp_path, KEY, {"same": row(0, LevelPerception())})
    with pytest.raises(UserError, match="lacks the features of 1 clips; score again with --force"):
        features.distances(tmp_path, [KEY, "gone"], ["same"], ALONE)
    with pytest.raises(UserError, match="is of other rows; score again with --force"):
        features.distances(tmp_path, [KEY], ["another"], ALONE)
    (path,) = (tmp_path / features.FEATURES).iterdir()
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays.files) == {"perception truth", "perception row same"}
    features.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
    features.clear(tmp_path)
