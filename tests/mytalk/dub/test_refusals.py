"""What a dub refuses in one line with the fix, before any model is read and without a trace on the disk."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile
import types
from pathlib import Path

import av
import numpy as np
import pytest

from mytalk import command, media
from mytalk.__main__ import COMMANDS
from mytalk.atomic import LONGEST_NAME_BYTES
from mytalk.command import UserError
from mytalk.control.control import Control
from mytalk.control.motion_file import Keyframes
from mytalk.dub import dubbing
from mytalk.dub.faces import Choice
from mytalk.dub.person import Sources
from tests.helpers import numbered, sounds
from tests.helpers.heads import swaying
from tests.helpers.stand_ins import Seer, film, wav

pytestmark = pytest.mark.usefixtures("stand_ins")


def said_by_command(capsys, video: Path, speech: Path, out: Path) -> str:
    """What `dub` says on stderr; there is no model, so a dub that reached it would say that."""
    words = ["dub", str(video), str(speech), "-o", str(out), "--motion", "none", "--appearance", "none"]
    assert command.main("python -m mytalk", "", COMMANDS, words) == command.EXIT_NOT_DONE
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A video and a speech that can be dubbed."""
    video = numbered.write(tmp_path / "actor.mp4", numbered.regular(6))
    return video, sounds.write(tmp_path / "speech.wav", sounds.tone(0.2)[None])


def test_a_link_that_leads_to_itself_is_refused_wherever_it_stands(tmp_path, files, capsys):
    video, speech = files
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop.name)
    for words in ((loop, speech, tmp_path / "o.mp4"), (video, loop, tmp_path / "o.mp4")):
        assert f"a link leads to itself ({loop}); name the file" in said_by_command(capsys, *words)
    assert "no model in none" in said_by_command(capsys, video, speech, loop)  # as OUT it is replaced, like any file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["actor.mp4", "loop.mp4", "speech.wav"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path, files, capsys):
    video, speech = files
    for words in ((tmp_path, speech), (video, tmp_path)):
        assert f"a folder stands where a file is needed ({tmp_path}); name a file" in said_by_command(
            capsys, *words, tmp_path / "o.mp4"
        )


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, files, capsys, monkeypatch):
    """Without a writer it would be opened for ever, deaf to Ctrl-C."""
    video, speech = files
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    av_open = av.open
    monkeypatch.setattr(
        av, "open", lambda file, **more: pytest.fail(file) if file.endswith("/pipe") else av_open(file, **more)
    )
    for words in ((pipe, speech), (video, pipe)):
        line = said_by_command(capsys, *words, tmp_path / "o.mp4")
        assert "it is a pipe, which cannot be read twice; write it to a file" in line


def refused(match: str, out: Path, *args, **kwargs) -> None:
    """`dub` raises one line that says `match`, and leaves nothing new in the folder of OUT."""
    before = {path: path.stat().st_mtime_ns for path in out.parent.iterdir()}
    with pytest.raises(UserError, match=match) as caught:
        dubbing.dub(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in out.parent.iterdir()} == before


def test_bad_input_is_refused_in_one_line(tmp_path, models):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    mute, text = film(tmp_path / "mute.mp4", 12, hz=0), tmp_path / "text.mp4"
    text.write_bytes(b"not a video" * 99)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:-900])
    heads = swaying(12)
    seer = Seer(heads)
    refused("no face in .*v.mp4; name", out, video, speech, out, models, Seer(heads, range(12)))
    refused("no face stays for 5 frames", out, video, speech, out, models, Seer(heads, range(4, 12)))
    refused("no audio stream; name a file with sound", out, video, mute, out, models, seer)
    refused("no video stream; name a video", out, speech, speech, out, models, seer)
    refused("text.mp4: .*; copy the file again", out, text, speech, out, models, seer)
    refused("cut.mp4: .*; copy the file again", out, cut, speech, out, models, seer)
    refused("is read and cannot be written", out, video, speech, video, models, seer)
    refused("is read and cannot be written", out, video, video, tmp_path / "sub" / ".." / "v.mp4", models, seer)
    refused("is read and cannot be written", out, video, speech, mute, models, seer, Sources(motion=mute))
    (tmp_path / "linked.mp4").hardlink_to(video)
    refused("is read and cannot be written", out, video, speech, tmp_path / "linked.mp4", models, seer)
    refused("does not end in .mp4.* name it o.mp4", out, video, speech, tmp_path / "o.avi", models, seer)
    refused("is a file and cannot hold", out, video, speech, speech / "o.mp4", models, seer)
    (tmp_path / "folder.mp4").mkdir()
    for folder in (tmp_path / "folder.mp4", Path(), Path("."), Path("/"), Path("..")):
        refused("is a folder; name a file in it", out, video, speech, folder, models, seer)
    with pytest.raises(FileNotFoundError):
        dubbing.dub(tmp_path / "none.mp4", speech, out, models, seer)


def test_what_cannot_be_done_is_refused_before_any_face_is_looked_for(tmp_path, models, monkeypatch):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    nobody: Seer = None  # type: ignore[assignment]
    refused("--sheet .*: is to be|name it a.png", out, video, speech, out, models, nobody, sheet=tmp_path / "a.jpg")
    refused("leave one of them out", out, video, speech, out, models, nobody, Sources(video, video), face=Choice("all"))
    text = tmp_path / "text.wav"
    text.write_bytes(b"not a sound" * 99)
    refused("text.wav: .*; copy the file again", out, video, text, out, models, nobody)
    one = film(tmp_path / "one.mp4", 1)
    refused("one.mp4 has 1 of the 5 frames .*; name a longer video", out, one, speech, out, models, nobody)
    refused("one.mp4 has 1 of the 5 frames", out, video, speech, out, models, nobody, Sources(appearance=one))
    probed = media.probe(video)
    with monkeypatch.context() as patch:
        patch.setattr(media, "probe", lambda path: dataclasses.replace(probed, width=7680, height=4320))
        refused("pictures of 7680 x 4320 px, more than can be dubbed", out, video, speech, out, models, nobody)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
        refused("has 0.0 MB free, and .*free some space", out, video, speech, out, models, nobody)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", read_only)
        refused("cannot be written .*name an OUT in another folder", out, video, speech, out, models, nobody)


def read_only(dir: Path):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_name_of_out_that_is_too_long_is_refused_before_anything_is_read(tmp_path, models):
    """The file is written under a longer, temporary name."""
    video, speech = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0)
    fits, out = (tmp_path / ("o" * (LONGEST_NAME_BYTES - 4 + more) + ".mp4") for more in (0, 1))
    said = f"has a name of more than {LONGEST_NAME_BYTES} bytes; name a shorter OUT"
    refused(said, out, video, speech, out, models, Seer(swaying(12)))
    dubbing.dub(video, speech, fits, models, Seer(swaying(12)), steps=1)
    assert fits.exists()


def test_keyframes_must_be_of_frames_that_are_dubbed_at_their_rate(tmp_path, models):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    for frame, fps, said in (
        (11, 25.0, None),
        (12, 25.0, "in frame 12 no face is dubbed"),
        (11, 30.0, "of other times"),
    ):
        control = Control(keyframes=Keyframes(np.array([frame]), swaying(1), fps))
        if said is None:
            dubbing.dub(video, speech, tmp_path / "fits.mp4", models, Seer(swaying(12)), steps=1, control=control)
        else:
            refused(said, out, video, speech, out, models, Seer(swaying(12)), control=control)
