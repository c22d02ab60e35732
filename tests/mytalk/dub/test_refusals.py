"""What a dub refuses in one line with the fix, before any model is read and without a trace on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mytalk import command
from mytalk.__main__ import COMMANDS
from tests.helpers import numbered, sounds


def refused(capsys, video: Path, speech: Path, out: Path) -> str:
    """What `dub` says on stderr; there is no model, so a dub that reached it would say that."""
    words = ["dub", str(video), str(speech), "-o", str(out), "--motion", "none", "--appearance", "none"]
    assert command.main("python -m mytalk", "", COMMANDS, words) == command.EXIT_NOT_DONE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A video and a speech that can be dubbed."""
    film = numbered.write(tmp_path / "actor.mp4", numbered.regular(6))
    return film, sounds.write(tmp_path / "speech.wav", sounds.tone(0.2)[None])


def test_a_link_that_leads_to_itself_is_refused_wherever_it_stands(tmp_path, files, capsys):
    film, speech = files
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop.name)
    for words in ((loop, speech, tmp_path / "o.mp4"), (film, loop, tmp_path / "o.mp4")):
        assert f"a link leads to itself ({loop}); name the file" in refused(capsys, *words)
    assert "no model in none" in refused(capsys, film, speech, loop)  # as OUT it is replaced, like any file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["actor.mp4", "loop.mp4", "speech.wav"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path, files, capsys):
    film, speech = files
    for words in ((tmp_path, speech), (film, tmp_path)):
        assert f"a folder stands where a file is needed ({tmp_path}); name a file" in refused(
            capsys, *words, tmp_path / "o.mp4"
        )
