"""The rows of `benchmark` on one clip, with stand-ins for detector and painter."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from eval.metrics.metric import Evaluators
from eval.rows import landmarks, saved, videos
from eval.tasks import Settings, plan_tasks
from mytalk.dub import dubbing, first_pass
from mytalk.face.track import FaceTrack
from mytalk.networks import identity
from tests.helpers.coded_films import STEPS, Reader, Writer


@pytest.fixture
def bench(films, models, tmp_path, stand_ins) -> videos.Bench:
    """What one clip is benchmarked with, as the command makes it."""
    settings = Settings(sampler_steps=int(STEPS))
    evaluators = Evaluators(None, identity=identity.load_model(models["identity"]))
    loaded = dubbing.load_models(models["motion"], models["appearance"])
    return videos.Bench(Manifest.load(films), settings, tmp_path, loaded, evaluators, Reader())


def test_the_generator_is_shown_the_source_clip_and_never_the_scored_one(bench, monkeypatch) -> None:
    task = plan_tasks(bench.manifest, bench.settings)[0]
    assert task.source is not None
    asked = []
    whole = video_reader.read_video
    monkeypatch.setattr(video_reader, "read_video", lambda m, row, at: asked.append(row) or whole(m, row, at))
    assert videos.score(bench, task).reason is None
    assert asked == [task.scored.row, task.source.row]
    source = whole(bench.manifest, task.source.row, range(task.source.start, task.source.stop))
    for shown in Writer.shown:
        assert len(shown) <= videos.REFERENCES
        assert all((source == frame).all(axis=(1, 2, 3)).any() for frame in shown)


def test_a_face_lost_in_one_row_is_a_miss_in_all_rows(bench) -> None:
    task = plan_tasks(bench.manifest, bench.settings)[0]
    Writer.dark = {1}  # frames 8 to 15 of each dubbed row
    lost = videos.score(bench, task)
    assert (lost.reason, lost.methods) == (videos.LOST, {})
    assert lost.message is not None
    assert "of the frames of mytalk" in lost.message
    assert "mytalk" in lost.failed
    assert lost.usable == ["ground_truth"], "it was detected; what nobody tried is in neither"
    assert not (bench.out / saved.VIDEOS).exists()
    assert list(bench.out.iterdir()) == [], "the temporary folder is gone"


def lose_faces(patch: pytest.MonkeyPatch, frames: slice) -> None:
    """Make the detector lose the face in these frames of every video."""

    def find_faces(shown, detector, on_frame=lambda: None) -> FaceTrack:
        track = track_of_faces(shown, detector, on_frame)
        track.landmarks_TN3[frames], track.found_T[frames] = 0, False
        return track

    track_of_faces = videos.find_faces
    for module in (videos, first_pass):
        patch.setattr(module, "find_faces", find_faces)


def test_a_few_lost_frames_lower_the_detected_share_and_nothing_else(bench, monkeypatch) -> None:
    task = plan_tasks(bench.manifest, bench.settings)[0]
    whole = videos.score(bench, task)
    lose_faces(monkeypatch, slice(19, 20))
    gap = videos.score(bench, task)
    frames = task.scored.stop - task.scored.start
    for name, scores in gap.methods.items():
        assert scores["detected_share"] == pytest.approx(1 - 1 / frames), name
    for metric, value in whole.methods["ground_truth"].items():
        assert gap.methods["ground_truth"][metric] == pytest.approx(value, abs=0.05), metric


@pytest.mark.parametrize(("without", "reason"), [(slice(5), videos.NOT_WHOLE), (slice(None), videos.NO_FACE)])
def test_a_clip_without_a_face_or_with_one_for_a_while_is_a_miss(bench, monkeypatch, without, reason) -> None:
    lose_faces(monkeypatch, without)
    assert videos.score(bench, plan_tasks(bench.manifest, bench.settings)[0]).reason == reason


def test_a_model_of_nans_and_a_damaged_clip_are_misses(bench, monkeypatch) -> None:
    task = plan_tasks(bench.manifest, bench.settings)[0]

    def nans(found, *_):
        return [np.full_like(span.landmarks_FN3, np.nan) for span in found.spans]

    with monkeypatch.context() as patch:
        patch.setattr(dubbing, "write_motion", nans)
        broken = videos.score(bench, task)
    assert (broken.reason, broken.failed, broken.usable) == (
        landmarks.NOT_FINITE,
        ["mytalk", "shuffled_audio", "silent_audio"],
        [],
    ), "no other row was painted yet"

    def damaged(*_):
        raise reader.ClipError(task.key, "corrupt", "cannot be decoded")

    monkeypatch.setattr(video_reader, "read_video", damaged)
    assert videos.score(bench, task).reason == "corrupt"
