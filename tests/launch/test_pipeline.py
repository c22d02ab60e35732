"""The pipeline on drawn videos, small: refused, stopped, typed again, and typed once more when done; and the demo."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from data_pipeline import weights
from launch import commands, demo, pipeline, runner
from mytalk.command import UserError
from tests.helpers.checkout import ROOT, stopped
from train import check

SMALL = ["--people", "5", "--clips-per-person", "2", "--seconds", "2"]


def tiny_configs(folder: Path) -> Path:
    """The smallest settings of the four trainings; motion's are long enough to be stopped."""
    folder.mkdir()
    for recipe in commands.RECIPES:
        tiny = (ROOT / f"tests/helpers/tiny_{recipe}.yaml").read_text()
        if recipe == "motion":
            tiny = re.sub("steps: 12|_every: [0-9]+", lambda m: m[0].split(":")[0] + ": 80", tiny)
        (folder / f"{recipe}.yaml").write_text(tiny)
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Path, list[str]]:
    """The output folder of a demo that is stopped while it draws, by a signal to the whole group, and again after.

    Also all that it printed both times.
    """
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    typed = ["-m", "launch", "demo", "--out", str(out), *SMALL, "--configs", str(tiny_configs(folder / "configs"))]
    drawing = stopped(typed, lambda: (out / demo.CORPUS / "p001").is_dir(), signal.SIGINT, group=True)
    extracting = stopped(typed, lambda: (out / "shards" / "sources.json").exists(), signal.SIGTERM)
    assert drawing[0] != 0
    assert extracting[0] != 0
    return out, [drawing[1], extracting[1]]


@pytest.fixture(scope="module")
def endings(drawn, command) -> tuple[Path, list]:
    """The output folder, and (exit code, output, seconds) of four pipelines in it on the drawn videos.

    The first is refused by motion, since one person in val proves no identity encoder; the second is stopped there.
    """
    demo_out, _ = drawn
    out = demo_out.parent / "mine"
    typed = ["-m", "launch", "pipeline", str(demo_out / demo.CORPUS), str(out)]
    typed += ["--configs", str(demo_out.parent / "configs")]
    allowed = [*typed, "motion.identity_loss=0"]

    def ended(words: list[str]) -> tuple[int, str, float]:
        began = time.monotonic()
        done = command(*words)
        return done.returncode, done.stderr + done.stdout, time.monotonic() - began

    refused = ended(typed)
    cut = stopped(allowed, lambda: (out / "motion" / "metrics.jsonl").exists(), signal.SIGTERM, group=True)
    return out, [refused, (*cut, 0.0), ended(allowed), ended(allowed)]


def test_the_pipeline_ends_with_a_score_of_unseen_people(endings):
    out, (*_, third, _) = endings
    assert third[0] == 0, third[1]
    report = json.loads((out / "benchmark" / "report.json").read_text())
    assert set(report["methods"]) == {
        "ground_truth",
        "mytalk",
        "shuffled_audio",
        "frozen_mouth",
        "ridge",
        "silent_audio",
    }
    assert report["methods"]["ground_truth"]["opening_correlation"]["mean"] > 0.9
    assert "mouth opening of dubbed, never seen people" in third[1]
    assert "the gate FAILS" in third[1], "one unseen person has no interval"
    for name in ("extract", "split", *(f"train {recipe}" for recipe in commands.RECIPES), "benchmark", "total"):
        assert f"\n{name} " in third[1]
    assert third[1].rstrip().endswith("report.json")
    assert (out / "benchmark" / "report.html").is_file()


def test_where_the_identity_encoder_is_not_proven_it_tells_what_to_type(endings):
    _, (refused, *_) = endings
    assert refused[0] == 1
    assert "[5/7] train motion" in refused[1]
    assert refused[1].rstrip().splitlines()[-1].endswith("add motion.identity_loss=0 to the same command")


def test_stopped_it_says_that_the_same_command_continues(endings):
    _, (_, cut, third, _) = endings
    assert cut[0] == 75, cut[1]
    assert "the same command continues" in cut[1]
    assert "[4/7]" not in cut[1], "a setting of motion alone begins no other training"
    assert "[5/7] train motion" in third[1], "the step that was interrupted is continued"
    assert "[4/7]" not in third[1]
    assert "resuming after step" in third[1]


def test_done_it_ends_at_once(endings):
    _, (*_, last) = endings
    assert last[0] == 0
    assert "/7]" not in last[1], "no step is started"
    assert "total" in last[1]
    assert last[2] < 30


def test_a_demo_stopped_while_it_draws_continues(drawn):
    out, printed = drawn
    for text in printed:
        assert "the same command continues" in text
        assert "[1/8] draw" in text
    assert "[2/8] extract" in printed[1]
    assert (out / demo.CORPUS / "corpus.json").is_file()


def test_a_setting_that_a_later_training_refuses_is_told_before_anything_is_extracted(tmp_path, command):
    (tmp_path / "videos").mkdir()
    done = command("-m", "launch", "pipeline", str(tmp_path / "videos"), str(tmp_path / "out"), "appearance.stepz=3")
    assert done.returncode == 1
    assert "train appearance: 'stepz=3': unknown key 'stepz'; did you mean 'steps'?" in done.stderr
    assert "nothing was begun" in done.stdout
    assert not (tmp_path / "out").exists()


