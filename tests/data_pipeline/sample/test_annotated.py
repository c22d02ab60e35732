"""Annotated or appended to while a run goes on: it is not disturbed; an annotated offset shifts the sound."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipeline.examples.motion import MotionExamples
from data_pipeline.sample import loader
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.members import WAV_HEADER_BYTES
from data_pipeline.shards.table import columns as table_columns
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers.consumed import (
    DRAWN,
    GLOBAL_BATCH,
    RECIPES,
    Consumed,
    assert_same,
    run,
    with_column,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores


def annotated(folder: Path, name: str = "sync_confidence", values: pa.Array | None = None) -> None:
    """Append a column, as annotate does."""
    made = Manifest.load(folder)
    values = pa.array(np.linspace(-2, 2, len(made))) if values is None else values
    manifest_update.save(folder, made.table.append_column(name, values), made.header)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("workers", [0, 1])
def test_annotating_in_the_middle_of_a_run_disturbs_nothing(shards, alone, tmp_path, monkeypatch, recipe, workers):
    """Neither the stream that is under way, on the manifest it has open, nor the one that goes on with the new one."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    monkeypatch.setattr(manifest_update, "GROUP_ROWS", 3)  # so that not all of the table is held when it is replaced
    monkeypatch.setattr(table_columns, "HELD_GROUPS", 1)
    whole = Manifest.load(folder)
    manifest_update.save(folder, whole.table, whole.header)
    examples = RECIPES[recipe](Manifest.load(folder), DRAWN)
    made = Consumed()
    own = loader.SlotStream(examples, GLOBAL_BATCH, 4, 0, 1, 0, 3)
    with contextlib.closing(loader.load(own, workers, prefetch=2)) as batches:
        made.add(next(batches))
        annotated(folder)
        after = Manifest.load(folder)
        manifest_update.save(folder, after.table.slice(0, 4), after.header)  # far more than annotating does
        for batch in batches:
            made.add(batch)
    manifest_update.save(folder, after.table, after.header)
    assert after.digest != examples.manifest.digest
    fresh = RECIPES[recipe](Manifest.load(folder), DRAWN)
    assert fresh.selection.digest == examples.selection.digest
    made.update(run(fresh, 2, workers, 3, start=3))
    assert_same(made, alone[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
def test_shards_appended_behind_the_pinned_ones_change_nothing(shards, alone, tmp_path, recipe):
    """Four more people to train, two of them of a corpus that was not there before."""
    longer = write(tmp_path / "longer", {"val": 2, "train": 10})
    before, after = Manifest.load(shards), Manifest.load(longer)
    assert (before.shards_until, after.shards_until) == (4, 6)
    assert (longer / "motion-000003.tar").read_bytes() == (shards / "motion-000003.tar").read_bytes()
    corpora = pa.array(["test"] * 20 + ["new"] * 4)
    place = after.table.column_names.index("corpus")
    manifest_update.save(longer, after.table.set_column(place, "corpus", corpora), after.header)
    pinned = RECIPES[recipe](Manifest.load(longer), SamplingConfig(seed=3, shards_until=4))
    assert_same(run(pinned, 2, 0, 3), alone[recipe])
    assert RECIPES[recipe](Manifest.load(longer), DRAWN).selection.digest != pinned.selection.digest


# The sound that is late
def sound(folder: Path, key: str) -> np.ndarray:
    """All samples of a clip, read as any program would."""
    for path in sorted(folder.glob("motion-*.tar")):
        with tarfile.open(path) as tar:
            if f"{key}.audio.wav" in tar.getnames():
                member = tar.extractfile(f"{key}.audio.wav")
                assert member is not None
                return np.frombuffer(member.read()[WAV_HEADER_BYTES:], "<i2") / np.float32(32768)
    raise AssertionError(key)


OFFSETS = [3.0, -2.0, 0.0, 0.5, -1.25, float("nan"), None, 7.0]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32()], ids=str)
def test_an_annotated_offset_shifts_the_sound_and_keeps_windows_where_it_is(shards, tmp_path, kind):
    folder = shutil.copytree(shards, tmp_path / "shards")
    plain = Manifest.load(folder)
    values = [OFFSETS[row % len(OFFSETS)] for row in range(len(plain))]
    if pa.types.is_integer(kind):
        values = [None if value is None or value != value else int(value) for value in values]
    annotated(folder, "sync_offset", pa.array(values, kind))
    made = Manifest.load(folder)
    late = {key: 0.0 if v is None or v != v else v for key, v in zip(made.column("key"), values)}
    frames = dict(zip(made.column("key"), made.column("frames").tolist()))
    met = set()

    def expected(key: str, start: int, stop: int) -> torch.Tensor:
        first, last = (round((at + late[key]) * SAMPLES_PER_FRAME) for at in (start, stop))
        assert 0 <= first < last <= frames[key] * SAMPLES_PER_FRAME, "the clip holds all that is heard"
        return torch.from_numpy(sound(folder, key)[first:last])

    for recipe in ("motion", "syncnet"):
        examples = RECIPES[recipe](made, DRAWN)
        assert examples.selection.digest != RECIPES[recipe](plain, DRAWN).selection.digest
        for slot in range(30):
            batch = examples([slot])
            place, source = examples.windows.example(slot)
            key = batch.keys_B[0]
            met.add(key)
            length = place.stop - place.start
            assert torch.equal(batch.audio_BS[0, : length * 640], expected(key, place.start, place.stop))
            if source is not None:
                heard = expected(str(made.at(source.row, "key")), source.start, source.stop)
                assert torch.equal(batch.source_audio_BS[0, : len(heard)], heard)
            points = reader.read_landmarks(plain, place.row, place.start, place.stop)
            assert torch.equal(batch.landmarks_BTN3[0, :length], torch.from_numpy(points)), "pictures are not shifted"
    assert len(met) == 12
    for recipe in ("identity", "appearance"):
        assert RECIPES[recipe](made, DRAWN).selection.digest == RECIPES[recipe](plain, DRAWN).selection.digest


