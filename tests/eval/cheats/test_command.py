"""`python -m eval cheats` with stand-ins for the detector."""

from __future__ import annotations

import json

from eval.__main__ import COMMANDS
from eval.cheats import command
from mytalk import command as commands


def typed(shards, out, *more: str) -> int:
    words = ["cheats", "--shards", str(shards), "--out", str(out), "--no-ladders", *more]
    return commands.main("python -m eval", "", COMMANDS, words)


def test_cheats_of_coded_films_are_caught_and_the_same_command_continues(
    films, tmp_path, stand_ins, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(command, "SOURCE_FRAMES", 10)
    assert typed(films, tmp_path) == 0
    made = json.loads((tmp_path / command.NAME).read_text())
    assert made["coverage"]["people"] == {"scored": 3, "total": 3}
    cheats = made["table"]["cheats"]
    for name in ("late_4", "static_picture", "copied_mouth_swapped", "copied_mouth_silent"):
        assert cheats[name]["caught"] is True, name
    assert cheats["swapped_person"]["caught"] is None, "no judge of identity was named"
    means = made["table"]["means"]
    assert means["ground_truth"]["opening_correlation"] > 0.95
    assert means["static_picture"]["opening_correlation"] < 0.3
    assert "swapped_person: NO JUDGE" in capsys.readouterr().out
    before = (tmp_path / "clips.jsonl").stat().st_mtime_ns
    scored = json.loads((tmp_path / command.NAME).read_text())
    assert typed(films, tmp_path) == 0
    assert json.loads((tmp_path / command.NAME).read_text()) == scored
    assert (tmp_path / "clips.jsonl").stat().st_mtime_ns >= before
    assert typed(films, tmp_path, "--seed", "1") == 1, "scores of another seed are not mixed in"
    assert "protocol.seed" in capsys.readouterr().err
