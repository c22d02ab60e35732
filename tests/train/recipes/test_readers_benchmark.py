"""`python -m benchmarks.judges.readers`: what is drawn and what is read meet in one crop."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks.judges import readers
from data_pipeline.shards import reader as shards
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.networks import reader
from mytalk.networks.reader import LipReader, ReaderConfig
from tests.helpers.appearance_models import talking

POINTS = dict(zip(readers.DRAWN, (61, 291, 0, 13, 14)))
SMALL = ReaderConfig(side=16, channels=[4, 4, 8, 8], hidden=16)


def truth_as_detected(folder, path) -> None:
    """A truth.jsonl of the lips that the shards' landmarks have, back in px of the source."""
    manifest, records = Manifest.load(folder), []
    for row in range(len(manifest)):
        crop_23 = np.array(manifest.at(row, "crop")).reshape(2, 3)
        points_TN2 = shards.read_landmarks(manifest, row)[..., :2].astype(float)
        source_TN2 = (points_TN2 - crop_23[:, 2]) @ np.linalg.inv(crop_23[:, :2]).T
        before = np.repeat(source_TN2[:1], int(manifest.at(row, "start_frame")), 0)
        lips = {name: np.concatenate([before, source_TN2])[:, at].tolist() for name, at in POINTS.items()}
        records.append(json.dumps({"path": str(manifest.at(row, "source")), "lips": lips}))
    path.write_text("\n".join(records) + "\n")


def test_lips_drawn_where_they_were_detected_are_followed_and_a_guess_is_not(filmed_shards, tmp_path, capsys) -> None:
    truth_as_detected(filmed_shards, tmp_path / "truth.jsonl")
    torch.manual_seed(0)
    reader.save_model(LipReader(SMALL).state_dict(), SMALL, tmp_path / "guess")
    typed = [str(filmed_shards), "--truth", str(tmp_path / "truth.jsonl"), "--reader", str(tmp_path / "guess")]
    assert readers.run(readers.arguments().parse_args(typed)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    mean, opening, amplitude = (float(cell.split()[0]) for cell in lines[2].split("|")[2:5])
    assert lines[2].startswith(f"| {readers.DETECTOR} ")
    assert mean > 0.9
    assert opening > 0.97
    assert amplitude == pytest.approx(1, abs=0.35), "the middle opens further than the mean of the inner pairs"
    assert abs(float(lines[3].split("|")[2].split()[0])) < 0.8
    assert readers.run(readers.arguments().parse_args([*typed, "--require", "0.8"])) == 1


def test_drawn_lips_are_measured_in_the_readers_crop() -> None:
    points_TN2 = talking(3)[..., :2].astype(float)
    crop_23 = np.array([[2.0, 0.0, 5.0], [0.0, 2.0, -7.0]])
    where = reader.place(torch.from_numpy(points_TN2).float())
    lips_TL2 = ((points_TN2 - crop_23[:, 2]) / 2)[:, list(POINTS.values())]
    units_TN2 = where.units(torch.from_numpy(points_TN2).float()).numpy()
    opening_T = np.linalg.norm(units_TN2[:, 14] - units_TN2[:, 13], axis=-1)
    width_T = np.linalg.norm(units_TN2[:, 291] - units_TN2[:, 61], axis=-1)
    wanted_TK = np.stack([opening_T, width_T, units_TN2[:, [0, 13], 1].mean(-1)], -1)
    np.testing.assert_allclose(readers.drawn_measures(lips_TL2, crop_23, where), wanted_TK, atol=1e-5)


def test_another_corpus_truth_is_refused(filmed_shards, tmp_path) -> None:
    (tmp_path / "truth.jsonl").write_text("")
    typed = [str(filmed_shards), "--truth", str(tmp_path / "truth.jsonl")]
    with pytest.raises(UserError, match="is not in the truth"):
        readers.run(readers.arguments().parse_args(typed))
    (tmp_path / "truth.jsonl").write_text('{"path": "a.mp4"}\n')
    with pytest.raises(UserError, match="no truth"):
        readers.run(readers.arguments().parse_args(typed))
