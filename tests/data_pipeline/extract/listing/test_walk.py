"""What lies below a corpus's folder: what is tried, and what is skipped by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_pipeline.extract.listing import names, walk
from data_pipeline.shards import ledger


def write(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_whatever_the_demuxer_may_know_is_tried(tmp_path):
    tried = ["a.3gp", "a.m2ts", "a.ogv", "a.vob", "a.mts", "a.ts", "a.flv", "a.wmv", "a.mpg", "a.gif", "A.MP4", "none"]
    for name in tried:
        write(tmp_path / "p" / name)
    assert list(walk.walk(tmp_path).bytes_of) == sorted(f"p/{name}" for name in tried)


def test_everything_else_is_skipped_for_a_reason(tmp_path):
    write(tmp_path / "videos/p/a.mp4", b"12345")
    for name in ("p/.hidden.mp4", ".folder/a.mp4", "p/.tmp-7-b.mp4", "p/notes.txt", "p/c.wav", "out/motion.mp4"):
        write(tmp_path / "videos" / name)
    write(tmp_path / "videos/p/empty.mp4", b"")
    videos = tmp_path / "videos"
    os.mkfifo(videos / "p/pipe.mp4")
    os.symlink("/nowhere/a.mp4", videos / "p/dangling.mp4")
    os.symlink("loop.mp4", videos / "p/loop.mp4")
    os.symlink("..", videos / "p/up")
    os.symlink("a.mp4", videos / "p/A_first_in_order.mp4")
    os.link(videos / "p/a.mp4", videos / "p/hard.mp4")
    found = walk.walk(videos, output=(videos / "out").resolve())
    assert found.bytes_of == {"p/a.mp4": 5}
    assert found.skipped == {
        ".folder": "hidden",
        "out": "output",
        "p/.hidden.mp4": "hidden",
        "p/.tmp-7-b.mp4": "unfinished",
        "p/A_first_in_order.mp4": "duplicate",
        "p/c.wav": "suffix",
        "p/dangling.mp4": "missing",
        "p/empty.mp4": "empty",
        "p/hard.mp4": "duplicate",
        "p/loop.mp4": "missing",
        "p/notes.txt": "suffix",
        "p/pipe.mp4": "not_a_file",
        "p/up": "duplicate",
    }


def test_links_to_elsewhere_are_followed(tmp_path):
    write(tmp_path / "elsewhere/b/b.mp4")
    write(tmp_path / "elsewhere/a.mp4")
    (tmp_path / "videos").mkdir()
    os.symlink(tmp_path / "elsewhere/a.mp4", tmp_path / "videos/a.mp4")
    os.symlink(tmp_path / "elsewhere/b", tmp_path / "videos/b")
    assert list(walk.walk(tmp_path / "videos").bytes_of) == ["a.mp4", "b/b.mp4"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        walk.walk(tmp_path / "none")


def test_invariant_4_a_file_is_a_source_or_skipped():
    with pytest.raises(ledger.LedgerError, match="neither"):
        ledger.balance([], [], ["a.mp4"], {"b.mp4": "empty"})
    with pytest.raises(ledger.LedgerError, match="and skipped"):
        ledger.balance(["a.mp4"], [], ["a.mp4"], {"a.mp4": "empty"})


@pytest.mark.parametrize(
    "name", [b"a.mp4", b"\xca\xd3\xc6\xb5.mp4", b"a\\xca\\.mp4", b"\\", b"\xff\\\xff", "é人".encode()]
)
def test_names_as_text_are_reversible(name):
    text = names.to_text(os.fsdecode(name))
    assert os.fsencode(names.to_path(text)) == name
    assert text.encode("utf-8")
