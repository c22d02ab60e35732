"""Each corpus as its downloader lays it: people, parts, sound, faces and facts, on miniature trees of real videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.extract.corpora import avspeech, folder, table, talkvid
from data_pipeline.extract.corpora.layouts import CENTRE, FaceBox, Video
from data_pipeline.extract.listing import walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from tests.helpers import corpora, stub_extract
from tests.helpers.corpora import SILENT, SOUND, VIDEO

VOX_TEXT = "Identity  : \tid1\nOffset   : \t-2\nFV Conf  : \t19.4\t(1)\nASD Conf : \t4.1\n\nFRAME X Y W H\n"
VOX_META = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev\nid00017\t,n17\t,f\t,test\n"
AVSPEECH = "yt1,3.0,6.25,0.5,0.5\nyt2,0.000000,1.0,0.5,0.5\nyt2,1.0,1.2,0.02,0.02\ngone,1,2,0,0\n"
TUBES = "abcdefghij__0001,64,64,2,27,16,16,48,48\nabcdefghijk_0002,64,64,0,9,1,2,3,4\n"
CELEB = {
    "clips": {
        "yt1_0": {
            "ytb_id": "yt1",
            "duration": {"start_sec": 0, "end_sec": 1.2},
            "bbox": {"top": 0.25, "bottom": 0.75, "left": 0.25, "right": 0.75},
            "attributes": {"emotion": {"sep_flag": False, "labels": "happy"}},
        },
        "yt2_0": {
            "ytb_id": "yt2",
            "duration": {"start_sec": 0, "end_sec": 1.2},
            "bbox": {"top": 0, "bottom": 0.2, "left": 0, "right": 0.2},
            "attributes": {"emotion": {"sep_flag": True, "labels": [{"emotion": "sad"}]}},
        },
        "yt3_0": {
            "ytb_id": "yt3",
            "duration": {"start_sec": 0, "end_sec": 1},
            "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1},
        },
    }
}
TALKVID = [
    {
        "id": "x",
        "start-time": 10.5,
        "end-time": 25.3,
        "info": {
            "Person ID": "597",
            "Language": "German",
            "Ethnicity": "White",
            "Age Group": "60+",
            "Gender": "Male",
            "Video Link": "https://www.youtube.com/watch?v=Tr6MMsoWAog",
        },
    },
    {"id": "y", "start-time": 1, "end-time": 2, "info": {"Person ID": "3", "Video Link": "https://youtu.be/gone"}},
]

# layout -> files, {video: [identity, facts it must have]}, spans by state, reasons of files that are no sources
CASES: dict[str, tuple[dict[str, str], dict[str, tuple[str, dict[str, Any]]], dict[str, int], dict[str, str]]] = {
    "voxceleb2": (
        {
            "dev/mp4/id00012/yt1/00001.mp4": SILENT,
            "dev/aac/id00012/yt1/00001.m4a": SOUND,
            "dev/txt/id00012/yt1/00001.txt": VOX_TEXT,
            "test/mp4/id00017/yt2/00001.mp4": VIDEO,
            "vox2_meta.csv": VOX_META,
            "other.mp4": VIDEO,
        },
        {
            "dev/mp4/id00012/yt1/00001.mp4": (
                "id00012",
                {"gender": "male", "official_split": "train", "asd_confidence": 4.1, "sync_offset_official": -2.0},
            ),
            "test/mp4/id00017/yt2/00001.mp4": ("id00017", {"gender": "female", "official_split": "test"}),
        },
        {"kept": 2},
        {"dev/aac/id00012/yt1/00001.m4a": "sound", "other.mp4": "unlisted"},
    ),
    "mead": (
        {
            "M003/video/front/happy/level_2/001.mp4": SILENT,
            "M003/video/top/happy/level_2/001.mp4": SILENT,
            "M003/audio/happy/level_2/001.m4a": SOUND,
            "W009/video/front/neutral/level_1/002.mp4": SILENT,
        },
        {
            "M003/video/front/happy/level_2/001.mp4": (
                "M003",
                {"emotion": "happy", "emotion_level": 2, "view": "front", "gender": "male", "has_audio": True},
            ),
            "M003/video/top/happy/level_2/001.mp4": ("M003", {"view": "top", "has_audio": True}),
            "W009/video/front/neutral/level_1/002.mp4": ("W009", {"gender": "female", "has_audio": False}),
        },
        {"kept": 3},
        {"M003/audio/happy/level_2/001.m4a": "sound"},
    ),
    "avspeech": (
        {
            "avspeech_train.csv": AVSPEECH,
            "avspeech_test.csv": "yt_3,0,1,0.02,0.02\n",
            "clips/yt1_3.000_6.250.mp4": VIDEO,
            "yt2.mp4": VIDEO,
            "yt_3_0_1.mp4": VIDEO,
        },
        {
            "clips/yt1_3.000_6.250.mp4": ("yt1", {"official_split": "train", "stop_frame": 30}),
            "yt2.mp4": ("yt2", {"official_split": "train", "stop_frame": 30}),
        },
        {"kept": 2, "not_labelled": 1},
        {"gone_1.000000_2.000000.mp4": "missing"},
    ),
    "celebvhq": (
        {
            "celebvhq_info.json": json.dumps(CELEB),
            "raw/yt1.mp4": VIDEO,
            "processed/yt1_0.mp4": VIDEO,
            "raw/yt2.mp4": VIDEO,
        },
        {"processed/yt1_0.mp4": ("yt1", {"emotion": "happy"})},
        {"kept": 1, "not_labelled": 1},
        {"raw/yt1.mp4": "unlisted", "raw/yt3.mp4": "missing"},
    ),
    "talkinghead1kh": (
        {
            "train/train_video_tubes.txt": TUBES,
            "train/1min_clips/abcdefghij__0001.mp4": VIDEO,
            "val/cropped_clips/lmnopqrstuv_0000_S0_E29_L1_T2_R3_B4.mp4": SILENT,
        },
        {
            "train/1min_clips/abcdefghij__0001.mp4": (
                "abcdefghij_",
                {"official_split": "train", "start_frame": 2, "stop_frame": 28, "has_audio": True},
            ),
            "val/cropped_clips/lmnopqrstuv_0000_S0_E29_L1_T2_R3_B4.mp4": (
                "lmnopqrstuv",
                {"official_split": "val", "has_audio": False},
            ),
        },
        {"kept": 2},
        {"abcdefghijk_0002.mp4": "missing"},
    ),
    "talkvid": (
        {
            "filtered_video_clips.json": json.dumps(TALKVID),
            "out/Tr6MMsoWAog/Tr6MMsoWAog_001_10.500_25.300.mp4": SILENT,
            "out/Tr6MMsoWAog/Tr6MMsoWAog_001_10.500_25.300.m4a": SOUND,
        },
        {
            "out/Tr6MMsoWAog/Tr6MMsoWAog_001_10.500_25.300.mp4": (
                "person597",
                {"language": "German", "ethnicity": "White", "age_group": "60+", "gender": "male", "has_audio": True},
            )
        },
        {"kept": 1},
        {"gone/gone_1.000_2.000.mp4": "missing", "out/Tr6MMsoWAog/Tr6MMsoWAog_001_10.500_25.300.m4a": "sound"},
    ),
    "hdtf": (
        {
            "HDTF_dataset/WRA_annotion_time.txt": "Whole.mp4 00:00-00:01\nOther.mp4 00:00-00:01\nCut.mp4 00:10-00:20\n",
            "HDTF_dataset/WRA_crop_wh.txt": "Whole_0.mp4 320 640 320 640\nOther_0.mp4 0 300 0 300\n",
            "HDTF_dataset/WRA_resolution.txt": "Whole.mp4 1280\nOther.mp4 1280\n",
            "Whole.mp4": VIDEO,
            "Other.mp4": VIDEO,
            "clips/Cut_0.mp4": VIDEO,
        },
        {"Whole.mp4": ("Whole", {"subset": "WRA"}), "clips/Cut_0.mp4": ("Cut", {"stop_frame": 30})},
        {"kept": 2, "not_labelled": 1},
        {},
    ),
    "lrs3": (
        {"trainval/abc/00001.mp4": VIDEO, "trainval/abc/00001.txt": "Text:  HELLO\nConf:  7\n", "test/x/1.mp4": VIDEO},
        {
            "trainval/abc/00001.mp4": ("abc", {"official_split": "train", "asr_confidence": 7}),
            "test/x/1.mp4": ("x", {"official_split": "test"}),
        },
        {"kept": 2},
        {},
    ),
    "table": (
        {
            "videos.csv": "path,person,start_s,stop_s,audio,face_x,face_y,language\n"
            "a.mp4,ann,0,1,s.m4a,0.5,0.5,de\nb.mp4,bob,,,,,,en\ngone.mp4,cat,,,,,,en\n",
            "a.mp4": SILENT,
            "s.m4a": SOUND,
            "b.mp4": VIDEO,
        },
        {
            "a.mp4": ("ann", {"language": "de", "stop_frame": 25, "has_audio": True}),
            "b.mp4": ("bob", {"language": "en", "stop_frame": 30}),
        },
        {"kept": 2},
        {"gone.mp4": "missing", "s.m4a": "sound"},
    ),
}
LICENCES = {"hdtf": "CC-BY-4.0", "talkinghead1kh": "CC-BY-3.0", "talkvid": "CC-BY-NC-4.0", "lrs3": "CC-BY-NC-ND-4.0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    return corpora.material(tmp_path_factory.mktemp("material"))


def extracted(videos: Path, out: Path, *options: str) -> tuple[Manifest, list[dict[str, Any]]]:
    code, output = stub_extract.run(videos, out, "--corpus", "c", "min_face_px=16", *options)
    assert code == 0, output
    return Manifest.load(out), [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("layout", sorted(CASES))
def test_a_corpus_brings_its_people_parts_sound_faces_and_facts(tmp_path, made, layout):
    files, expected, spans, skipped = CASES[layout]
    manifest, lines = extracted(corpora.tree(tmp_path / "v", files, made), tmp_path / "out", "--layout", layout)
    sources = manifest.column("source").tolist()
    assert sources == sorted(expected)
    for row, source in enumerate(sources):
        identity, facts = expected[source]
        assert manifest.at(row, "identity") == f"c/{identity}"
        for name, value in facts.items():
            assert manifest.at(row, name) == value, (source, name)
        if layout != "table":
            assert LICENCES.get(layout, "") in str(manifest.at(row, "licence"))
            assert manifest.at(row, "licence")
    states = [line["state"] for line in lines if "span_of" in line]
    assert {state: states.count(state) for state in states} == spans
    reasons = {line["skipped"]: line["reason"] for line in lines if "skipped" in line}
    assert {path: reasons.get(path) for path in skipped} == skipped


@pytest.mark.parametrize("bad", [{"info": "none"}, {"start-time": None}, {"end-time": "soon"}])
def test_a_list_of_talkvid_that_is_none_is_one_line(tmp_path, bad):
    row = {"start-time": 1, "end-time": 2, "info": {}} | bad
    tree = corpora.tree(tmp_path / "v", {"list.json": json.dumps([row])}, {})
    with pytest.raises(UserError, match=r"list\.json: a row is none of this layout"):
        list(talkvid.videos(Tree(tree, walk.walk(tree))))


def test_the_sound_beside_a_video_is_what_its_clip_holds(tmp_path, made):
    from data_pipeline.shards import reader

    files = {"ann/quiet.mp4": VIDEO, "bob/loud.mp4": SILENT, "sound/bob/loud.m4a": SOUND}
    options = ("--pattern", "{person}/*", "--audio", "sound/{path}.m4a", "--licence", "ours")
    manifest, lines = extracted(corpora.tree(tmp_path / "v", files, made), tmp_path / "out", *options)
    quiet, loud = (np.sqrt(np.mean(np.square(reader.read_audio(manifest, row)))) for row in (0, 1))
    assert loud == pytest.approx(2 * quiet, rel=0.1)
    assert manifest.column("licence").tolist() == ["ours", "ours"]
    noted = {line["source"]: line.get("notes", []) for line in lines if "source" in line}
    assert noted["bob/loud.mp4"] == []
    assert "sound/ann/quiet.m4a" in noted["ann/quiet.mp4"][0], "where it is missing, the video's own is taken"


TREE = ["ann/de/x.mp4", "ann/en/deep/y.b.mp4", "bob.mp4", "cat-eve_03.mp4"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{person}/{language}/**", {"ann/de/x.mp4": ("ann", "de"), "ann/en/deep/y.b.mp4": ("ann", "en")}),
        ("**/{person}", {"ann/de/x.mp4": "x", "ann/en/deep/y.b.mp4": "y.b", "bob.mp4": "bob", TREE[3]: "cat-eve_03"}),
        ("cat-{person}_{take}", {"cat-eve_03.mp4": ("eve", "03")}),
        ("ann/*/**/{person}", {"ann/de/x.mp4": "x", "ann/en/deep/y.b.mp4": "y.b"}),
    ],
)
def test_a_pattern_names_the_person_and_facts(pattern, expected):
    tree = Tree("v", walk.Found(dict.fromkeys(TREE, 1)))
    found = {video.path: (video.person, *video.facts.values()) for video in folder.videos(tree, pattern=pattern)}
    assert found == {path: (names,) if isinstance(names, str) else names for path, names in expected.items()}


@pytest.mark.parametrize("pattern", ["{language}/*", "{person}/{person}", "{person}/{", "nobody/{person}"])
def test_a_pattern_that_names_nobody_is_refused(pattern):
    with pytest.raises(UserError):
        list(folder.videos(Tree("v", walk.Found(dict.fromkeys(TREE, 1))), pattern=pattern))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path\na.mp4\n", "no person"),
        ("path,person,stop_s\na.mp4,p,x\n", "no number"),
        ("path,person,audio\na,p,s\na,q,s\n", "two persons"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, text, says):
    (tmp_path / table.FILE).write_text(text)
    with pytest.raises(UserError, match=says):
        list(table.videos(Tree(tmp_path, walk.walk(tmp_path))))


def test_a_list_of_avspeech_that_is_none_is_refused(tmp_path):
    (tmp_path / "avspeech_train.csv").write_text("ytid,start,end,x,y\n")
    with pytest.raises(UserError, match="is no line"):
        list(avspeech.videos(Tree(tmp_path, walk.walk(tmp_path))))


@pytest.mark.parametrize(
    "face",
    [FaceBox(float("nan"), 0), FaceBox(0, 0, -1, 1), FaceBox(0, 0, unit="inch"), FaceBox(0, 0, start=float("inf"))],
)
def test_a_face_that_cannot_be_is_refused(tmp_path, face):
    from data_pipeline.extract.listing import sources

    settings = {"corpus": "c", "sources_per_shard": 2, "layout": "folder"}
    with pytest.raises(UserError, match="no place of a face"):
        sources.listed(tmp_path, tmp_path, settings, [Video("a.mp4", "a", faces=(CENTRE, face))], {"a.mp4": 1})
