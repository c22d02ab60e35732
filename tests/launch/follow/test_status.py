"""`python -m launch status | runs`: what is said of run folders, each state of them made by hand or by training."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from launch.follow import folder, listing
from launch.follow import status as shown
from launch.follow.folder import status
from mytalk import command as commands
from mytalk.command import UserError
from train.config import LoopConfig
from train.run_folder import resume


def made(run: Path, steps: int = 0, *, of: int = 100, checkpoints: tuple[int, ...] = (), **more) -> Path:
    """A run folder with so many logged steps of 0.5 s each, a tenth of it spent waiting for data."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(f"steps: {of}\nglobal_batch: 8\nlog_every: 1\n")
    same = {"loss/motion/eps": 3.0, "keys": 1, "seconds": 0.5, "wait_s": 0.05, **more}
    lines = [{"step": step, "loss/motion": 1 / step, **same} for step in range(1, steps + 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in checkpoints:
        at = run / "checkpoints" / f"step-{step:06d}"
        at.mkdir(parents=True)
        (at / "checkpoint.json").write_text("{}")
    return run


def note(run: Path, event: str, **facts) -> None:
    commands.note(run, event, **facts)


def begun(run: Path, step: int = 0, world_size: int = 2, **process) -> None:
    note(run, "start", step=step, world_size=world_size, zero_stage=0, **{**commands.process(), **process})


def test_rates_wait_checkpoint_and_time_left(tmp_path):
    run = made(tmp_path / "run", 40, checkpoints=(10, 20, 30), skipped_steps=3)
    (run / "checkpoints" / "step-000040").mkdir()  # not whole
    (run / "checkpoints" / ".tmp-step-000050").mkdir()
    begun(run)
    for seconds in (9.0, 2.0, *[1.5] * 9):
        note(run, "checkpoint", step=30, written_s=seconds)
    found = status(run)
    assert found.checkpoint_written_s == 2.0, "the longest of the last ten"
    assert (found.state, found.step, found.steps, found.world_size) == ("running", 40, 100, 2)
    assert found.step_s == pytest.approx(0.5)
    assert found.examples_per_s == pytest.approx(16)
    assert found.data_wait == pytest.approx(0.1)
    assert found.eta_s == pytest.approx(60 * 0.5)
    assert found.checkpoint == 30
    assert found.losses == {"motion": pytest.approx(1 / 40)}
    assert found.skipped_steps == 3


def test_a_process_that_is_gone_without_a_word_was_killed(tmp_path):
    run = made(tmp_path / "run", 3)
    begun(run, began=1)
    assert status(run).state == "killed"
    begun(run)
    found = status(run)
    assert found.state == "running"
    assert [restart["why"] for restart in found.restarts] == ["killed without a word"]


def test_a_run_of_another_host_is_silent_when_its_lines_stay_away(tmp_path, monkeypatch):
    run = made(tmp_path / "run", 3)
    begun(run, host="elsewhere")
    assert status(run).state == "running"
    later = time.time() + folder.SILENT_S + 5
    monkeypatch.setattr(time, "time", lambda: later)
    found = status(run)
    assert found.state == "silent"
    assert "of elsewhere alive?" in found.why


@pytest.mark.parametrize(
    ("code", "state"), [(75, "stopped"), (1, "failed"), (70, "failed"), (137, "failed"), (0, "stopped")]
)
def test_an_end_is_told_with_its_reason(tmp_path, code, state):
    run = made(tmp_path / "run", 3)
    begun(run)
    note(run, "end", code=code, kind="user", reason="so it was")
    assert (status(run).state, status(run).why) == (state, "so it was")
    begun(run, step=2, world_size=1)
    assert [(one["why"], one["step"], one["world_size"]) for one in status(run).restarts] == [("so it was", 2, 1)]


def test_what_the_launcher_knows_explains_more_than_the_rank_that_lost_its_peer(tmp_path):
    run = made(tmp_path / "run", 3)
    begun(run)
    note(run, "end", code=70, kind="peer", reason="Connection closed by peer")
    note(run, "restart", code=137, kind="", reason="rank 1: was killed by SIGKILL", then="try 1 of 2", world_size=2)
    assert status(run).state == "restarting"
    begun(run)
    assert [one["why"] for one in status(run).restarts] == ["rank 1: was killed by SIGKILL"]


def test_torn_and_foreign_lines_are_passed_over(tmp_path):
    run = made(tmp_path / "run", 5)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('[1]\n{"step": 6, "lo')
    begun(run)
    with open(run / "events.jsonl", "ab") as file:
        file.write(b'{"event": "end\xff')
    assert (status(run).step, status(run).state) == (5, "running")


def test_of_a_long_log_only_its_end_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "TAIL_BYTES", 2000)
    run = made(tmp_path / "run", 90)
    begun(run)
    assert status(run).step == 90
    assert status(run).examples_per_s == pytest.approx(16)


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path, command):
    with pytest.raises(UserError, match="is no run folder"):
        status(tmp_path)
    for words in (["status", str(tmp_path)], ["runs", str(tmp_path)], ["runs", str(tmp_path / "nowhere")]):
        refused = command("-m", "launch", *words)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1


