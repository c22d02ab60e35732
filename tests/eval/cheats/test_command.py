"""`python -m eval cheats` with stand-ins for the detector."""

from __future__ import annotations

import json

import numpy as np

from eval.__main__ import COMMANDS
from eval.cheats import command, mouth, plan
from eval.judges import load
from mytalk import command as commands
from tests.helpers.coded_films import GREY, PER_PX

SPOILT = ("blur_2", "noise_8", "tremble_1")  # as in test_pictures.py; here each would cost a second of encoding


def recoded(frames_THW3: np.ndarray, landmarks_TN3: np.ndarray, wanted_T: np.ndarray) -> np.ndarray:
    """A warp of coded films: the disc says the wanted opening."""
    made = frames_THW3.copy()
    made[:, 100:220, 60:200] = (GREY + PER_PX * wanted_T).round().clip(0, 255)[:, None, None, None]
    return made


def typed(shards, out, *more: str) -> int:
    words = ["cheats", "--shards", str(shards), "--out", str(out), "--no-ladders", *more]
    return commands.main("python -m eval", "", COMMANDS, words)


def test_cheats_of_coded_films_are_caught_and_the_same_command_continues(
    films, models, tmp_path, stand_ins, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(command, "SOURCE_FRAMES", 10)
    monkeypatch.setattr(plan, "CHEATS", {name: row for name, row in plan.CHEATS.items() if name not in SPOILT})
    monkeypatch.setattr(mouth, "reopened", recoded)
    monkeypatch.setattr(command.judges, "missing", lambda: dict.fromkeys(command.judges.JUDGES, "left out here"))
    monkeypatch.setattr(load, "missing", lambda: dict.fromkeys(load.JUDGES, "not installed"))
    judge = ("--syncnet", str(models["syncnet"]))  # which has not learnt
    assert typed(films, tmp_path, *judge) == 0
    made = json.loads((tmp_path / command.NAME).read_text())
    assert made["coverage"]["people"] == {"scored": 3, "total": 3}
    cheats = made["table"]["cheats"]
    for name in (
        "late_4",
        "opened_x1.5",
        "still_mouth",
        "static_picture",
        "copied_mouth_swapped",
        "copied_mouth_silent",
    ):
        assert cheats[name]["caught"] is True, name
    assert made["table"]["means"]["crf_32"]["psnr_mouth_db"] > 20, "a row of its own encoder settings"
    assert cheats["swapped_person"]["caught"] is None, "no judge of identity was named"
    means = made["table"]["means"]
    assert made["refused"]["sync_offset_frames"].startswith("unknown: on the real videos the SyncNet is ")
    assert "sync_accuracy" in means["late_4"]
    assert "sync_offset_frames" not in means["late_4"]
    assert means["ground_truth"]["opening_correlation"] > 0.95
    assert means["static_picture"]["opening_correlation"] < 0.3
    assert "swapped_person: NO JUDGE" in capsys.readouterr().out
    before = (tmp_path / "clips.jsonl").stat().st_mtime_ns
    scored = json.loads((tmp_path / command.NAME).read_text())
    assert typed(films, tmp_path, *judge) == 0
    assert json.loads((tmp_path / command.NAME).read_text()) == scored
    assert (tmp_path / "clips.jsonl").stat().st_mtime_ns >= before
    assert typed(films, tmp_path, *judge, "--seed", "1") == 1, "scores of another seed are not mixed in"
    assert "protocol.seed" in capsys.readouterr().err
