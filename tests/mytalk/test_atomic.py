"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mytalk import atomic
from tests.helpers.disks import no_file_past


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(atomic.TEMPORARY)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "deep" / "file"
    atomic.write_bytes(path, b"old")

    def half() -> None:
        with atomic.file(path) as handle:
            handle.write(b"half of the new")
            handle.flush()
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_bytes() == b"old"
    assert not temporaries(path.parent)
    with atomic.file(path, "w") as handle:
        handle.write("new")
    assert path.read_text() == "new"


def test_json_with_a_nan_writes_nothing(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"x": [1, None]})
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_bytes() == before
    assert not temporaries(tmp_path)


def test_what_is_renamed_was_flushed_first(tmp_path, monkeypatch):
    """A power cut after the rename finds the data: fsync of the file, rename, fsync of the folder."""
    done = []
    kinds = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(kinds[stat.S_ISDIR(os.fstat(handle).st_mode)]))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    atomic.write_bytes(tmp_path / "a", b"x")
    assert done == ["file", "rename", "folder"]
    done.clear()
    made = tmp_path / ".tmp-folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "b").write_bytes(b"y")
    atomic.rename_folder(made, tmp_path / "folder")
    assert done == ["folder", "file", "folder", "rename", "folder"]


def test_rename_folder_replaces_nothing_finished(tmp_path):
    for name, text in (("folder", "old"), (".tmp-folder", "new")):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / text).write_text(text)
    with pytest.raises(OSError, match="not empty"):
        atomic.rename_folder(tmp_path / ".tmp-folder", tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder" / "inner").iterdir()] == ["old"]


def test_sweep_removes_what_was_left_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-folder" / "inner").mkdir(parents=True)
    (tmp_path / ".tmp-folder" / "inner" / "file").write_text("")
    (tmp_path / ".tmp-12-file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".tmp-deeper").write_text("")
    (tmp_path / ".hidden").write_text("")
    atomic.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "kept"]
    assert (tmp_path / "kept" / ".tmp-deeper").exists()
    atomic.sweep(tmp_path / "nowhere")


def test_sweep_of_one_name_leaves_what_others_are_writing(tmp_path):
    for name in ("mel-000001.tar", "loud-000001.tar", "a-mel-000001.tar"):
        (tmp_path / f"{atomic.TEMPORARY}{atomic.MACHINE}-12-{name}").touch()
    atomic.sweep(tmp_path, "mel-")
    assert sorted(path.name.split("-12-")[1] for path in tmp_path.iterdir()) == ["a-mel-000001.tar", "loud-000001.tar"]


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    atomic.append(path, b"one\n")
    with no_file_past(6), pytest.raises(OSError, match="too large"):  # two bytes of it would fit
        atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\n"
    atomic.append(path, b"two\n", sync=False)
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    """A folder, a file in place of a folder, a folder that is read-only; what can be leaves nothing."""
    atomic.refuse_unwritable(tmp_path / "new" / "page.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        atomic.refuse_unwritable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        atomic.refuse_unwritable(tmp_path / "file" / "page.html")

    def read_only(dir: Path) -> None:
        raise OSError(errno.EROFS, "read-only", f"{dir}/tmpab12")

    monkeypatch.setattr(atomic.tempfile, "TemporaryFile", read_only)
    with pytest.raises(OSError, match="read-only") as refused:
        atomic.refuse_unwritable(tmp_path / "page.html")
    assert refused.value.filename == str(tmp_path)


def test_a_pipe_or_device_is_written_into_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic.refuse_unwritable(pipe)
    atomic.write_json(pipe, [1])
    assert os.read(reader, 100) == b"[\n  1\n]\n"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
