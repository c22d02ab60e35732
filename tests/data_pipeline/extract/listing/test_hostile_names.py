"""Names that are meant to harm never leave the output folder and never pair the wrong sound."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from data_pipeline.shards.manifest import Manifest
from tests.helpers import corpora, stub_extract
from tests.helpers.corpora import SILENT, SOUND, VIDEO

OPTIONS = ("--corpus", "../../c", "min_face_px=16", *stub_extract.ANY_SOUND)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    return corpora.material(tmp_path_factory.mktemp("material"))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_files_of_any_name_stay_inside_and_keep_their_own_sound(made, tmp_path):
    inside = tmp_path / "a" / "b" / "videos"
    names = [
        "..mp4",
        "a b.mp4",
        "a\nb.mp4",
        "ünï😀.mp4",
        "$(touch owned).mp4",
        "-rf.mp4",
        "'; rm x.mp4",
        "x" * 250 + ".mp4",
    ]
    corpora.tree(inside, {f"p/{name}": VIDEO for name in names} | {"q/same.mp4": SILENT, "r/same.mp4": SILENT}, made)
    shutil.copy(made[VIDEO], os.path.join(os.fsencode(inside / "p"), b"\xff\xfe.mp4"))
    corpora.tree(inside, {"sound/q/same.m4a": SOUND}, made)
    os.symlink("loop", inside / "loop")
    os.symlink("..", inside / "p" / "up")
    before = everything(tmp_path)
    out = tmp_path / "a" / "b" / "out"
    code, said = stub_extract.run(inside, out, *OPTIONS, "--pattern", "{person}/*", "--audio", "sound/{path}.m4a")
    assert code == 0, said
    assert {name for name in everything(tmp_path) - before if not name.startswith("a/b/out")} == set()
    assert all(name.isascii() and " " not in name for name in everything(out))
    manifest = Manifest.load(out)
    heard = {str(manifest.at(row, "source")): bool(manifest.at(row, "has_audio")) for row in range(len(manifest))}
    assert heard["q/same.mp4"]
    assert not heard["r/same.mp4"], "the sound of a file of the same name is another's"
    assert len(heard) == len(names) + 3 - 1  # ..mp4 begins with a dot: hidden
    assert len(set(manifest.column("key"))) == len(manifest)


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/passwd", "p/../../secret.mp4", "file:///etc/passwd"])
def test_a_table_names_no_video_outside_of_its_corpus(made, tmp_path, path):
    corpora.tree(tmp_path, {"secret.mp4": VIDEO, "videos/a.mp4": VIDEO}, made)
    (tmp_path / "videos/videos.csv").write_text(f"path,person\na.mp4,a\n{path},b\n")
    code, said = stub_extract.run(tmp_path / "videos", tmp_path / "out", *OPTIONS, "--layout", "table")
    lines = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()] if code == 0 else []
    extracted = [line["source"] for line in lines if line.get("state") == "extracted"]
    assert extracted in ([], ["a.mp4"]), said


@pytest.mark.parametrize("sound", ["../sound.m4a", "/sound.m4a", "p/../../sound.m4a"])
def test_a_table_names_no_sound_outside_of_its_corpus(made, tmp_path, sound):
    corpora.tree(tmp_path, {"sound.m4a": SOUND, "videos/a.mp4": SILENT}, made)
    (tmp_path / "videos/videos.csv").write_text(f"path,person,audio\na.mp4,a,{sound}\n")
    code, said = stub_extract.run(tmp_path / "videos", tmp_path / "out", *OPTIONS, "--layout", "table")
    assert code == 1
    assert "outside of the corpus" in said
