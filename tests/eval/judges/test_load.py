"""Which judges are there: packages, files that the user brings, digests, and the table of them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from data_pipeline import weights
from data_pipeline.weights import WeightFile
from eval.__main__ import COMMANDS
from eval.judges import load, perception, public_syncnet
from eval.metrics import VIDEO_METRICS
from eval.metrics.metric import Evaluators
from mytalk import command as commands
from mytalk.command import UserError
from mytalk.speech.ctranslate2 import FILE
from mytalk.speech.encoder_folder import PACKAGED

BROUGHT = WeightFile("to try", "net/try.pth", "bring it", "nowhere", "none")


def test_every_judge_and_every_need_of_a_metric_has_its_place() -> None:
    registry, fields = weights.registered(), {field.name for field in dataclasses.fields(Evaluators)}
    for name, judge in load.JUDGES.items():
        assert name in fields, name
        assert set(judge.weights) <= set(registry), name
    assert {metric.needs for metric in VIDEO_METRICS.values()} - {None} <= fields
    for name, entry in registry.items():
        assert len(entry.sha256) in ((64,) if entry.package else (0, 64)), name
        assert all((entry.use, entry.licence, entry.source, entry.install)), name
    for name, packaged in PACKAGED.items():
        entry = registry[name]
        assert (packaged.package, f"{packaged.folder}/{FILE}") == (entry.package, entry.file), name
        assert (packaged.sha256, packaged.install) == (entry.sha256, entry.install), name


def test_a_file_that_the_user_brings(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv(weights.FOLDER, raising=False)
    assert weights.located(BROUGHT) is None
    monkeypatch.setenv(weights.FOLDER, str(tmp_path))
    assert weights.located(BROUGHT) is None
    (tmp_path / "net").mkdir()
    (tmp_path / BROUGHT.file).write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert weights.located(BROUGHT) == (tmp_path / BROUGHT.file, digest)
    assert weights.content(dataclasses.replace(BROUGHT, sha256=digest)) == b"weights"
    with pytest.raises(UserError, match=r"\$MYTALK_WEIGHTS is not the one .* type: bring it"):
        weights.located(dataclasses.replace(BROUGHT, sha256="0" * 64))


def test_a_folder_of_weights_has_a_digest_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    lines = f"a/one {hashlib.sha256(b'1').hexdigest()}\ntwo {hashlib.sha256(b'2').hexdigest()}\n"
    assert weights.digest_of(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "two").rename(tmp_path / "three")
    assert weights.digest_of(tmp_path) != hashlib.sha256(lines.encode()).hexdigest()


def registry(monkeypatch, **entries: WeightFile) -> None:
    monkeypatch.setattr(weights, "registered", lambda: entries)


def test_the_table_says_what_is_there_missing_and_wrong(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setenv(weights.FOLDER, str(tmp_path))
    (tmp_path / "here.pth").write_bytes(b"weights")
    here = dataclasses.replace(BROUGHT, file="here.pth")
    registry(monkeypatch, here=here, away=BROUGHT)
    assert commands.main("python -m eval", "", COMMANDS, ["judges"]) == commands.EXIT_DONE
    said = capsys.readouterr().out
    assert (
        f"here  there\n    to try\n    licence: none\n    source: nowhere\n    sha256: {load.states()[0].sha256}"
        in said
    )
    assert "away  missing\n" in said
    assert "install: bring it" in said
    registry(monkeypatch, here=dataclasses.replace(here, sha256="0" * 64))
    assert commands.main("python -m eval", "", COMMANDS, ["judges"]) == commands.EXIT_NOT_DONE
    assert "here  wrong digest\n" in capsys.readouterr().out


def test_a_judge_without_its_weights_or_its_package_is_missing_by_name(monkeypatch) -> None:
    monkeypatch.delenv(weights.FOLDER, raising=False)
    registry(monkeypatch, a=BROUGHT, b=dataclasses.replace(BROUGHT, package="numpy", file="__init__.py"))
    judges = {
        "brought": load.Judge(("a",), (), lambda files, device: files),
        "unpackaged": load.Judge(("b",), ("no_such_package",), lambda files, device: files),
        "whole": load.Judge(("b",), ("numpy",), lambda files, device: files),
    }
    monkeypatch.setattr(load, "JUDGES", judges)
    assert load.missing() == {
        "brought": "a not there; type: bring it",
        "unpackaged": f"no_such_package not there; type: {load.INSTALL}",
    }
    assert set(load.load(["whole"])["whole"]) == {"b"}
    assert set(load.digests(["whole"])) == {"judge_b"}
    assert load.sources(["whole"]) == {"b": "nowhere"}


@pytest.mark.parametrize("judge", [public_syncnet.PublicSyncNet, perception.PerceptionJudge])
@pytest.mark.parametrize(
    "content", ["nothing", "text", "torn", "a list", "a network", "no names", "no tensors", "a program"]
)
def test_a_users_file_that_is_no_such_network_is_one_line(judge, content, tmp_path) -> None:
    path = tmp_path / "weights"
    saved = {
        "torn": {"lin0.model.1.weight": torch.zeros(500)},
        "a list": [torch.zeros(1)],
        "a network": {"layer.weight": torch.zeros(1)},
        "no names": {0: torch.zeros(1)},
        "no tensors": {"netcnnlip": {"weight": 1}},
        "a program": Path,
    }
    if content in saved:
        torch.save(saved[content], path)
    else:
        path.write_bytes(b"" if content == "nothing" else b"<html>404: not found</html>\n")
    if content == "torn":
        path.write_bytes(path.read_bytes()[:700])
    (name,) = (public_syncnet if judge is public_syncnet.PublicSyncNet else perception).WEIGHTS
    with pytest.raises(UserError) as refused:
        judge({name: path})
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
