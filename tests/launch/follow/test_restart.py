"""Which ends of a training are followed by another start, after which pause and at which world size."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.follow import restart
from launch.follow.restart import Ended, Policy, next_world_size
from launch.words import global_batch, run_folder, settings_of
from mytalk import command as commands
from mytalk.command import UserError


def checkpoint(run: Path, step: int) -> None:
    """What a reader takes for a whole checkpoint."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_text("{}")


@pytest.mark.parametrize(
    ("ended", "again"),
    [
        (Ended(0), False),
        (Ended(1), False),
        (Ended(2, "user"), False),
        (Ended(1, "user"), False),
        (Ended(1, "machine"), False),
        (Ended(1, "bug"), True),
        (Ended(70), True),
        (Ended(70, "peer"), True),
        (Ended(137), True),
        (Ended(255), True),
        (Ended(75), True),
        (Ended(75, told=True), False),
        (Ended(137, told=True), False),
        (Ended(130), False),
    ],
)
def test_each_end_is_followed_by_what_the_table_says(tmp_path, ended, again):
    assert Policy(tmp_path, tries=1).after(ended).again == again


def test_a_crash_is_tried_a_few_times_after_pauses_that_double(tmp_path):
    policy = Policy(tmp_path, tries=3, pause_s=2.0)
    decisions = [policy.after(Ended(70)) for _ in range(4)]
    assert [decision.pause_s for decision in decisions] == [2.0, 4.0, 8.0, 0.0]
    assert [decision.again for decision in decisions] == [True, True, True, False]
    assert "failed 4 times without getting further" in decisions[-1].why


def test_a_newer_checkpoint_begins_the_count_anew_and_75_then_waits_for_nothing(tmp_path):
    policy = Policy(tmp_path, tries=1)
    assert policy.after(Ended(75)).pause_s > 0, "storage is gone: at once would be without end"
    for step in (1, 2, 3):
        checkpoint(tmp_path, step)
        assert policy.after(Ended(75)) == restart.Decision(True, 0.0, "a checkpoint was written")
    assert policy.after(Ended(70)).again
    assert not policy.after(Ended(70)).again
    checkpoint(tmp_path, 4)
    assert policy.after(Ended(70)).again


def test_no_pause_is_longer_than_five_minutes(tmp_path):
    policy = Policy(tmp_path, tries=99)
    assert max(policy.after(Ended(70)).pause_s for _ in range(99)) == restart.LONGEST_PAUSE_S


@given(batch=st.integers(1, 4096), most=st.integers(0, 1100), least=st.integers(0, 20))
def test_the_next_world_size_is_the_largest_that_divides(batch, most, least):
    found = next_world_size(batch, most, least)
    fitting = [size for size in range(max(1, least), most + 1) if batch % size == 0]
    assert found == max(fitting, default=0)


def test_what_follows_is_recorded_in_the_run_folder(tmp_path, capsys):
    ends = iter([Ended(137, reason="rank 1 was killed", lost=1), Ended(75), Ended(1, "user", "bad_share is used up")])
    policy = Policy(tmp_path, tries=2, pause_s=0.0)
    sizes = []

    def start(size: int) -> Ended:
        sizes.append(size)
        if len(sizes) == 2:
            checkpoint(tmp_path, 5)
        return next(ends)

    code = restart.keep_running("here", policy, 3, start, lambda size, ended: size - ended.lost)
    assert (code, sizes) == (1, [3, 2, 2])
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(one["event"], one["reason"]) for one in events] == [
        ("restart", "rank 1 was killed"),
        ("restart", "stopped after a checkpoint"),
        ("given up", "bad_share is used up"),
    ]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "here: rank 1 was killed; starting again now at 2 processes instead of 3 (try 1 of 2)"
    assert said[2] == "here: bad_share is used up; not started again: it cannot go on until that is mended"


def test_a_training_that_crashes_ends_with_70(monkeypatch, capsys):
    """A traceback is neither for its user to mend, nor a checkpoint's end."""

    def crash(*_) -> int:
        raise ZeroDivisionError("a bug")

    ends: list[int] = []
    monkeypatch.setattr(commands, "main", crash)
    monkeypatch.setattr(commands, "end", ends.append)
    runpy.run_module("train", run_name="__main__")
    assert ends == [commands.EXIT_CRASHED] == [70]
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
    assert Policy(None, tries=1).after(Ended(ends[0])).again


def test_without_a_place_it_is_not_started_again(tmp_path, capsys):
    code = restart.keep_running("here", Policy(tmp_path, 9, 0.0), 2, lambda _: Ended(137), lambda *_: 0)
    assert code == 137
    assert "too few processes have a place" in capsys.readouterr().err


def test_run_folder_and_global_batch_are_what_training_will_take(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("run: from/file\nglobal_batch: 48\n")
    train = ["train", "motion"]
    assert run_folder([*train, "--config", "a.yaml"]) == Path("from/file")
    assert run_folder([*train, "--config=a.yaml", "run='of mine'"]) == Path("of mine")
    assert run_folder(train) == Path("runs/motion")
    assert run_folder(["eval", "score"]) is None
    assert global_batch([*train, "--config", "a.yaml"]) == 48
    assert global_batch([*train, "--config", "a.yaml", "global_batch=6"]) == 6
    assert global_batch(train) == 32
    assert settings_of([*train, "--config", "nowhere.yaml", "--config"]) == {}
    Path("runs/motion").mkdir(parents=True)
    Path("runs/motion/config.yaml").write_text("global_batch: 12\n")
    assert global_batch(train) == 12, "as the run was begun"
    with pytest.raises(UserError, match="must be a number"):
        global_batch([*train, "global_batch=many"])