def test_runs_lists_each_once_whatever_lies_in_it(tmp_path, command):
    begun(made(tmp_path / "b" / "running", 40, checkpoints=(10,)))
    finished = made(tmp_path / "a", 100)
    (finished / "finished.json").write_text('{"steps": 100}')
    made(finished / "model" / "inner", 3)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text("steps: 3\n")  # a config of the user's own
    told = command("-m", "launch", "runs", str(tmp_path)).stdout.splitlines()
    assert [line.split()[:3] for line in told[1:]] == [["a", "finished", "100"], ["b/running", "running", "40"]]
    as_json = json.loads(command("-m", "launch", "runs", str(tmp_path), "--json").stdout)
    assert [one["state"] for one in as_json] == ["finished", "running"]


def patient(run: Path, patience: int, ended: int | None) -> Path:
    """A run of 100 steps with `patience`, whose model says that patience ended it after 40."""
    made(run, 40)
    with open(run / "config.yaml", "a") as file:
        file.write(f"patience: {patience}\n")
    begun(run)
    note(run, "end", code=0, kind="", reason="done")
    (run / "finished.json").write_text(json.dumps({"steps": 40, **({"patience": ended} if ended else {})}))
    return run


@pytest.mark.parametrize(
    ("patience", "ended", "state"),
    [(3, 3, "finished"), (2, 3, "finished"), (4, 3, "stopped"), (0, 3, "stopped"), (3, None, "stopped")],
)
def test_a_run_that_patience_ended_is_finished_unless_it_was_given_more(tmp_path, patience, ended, state):
    run = patient(tmp_path / "run", patience, ended)
    found = status(run)
    assert (found.state, found.step, found.steps) == (state, 40, 100)
    config, finished = LoopConfig(run=str(run), steps=100, keep_best="x", patience=patience), resume.finished_run(run)
    assert bool(resume.is_finished(finished, config)) == (state == "finished"), "training judges alike"


def test_watching_a_run_that_patience_ended_ends(tmp_path, capsys):
    run = patient(tmp_path / "run", 3, 3)
    assert shown.run(shown.arguments().parse_args([str(run), "--watch"])) == 0
    assert "finished: patience ended it" in capsys.readouterr().out


ODD = {
    "no global_batch": ("config.yaml", "steps: 3\n"),
    "a list": ("config.yaml", "- 1\n"),
    "no YAML": ("config.yaml", "a: [\n"),
    "no number": ("config.yaml", "steps: many\nglobal_batch: 8\n"),
    "unresolved": ("config.yaml", "steps: ${nothing}\nglobal_batch: 8\n"),
    "others' metrics": ("metrics.jsonl", '{"keys": 1, "step": 3}\n'),
    "others' events": ("events.jsonl", '{"event": "start"}\n'),
    "others' model": ("finished.json", "[]"),
    "others' clips": ("bad_examples.jsonl", "{}\n"),
}


def test_odd_folders_are_rows_of_the_list_and_hide_no_run(tmp_path, capsys):
    for name, (file, text) in ODD.items():
        (made(tmp_path / name, 3) / file).write_text(text)
        with pytest.raises(UserError, match="cannot be read as a run folder") as refused:
            status(tmp_path / name)
        assert "\n" not in str(refused.value)
    begun(made(tmp_path / "z", 40))
    assert listing.run(listing.arguments().parse_args([str(tmp_path)])) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split("  ")[0] for row in rows] == [*sorted(ODD), "z"]
    assert all("  unreadable: " in row for row in rows[:-1])
    assert rows[-1].split()[:5] == ["z", "running", "40", "100", "16"]
    assert max(map(len, rows[-1:])) < 80, "no reason widens a column"
    listing.run(listing.arguments().parse_args([str(tmp_path), "--json"]))
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == [*["unreadable"] * len(ODD), "running"]