def test_weights_that_a_training_needs_are_asked_for_first(monkeypatch):
    trainings = [f"{recipe} --config {ROOT}/configs/paper/{recipe}.yaml" for recipe in commands.RECIPES]
    parsed = check.arguments().parse_args(trainings)
    monkeypatch.setattr(weights, "located", lambda entry: (ROOT / "x.pth", ""))
    assert check.run(parsed) == 0
    monkeypatch.setattr(weights, "located", lambda entry: None)
    with pytest.raises(UserError, match=r"train appearance: losses\.perceptual needs st-lpips-alex; type: pip install"):
        check.run(parsed)


def test_the_demo_names_the_version_that_it_draws():
    from data_pipeline.synthetic import command as synthetic

    assert demo.CORPUS == synthetic.NAME


def test_the_demo_draws_and_then_types_what_the_pipeline_types(tmp_path, command):
    videos = tmp_path / demo.CORPUS
    videos.mkdir()
    settings = ["steps=3", "--dry-run", "--processes", "2"]
    demo_lines = command("-m", "launch", "demo", "--out", str(tmp_path), *settings, check=True).stdout.splitlines()
    typed = ["-m", "launch", "pipeline", str(videos), str(tmp_path), *demo.LAYOUT, *settings]
    assert demo_lines[0].startswith(f"python -m data_pipeline demo {videos} --identities 32 ")
    assert command(*typed, check=True).stdout.splitlines() == demo_lines[1:]
    assert not (tmp_path / "budget.json").exists(), "nothing is run"


def test_a_yaml_of_corpora_is_built_in_place_of_a_folder(tmp_path, command):
    videos, build = tmp_path / "videos", tmp_path / "two.yaml"
    videos.mkdir()
    build.write_text(f"out: elsewhere\ncorpora: [{{name: a, videos: {videos}}}, {{name: b, videos: 's3://b/c'}}]\n")
    lines = command("-m", "launch", "pipeline", str(build), str(tmp_path / "out"), "--dry-run", check=True).stdout
    assert lines.splitlines()[0] == f"python -m data_pipeline build {build} out={tmp_path / 'out/shards'}"
    assert "extract" not in lines
    (step,) = commands.extraction(build, tmp_path / "out/shards")
    assert step.reads == (build, videos), "new videos are noticed"
    done = command("-m", "launch", "pipeline", str(build), str(tmp_path / "out"), "--layout", "hdtf", "--dry-run")
    assert done.returncode == 1
    assert "leave --layout out" in done.stderr


def options(videos: Path, out: Path, *more: str) -> argparse.Namespace:
    """What `launch pipeline VIDEOS OUT ...` is told."""
    return pipeline.arguments().parse_args([str(videos), str(out), *more])


def changed_steps(videos: Path, out: Path, change, *more: str) -> list[str]:
    """Names of the steps whose digest differs after `change()`."""

    def digests() -> dict[str, str]:
        digest, digest_of = "", {}
        for step in commands.chain(options(videos, out, *more), videos):
            digest_of[step.name] = digest = step.digest(digest)
        return digest_of

    before = digests()
    change()
    return [name for name, digest in digests().items() if digest != before[name]]


def test_a_changed_setting_redoes_the_step_that_reads_it_and_all_after_it(tmp_path):
    configs = tiny_configs(tmp_path / "configs")
    change = lambda: (configs / "motion.yaml").write_text("steps: 2\n")  # noqa: E731
    changed = changed_steps(tmp_path / "videos", tmp_path, change, "--configs", str(configs))
    assert changed == ["train motion", "train appearance", "benchmark"]


def test_an_added_video_redoes_all_and_a_hidden_file_nothing(tmp_path):
    videos = tmp_path / "videos"
    (videos / "anna").mkdir(parents=True)
    (videos / "anna" / "loop").symlink_to(videos)
    assert changed_steps(videos, tmp_path / "out", (videos / ".DS_Store").touch) == []
    assert changed_steps(videos, tmp_path / "out", (videos / "anna" / "1.mp4").touch)[0] == "extract"


class Machine:
    """Stands in for `runner.timed`: each step takes 2 seconds and leaves its result and its run folder."""

    def __init__(self, steps: list[commands.Step]):
        self.codes = {step.name: 0 for step in steps}
        self.steps, self.ran, self.message = steps, list[str](), ""

    def __call__(self, typed: tuple[str, ...]) -> tuple[int, float, str]:
        if typed[:2] == ("train", "check"):
            return 0, 0.0, ""
        step = next(step for step in self.steps if step.typed() == typed)
        self.ran.append(step.name)
        step.result.parent.mkdir(parents=True, exist_ok=True)
        step.result.write_text("{}")
        return self.codes[step.name], 2.0, self.message


