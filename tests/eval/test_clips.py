"""`python -m eval clips`: what is given to a method that is to be scored, and the list of pairs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from eval import clips
from eval.__main__ import COMMANDS
from eval.rows import pairs
from mytalk import command as commands
from mytalk import media


def write(shards: Path, out: Path, *more: str) -> int:
    return commands.main("python -m eval", "", COMMANDS, ["clips", "--shards", str(shards), "--out", str(out), *more])


def lines(out: Path) -> list[dict[str, str]]:
    with open(out / clips.PAIRS, newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_clip_is_written_with_somebody_elses_speech_and_the_list_is_fixed(films, tmp_path) -> None:
    out = tmp_path / "out"
    assert write(films, out, "--protocol", "cross-audio") == 0
    manifest, listed = Manifest.load(films), lines(out)
    rows = manifest.rows("unseen").tolist()
    keys, people = manifest.column("key"), manifest.column("identity")
    assert [line["person"] for line in listed] == [str(people[row]) for row in rows]
    sounds = {row: reader.read_audio(manifest, row) for row in rows}
    for row, line in zip(rows, listed):
        assert line["real"] == line["pred"] == f"{keys[row]}.mp4"
        frames = np.stack(list(media.read_frames(out / line["real"])))
        assert np.abs(frames.astype(int) - video_reader.read_video(manifest, row, range(len(frames)))).mean() < 3
        speech = media.read_audio(out / line["speech"])
        assert len(speech) == len(frames) * 640
        said_by = [row for row, sound in sounds.items() if np.abs(speech - np.resize(sound, len(speech))).max() < 1e-3]
        assert len(said_by) == 1
        assert people[said_by[0]] != line["person"]
    again = tmp_path / "again"
    assert write(films, again, "--protocol", "cross-audio", "--clips-per-person", "1") == 0
    assert all(line in listed for line in lines(again)), "a pair does not depend on how many others are written"
    found = pairs.by_csv(out / clips.PAIRS, out, out)
    assert [(pair.problem, pair.speech is not None) for pair in found] == [(None, True)] * len(rows)


def test_with_the_same_audio_the_list_has_no_speech_and_a_strangers_folder_is_refused(films, tmp_path, capsys) -> None:
    assert write(films, tmp_path / "out", "--clips-per-person", "1") == 0
    assert set(lines(tmp_path / "out")[0]) == {"pred", "real", "person"}
    assert write(films, tmp_path / "out", "--clips-per-person", "1") == 0, "again, in its own folder"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.mp4").touch()
    assert write(films, tmp_path / "other") == 1
    assert "name another folder with --out" in capsys.readouterr().err
    assert write(films, tmp_path / "none", "--split", "val") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("damaged", [1, 6])
def test_a_clip_that_cannot_be_read_is_named_and_no_clip_at_all_is_an_error(
    damaged, films, tmp_path, monkeypatch, capsys
) -> None:
    whole, asked = video_reader.read_video, []

    def broken(manifest, row, at):
        asked.append(row)
        if len(asked) <= damaged:
            raise reader.ClipError(str(row), "corrupt", "cannot be decoded")
        return whole(manifest, row, at)

    monkeypatch.setattr(video_reader, "read_video", broken)
    assert write(films, tmp_path / "out") == 1
    said = capsys.readouterr()
    if damaged == 6:
        assert "no clip could be written" in said.err
        assert not (tmp_path / "out" / clips.PAIRS).exists()
    else:
        assert "left out:" in said.out + said.err
        assert len(lines(tmp_path / "out")) == 5


@pytest.mark.parametrize(
    ("name", "option"),
    [("clips", "--clips-per-person"), *(("cheats", f"--{o}") for o in ("clips-per-person", "people", "frames"))],
)
@pytest.mark.parametrize("number", ["0", "-3", "1.5"])
def test_a_count_below_one_is_refused_before_anything_is_read(name, option, number, tmp_path, capsys) -> None:
    words = [name, "--shards", str(tmp_path / "none"), "--out", str(tmp_path / "out"), option, number]
    with pytest.raises(SystemExit) as ended:
        commands.main("python -m eval", "", COMMANDS, words)
    assert ended.value.code == 2
    assert f"argument {option}: " in capsys.readouterr().err
