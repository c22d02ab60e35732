"""Offsets that are measured are those by which the sound was shifted; they are applied when they are sure.

The SyncNet of these tests is tests/helpers/level_syncnet.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.talkers import base_face, clip, sample, write_shards
from data_pipeline.annotate import command, sync
from data_pipeline.annotate.annotation import Options
from data_pipeline.examples.syncnet import SyncExamples
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.tasks.runner import Runner
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks import syncnet, weights
from tests.helpers.level_syncnet import LevelSyncNet

LATE = {"p0": [0, 4], "p1": [-5, 0], "p2": [0, 0], "p3": [1, 7]}
FRAMES = 110


def shards(folder: Path, shifted: bool) -> Path:
    """Two clips of each person; the sound of a longer take, cut so many frames late."""

    def samples():
        for number, (person, late) in enumerate(LATE.items()):
            random, face_N3 = np.random.default_rng(number), base_face(np.random.default_rng([9, number]))
            for take, by in enumerate(late):
                landmarks_TN3, audio_S = clip(random, face_N3, 14.0, FRAMES + 40)
                start = (20 - (by if shifted else 0)) * SAMPLES_PER_FRAME
                heard_S = audio_S[start : start + FRAMES * SAMPLES_PER_FRAME]
                yield sample("train", "c", f"c/{person}", f"{person}-{take}", landmarks_TN3[20 : 20 + FRAMES], heard_S)

    write_shards(folder, samples(), 3, "this test")
    return folder


@pytest.fixture
def model(monkeypatch):
    """What the annotation loads; returns a function that makes it deaf."""
    held = [LevelSyncNet()]
    monkeypatch.setattr(syncnet, "load_model", lambda folder, **how: held[0])
    monkeypatch.setattr(weights, "digest", lambda folder: f"deaf {held[0].deaf}")
    monkeypatch.setattr(weights, "above_chance", lambda *given: (True, "above chance"))
    return lambda deaf: held.__setitem__(0, LevelSyncNet(deaf))


def test_shifted_sound_is_measured_and_reads_back_as_the_true_one(tmp_path, model):
    """Bit for bit, wherever both clips hold it; and training's windows lie there."""
    true, made = Manifest.load(shards(tmp_path / "true", False)), shards(tmp_path / "shifted", True)
    lines = command.annotate(made, "sync", Options(syncnet="model"), Runner(0))
    assert lines[0].startswith("sync     c: SyncNet above chance")
    manifest = Manifest.load(made)
    late = [float(by) for person in LATE.values() for by in person]
    assert manifest.column("sync_measured").tolist() == late
    assert set(manifest.column("sync_state")) == {"sure"}
    applied = [by if abs(by) >= 2 else 0.0 for by in late]
    assert manifest.column("sync_offset").tolist() == applied
    for row, by in enumerate(applied):
        start, stop = reader.audible_frames(FRAMES, by)
        if late[row] == by:
            heard = reader.read_audio(manifest, row, start, stop)
            assert np.array_equal(heard, reader.read_audio(true, row, start, stop)), row
        assert np.array_equal(reader.read_landmarks(manifest, row), reader.read_landmarks(true, row))
    examples = SyncExamples(manifest, SamplingConfig(), 40, 0.0)
    for slot in range(12):
        window = examples.windows.example(slot).window
        assert reader.audible_frames(FRAMES, applied[window.row])[0] <= window.start
        assert window.stop <= reader.audible_frames(FRAMES, applied[window.row])[1]


def test_a_model_that_is_not_proven_on_these_people_shifts_nothing(tmp_path, model):
    made = shards(tmp_path / "shifted", True)
    model(deaf=True)
    (line, _) = command.annotate(made, "sync", Options(syncnet="deaf"), Runner(0))
    assert line.endswith("; offset and confidence of 8 clips are unknown")
    manifest = Manifest.load(made)
    assert set(manifest.column("sync_state")) == {"unproven"}
    assert manifest.table["sync_offset"].null_count == 8
    assert manifest.table["sync_measured"].null_count == manifest.table["sync_confidence"].null_count == 8
    assert manifest.table["sync_accuracy"].null_count == 0, "why it is not proven stays"


def test_clips_that_cannot_be_measured_are_labelled(tmp_path, model, monkeypatch):
    made = shards(tmp_path / "shifted", True)
    monkeypatch.setattr(sync, "has_speech", lambda manifest, row: row != 2)
    monkeypatch.setattr(sync, "APART_FRAMES", FRAMES)
    command.annotate(made, "sync", Options(syncnet="model"), Runner(0))
    states = Manifest.load(made).column("sync_state").tolist()
    assert states == ["too_short", "too_short", "no_speech"] + ["too_short"] * 5
