"""A model is not scored on people whom it has seen."""

from __future__ import annotations

import pytest

from data_pipeline.sample import trained_on
from data_pipeline.sample.trained_on import Shown, TrainedOn
from data_pipeline.shards.manifest import Manifest
from eval import seen
from eval.tasks import Settings, plan_tasks
from mytalk.command import UserError
from tests.helpers.coded_films import benchmark


def shown_to(folder, manifest: Manifest, split: str, how: str) -> None:
    """A model folder that says it was shown the people of a split."""
    trained_on.write(folder, TrainedOn(**{how: trained_on.shown(manifest, manifest.rows(split))}))


@pytest.mark.parametrize(
    ("shown", "how", "scored", "refused"),
    [
        ("train", "trained", "unseen", ""),
        ("unseen", "trained", "unseen", "trained on 2 of the 2 people"),
        ("unseen", "selected", "unseen", "selected by 2 of the 2 people"),
        ("val", "selected", "val", ""),
        ("val", "trained", "val", "trained on 2 of the 2 people"),
        ("train", "trained", "train", ""),
    ],
)
def test_who_was_shown_to_a_model_is_refused(shown, how, scored, refused, talker_shards, tmp_path) -> None:
    manifest = Manifest.load(talker_shards)
    shown_to(tmp_path, manifest, shown, how)
    tasks = plan_tasks(manifest, Settings(split=scored))
    if refused:
        with pytest.raises(UserError, match=refused):
            seen.refuse(manifest, scored, tasks, {"motion": tmp_path})
    else:
        said = seen.refuse(manifest, scored, tasks, {"motion": tmp_path, "appearance": tmp_path / "elsewhere"})
        assert said["appearance"] == seen.UNKNOWN
        among = 4 if shown == scored == "train" else 0
        assert f"{among} of the {len({task.person for task in tasks})} scored among them" in said["motion"]


def test_the_same_video_under_another_name_is_refused(talker_shards, tmp_path) -> None:
    manifest = Manifest.load(talker_shards)
    sources = trained_on.shown(manifest, manifest.rows("unseen")).sources
    assert sources, "the shards of these tests have digests of their sources"
    trained_on.write(tmp_path, TrainedOn(Shown(frozenset(["someone else"]), sources)))
    with pytest.raises(UserError, match="trained on 2 of the 2"):
        seen.refuse(manifest, "unseen", plan_tasks(manifest, Settings()), {"motion": tmp_path})


def test_the_benchmark_refuses_in_one_line(films, models, tmp_path, stand_ins, capsys) -> None:
    manifest = Manifest.load(films)
    shown_to(models["appearance"], manifest, "unseen", "trained")
    try:
        assert benchmark(films, models, tmp_path / "out") == 1
    finally:
        (models["appearance"] / trained_on.NAME).unlink()
    assert "error: the appearance model in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