def test_offsets_that_say_nothing_change_no_sound(shards, alone, tmp_path):
    """Missing everywhere: the windows are drawn anew, as the column is new, and the sound is that of the frames."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    annotated(folder, "sync_offset", pa.array([None] * len(Manifest.load(folder)), pa.float64()))
    made = Manifest.load(folder)
    examples = RECIPES["syncnet"](made, DRAWN)
    for slot in range(6):
        batch, place = examples([slot]), examples.windows.example(slot).window
        whole = torch.from_numpy(sound(folder, batch.keys_B[0]))
        expected = whole[place.start * 640 : place.stop * 640]
        assert torch.equal(batch.audio_BS[0, : len(expected)], expected)


def test_a_clip_whose_sound_is_all_elsewhere_is_not_heard(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "shards")
    values = [500.0 if row == 5 else 0.0 for row in range(len(Manifest.load(folder)))]
    annotated(folder, "sync_offset", pa.array(values))
    made = Manifest.load(folder)
    assert 5 not in RECIPES["syncnet"](made, DRAWN).selection.rows_n
    assert 5 in RECIPES["identity"](made, DRAWN).selection.rows_n


def test_offsets_that_are_text_are_refused_and_infinite_ones_are_none(talker_shards):
    before = Manifest.load(talker_shards)
    with pytest.raises(UserError, match="sync_offset holds no numbers"):
        MotionExamples(
            with_column(before, "sync_offset", ["late"] * len(before)), SamplingConfig(), WindowConfig(12, 24, 10)
        )
    infinite = with_column(before, "sync_offset", [float("inf")] * len(before))
    plain = MotionExamples(
        with_column(before, "sync_offset", [0.0] * len(before)), SamplingConfig(), WindowConfig(12, 24, 10)
    )
    assert len(MotionExamples(infinite, SamplingConfig(), WindowConfig(12, 24, 10))) == len(plain)
    np.testing.assert_array_equal(reader.read_audio(infinite, 2), reader.read_audio(before, 2))
