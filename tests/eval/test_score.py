"""`python -m eval score`: planted wrong inputs each get their rule, and every clip is counted once."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import mytalk.face.mediapipe_mesh
from eval import options, score_file
from eval.__main__ import COMMANDS
from eval.judges import load
from eval.report import check, page
from eval.rows import features, given, saved
from eval.score import named
from mytalk import command as commands
from mytalk.machine import free_port
from tests.helpers import coded_films
from tests.helpers.boxed_films import BoxReader, film, wave, write
from tests.helpers.judges import stand_in
from tests.helpers.pages import Parsed

FRAMES = 30


@pytest.fixture(autouse=True)
def boxes_are_faces(monkeypatch) -> None:
    monkeypatch.setattr(mytalk.face.mediapipe_mesh, "FaceDetector", BoxReader)
    monkeypatch.setattr(mytalk.face.mediapipe_mesh, "version", lambda: "a stand-in")
    stand_in(monkeypatch)


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> list[str]:
    """The options that name a SyncNet, an identity encoder and a reader of lips."""
    folder = tmp_path_factory.mktemp("judges")
    for name in options.EVALUATORS:
        coded_films.evaluator(name, folder / name, [0.7, 0.9])
    return [word for name in options.EVALUATORS for word in (f"--{name}", str(folder / name))]


def score(pred: Path, real: Path, out: Path, *more: str) -> int:
    """The command in this process; its exit code."""
    argv = ["score", "--pred", str(pred), "--real", str(real), "--out", str(out), *more]
    return commands.main("python -m eval", "", COMMANDS, argv)


def held(out: Path) -> dict:
    return json.loads((out / check.NAME).read_text())


def clips(out: Path) -> dict[str, score_file.ClipScore]:
    return {clip.key: clip for clip in score_file.read(out / score_file.WHOLE)[1]}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, Path]:
    """Predictions and real videos with everything that can be wrong; `a/good` is right."""
    root = tmp_path_factory.mktemp("planted")
    pred, real = root / "pred", root / "real"
    openings = wave(FRAMES)
    right, two = film(openings), film(openings, faces=((100, 120, 120), (270, 120, 60)))
    keys = ["a/good", "a/missing", "a/unreadable", "a/empty", "a/torn", "b/short", "b/long", "b/nearly", "b/faceless"]
    keys += ["b/lost", "c/several", "c/large", "c/fast", "c/elsewhere", "c/mute", "c/twice", "d/$(x) '\";\n\xe4"]
    for key in keys:
        write(real / f"{key}.mp4", two if key == "c/several" else right, sound=key != "c/mute")
        write(pred / f"{key}.mp4", right)
    odd = Path(os.fsdecode(b"d/not \xff utf-8 \\.mp4"))
    write(
        real / "jump.mp4",
        np.concatenate([film(wave(15), faces=((80, 80, 100),)), film(wave(15), faces=((240, 160, 100),))]),
    )
    write(real / "d/nobody.mp4", film(openings, faces=()))
    for key in (odd, Path("jump.mp4"), Path("d/nobody.mp4"), Path("a/extra.mp4")):
        write(pred / key, right)
    write(real / odd, right)
    (pred / "a/missing.mp4").unlink()
    (pred / "a/unreadable.mp4").write_text("no video")
    (pred / "a/empty.mp4").write_bytes(b"")
    whole = (pred / "a/torn.mp4").read_bytes()
    (pred / "a/torn.mp4").write_bytes(whole[: len(whole) // 2])
    write(pred / "b/short.mp4", right[: FRAMES // 2])
    write(pred / "b/long.mp4", film(wave(2 * FRAMES)))
    write(pred / "b/nearly.mp4", right[:-1])
    write(pred / "b/faceless.mp4", film(openings, faces=()))
    write(pred / "b/lost.mp4", np.concatenate([right[:20], film(openings[20:], faces=())]))
    write(pred / "c/several.mp4", two)
    write(pred / "c/large.mp4", film(openings, zoom=2))
    write(pred / "c/fast.mp4", np.repeat(right, 2, axis=0), fps=50)
    write(pred / "c/elsewhere.mp4", film(openings, size=(200, 300), faces=((100, 200, 90),)))
    write(pred / "c/twice.mov", right)
    (pred / "a/notes.txt").write_text("no video by its suffix")
    return pred, real


REASONS = {
    "a/missing": "missing_prediction",
    "a/extra": "extra_prediction",
    "a/unreadable": "prediction_unreadable",
    "a/empty": "prediction_unreadable",
    "a/torn": "prediction_truncated",
    "b/short": "other_length",
    "b/long": "other_length",
    "b/faceless": "prediction_no_face",
    "b/lost": "prediction_face_lost",
    "c/mute": "real_no_audio",
    "c/twice": "two_predictions",
    "d/nobody": "real_no_face",
    "jump": "real_face_jumps",
}
NOTES = {
    "b/nearly": ["length_cut"],
    "c/several": ["several_faces"],
    "c/large": ["other_size"],
    "c/fast": ["other_rate"],
    "c/elsewhere": ["other_size", "own_crop"],
}


def test_planted_wrong_inputs_each_get_their_rule_and_coverage_adds_up(planted, tmp_path, capsys) -> None:
    assert score(*planted, tmp_path, "--name", "theirs") == 0
    made, scores = held(tmp_path), clips(tmp_path)
    assert {key: clip.reason for key, clip in scores.items() if clip.reason} == REASONS
    assert {key: clip.notes for key, clip in scores.items() if clip.notes} == NOTES
    coverage = made["coverage"]
    reasons = Counter(miss["reason"] for miss in coverage["misses"])
    assert reasons == Counter(REASONS.values())
    assert coverage["clips"]["scored"] + sum(reasons.values()) == coverage["clips"]["total"] == len(scores) == 21
    assert coverage["people"] == {"scored": 4, "total": 5}
    shown = (tmp_path / page.NAME).read_text()
    Parsed(shown)
    assert "<h1>Videos of theirs</h1>" in shown
    assert shown.count("<video") == sum(bool(clip.openings_px) for clip in scores.values())
    assert all(reason in shown for reason in REASONS.values())
    assert coverage["notes"] == Counter(note for notes in NOTES.values() for note in notes)
    assert "d/not \\xff utf-8 \\\\" in scores
    for clip in scores.values():
        for method, values in clip.methods.items():
            assert values["opening_correlation"] > 0.95, f"{clip.key} {method}: the mouth is the true one in every rule"
            assert values["opening_error_px"] < 1
    said = capsys.readouterr().out
    assert "8/21 clips; missed: 1 extra_prediction, 1 missing_prediction, 2 other_length" in said
    assert "of the scored: 1 length_cut, 1 other_rate, 2 other_size, 1 own_crop, 1 several_faces" in said
    folders = {path.name for path in (tmp_path / saved.VIDEOS).iterdir()}
    assert folders == {saved.name_of(clip.key) for clip in scores.values() if clip.openings_px}
    kept = {path.name for path in (tmp_path / saved.VIDEOS / "c%2Felsewhere").iterdir()}
    assert kept == {"ground_truth.mp4", "theirs.mp4", saved.LIPS}


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    """Three people: a right mouth, one that moves otherwise, one that stands."""
    pred, real = tmp_path / "pred", tmp_path / "real"
    for index, (name, mouth) in enumerate(
        {"p/x": wave(FRAMES), "q/x": wave(FRAMES, 2), "r/x": 0 * wave(FRAMES)}.items()
    ):
        write(real / f"{name}.mp4", film(wave(FRAMES)))
        write(pred / f"{name}.mp4", film(mouth), speech_S=0.1 * np.sin(np.arange(FRAMES * 640) / (5 + index)))
    return pred, real


def test_the_metrics_tell_right_from_wrong_and_the_report_says_by_what_rules(small, judges, tmp_path) -> None:
    assert score(*small, tmp_path / "out", *judges) == 0
    made, scores = held(tmp_path / "out"), clips(tmp_path / "out")
    at = {key: clip.methods["pred"]["opening_correlation"] for key, clip in scores.items()}
    assert at["p/x"] > 0.95
    assert abs(at["q/x"] - np.corrcoef(wave(FRAMES), wave(FRAMES, 2))[0, 1]) < 0.1
    assert at["r/x"] == 0
    assert set(made["methods"]) == {"ground_truth", "pred"}
    assert set(made["digests"]) >= {"predictions", "real_videos", "pairs", "syncnet_weights", "identity_config"}
    assert set(given.RULES) <= set(made["protocol"])
    assert {"sync_accuracy", "identity_cosine", "psnr_mouth_db", "lmd_px@reader", "lip_score"} <= set(
        made["methods"]["pred"]
    )


def test_with_other_audio_no_metric_needs_the_true_mouth(small, judges, tmp_path, capsys) -> None:
    assert score(*small, tmp_path / "out", *judges, "--protocol", "cross-audio") == 0
    made = held(tmp_path / "out")
    assert made["protocol"]["name"] == "given video, cross audio"
    assert {stated["mouth"] for stated in made["protocol"]["metrics"].values()} <= {"none", "original"}
    assert {"sync_accuracy", "identity_cosine", "detected_share"} <= set(made["methods"]["pred"])
    assert not {"lmd_px", "opening_correlation", "psnr_mouth_db", "lmd_px@reader", "lip_score"} & set(
        made["methods"]["pred"]
    )
    assert "true speech" not in str(made["protocol"]["metrics"]["sync_distance"])
    another = tmp_path / "another"
    assert score(*small, another, *judges, "--protocol", "cross-audio", "--name", "theirs") == 0
    stated = [report["protocol"]["metrics"]["mouth_leak"]["rows"] for report in (made, held(another))]
    assert stated == [["pred"], ["theirs"]]
    capsys.readouterr()
    assert commands.main("python -m eval", "", COMMANDS, ["compare", str(tmp_path / "out"), str(another)]) == 0
    said = capsys.readouterr().out
    assert "pred against theirs: 3 people, 3 clips" in said, "other names are no other protocol"
    assert "left out: success_rate: is of all clips together, not compared\n" in said
    same = tmp_path / "same"
    assert score(*small, same, *judges) == 0
    one, other = (clips(out)["p/x"].methods for out in (same, tmp_path / "out"))
    assert one["ground_truth"]["sync_distance"] == other["ground_truth"]["sync_distance"], "its own speech in both"
    assert one["pred"]["sync_distance"] != other["pred"]["sync_distance"], "the speech of its own soundtrack"


def test_a_csv_gives_pairs_people_and_speech(small, judges, tmp_path, capsys) -> None:
    pred, real = small
    shutil.copy(pred / "q/x.mp4", tmp_path / "speech.mp4")
    (tmp_path / "pairs.csv").write_text(
        "pred,real,person,speech\np/x.mp4,q/x.mp4,Ann,\nr/x.mp4,p/x.mp4,,speech.mp4\nq/none.mp4,q/x.mp4,Ann,\n"
        "q/x.mp4,p/none.mp4,Bob,\n"
    )
    assert score(pred, real, tmp_path / "out", *judges, "--pairs", str(tmp_path / "pairs.csv")) == 0
    scores = clips(tmp_path / "out")
    assert {clip.key: clip.person for clip in scores.values()} == {
        "p/x": "Ann",
        "r/x": "p",
        "q/none": "Ann",
        "q/x": "Bob",
    }
    reasons = {key: clip.reason for key, clip in scores.items() if clip.reason}
    assert reasons == {"q/none": "missing_prediction", "q/x": "missing_file"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prediction,real\na,b\n", "its first line must name the columns pred, real"),
        ("", "its first line must name the columns pred, real"),
        ("pred,real\n", "names no pair"),
        ("pred,real\np/x.mp4\n", "line 2: it must give a value for each of pred, real"),
        ("pred,real\np/x.mp4,q/x.mp4,Ann\n", "line 2: it must give a value for each of pred, real"),
        ("pred,real\np/x.mp4,q/x.mp4\np/x.mp4,r/x.mp4\n", "line 3: p/x.mp4 is also in line 2"),
        ("pred,real\na.mp4,b.mp4\n", "no line names files that exist"),
        (b"pred,real\n\xff,b\n", "is not UTF-8"),
    ],
)
def test_a_wrong_csv_is_one_line(text, says, small, tmp_path, capsys) -> None:
    file = tmp_path / "pairs.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert score(*small, tmp_path / "out", "--pairs", str(file)) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("wrong", ["empty", "no folder", "no common name", "out inside", "name", "nan", "no judge"])
def test_what_a_user_can_get_wrong_is_one_line(wrong, small, tmp_path, capsys) -> None:
    pred, real = small
    out, more, says = tmp_path / "out", [], ""
    if wrong == "empty":
        pred, says = tmp_path / "empty", "no video below"
        pred.mkdir()
    elif wrong == "no folder":
        real, says = tmp_path / "none", "no folder"
    elif wrong == "no common name":
        pred, says = pred / "p", "give the pairs with --pairs FILE.csv"
    elif wrong == "out inside":
        out, says = real / "out", "name another folder with --out"
    elif wrong == "name":
        more, says = ["--name", "../x"], "a name is of letters"
    elif wrong == "nan":
        out.mkdir()
        values = {"pred": {"lmd_px": float("nan")}}
        lines = [{"protocol": {}}, {"key": "p/x", "person": "p", "methods": values}]
        (out / score_file.WHOLE).write_text("".join(json.dumps(line) + "\n" for line in lines))
        says = "is damaged or of another version"
    elif wrong == "no judge":
        more, says = ["--syncnet", str(tmp_path)], "python -m train syncnet"
    assert score(pred, real, out, *more) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_method_is_named_after_its_folder(tmp_path) -> None:
    assert named(None, tmp_path / "Wav2Lip (final) <b>") == "Wav2Lip-final-b"
    assert named(None, tmp_path / "ground_truth") == "ground_truth-videos"
    assert named(None, tmp_path / "..." / "<>") == "method"
    assert named("a.b-1", tmp_path) == "a.b-1"


def test_another_prediction_is_another_report_until_forced(small, tmp_path, capsys, monkeypatch) -> None:
    pred, real = small
    assert score(pred, real, tmp_path / "out") == 0
    assert features.NAME in held(tmp_path / "out")["sets"]
    write(pred / "p/x.mp4", film(wave(FRAMES, 1)))
    assert score(pred, real, tmp_path / "out") == 1
    assert "differ in digests.predictions;" in capsys.readouterr().err
    monkeypatch.setattr(load, "missing", lambda: dict.fromkeys(("perception", "inception", "i3d"), "not installed"))
    kept = tmp_path / "out" / features.FEATURES
    shutil.copytree(kept, tmp_path / "aside")
    assert score(pred, real, tmp_path / "out", "--force") == 0
    made = held(tmp_path / "out")
    assert made["coverage"]["clips"] == {"scored": 3, "total": 3}
    assert "sets" not in made, "the features were of the replaced prediction"
    assert not kept.exists()
    shutil.copytree(tmp_path / "aside", kept)
    (tmp_path / "out" / page.NAME).unlink()
    assert score(pred, real, tmp_path / "out") == 0
    assert "sets" not in held(tmp_path / "out"), "whatever lies there, no judge of pictures saw these videos"


def test_a_stopped_scoring_continues_and_two_processes_report_what_one_does(
    command, small, judges, tmp_path, monkeypatch
) -> None:
    assert score(*small, tmp_path / "one", *judges) == 0
    whole, asked = given.score, []

    def until_second(bench, pair):
        if asked:
            raise KeyboardInterrupt
        asked.append(pair.key)
        return whole(bench, pair)

    with monkeypatch.context() as patch:
        patch.setattr(given, "score", until_second)
        assert score(*small, tmp_path / "two", *judges) == commands.EXIT_INTERRUPTED
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "import mytalk.face.mediapipe_mesh as mesh\n"
        "from eval.__main__ import COMMANDS\n"
        "from eval.rows import given\n"
        "from mytalk import command\n"
        "import pytest\n"
        "from tests.helpers import judges\n"
        "from tests.helpers.boxed_films import BoxReader\n"
        "judges.stand_in(pytest.MonkeyPatch())\n"
        "mesh.FaceDetector, mesh.version = BoxReader, lambda: 'a stand-in'\n"
        "whole, asked = given.score, open(Path(__file__).parent / f'asked-{os.environ[\"RANK\"]}', 'w')\n"
        "given.score = lambda bench, pair: print(pair.key, file=asked, flush=True) or whole(bench, pair)\n"
        "sys.exit(command.main('python -m eval', '', COMMANDS, sys.argv[1:]))\n"
    )
    pred, real = small
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(free_port()), str(program)]
    typed = ["score", "--pred", str(pred), "--real", str(real), "--out", str(tmp_path / "two"), *judges]
    done = command(*launch, *typed, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    by_rank = [(tmp_path / f"asked-{rank}").read_text().split() for rank in range(2)]
    assert all(by_rank), "both processes score"
    assert sorted(asked + by_rank[0] + by_rank[1]) == ["p/x", "q/x", "r/x"], "each pair exactly once"
    one, two = held(tmp_path / "one"), held(tmp_path / "two")
    assert one == two
