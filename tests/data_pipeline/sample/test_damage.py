"""A damaged clip is replaced alike by every rank, and costs no other; storage that fails replaces none."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.motion import MotionExamples
from data_pipeline.examples.syncnet import SyncExamples
from data_pipeline.sample import loader
from data_pipeline.sample.batches import BadExample, Examples
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import checksums, manifest_update, reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from mytalk.command import UserError
from mytalk.networks.appearance.config import AppearanceConfig
from tests.helpers.consumed import (
    DRAWN,
    GLOBAL_BATCH,
    RECIPES,
    TWO_CORPORA,
    Consumed,
    assert_same,
    assert_same_example,
    content,
    run,
    with_column,
)
from train.run_folder.bad_examples import BadExampleLog

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores
FRAME_BYTES, LANDMARKS_HEADER, AUDIO_FRAME_BYTES, AUDIO_HEADER = 2868, 128, 1280, 44  # as members are laid out


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def ranges(examples: Examples, slot: int, attempt: int = 0) -> list[tuple[str, int, int]]:
    """(tar, start, stop) of the bytes of each member of a slot's windows, by the layout of members."""
    made, found = examples.manifest, []
    example = examples.windows.example(slot, attempt)
    whole = isinstance(examples, AppearanceExamples)
    for place in [place for place in example if place is not None]:
        start, stop = (0, int(made.at(place.row, "frames"))) if whole else (place.start, place.stop)
        tar = f"motion-{int(made.at(place.row, 'shard')):06d}.tar"
        begin = int(made.at(place.row, "landmarks_offset")) + LANDMARKS_HEADER
        found.append((tar, begin + start * FRAME_BYTES, begin + stop * FRAME_BYTES))
        if isinstance(examples, (MotionExamples, SyncExamples)):
            begin = int(made.at(place.row, "audio_offset")) + AUDIO_HEADER
            found.append((tar, begin + start * AUDIO_FRAME_BYTES, begin + stop * AUDIO_FRAME_BYTES))
    return found


def touches(examples: Examples, slot: int, attempt: int, tar: str, offset: int) -> bool:
    """Whether the block of 16 KiB with this byte holds any of what a slot reads."""
    block = offset // 16384
    return any(
        name == tar and start // 16384 <= block <= (stop - 1) // 16384
        for name, start, stop in ranges(examples, slot, attempt)
    )


def assert_substituted(made: Consumed, whole: Examples, reason: str) -> None:
    """Every slot holds what its attempt holds in undamaged shards; failures are named in order, with their reason."""
    corpus = dict(zip(whole.manifest.column("key"), whole.manifest.column("corpus")))
    failed = Counter(bad.slot for bad in made.bad)
    for slot, example in made.items():
        tried = whole.windows.example(slot, failed[slot])
        read = whole.read([slot], [tried])
        assert_same_example(slot, example, content(whole.collate([slot], [tried], read), 0))
        first = whole.windows.example(slot).window.row
        assert corpus[example["key"]] == whole.manifest.at(first, "corpus"), "of the same corpus"
    seen: Counter = Counter()
    for bad in made.sorted_bad():
        attempt = whole.windows.example(bad.slot, seen[bad.slot])
        assert bad.key in [whole.manifest.at(place.row, "key") for place in attempt if place is not None]
        assert (bad.corpus, bad.reason) == (corpus[bad.key], reason)
        assert "\n" not in bad.message
        seen[bad.slot] += 1


@pytest.fixture(scope="module")
def shared_people(mixed, tmp_path_factory) -> Path:
    """The same, but of each person one half of the clips is in either corpus: a source may be of the other one."""
    folder = shutil.copytree(mixed, tmp_path_factory.mktemp("shared") / "shards")
    made = Manifest.load(folder)
    corpora = pa.array([TWO_CORPORA[row % 2] for row in range(len(made))])
    manifest_update.save(folder, made.table.set_column(made.names.index("corpus"), "corpus", corpora), made.header)
    return folder