@pytest.fixture
def machine(monkeypatch):
    """A function that makes the steps of these options be taken by a `Machine`."""
    monkeypatch.setattr(pipeline, "print_results", lambda *_: None)

    def install(steps: list[commands.Step]) -> Machine:
        stand_in = Machine(steps)
        monkeypatch.setattr(runner, "timed", stand_in)
        return stand_in

    return install


def test_the_demo_trains_anew_with_other_settings(tmp_path, machine, capsys):
    """Its run folder is removed only then: an interrupted training keeps it, and its seconds add up."""
    configs = shutil.copytree(ROOT / "configs" / "demo", tmp_path / "configs")
    args = demo.arguments().parse_args(["--out", str(tmp_path / "out"), "--configs", str(configs)])
    record, checkpoint = args.out / "budget.json", args.out / "motion" / "checkpoint"
    stand_in = machine([demo.draw(args), *commands.chain(args, args.out / demo.CORPUS, demo.LAYOUT)])
    stand_in.codes["train motion"] = 75
    assert demo.run(args) == 75
    checkpoint.touch()
    assert demo.run(args) == 75
    assert checkpoint.exists()
    assert json.loads(record.read_text())["train motion"]["seconds"] == 4
    assert "removed" not in capsys.readouterr().out
    stand_in.codes["train motion"] = 0
    (configs / "motion.yaml").write_text("steps: 7\n")
    assert demo.run(args) == 0
    assert not checkpoint.exists(), "the old checkpoint was gone when it began"
    assert json.loads(record.read_text())["train motion"]["seconds"] == 2
    assert f"{args.out / 'motion'} was trained with other settings or data: removed" in capsys.readouterr().out


def test_the_pipeline_never_removes_a_training(tmp_path, machine):
    """Whether it continues with other settings is for its own command to decide; no processes are a setting."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    stand_in = machine(commands.chain(options(videos, out), videos))
    assert pipeline.run(options(videos, out)) == 0
    checkpoint = out / "motion" / "checkpoint"
    checkpoint.touch()
    stand_in.ran.clear()
    assert pipeline.run(options(videos, out, "--processes", "2")) == 0
    assert stand_in.ran == []
    more = options(videos, out, "motion.steps=999")
    stand_in = machine(commands.chain(more, videos))
    assert pipeline.run(more) == 0
    assert stand_in.ran == ["train motion", "train appearance", "benchmark"]
    assert checkpoint.exists()
    assert json.loads((out / "budget.json").read_text())["train motion"]["seconds"] == 4


def test_where_a_training_refuses_other_settings_it_tells_what_to_remove(tmp_path, machine, capsys):
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    stand_in = machine(commands.chain(options(videos, out), videos))
    stand_in.codes["train syncnet"], stand_in.message = 1, "begun with other settings; name a new folder with run=..."
    assert pipeline.run(options(videos, out)) == 1
    assert capsys.readouterr().out.endswith(f"to train it anew, remove {out / 'syncnet'} before\n")


def test_settings_go_to_all_trainings_or_to_the_one_they_name():
    typed = ["motion.steps=9", "steps=5", "model.width=8", "identity.model.layers=1", "where='corpus.x = 1'"]
    shared = ["steps=5", "model.width=8", "where='corpus.x = 1'"]
    settings = commands.settings_of(typed)
    assert settings["syncnet"] == settings["appearance"] == shared
    assert settings["motion"] == [*shared, "steps=9"], "the training's own come last and win"
    assert settings["identity"] == [*shared, "model.layers=1"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "is not a setting"),
        ("=3", "is not a setting"),
        ("motion.=3", "is not a setting"),
        ("run=x", "cannot be set"),
        ("motion.shards=x", "cannot be set"),
        ("identity=x", "cannot be set"),
    ],
)
def test_a_setting_of_no_training_is_refused(setting, message):
    with pytest.raises(UserError, match=message):
        commands.settings_of([setting])


def test_the_options_reach_the_commands(tmp_path):
    more = ["--corpus", "mine", "--identity", "parent", "--size", "paper", "--processes", "3", "steps=5"]
    (tmp_path / "videos").mkdir()
    args = options(tmp_path / "videos", tmp_path / "out", *more)
    steps = commands.chain(args, args.videos, pipeline.extract_options(args))
    lines = {step.name: commands.shell_line(step) for step in steps}
    assert lines["extract"].endswith("--corpus mine --identity parent")
    assert lines["train motion"].startswith(
        "python -m launch local --processes 3 -- train motion --config configs/paper/motion.yaml "
    )
    assert lines["train motion"].endswith(f"identity={tmp_path}/out/identity/model steps=5")
    assert "--processes 3 -- eval benchmark" in lines["benchmark"]


@pytest.mark.parametrize(
    ("videos", "out", "more", "message"),
    [
        ("absent", "out", [], "no folder .*absent; name a folder of videos"),
        ("videos", "videos/out", [], "lies inside .*videos"),
        ("videos", "out", ["--configs", "nowhere"], "in the folder of the checkout"),
        ("videos", "out", ["--processes", "0"], "--processes must be at least 1"),
    ],
)
def test_impossible_folders_and_options_are_refused_in_one_line(tmp_path, videos, out, more, message):
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match=message):
        pipeline.run(options(tmp_path / videos, tmp_path / out, *more))
