"""What is scored with what: sources and shuffled speech."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from data_pipeline.shards.manifest import Manifest
from eval import protocol
from eval.tasks import Settings, other_speech, plan_tasks
from mytalk.command import UserError
from tests.helpers import talkers

SETTINGS = Settings(sampler_steps=3)


@pytest.mark.parametrize("clips_each", [1, 2, 3])
def test_the_source_is_the_same_person_and_never_what_is_scored(clips_each, tmp_path) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"unseen": 3}, clips_each=clips_each))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    identity = manifest.column("identity")
    for task in plan_tasks(manifest, settings):
        assert task.source is not None
        assert identity[task.source.row] == task.person
        assert task.source.stop - task.source.start == 10
        if task.source.row == task.scored.row:
            assert clips_each == 1
            assert task.source.stop <= task.scored.start


def test_so_many_frames_of_a_clip_are_scored_and_the_protocol_says_it(shards) -> None:
    manifest = Manifest.load(shards)
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    for whole, short in zip(
        plan_tasks(manifest, settings), plan_tasks(manifest, dataclasses.replace(settings, frames=25)), strict=True
    ):
        assert (short.scored.start, short.source) == (whole.scored.start, whole.source)
        assert short.scored.stop - short.scored.start == min(25, whole.scored.stop - whole.scored.start)
    assert dataclasses.replace(settings, frames=25).stated()["frames"] == 25
    assert "frames" not in settings.stated(), "reports of whole clips go on"
    with pytest.raises(UserError, match="too short"):
        dataclasses.replace(settings, frames=24)


@pytest.mark.parametrize("column", ["has_audio", "speaks"])
def test_clips_without_speech_are_neither_scored_nor_shown_nor_heard(shards, column) -> None:
    stored = Manifest.load(shards)
    speech = [row != stored.rows("unseen")[0] for row in range(len(stored))]
    table = stored.table.drop_columns([column]) if stored.has(column) else stored.table
    manifest = Manifest(shards, stored.header, table.append_column(column, pa.array(speech)))
    tasks, silent = plan_tasks(manifest, SETTINGS), speech.index(False)
    assert len(tasks) == len(plan_tasks(stored, SETTINGS)) - 1
    for task in tasks:
        sources = [] if task.source is None else [task.source.row]
        assert silent not in (task.scored.row, *sources, *other_speech(manifest, SETTINGS, task))
    mute = Manifest(shards, stored.header, table.append_column(column, pa.array([False] * len(stored))))
    with pytest.raises(UserError, match="no clip of split 'unseen' has speech"):
        plan_tasks(mute, SETTINGS)


@pytest.mark.parametrize(("people", "clips_each", "same"), [(3, 2, (0, 0)), (3, 1, (3, 0)), (1, 3, (0, 3))])
def test_the_protocol_counts_sources_of_the_same_clip_and_speech_of_the_same_person(
    people, clips_each, same, model, tmp_path
) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"train": 2, "unseen": people}, clips_each=clips_each))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    block = protocol.block(protocol.landmarks(model), manifest, settings, plan_tasks(manifest, settings))
    assert (block["source_is_same_clip"], block["shuffled_is_same_person"]) == same


def test_shuffled_speech_is_another_persons_and_the_same_in_every_order(shards) -> None:
    manifest = Manifest.load(shards)
    fewer = dataclasses.replace(SETTINGS, clips_per_person=1)
    few = plan_tasks(manifest, fewer)
    assert len(few) == 3
    for task in few:
        rows = list(other_speech(manifest, SETTINGS, task))
        assert task.scored.row not in rows
        assert len(rows) == 5
        assert (manifest.column("identity")[rows[:4]] != task.person).all()
        assert rows == list(other_speech(manifest, fewer, task))
        assert task.source == next(t.source for t in plan_tasks(manifest, SETTINGS) if t.key == task.key)
