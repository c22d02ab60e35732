"""`python -m benchmarks.judges` on a few small clips, with judges of known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.judges import tables as judged
from data_pipeline.shards.members import audio_wav
from eval.judges import load
from tests.helpers import talkers
from tests.helpers.judges import AlwaysSpeech, LevelPerception

pytest.importorskip("cv2")


class Jaw:
    """A person is the place of their jaw in the first picture."""

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        return np.asarray(landmarks_KN3, float)[:, [10], 1]


class Hears:
    """One p from 0.2 to 0.3 s of every sound, as drawn, and one m that is not."""

    def phones(self, audio_S: np.ndarray) -> list:
        return []

    def bilabials_s(self, audio_S: np.ndarray) -> list[tuple[float, float]]:
        return [(0.21, 0.31), (0.7, 0.8)]


def test_every_judge_that_is_there_is_in_a_table(tmp_path, monkeypatch, capsys) -> None:
    shards = talkers.write(tmp_path / "shards", {"train": 2}, frames=30, video=True)
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "a.wav").write_bytes(audio_wav(np.zeros(16000, np.float32)))
    truth = {"path": "a.wav", "usable": True, "phonemes": [["p", 0.2, 0.3], ["b", 0.5, 0.55], ["a", 0.3, 0.5]]}
    (drawn / "truth.jsonl").write_text(json.dumps(truth) + "\n" + json.dumps({"path": "no", "usable": False}) + "\n")
    there = {"person": Jaw, "perception": LevelPerception, "phones": Hears, "speech": AlwaysSpeech}
    monkeypatch.setattr(load, "missing", lambda: {name: "type: x" for name in load.JUDGES if name not in there})
    monkeypatch.setattr(load, "load", lambda names: {name: there[name]() for name in names})
    words = [str(shards), "--clips", "2", "--drawn", str(drawn)]
    assert judged.run(judged.arguments().parse_args(words)) == 0
    said = capsys.readouterr().out
    rows = {cells[1].strip(): cells[2:-1] for line in said.splitlines() if len(cells := line.split("|")) > 3}
    assert [rows[kind][0].strip() for kind in ("two halves of a clip", "two clips of a person", "two people")] == [
        *("4", "2", "4"),
    ]
    assert "AUC of same against different by L2: " in said
    for damage in judged.damages():
        assert float(rows[damage][0]) >= 0
    assert float(rows["noise, sigma 16"][0]) >= 0
    assert "another person" in rows, "the second clip that is seen is of the other person"
    assert "Of 2 drawn p, b and m 1 are heard (recall 0.50); of 2 heard 1 are drawn (precision 0.50)" in said
    assert "off by +10 ms (median), 10 ms without the sign" in said
    assert set(there) <= set(rows), "what each costs"


def test_a_judge_in_a_package_that_is_missing_is_named_and_one_that_is_brought_is_not(
    tmp_path, monkeypatch, capsys
) -> None:
    shards = talkers.write(tmp_path / "shards", {"train": 1}, frames=30, video=True)
    monkeypatch.setattr(load, "missing", lambda: {name: f"type: {name}" for name in load.JUDGES})
    monkeypatch.setattr(load, "load", lambda names: {name: pytest.fail(name) for name in names})
    assert judged.run(judged.arguments().parse_args([str(shards)])) == 0
    said = capsys.readouterr().out
    assert "person: type: person" in said
    assert not any(f"{name}:" in said for name in judged.BROUGHT)
