"""`python -m eval benchmark`, with stand-ins for detector and painter, and with the real parts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from eval import parallel, protocol, score_file
from eval.metrics import read, sync
from eval.metrics.landmarks import closure
from eval.metrics.metric import RowFailed
from eval.report import check, page
from eval.rows import saved, videos
from mytalk import command as commands
from mytalk import media
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.machine import free_port, sole_user
from mytalk.networks import weights
from tests.helpers import coded_films, needs
from tests.helpers.coded_films import COMMANDS, benchmark, evaluator, typed
from tests.helpers.pages import Parsed

# What needs more than two clips of a second of each of three people, or times of sounds.
WITHOUT_VALUE = {"mouth_leak", "mouth_leak_excess", "gain_recovered", "lag_recovered"}
WITHOUT_VALUE |= {*closure.METRICS, *sync.BY_DISTANCE}  # the SyncNet has not learnt
UNREAD = {  # no reader of lips and no SyncNet of pixels is named
    name for name, metric in {**read.METRICS, **sync.METRICS}.items() if metric.needs in ("reader", "pixels")
}
BY_SPEECH = {"theval_lip_sync", "theval_silent_stability"}  # one or the other: what hears speech decides


def held(out: Path) -> dict:
    return json.loads((out / check.NAME).read_text())


def test_the_command_from_shards_to_a_page(films, models, tmp_path, stand_ins, capsys) -> None:
    assert benchmark(films, models, tmp_path) == 0
    made = held(tmp_path)
    assert made["coverage"] == {"people": {"scored": 3, "total": 3}, "clips": {"scored": 6, "total": 6}, "misses": []}
    assert set(made["methods"]) == set(videos.ROWS)
    without = set(made["refused"])
    without_value = WITHOUT_VALUE | UNREAD
    assert without_value <= without <= without_value | BY_SPEECH, "short clips of three people that nobody speaks in"
    measured = set(made["protocol"]["metrics"]) - without
    assert all(set(scores) == measured for scores in made["methods"].values())
    assert made["methods"]["mytalk"]["success_rate"]["mean"] == 1
    floor = made["methods"]["ground_truth"]
    assert floor["opening_correlation"]["mean"] > 0.97, "what is re-detected is what was written"
    assert floor["opening_error_px"]["mean"] < 0.6
    assert floor["detected_share"]["mean"] == 1
    distances = made["sets"]["fd@stlpips-vgg"]
    assert (distances["frames"], distances["clips"], set(distances["rows"])) == (30, 6, set(made["methods"]))
    assert made["methods"]["frozen_mouth"]["opening_correlation"]["mean"] < 0.5
    names = {f"{name}_{what}" for name in (*models, "motion_extractor") for what in ("config", "weights")}
    assert set(made["digests"]) == {"manifest", "shards", "ridge", *names}
    assert made["digests"]["motion_extractor_weights"] == weights.digest(models["motion"] / weights.EXTRACTOR)
    assert protocol.SAME_NETWORK not in made["protocol"]["metrics"]["identity_cosine"]["definition"]
    assert (made["protocol"]["source_is_same_clip"], made["protocol"]["shuffled_is_same_person"]) == (0, 0)
    assert made["refused"]["sync_confidence"].startswith("unknown: on the real videos the SyncNet is ")
    said = capsys.readouterr().out
    assert "gate: " in said
    assert "ordering: " not in said
    assert "faces of training people: not checked: 1 people in split train" in said
    assert said.count("refused") == 7, (
        "a line each for no reader, no pixels, no sync, unknown sounds, short clips, little speech and few people"
    )
    assert (tmp_path / page.NAME).stat().st_size < 8_000_000
    kept_keys = sorted(path.name for path in (tmp_path / saved.VIDEOS).iterdir())
    assert len(kept_keys) == 3, "the first clip of each person is pictured"
    for path in (tmp_path / saved.VIDEOS / kept_keys[0]).glob("*.mp4"):
        assert media.probe(path).audio_hz == 16_000
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["clips.jsonl", "features", "report.html", "report.json", "scoring.lock", "videos"], (
        "nothing else is left"
    )


@pytest.mark.parametrize("why", ["at chance", "not named"])
def test_metrics_whose_evaluator_is_missing_or_at_chance_are_omitted_by_name(
    why, films, models, tmp_path, stand_ins, capsys
) -> None:
    models = dict(models)
    if why == "at chance":
        evaluator("syncnet", tmp_path / "syncnet at chance", [0.4, 0.6])
        evaluator("identity", tmp_path / "identity at chance", [0.3, 0.6])
        models.update(syncnet=tmp_path / "syncnet at chance", identity=tmp_path / "identity at chance")
    else:
        del models["syncnet"], models["identity"]
    out = tmp_path / "out"
    assert benchmark(films, models, out, "--clips-per-person", "1") == 0
    made, said = held(out), capsys.readouterr().out
    for scores in made["methods"].values():
        assert not set(scores) & set(made["refused"])
    assert "ordering" not in made
    refused = {*sync.METRICS, *UNREAD, *WITHOUT_VALUE, *(BY_SPEECH & set(made["refused"]))}
    if why == "at chance":
        assert set(made["refused"]) == {*refused, "identity_cosine"}
        assert said.count("refused: identity_cosine: AT CHANCE: 0.45") == 1
        assert "identity_weights" in made["digests"]
        by_landmarks = [name for name in sync.METRICS if name not in UNREAD]
        assert said.count(f"refused: {', '.join(by_landmarks)}: AT CHANCE: 0.50") == 1
        assert "AT CHANCE" in (out / page.NAME).read_text()
        assert "syncnet_weights" in made["digests"]
    else:
        assert set(made["refused"]) == {*refused, "identity_cosine"}
        assert "no model was named (--syncnet)" in said
        assert "syncnet" not in made["protocol"]["models"]


def test_a_stopped_benchmark_continues_and_ends_as_if_never_stopped(
    films, models, tmp_path, stand_ins, monkeypatch
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(films, models, tmp_path / "whole", *few) == 0
    whole, asked, out = videos.score, [], tmp_path / "stopped"

    def until_third(bench, task):
        if len(asked) == 2:
            saved.save(tmp_path / "whole" / saved.VIDEOS / asked[0], out, task.key)  # killed before its line
            raise KeyboardInterrupt
        asked.append(task.key)
        return whole(bench, task)

    monkeypatch.setattr(videos, "score", until_third)
    assert benchmark(films, models, out, *few) == commands.EXIT_INTERRUPTED
    monkeypatch.setattr(videos, "score", lambda bench, task: asked.append(task.key) or whole(bench, task))
    assert benchmark(films, models, out, *few) == 0
    assert len(asked) == len(set(asked)) == 3, "each clip once"
    assert held(out) == held(tmp_path / "whole")
    # How an encoder's threads interleave packets differs from time to time; what is written does not.
    texts = [re.sub('data:video[^"]*', "", (made / page.NAME).read_text()) for made in (out, tmp_path / "whole")]
    assert texts[0] == texts[1]
    (out / page.NAME).unlink()
    assert benchmark(films, models, out, *few) == 0
    assert len(asked) == 3, "a page that is gone is made from what is kept"
    assert (out / page.NAME).is_file()


def test_two_processes_dub_each_clip_once_and_report_what_one_does(command, films, models, tmp_path, stand_ins) -> None:
    one, two, program = tmp_path / "one", tmp_path / "two", tmp_path / "program.py"
    few = ("--clips-per-person", "1")
    assert benchmark(films, models, one, *few) == 0
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "import pytest\n"
        "from eval.rows import videos\n"
        "from tests.helpers import coded_films\n"
        "coded_films.stand_in(pytest.MonkeyPatch())\n"
        "whole, asked = videos.score, open(Path(__file__).parent / f'asked-{os.environ[\"RANK\"]}', 'w')\n"
        "videos.score = lambda bench, task: print(task.key, file=asked, flush=True) or whole(bench, task)\n"
        "sys.exit(coded_films.commands.main('python -m eval', '', coded_films.COMMANDS, sys.argv[1:]))\n"
    )
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(free_port())]
    done = command(*launch, str(program), *typed(films, models, two, *few), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gate:") == 1, "one process speaks"
    asked = [(tmp_path / f"asked-{rank}").read_text().split() for rank in range(2)]
    assert all(asked), "both processes dub"
    keys = [score.key for score in score_file.read(one / score_file.WHOLE)[1]]
    assert sorted(asked[0] + asked[1]) == sorted(keys), "each clip is dubbed once"
    assert [score.key for score in score_file.read(two / score_file.WHOLE)[1]] == keys, "and has one score"
    assert {path.name for path in (two / saved.VIDEOS).iterdir()} == set(keys)
    made, wanted = held(two), held(one)
    for name in ("protocol", "digests", "coverage"):
        assert made[name] == wanted[name]
    for method, scores in wanted["methods"].items():
        for metric, value in scores.items():
            assert made["methods"][method][metric]["mean"] == pytest.approx(value["mean"], rel=1e-4, abs=1e-6)


def test_other_weights_are_refused_until_forced_and_then_replace_everything(
    films, models, tmp_path, stand_ins, capsys
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(films, models, tmp_path / "out", *few) == 0
    videos = tmp_path / "out" / saved.VIDEOS
    (videos / "somebody else's").mkdir()
    for folder in videos.iterdir():
        (folder / "by an earlier run").touch()
    evaluator("syncnet", tmp_path / "other", [0.6, 0.9])
    other = {**models, "syncnet": tmp_path / "other"}
    capsys.readouterr()
    assert benchmark(films, other, tmp_path / "out", *few) == 1
    assert "differ in digests.syncnet_config;" in capsys.readouterr().err
    assert benchmark(films, other, tmp_path / "out", *few, "--force") == 0
    left = [path.parent.name for path in videos.glob("*/by an earlier run")]
    assert left == ["somebody else's"], "what no score of ours names is nobody's to remove"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_with_videos_that_no_benchmark_made_is_refused(
    force, films, models, tmp_path, stand_ins, capsys
) -> None:
    film = tmp_path / saved.VIDEOS / "p001" / "film.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"a corpus")
    assert benchmark(films, models, tmp_path, *force) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "name another folder" in error
    assert film.read_bytes() == b"a corpus"


def test_a_benchmark_during_another_in_its_folder_is_one_line(films, models, tmp_path, stand_ins, capsys) -> None:
    with sole_user(tmp_path, parallel.LOCK):
        assert benchmark(films, models, tmp_path) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another scoring is at work in" in error
    assert [path.name for path in tmp_path.iterdir()] == [f"{parallel.LOCK}.lock"]


def test_a_video_damaged_after_scoring_is_one_line_that_says_what_to_remove(
    films, models, tmp_path, stand_ins, capsys
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(films, models, tmp_path, *few) == 0
    (tmp_path / page.NAME).unlink()
    folder = sorted((tmp_path / saved.VIDEOS).iterdir())[0]
    film = folder / "mytalk.mp4"
    short = list(media.read_frames(film))[:5]
    for damage in ("torn", "short", "gone"):
        if damage == "torn":
            film.write_bytes(film.read_bytes()[:500])
        elif damage == "short":
            media.write_video(film, iter(short), 25, np.zeros(5 * SAMPLES_PER_FRAME))
        else:
            film.unlink()
        capsys.readouterr()
        assert benchmark(films, models, tmp_path, *few) == 1, damage
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"error: {folder} is damaged" in error
        assert "remove it and type the same command again" in error
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert benchmark(films, models, tmp_path, *few) == 0
    assert (tmp_path / page.NAME).read_text().count("<video") == 2


@pytest.mark.parametrize("name", ["motion", "appearance", "syncnet", "identity"])
def test_a_missing_model_is_one_line(name, films, models, tmp_path, stand_ins, capsys) -> None:
    assert benchmark(films, {**models, name: tmp_path / "none"}, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"train one with: python -m train {name}" in error
    assert not (tmp_path / "out").exists()


@needs.drawn_people
def test_a_drawn_person_through_the_real_detector_and_generator(command, models, tmp_path) -> None:
    from mytalk.networks.appearance.config import AppearanceConfig
    from mytalk.networks.appearance.files import save_model
    from mytalk.networks.appearance.generator import Generator

    size = ("--identities", "2", "--clips-per-identity", "2", "--seed", "0", "--seconds", "2")
    command("-m", "data_pipeline", "demo", str(tmp_path / "videos"), *size, check=True)
    for name in ("p001", "broken"):
        for path in (tmp_path / "videos" / name).iterdir():
            path.unlink()
    command("-m", "data_pipeline", "extract", str(tmp_path / "videos"), str(tmp_path / "shards"), check=True)
    manifest = Manifest.load(tmp_path / "shards")
    splits = pa.array(["unseen"] * len(manifest))
    table = manifest.table.set_column(manifest.table.column_names.index("split"), "split", splits)
    manifest_update.save(tmp_path / "shards", table, manifest.header)
    config = AppearanceConfig(size_px=128, stem=4, channels=[8, 8], blocks=[1, 1], heads=2, discriminator_channels=8)
    generator, folder = Generator(config), tmp_path / "appearance"
    torch.nn.init.zeros_(generator.decoder.last[-2].weight)  # smooth: whether noise is a face is chance
    save_model(generator.state_dict(), config, folder)
    named = {**models, "appearance": folder}
    argv = typed(tmp_path / "shards", named, tmp_path / "out", "--clips-per-person", "1", "--judge-frames", "1")
    done = command("-m", "eval", *argv, timeout=600)
    assert done.returncode == 0, done.stderr
    made = held(tmp_path / "out")
    floor = made["methods"]["ground_truth"]
    assert floor["opening_correlation"]["mean"] > 0.9
    assert floor["psnr_mouth_db"]["mean"] > 30 > made["methods"]["mytalk"]["psnr_mouth_db"]["mean"]
    assert floor["ssim_mouth"]["mean"] > 0.9
    assert (tmp_path / "out" / page.NAME).is_file()


def test_videos_of_other_methods_are_rows_and_one_that_is_missing_is_theirs_to_bear(
    films, models, tmp_path, stand_ins, capsys, monkeypatch
) -> None:
    few = ("--clips-per-person", "1")
    clips = ["clips", "--shards", str(films), "--out", str(tmp_path / "copied"), *few]
    assert commands.main("python -m eval", "", coded_films.COMMANDS, clips) == 0
    keys = sorted(path.stem for path in (tmp_path / "copied").glob("*.mp4"))
    shutil.copytree(tmp_path / "copied", tmp_path / "still")
    first = np.stack(list(media.read_frames(tmp_path / "still" / f"{keys[0]}.mp4")))
    frozen, speech = np.repeat(first[:1], len(first), axis=0), np.zeros(len(first) * SAMPLES_PER_FRAME)
    media.write_video(tmp_path / "still" / f"{keys[0]}.mp4", frozen, 25, speech)
    (tmp_path / "still" / f"{keys[1]}.mp4").unlink()
    methods = ("--method", f"copied={tmp_path / 'copied'}", "--method", f"still={tmp_path / 'still'}")
    assert benchmark(films, models, tmp_path / "out", *few, *methods) == 0
    made = held(tmp_path / "out")
    assert list(made["methods"])[-2:] == ["copied", "still"]
    assert {"method_copied", "method_still"} <= set(made["digests"])
    misses = [(miss["key"], miss["reason"], miss["message"]) for miss in made["coverage"]["misses"]]
    assert misses == [(keys[1], "missing_prediction", f"still: no video {keys[1]}")]
    scores = {clip.key: clip for clip in score_file.read(tmp_path / "out" / score_file.WHOLE)[1]}
    assert (scores[keys[1]].failed, scores[keys[1]].usable) == (["still"], ["copied"])
    rates = {row: entries["success_rate"] for row, entries in made["methods"].items()}
    assert {row: rate["clips"] for row, rate in rates.items() if rate["clips"] != 2} == {"copied": 3, "still": 3}
    assert (rates["mytalk"]["mean"], rates["still"]["mean"]) == (1, pytest.approx(2 / 3))
    at = scores[keys[0]].methods
    assert at["copied"]["opening_correlation"] == pytest.approx(at["ground_truth"]["opening_correlation"], abs=0.02)
    assert at["copied"]["opening_correlation"] > 0.9
    assert at["still"]["opening_correlation"] == 0
    kept = {path.name for path in (tmp_path / "out" / saved.VIDEOS / keys[0]).iterdir()}
    assert {"copied.mp4", "still.mp4"} <= kept
    whole, calls = videos.write, []

    def faceless_at_first(*inputs):
        calls.append(inputs)
        if len(calls) == 1:
            raise RowFailed(videos.NO_FACE, "no face", [score_file.ALL_ROWS])
        return whole(*inputs)

    monkeypatch.setattr(videos, "write", faceless_at_first)
    assert benchmark(films, models, tmp_path / "faceless", *few, *methods) == 0
    rates = {row: entries["success_rate"] for row, entries in held(tmp_path / "faceless")["methods"].items()}
    assert {row: (rate["mean"], rate["clips"]) for row, rate in rates.items()} == {
        **dict.fromkeys(videos.ROWS, (0.5, 2)),
        "copied": (1, 3),
        "still": (pytest.approx(2 / 3), 3),
    }
    (tmp_path / "empty").mkdir()
    for word, says in (
        ("copied", "type NAME=DIR"),
        (f"mytalk={tmp_path / 'copied'}", "names no method"),
        (f"a={tmp_path / 'empty'}", "no video below"),
        (f"a={tmp_path / 'out' / saved.VIDEOS / keys[0]}", "holds no video named as a clip"),
    ):
        capsys.readouterr()
        assert benchmark(films, models, tmp_path / "wrong", *few, "--method", word) == 1
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_cross_audio_measures_what_needs_no_true_mouth_with_a_list_that_can_be_given(
    films, models, tmp_path, stand_ins, capsys
) -> None:
    few = ("--clips-per-person", "1")
    cross = (*few, "--protocol", "cross-audio")
    listed = tmp_path / "clips"
    clips = ["clips", "--shards", str(films), "--out", str(listed), *cross]
    assert commands.main("python -m eval", "", COMMANDS, clips) == 0
    copied = ("--method", f"copied={listed}")
    assert benchmark(films, models, tmp_path / "out", *cross, *copied) == 0
    made = held(tmp_path / "out")
    assert made["protocol"]["name"] == "dubbed video, cross audio"
    assert list(made["methods"]) == [*videos.CROSS_ROWS, "copied"]
    stated = made["protocol"]["metrics"]
    assert {metric["mouth"] for metric in stated.values()} == {"none", "original"}
    assert stated["mouth_leak"]["rows"] == ["mytalk", "silent_audio", "frozen_mouth", "copied"]
    assert "the speech that each row says" in stated["sync_confidence"]["definition"]
    assert {"sync_accuracy", "identity_cosine", "csim@dlib", "detected_share"} <= set(made["methods"]["mytalk"])
    assert "ridge" not in made["digests"]
    assert made["protocol"]["ridge_left_out"]
    assert not {"gate", "ordering", "against_ridge"} & set(made)
    shown = (tmp_path / "out" / page.NAME).read_text()
    Parsed(shown)
    assert "so there is no true mouth" in shown
    assert "with its own speech (<em>" not in shown
    assert benchmark(films, models, tmp_path / "by list", *cross, "--pairs", str(listed / "pairs.csv")) == 0
    by_list = held(tmp_path / "by list")
    assert len(by_list["digests"]["pairs"]) == 64
    for row in videos.CROSS_ROWS:
        for metric, entry in by_list["methods"][row].items():
            assert made["methods"][row][metric]["mean"] == pytest.approx(entry["mean"], rel=1e-3, abs=1e-3), metric
    speech = sorted((listed / "speech").iterdir())[0]
    speech.unlink()
    for more, says in ((cross, f"no file {speech}"), (few, "type --protocol cross-audio with it")):
        capsys.readouterr()
        assert benchmark(films, models, tmp_path / "no", *more, "--pairs", str(listed / "pairs.csv")) == 1
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
