"""Layouts of corpora: miniature trees of real videos, through a whole extraction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.extract.corpora import drawn
from data_pipeline.extract.corpora.layouts import LAYOUTS, Video
from data_pipeline.extract.listing import sources, walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from eval.rows import inputs
from eval.tasks import Window
from mytalk.command import UserError
from tests.helpers import numbered, stub_extract

OPTIONS = ("--corpus", "c", "min_face_px=16")


def talk(path: Path, frames: int) -> None:
    """A video of so many numbered frames, with noise as its sound."""
    sound = np.random.default_rng(0).normal(0, 0.1, frames * 1920).astype(np.float32)
    numbered.write(path, numbered.regular(frames), audio=sound)


def extracted(videos: Path, out: Path, layout: str) -> tuple[Manifest, str]:
    code, output = stub_extract.run(videos, out, *OPTIONS, "--layout", layout)
    assert code == 0, output
    return Manifest.load(out), output


def test_hdtf_extracts_the_annotated_time_ranges_alone(tmp_path):
    talk(tmp_path / "v/raw/RD_Radio1.mp4", 90)
    talk(tmp_path / "v/raw/Lecture2.mp4", 30)
    lists = tmp_path / "v/HDTF_dataset"
    lists.mkdir()
    (lists / "RD_annotion_time.txt").write_text("Radio1.mp4 00:00-00:01 00:02-00:03\nRadio9 | 01:00-02:00\n\n")
    (lists / "WDA_annotion_time.txt").write_text("Lecture2|00:00-00:07\n")
    manifest, output = extracted(tmp_path / "v", tmp_path / "out", "hdtf")
    assert "1 videos of the corpus's lists are missing" in output
    assert "Radio9.mp4" in output
    assert manifest.column("identity").tolist() == ["c/Lecture2", "c/Radio1", "c/Radio1"]
    assert manifest.column("subset").tolist() == ["WDA", "RD", "RD"]
    spans = list(zip(manifest.column("start_frame").tolist(), manifest.column("stop_frame").tolist()))
    assert spans == [(0, 30), (0, 25), (50, 75)]
    assert manifest.column("detected_share").tolist() == [1, 1, 1]
    shown = [numbered.number(frame) for frame in _source_pixels(tmp_path / "v/raw/RD_Radio1.mp4", 50, 75)]
    in_crop = reader.read_landmarks(manifest, 2).mean(axis=1)[:, 0]
    crop = np.array(manifest.column("crop")[2]).reshape(2, 3)
    from_landmarks = np.rint(((in_crop - crop[0, 2]) / crop[0, 0] - 32) * 50)
    assert np.abs(from_landmarks - shown).max() <= 3  # fp16


def _source_pixels(path: Path, start: int, stop: int):
    from mytalk import media

    return list(media.read_frames(path))[start:stop]


def test_a_range_past_the_end_gives_no_clip(tmp_path):
    talk(tmp_path / "v/a.mp4", 50)
    talk(tmp_path / "v/b.mp4", 30)
    (tmp_path / "v/RD_annotion_time.txt").write_text("a 00:00-00:02\nb 01:00-01:05\n")
    manifest, _ = extracted(tmp_path / "v", tmp_path / "out", "hdtf")
    assert len(manifest) == 1
    lines = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines if line.get("source") == "b.mp4"] == ["no_frame"]


def test_lrs3_names_the_youtube_video_and_the_confidence(tmp_path):
    for name in ("pretrain/abc/00001", "test/xyz/00001"):
        talk(tmp_path / f"v/{name}.mp4", 30)
    (tmp_path / "v/pretrain/abc/00001.txt").write_text("Text:  HELLO\nConf:  7\nRef:   abc\n")
    manifest, _ = extracted(tmp_path / "v", tmp_path / "out", "lrs3")
    assert manifest.column("identity").tolist() == ["c/abc", "c/xyz"]
    assert manifest.column("subset").tolist() == ["pretrain", "test"]
    confidence = manifest.column("asr_confidence")
    assert confidence[0] == 7
    assert np.isnan(confidence[1])
    assert json.loads(reader.read_member(manifest, 0, "facts"))["asr_confidence"] == 7


def test_a_folder_extracted_by_one_layout_refuses_another(tmp_path):
    talk(tmp_path / "v/test/xyz/1.mp4", 30)
    extracted(tmp_path / "v", tmp_path / "out", "lrs3")
    code, output = stub_extract.run(tmp_path / "v", tmp_path / "out", *OPTIONS)
    assert code == 1
    assert "was made with layout = lrs3, now folder" in output


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"folder"}))
def test_a_tree_of_another_layout_is_refused_in_one_line(tmp_path, layout):
    talk(tmp_path / "v/a.mp4", 30)
    code, output = stub_extract.run(tmp_path / "v", tmp_path / "out", *OPTIONS, "--layout", layout)
    assert code == 1
    assert len(output.strip().splitlines()) == 1
    code, output = stub_extract.run(tmp_path / "v", tmp_path / "out", "--layout", layout, "--identity", "first")
    assert code == 1
    assert "leave --identity out" in output


def listed(out: Path, *videos: Video) -> list[sources.Source]:
    settings = {"corpus": "c", "sources_per_shard": 2, "layout": "folder"}
    return sources.listed(out, out, settings, videos, {video.path: 5 for video in videos})[0]


def test_ranges_that_touch_are_united_and_facts_keep_their_type(tmp_path):
    (source,) = listed(tmp_path, Video("a.mp4", "a", ((4, 6), (0, 2), (2, 3), (5, 5.5)), {"lang": "de"}))
    assert source.ranges_s == [[0, 3], [4, 6]]
    for facts, message in (({"lang": 3}, "one type"), ({"blur": 1.0}, "cannot be named"), ({"A b": 1}, "be named")):
        with pytest.raises(UserError, match=message):
            listed(tmp_path, Video("b.mp4", "b", facts=facts))
    with pytest.raises(UserError, match="is empty"):
        listed(tmp_path, Video("b.mp4", "b", ((3, 3),)))
    with pytest.raises(UserError, match="twice"):
        listed(tmp_path, Video("b.mp4", "b"), Video("b.mp4", "b"))


def test_drawn_people_bring_the_times_of_their_bilabials(tmp_path):
    talk(tmp_path / "v/p000/c00.mp4", 50)
    talk(tmp_path / "v/p000/c01.mp4", 50)
    talk(tmp_path / "v/p001/c00.mp4", 50)
    sounds = [["_", 0, 0.4], ["p", 0.4, 0.5], ["a", 0.5, 0.6], ["m-", 0.61, 0.7], ["s", 0.7, 2.0], ["b", 2.0, 2.125]]
    rows = [{"path": "p000/c00.mp4", "phonemes": sounds}, {"path": "p000/c01.mp4", "phonemes": [["s", 0, 2]]}]
    (tmp_path / "v/truth.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    manifest, _ = extracted(tmp_path / "v", tmp_path / "out", "drawn")
    assert manifest.column("identity").tolist() == ["c/p000", "c/p000", "c/p001"]
    assert manifest.column("bilabials").tolist() == ["0.400-0.500 0.610-0.700 2.000-2.125", "", ""]
    window = Window(0, 15, 50)
    assert inputs.read_bilabials(manifest, window) == (pytest.approx((0.01, 0.1)),), "seconds of the window, within it"
    assert inputs.read_bilabials(manifest, Window(1, 0, 50)) == ()


@pytest.mark.parametrize(("text", "says"), [(None, "is missing"), ("{", "no truth"), ('{"phonemes": []}', "no truth")])
def test_a_truth_of_drawn_people_that_cannot_be_read_is_refused(tmp_path, text, says):
    if text is not None:
        (tmp_path / "truth.jsonl").write_text(text)
    with pytest.raises(UserError, match=says):
        list(drawn.videos(Tree(tmp_path, walk.walk(tmp_path))))
