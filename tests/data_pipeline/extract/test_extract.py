"""Extraction: ledgers that add up, shards that the stock library reads, and no loss whatever dies."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.extract.listing import names
from data_pipeline.shards import ledger, manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import FORMAT
from mytalk import media
from mytalk.face.shots import shot_starts
from tests.helpers import numbered, stub_extract
from tests.helpers.disks import no_file_past, small_disk

OPTIONS = ("--corpus", "c", "--sources-per-shard", "3", "min_face_px=16", *stub_extract.ANY_SOUND)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return stub_extract.corpus(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory) -> tuple[Path, int]:
    """An uninterrupted extraction and the number of its events."""
    out = tmp_path_factory.mktemp("whole") / "out"
    count = multiprocessing.get_context("fork").Value("i", 0)
    code, said = stub_extract.run(videos, out, *OPTIONS, count=count)
    assert code == 0, said
    return out, count.value


def parts(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((out / "parts").glob("*"))]


def test_invariant_4_every_source_and_span_ends_in_one_state(whole):
    out, _ = whole
    lines = [json.loads(line) for line in (out / ledger.FILE).read_text().splitlines()]
    states = {
        line["source"]: line["state"] if line["state"] == "extracted" else line["reason"]
        for line in lines
        if "source" in line
    }
    assert states == stub_extract.EXPECTED
    skipped = {line["skipped"]: line["reason"] for line in lines if "skipped" in line}
    assert skipped == {"cat/.tmp-77-new.mp4": "unfinished", "cat/notes.txt": "suffix"}
    found = [line for line in lines if "span_of" in line]
    clips = [clip for part in parts(out) for clip in part["clips"]]
    kept = [span for span in found if span["state"] == "kept"]
    assert len(kept) == len(clips) == 7  # the lost face makes two spans of bob/lost.mp4
    assert {span["state"] for span in found} == {"kept", "too_short"}
    lost = [(span["start"], span["stop"]) for span in found if span["span_of"] == "bob/lost.mp4"]
    assert lost == [(0, 39), (40, 70)]
    books = ledger.balance(list(stub_extract.EXPECTED), parts(out))
    assert (books.sources, books.extracted, books.rejected.total()) == (10, 6, 4)
    assert books.kept_frames == sum(clip["frames"] for clip in clips)


def _without_a_source(books):
    del books[0]["sources"][0]


def _twice_a_source(books):
    books[1]["sources"].append(books[0]["sources"][0])


def _without_a_clip(books):
    del books[0]["clips"][0]


def _without_a_reason(books):
    next(row for part in books for row in part["sources"] if row["state"] == "rejected")["reason"] = ""


def _rejected_with_a_clip(books):
    next(row for part in books for row in part["sources"] if row["state"] == "extracted")["state"] = "rejected"


def _with_a_key_twice(books):
    books[0]["clips"][0]["key"] = books[2]["clips"][-1]["key"]


def _with_a_clip_of_another_span(books):
    books[0]["clips"][0]["facts"]["start_frame"] += 1


@pytest.mark.parametrize(
    "damage",
    [
        _without_a_source,
        _twice_a_source,
        _without_a_clip,
        _without_a_reason,
        _rejected_with_a_clip,
        _with_a_clip_of_another_span,
        _with_a_key_twice,
    ],
)
def test_invariant_4_a_ledger_that_does_not_add_up_is_refused(whole, damage):
    books = parts(whole[0])
    damage(books)
    with pytest.raises(ledger.LedgerError):
        ledger.balance(stub_extract.EXPECTED, books)


def test_a_source_that_breaks_off_or_stands_still_keeps_the_rest_and_its_ledger_line_says_so(tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 48_000 * 14).astype(np.float32)
    whole = numbered.write(videos / "ann/cut.mkv", numbered.regular(60), audio=sound[: 48_000 * 3])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    times = [*numbered.regular(40), *(12 + t for t in numbered.regular(40))]
    numbered.write(videos / "bob/still.mp4", times, audio=sound)
    numbered.write(videos / "cat/slide.mp4", [Fraction(0), Fraction(5)], tick_s=Fraction(1, 1000), audio=sound)
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 0, said
    lines = [json.loads(line) for line in (out / ledger.FILE).read_text().splitlines()]
    of = {line["source"]: line for line in lines if "source" in line}
    spans_of = {name: [(one["start"], one["stop"]) for one in lines if one.get("span_of") == name] for name in of}
    assert of["ann/cut.mkv"]["state"] == "extracted"
    assert 1 < of["ann/cut.mkv"]["cut_s"] < 2.4
    assert of["ann/cut.mkv"]["message"].startswith("ann/cut.mkv: breaks off at")
    assert spans_of["ann/cut.mkv"] == [(0, np.ceil(of["ann/cut.mkv"]["cut_s"] * 25))]  # while both last
    assert spans_of["bob/still.mp4"] == [(0, 39), (300, 340)]
    assert "cut_s" not in of["bob/still.mp4"]
    assert of["cat/slide.mp4"]["reason"] == "still_picture"


def test_stock_webdataset_reads_both_columns_with_equal_keys(whole):
    import webdataset

    out, _ = whole

    def read(column: str) -> list[dict]:
        urls = sorted(str(path) for path in out.glob(f"{column}-*.tar"))
        return list(webdataset.WebDataset(urls, shardshuffle=False))

    motion, frames = read("motion"), read("frames")
    assert [sample["__key__"] for sample in motion] == [sample["__key__"] for sample in frames]
    assert len({sample["__key__"] for sample in motion}) == len(motion) == 7
    for sample in motion:
        assert {"landmarks.npy", "audio.wav", "facts.json"} <= set(sample)
    assert all("frames.mp4" in sample for sample in frames)


def test_clips_without_sound_are_kept_and_say_so(whole):
    """Their audio is silence of full length, so that stock readers and ranges meet nothing new."""
    manifest = Manifest.load(whole[0])
    silent = {"cat/mute.mp4", "cat/no_audio.mp4"}
    assert manifest.column("has_audio").tolist() == [source not in silent for source in manifest.column("source")]
    for row in np.flatnonzero(~manifest.column("has_audio")).tolist():
        audio_S = reader.read_audio(manifest, row)
        assert len(audio_S) == 640 * int(manifest.column("frames")[row])
        assert not audio_S.any()


def test_plan_leaves_clips_without_sound_out_of_the_recipes_that_read_speech(command, whole, tmp_path):
    """motion and syncnet; identity and appearance take them."""
    folder = tmp_path / "shards"
    shutil.copytree(whole[0], folder)
    command("-m", "data_pipeline", "split", str(folder), "--force", check=True)
    stored = Manifest.load(folder)
    table = stored.table.set_column(stored.names.index("split"), "split", pa.array(["train"] * len(stored)))
    manifest_update.save(folder, table, stored.header)
    for recipe, selected in (("motion", 5), ("syncnet", 5), ("identity", 7), ("appearance", 7)):
        done = command("-m", "data_pipeline", "plan", str(folder), "--recipe", recipe, "--json", check=True)
        planned = json.loads(done.stdout)
        assert planned["clips"]["selected"] == selected
        assert sum(planned["without_speech"].values()) == 7 - selected


def test_equal_names_in_other_folders_stay_apart(whole):
    keys = {clip["facts"]["source"]: clip["key"] for part in parts(whole[0]) for clip in part["clips"]}
    assert keys["ann/talk.mp4"] != keys["bob/talk.mp4"]
    assert all("." not in key and "/" not in key for key in keys.values())


@pytest.mark.parametrize("share", [0.0, 0.004, 0.2, 0.35, 0.5, 0.62, 0.8, 0.93, 0.97, 0.985, 0.99, 0.995])
def test_invariant_5_killed_anywhere_then_continued_gives_equal_bytes(videos, whole, tmp_path, share):
    reference, events = whole
    out = tmp_path / "out"
    code, _ = stub_extract.run(videos, out, *OPTIONS, kill_at=int(events * share))
    assert code == -signal.SIGKILL
    for path in out.rglob("*.json"):
        if ".tmp-" not in path.name:
            json.loads(path.read_text())  # what has its name is whole
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 0, said
    assert stub_extract.files(out) == stub_extract.files(reference)


def test_invariant_5_committed_shards_are_not_made_again(videos, whole, tmp_path):
    _, events = whole
    out = tmp_path / "out"
    stub_extract.run(videos, out, *OPTIONS, kill_at=int(events * 0.8))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    assert before
    tars = {path: path.stat().st_ino for path in out.glob("*-000000.tar")}
    stub_extract.run(videos, out, *OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_ino for path in tars} == tars


def test_shards_of_an_older_format_are_refused_also_where_all_are_made(videos, whole, tmp_path):
    out = Path(shutil.copytree(whole[0], tmp_path / "out"))
    protocol = json.loads((out / "protocol.json").read_text())
    assert protocol.pop("format") == FORMAT
    (out / "protocol.json").write_text(json.dumps(protocol))
    before = stub_extract.files(out)
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 1
    assert len(said.strip().splitlines()) == 1
    assert "extract into another folder" in said
    assert stub_extract.files(out) == before


def test_shards_of_two_shot_detectors_are_not_mixed(videos, whole, tmp_path):
    out = Path(shutil.copytree(whole[0], tmp_path / "out"))
    (out / "frames-000000.tar").unlink()
    protocol = json.loads((out / "protocol.json").read_text())
    assert protocol["shots"].startswith("adaptive scenedetect ")
    (out / "protocol.json").write_text(json.dumps({**protocol, "shots": "transnetv2 0123456789ab"}))
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 1
    assert "was begun with shots = transnetv2 0123456789ab" in said


def test_a_lost_tar_is_made_again(videos, whole, tmp_path):
    out = tmp_path / "out"
    stub_extract.run(videos, out, *OPTIONS)
    (out / "frames-000000.tar").unlink()
    os.truncate(out / "motion-000001.tar", 1000)
    assert stub_extract.run(videos, out, *OPTIONS)[0] == 0
    assert stub_extract.files(out) == stub_extract.files(whole[0])


def test_new_videos_get_shards_of_their_own(videos, tmp_path):
    mine = tmp_path / "videos"
    subprocess.run(["cp", "-r", str(videos), str(mine)], check=True)
    late = (mine / "ann/talk.mp4").rename(mine / "late.mp4")
    out = tmp_path / "out"
    assert stub_extract.run(mine, out, *OPTIONS)[0] == 0
    before = stub_extract.files(out)
    (mine / "ann").mkdir(exist_ok=True)
    (mine / "ann/talk.mp4").write_bytes(late.read_bytes())
    code, said = stub_extract.run(mine, out, *OPTIONS)
    assert code == 0, said
    after = stub_extract.files(out)
    assert {name for name in after if name not in before} == {
        "parts/000004.json",
        "motion-000004.tar",
        "motion-000004.crc",
        "frames-000004.tar",
        "frames-000004.crc",
    }
    for name, data in before.items():
        if name.endswith(".tar") or name.startswith("parts/"):
            assert after[name] == data
    listed = json.loads(after["sources.json"])["sources"]
    assert {row["identity"] for row in listed if row["path"] == "late.mp4"} == {"c/late"}


def test_a_full_disk_stops_in_one_line_and_the_same_command_continues(videos, whole, tmp_path):
    with small_disk(tmp_path / "small", "300k") as remount:
        out = tmp_path / "small" / "out"
        code, said = stub_extract.run(videos, out, *OPTIONS)
        assert code == 1
        assert "the disk is full" in said
        assert len(said.strip().splitlines()) == 1
        remount("size=20m")
        code, said = stub_extract.run(videos, out, *OPTIONS)
        assert code == 0, said
        assert stub_extract.files(out) == stub_extract.files(whole[0])


def test_a_file_size_limit_stops_in_one_line_and_the_same_command_continues(videos, whole, tmp_path):
    out = tmp_path / "out"
    with no_file_past(50_000):
        code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 1
    assert "Traceback" not in said
    assert "larger than this shell or disk allows" in said.strip().splitlines()[-1]
    assert not [path for path in out.rglob("*") if ".tmp-" in path.name]
    assert stub_extract.run(videos, out, *OPTIONS)[0] == 0
    assert stub_extract.files(out) == stub_extract.files(whole[0])


def test_a_read_only_output_is_refused_in_one_line(command, videos, tmp_path):
    with small_disk(tmp_path / "small", "1m") as remount:
        remount("ro")
        done = command("-m", "data_pipeline", "extract", str(videos), str(tmp_path / "small/out"))
        assert done.returncode == 1
        assert "read-only" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_extract_refuses_bad_arguments_in_one_line(videos, whole, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    code, said = stub_extract.run(tmp_path / "empty", out)
    assert code == 1
    assert "no videos" in said
    code, said = stub_extract.run(videos, whole[0], *OPTIONS, "max_seconds=5")
    assert code == 1
    assert "max_seconds = 10.0, now 5.0" in said
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "x.mp4").write_bytes(b"nothing")
    code, said = stub_extract.run(lone, out)
    assert code == 1
    assert "nothing was extracted" in said


def copied(videos: Path, to: Path) -> Path:
    shutil.copytree(videos, to)
    return to


def test_videos_that_vanish_or_change_after_they_were_listed_are_rejected_by_name(videos, tmp_path):
    mine, out = copied(videos, tmp_path / "videos"), tmp_path / "out"
    assert stub_extract.run(mine, out, *OPTIONS)[0] == 0
    (out / "parts/000000.json").unlink()  # its sources are tried again
    (mine / "ann/talk.mp4").unlink()
    (mine / "bob/lost.mp4").write_bytes(b"another file")
    code, said = stub_extract.run(mine, out, *OPTIONS)
    assert code == 0, said
    reasons = {row["source"]: row.get("reason") for part in parts(out) for row in part["sources"]}
    assert (reasons["ann/talk.mp4"], reasons["bob/lost.mp4"]) == ("missing", "changed")
    assert [reason for reason in reasons.values() if reason in ("missing", "changed")] == ["missing", "changed"]


def test_a_folder_whose_videos_are_all_gone_is_refused(videos, tmp_path):
    mine, out = copied(videos, tmp_path / "videos"), tmp_path / "out"
    assert stub_extract.run(mine, out, *OPTIONS)[0] == 0
    for path in (out / "parts").iterdir():
        path.unlink()
    shutil.rmtree(mine)
    mine.mkdir()
    code, said = stub_extract.run(mine, out, *OPTIONS)
    assert code == 1
    assert "is it mounted" in said
    assert not list((out / "parts").iterdir())


def many(videos: Path, to: Path) -> Path:
    """A dozen videos that are too short, and one to keep."""
    for number in range(12):
        (to / f"p{number:02d}").mkdir(parents=True)
        shutil.copy(videos / "bob/short.mp4", to / f"p{number:02d}/a.mp4")
    shutil.copytree(videos / "ann", to / "z")
    return to


ONE_EACH = ("--corpus", "c", "--sources-per-shard", "1", "min_face_px=16", *stub_extract.ANY_SOUND)


def test_many_dead_files_are_rejected_by_name(videos, tmp_path, monkeypatch):
    def dead(path):
        if path.parent.name.startswith("p"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return probe(path)

    probe = media.probe
    monkeypatch.setattr(media, "probe", dead)
    mine, out = many(videos, tmp_path / "videos"), tmp_path / "out"
    code, said = stub_extract.run(mine, out, *ONE_EACH)
    assert code == 0, said
    ended = [(row["source"], row.get("reason")) for part in parts(out) for row in part["sources"]]
    assert ended == [*((f"p{number:02d}/a.mp4", "storage") for number in range(12)), ("z/talk.mp4", None)]


def test_a_storage_that_goes_stops_the_run_and_loses_nothing(videos, tmp_path, monkeypatch):
    mine, out = many(videos, tmp_path / "videos"), tmp_path / "out"

    def unmounted(path):
        if mine.exists():
            mine.rename(tmp_path / "elsewhere")
        return probe(path)

    probe = media.probe
    monkeypatch.setattr(media, "probe", unmounted)
    code, said = stub_extract.run(mine, out, *ONE_EACH)
    assert code == 75
    assert "seems to be gone" in said.strip().splitlines()[-1]
    assert parts(out) == []
    monkeypatch.undo()
    (tmp_path / "elsewhere").rename(mine)
    assert stub_extract.run(mine, out, *ONE_EACH)[0] == 0
    assert len(parts(out)) == 13


NAMES = [b"\xca\xd3\xc6\xb5.mp4", b"-v.mp4", b"a\nb.mp4", b"%03d.mp4", b"12:30.mp4", b"\\x41.mp4", b"x" * 250 + b".mp4"]


def test_a_file_name_is_bytes(videos, tmp_path):
    """A name that is not UTF-8 is escaped, reversibly, in the ledger, the manifest and the messages."""
    mine, out = tmp_path / "videos", tmp_path / "out"
    for number, name in enumerate(NAMES):
        (mine / f"{number}").mkdir(parents=True)
        shutil.copy(videos / "ann/talk.mp4", os.path.join(os.fsencode(mine / f"{number}"), name))
        shutil.copy(videos / "cat/text.mp4", os.path.join(os.fsencode(mine / f"{number}"), b"bad" + name[-200:]))
    code, said = stub_extract.run(mine, out, *OPTIONS)
    assert code == 0, said
    manifest = Manifest.load(out)
    there = [os.fsencode(names.to_path(source)).partition(b"/")[2] for source in manifest.column("source")]
    assert there == NAMES
    lines = [json.loads(line) for line in (out / ledger.FILE).read_text(encoding="utf-8").splitlines()]
    rejected = [line for line in lines if line.get("state") == "rejected"]
    assert {line["reason"] for line in rejected} == {"unreadable"}
    assert rejected[0]["message"].partition(":")[0] == "0/bad\\xca\\xd3Ƶ.mp4"
    assert code == stub_extract.run(mine, out, *OPTIONS)[0]


def test_typing_it_again_is_quick_and_changes_nothing(command, videos, tmp_path):
    out = tmp_path / "out"
    stub_extract.run(videos, out, *OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("manifest.*")}
    begun = time.monotonic()
    code = (
        "import sys; from data_pipeline import __main__ as m; from mytalk import command;"
        f"assert command.main('x', '', m.COMMANDS, ['extract', {str(videos)!r}, {str(out)!r}, *{OPTIONS!r}]) == 0;"
        "assert not {'torch', 'mediapipe', 'cv2'} & set(sys.modules)"
    )
    done = command("-c", code)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 5
    assert {path: path.stat().st_mtime_ns for path in out.rglob("manifest.*")} == before


def test_a_face_that_jumps_is_another_shot():
    ring = stub_extract.face_at(32, 32)
    clip = np.stack([ring, ring + 1, ring + 30, ring + 31, (ring - 32) * 2 + 62])
    assert shot_starts(clip, np.ones(5, bool)).tolist() == [False, False, True, False, True]
