"""One YAML of corpora that lie differently to one set of shards; again where something is new, and only there."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from data_pipeline import build
from data_pipeline.shards import throughput
from data_pipeline.shards.manifest import Manifest
from mytalk import command, config
from mytalk.command import UserError
from tests.helpers import corpora, stub_extract
from tests.helpers.checkout import ROOT
from tests.helpers.corpora import SILENT, SOUND, VIDEO


def typed(*words: str) -> tuple[int, str]:
    """`build` in a forked process with stubs; its exit code and output."""
    (ended,) = typed_at_once(1, *words)
    return ended


def typed_at_once(count: int, *words: str) -> list[tuple[int, str]]:
    """So many of them; of each the exit code and output."""
    context = multiprocessing.get_context("fork")
    said = [Path(words[0]).with_suffix(f".said{number}") for number in range(count)]
    processes = [context.Process(target=_child, args=(words, one)) for one in said]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert None not in [process.exitcode for process in processes]
    return [(process.exitcode or 0, one.read_text()) for process, one in zip(processes, said)]


def _child(words: tuple[str, ...], said: Path) -> None:
    import os
    import sys

    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115
    stub_extract.install()
    args = build.arguments().parse_args(list(words))
    os._exit(command.guarded("build", lambda: build.run(args), debug=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    return corpora.material(tmp_path_factory.mktemp("material"))


def test_two_corpora_become_one_set_of_shards_and_the_same_command_takes_what_is_new(made, tmp_path):
    corpora.tree(tmp_path / "mine", {f"p{n}/a.mp4": VIDEO for n in range(3)}, made)
    actors = {f"M00{n}/video/front/happy/level_1/001.mp4": SILENT for n in range(3)}
    sounds = {f"M00{n}/audio/happy/level_1/001.m4a": SOUND for n in range(3)}
    corpora.tree(tmp_path / "mead", {**actors, **sounds}, made)
    out = tmp_path / "out"
    text = {
        "out": str(out),
        "corpora": [
            {"name": "mine", "videos": str(tmp_path / "mine"), "licence": "ours"},
            {"name": "mead", "videos": str(tmp_path / "mead"), "layout": "mead"},
        ],
        "rules": ["min_face_px=16", *stub_extract.ANY_SOUND],
        "extract": ["--workers", "0"],
        "verify": ["--decode", "1", "--workers", "0"],
    }
    file = tmp_path / "two.yaml"
    file.write_text(json.dumps(text))  # JSON is YAML
    code, said = typed(str(file))
    assert code == 0, said
    manifest = Manifest.load(out)
    assert sorted(set(manifest.column("corpus"))) == ["mead", "mine"]
    assert len(manifest) == 6
    assert set(manifest.column("split")) == {"train", "val", "unseen"}
    assert set(manifest.column("licence")) == {"ours", "MEAD terms: research only"}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.tar")}
    code, said = typed(str(file))
    assert (code, "nothing has changed" in said) == (0, True), said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    corpora.tree(tmp_path / "mine", {"p9/late.mp4": VIDEO}, made)
    code, said = typed(str(file))
    assert code == 0, said
    assert len(Manifest.load(out)) == 7
    assert not (out / "tasks").exists()


def test_three_builds_at_once_make_what_one_makes(made, tmp_path):
    """As an array on a cluster does: all extract, annotate and verify, and none is in another's way."""
    corpora.tree(tmp_path / "mine", {f"p{n}/a.mp4": VIDEO for n in range(3)}, made)
    corpora.tree(tmp_path / "other", {"videos.csv": "path,person\na.mp4,ann\nb.mp4,bob\n", "a.mp4": VIDEO}, made)
    corpora.tree(tmp_path / "other", {"b.mp4": VIDEO}, made)
    files = []
    for name, count in (("alone", 1), ("together", 3)):
        text = {
            "out": str(tmp_path / name),
            "corpora": [
                {"name": "mine", "videos": str(tmp_path / "mine")},
                {"name": "other", "videos": str(tmp_path / "other"), "layout": "table"},
            ],
            "rules": ["min_face_px=16", *stub_extract.ANY_SOUND],
            "extract": ["--workers", "0", "--sources-per-shard", "1"],
            "annotate": ["speech", "--workers", "0"],
            "verify": ["--workers", "0"],
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(text))
        for code, said in typed_at_once(count, str(tmp_path / f"{name}.yaml")):
            assert code == 0, said
        files.append(stub_extract.files(tmp_path / name))
        files[-1] = {path: data for path, data in files[-1].items() if not path.endswith(build.RECORD)}
        files[-1] = {path: data for path, data in files[-1].items() if not path.endswith(throughput.FILE)}
    assert files[0] == files[1]


def test_every_yaml_of_corpora_that_ships_can_be_built():
    for file in sorted((ROOT / "configs/corpora").glob("*.yaml")):
        loaded = config.load(build.Build, file)
        for words in build.extractions(loaded, Path(loaded.out)):
            build.extract.arguments().parse_args(words)
        for name, words in build.rest(loaded, Path(loaded.out), loaded.corpora):
            getattr(build, name).arguments().parse_args(words)


@pytest.mark.parametrize(
    "text", ["out: x", "out: x\ncorpora: []", "out: x\ncorpora: [{name: a, videos: v}, {name: a, videos: w}]"]
)
def test_a_yaml_without_corpora_or_with_one_twice_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError):
        config.load(build.Build, tmp_path / "a.yaml")