@pytest.mark.parametrize("of", ["target", "source"])
def test_a_flipped_byte_costs_the_windows_of_its_block_and_no_others(shared_people, tmp_path, of):
    """The same substitutes whoever reads; the byte lies in a window of slot 5, or in its source."""
    mixed = shared_people
    whole = RECIPES["motion"](Manifest.load(mixed), DRAWN)
    tar, start, stop = ranges(whole, 5)[0 if of == "target" else 2]
    folder = shutil.copytree(mixed, tmp_path / "shards")
    flip(folder / tar, offset := (start + stop) // 2)
    damaged = RECIPES["motion"](Manifest.load(folder), DRAWN)
    assert damaged.selection.digest == whole.selection.digest
    made, unhurt = run(damaged), run(whole)
    assert_substituted(made, whole, "checksum")
    hit = {slot for slot in made if touches(whole, slot, 0, tar, offset)}
    assert {bad.slot for bad in made.bad} == hit >= {5}
    assert 0 < len(hit) < len(made) / 2
    for slot in set(made) - hit:
        assert_same_example(slot, made[slot], unhurt[slot])
    for slot in hit:
        assert not touches(whole, slot, Counter(bad.slot for bad in made.bad)[slot], tar, offset)
    for world, workers, micro in [(1, 3, 4), (2, 1, 2), (3, 0, 4)]:
        other = run(damaged, world, workers, micro)
        assert_same(other, made)
        assert other.sorted_bad() == made.sorted_bad()


def cut_tar(folder: Path) -> str:
    os.truncate(folder / "motion-000002.tar", 70_000)
    return "short"


def cut_member(folder: Path) -> str:
    made = Manifest.load(folder)
    sizes = made.column("landmarks_size").copy()
    sizes[8:10] -= 3000
    place = made.table.column_names.index("landmarks_size")
    manifest_update.save(folder, made.table.set_column(place, "landmarks_size", pa.array(sizes)), made.header)
    return "layout"


def bad_sums(folder: Path) -> str:
    flip(folder / "motion-000002.crc", 9)
    return "checksums"


def short_sums(folder: Path) -> str:
    os.truncate(folder / "motion-000002.crc", 12)
    return "checksums"


def not_finite(folder: Path) -> str:
    """Written so: the sums are right."""
    made = Manifest.load(folder)
    path = folder / "motion-000002.tar"
    data = bytearray(path.read_bytes())
    at = int(made.at(8, "landmarks_offset")) + LANDMARKS_HEADER + 10 * FRAME_BYTES + 700
    data[at : at + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    checksums.write(path, folder / "motion-000002.crc")
    return "not_finite"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("damage", [cut_tar, cut_member, bad_sums, short_sums, not_finite])
def test_every_damage_is_substituted_alike_at_any_world_size(mixed, tmp_path, damage, recipe):
    folder = shutil.copytree(mixed, tmp_path / "shards")
    reason = damage(folder)
    whole = RECIPES[recipe](Manifest.load(mixed), DRAWN)
    damaged = RECIPES[recipe](Manifest.load(folder), DRAWN)
    made = run(damaged, stop=2)
    assert made.bad
    assert_substituted(made, whole, reason)
    world, workers = {"motion": (2, 1), "syncnet": (3, 0), "identity": (2, 0), "appearance": (3, 0)}[recipe]
    other = run(damaged, world, workers, 2, stop=2)
    assert_same(other, made)
    assert other.sorted_bad() == made.sorted_bad()


@pytest.mark.parametrize(("reason", "part"), [("checksum", "pictures"), ("corrupt", "index"), ("corrupt", "pictures")])
def test_damaged_pictures_are_substituted(mixed, tmp_path, reason, part):
    """Flipped, or written as noise under right sums; what needs no pictures does not notice."""
    folder = shutil.copytree(mixed, tmp_path / "shards")
    before = Manifest.load(folder)
    path = folder / "frames-000002.tar"
    offset, size = (int(before.at(9, f"video_{what}")) for what in ("offset", "size"))
    if reason == "checksum":
        flip(path, offset + size // 2)
    else:
        data = bytearray(path.read_bytes())
        begin = offset + 48 if part == "index" else data.index(b"mdat", offset) + 4
        data[begin : offset + size] = np.random.default_rng(0).bytes(offset + size - begin)
        path.write_bytes(data)
        checksums.write(path, folder / "frames-000002.crc")
    whole, damaged = (RECIPES["appearance"](Manifest.load(where), DRAWN) for where in (mixed, folder))
    made = run(damaged)
    assert {bad.reason for bad in made.bad} == {reason}
    assert before.at(9, "key") in {bad.key for bad in made.bad}
    assert_substituted(made, whole, reason)
    other = run(damaged, 2, 1, 3)
    assert_same(other, made)
    assert other.sorted_bad() == made.sorted_bad()
    assert not run(RECIPES["motion"](Manifest.load(folder), DRAWN), stop=1).bad


def test_a_corpus_that_is_all_damaged_is_an_error_of_its_clip(mixed, tmp_path):
    """After so many draws; the other corpus's slots are read."""
    folder = shutil.copytree(mixed, tmp_path / "shards")
    made = Manifest.load(folder)
    for row in np.flatnonzero(made.column("corpus") == "a"):
        at = int(made.at(row, "landmarks_offset")) + 200
        path = folder / f"motion-{int(made.at(row, 'shard')):06d}.tar"
        data = bytearray(path.read_bytes())
        data[at : at + 20 * FRAME_BYTES] = b"\xff" * (20 * FRAME_BYTES)
        path.write_bytes(data)
        checksums.write(path, path.with_suffix(".crc"))
    examples = RECIPES["identity"](made, DRAWN)
    of = [made.at(examples.windows.row(n), "corpus") for n in range(GLOBAL_BATCH)]
    assert not examples([of.index("b")]).bad
    for workers in (0, 1):
        with pytest.raises(ClipError, match="not finite; mend its shard") as raised:
            list(loader.load(loader.SlotStream(examples, 1, 1, 0, 1, of.index("a"), GLOBAL_BATCH), workers))
        assert (raised.value.reason, str(raised.value).count("\n")) == ("not_finite", 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_drawn_once_a_damaged_clip_is_an_error_and_the_others_are_read(mixed, tmp_path, recipe):
    folder = shutil.copytree(mixed, tmp_path / "shards")
    reason = cut_member(folder)
    made = Manifest.load(folder)
    examples = RECIPES[recipe](made, SamplingConfig(once=True))
    hurt = set(made.column("key")[8:10])
    for slot in range(len(examples)):
        rows = [place.row for place in examples.windows.example(slot) if place is not None]
        if hurt & {made.at(row, "key") for row in rows}:
            with pytest.raises(ClipError) as raised:
                examples([slot])
            assert raised.value.reason == reason
            assert raised.value.key in hurt
        else:
            batch = examples([slot])
            assert not batch.bad
            assert batch.keys_B == [made.at(examples.selection.rows_n[slot], "key")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_gone_is_no_damage(shards, tmp_path, workers):
    folder = shutil.copytree(shards, tmp_path / "shards")
    (folder / "motion-000002.tar").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        run(RECIPES["motion"](Manifest.load(folder), DRAWN), workers=workers)
    assert "motion-000002.tar" in str(raised.value.filename)


def test_a_video_of_another_size_or_length_is_damage(filmed_shards, tmp_path):
    """As tars of others may hold it: no pixel of a batch is ever left unwritten."""
    folder = shutil.copytree(filmed_shards, tmp_path / "shards")
    before = Manifest.load(folder)
    whole = video_reader.read_video(before, 0, [0])
    assert whole.shape == (1, 256, 256, 3)
    for name, value, said in (("crop_px", 128, "and the crop 128 px"), ("frames", 12, "and the clip 12 frames")):
        place = before.table.column_names.index(name)
        kind = before.table.schema.field(name).type
        table = before.table.set_column(place, name, pa.array([value] * len(before), kind))
        other = Manifest(folder, before.header, table)
        (found,) = video_reader.read_frames(other, [(0, [0])])
        assert isinstance(found, ClipError)
        assert found.reason == "layout"
        assert said in str(found)


def test_a_place_past_the_end_of_its_shard_is_short(talker_shards):
    """Whatever a manifest says, nothing is made up and nothing crashes."""
    before = Manifest.load(talker_shards)
    bytes_ = before.header["shards"][0]["motion"]["bytes"]
    for offset in (bytes_ - 100, bytes_, bytes_ + 10**6):
        place = before.table.column_names.index("landmarks_offset")
        other = Manifest(
            talker_shards,
            before.header,
            before.table.set_column(place, "landmarks_offset", pa.array([offset] * len(before))),
        )
        (found,) = reader.read(other, [reader.ReadRequest(0, "landmarks", 0, 5)])
        assert isinstance(found, ClipError)
        assert found.reason == "short"


def test_the_ledger_counts_what_earlier_starts_met_unless_the_data_changed(tmp_path):
    """Lines past the checkpoint are of steps taken again; one damaged clip is always allowed."""
    first = BadExampleLog(tmp_path, {"a": 50}, 0.01, 0, writes=True)
    first.add([BadExample(3, "k1", "a", "short", "torn")])
    with pytest.raises(UserError, match=r"2 of 50 clips of corpus 'a' are damaged.*remove their lines there"):
        BadExampleLog(tmp_path, {"a": 50}, 0.01, 8, writes=False).add([BadExample(9, "k2", "a", "short", "torn")])
    BadExampleLog(tmp_path, {"a": 50}, 0.01, 3, writes=False).add([BadExample(9, "k2", "a", "short", "torn")])
    BadExampleLog(tmp_path, {"a": 50}, 0.01, 8, writes=False, anew=True).add(
        [BadExample(9, "k2", "a", "short", "torn")]
    )


def test_validation_leaves_clips_without_a_video_out_and_training_refuses_them(filmed_shards):
    before = Manifest.load(filmed_shards)
    sizes = before.column("video_size").tolist()
    for split in ("train", "val"):
        row = int(before.rows(split)[0])
        other = with_column(before, "video_size", [0 if i == row else size for i, size in enumerate(sizes)])
        config = AppearanceConfig(), ReferenceConfig()
        if split == "train":
            with pytest.raises(UserError, match="leave it out with where='video_size > 0'"):
                AppearanceExamples(other, SamplingConfig(), *config)
            assert (
                row not in AppearanceExamples(other, SamplingConfig(where="video_size > 0"), *config).selection.rows_n
            )
        else:
            assert row not in AppearanceExamples(other, SamplingConfig("val", once=True), *config).selection.rows_n
