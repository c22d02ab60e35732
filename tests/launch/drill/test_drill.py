"""`python -m launch drill`: a fault leaves no trace, a trace is found, and what was not tried is no success."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import urllib.request

import pytest

from launch.drill import command as drill
from launch.drill import faults, places
from launch.drill import trial as trials
from launch.drill.faults import FAULTS
from launch.drill.storage import serving
from launch.drill.trial import difference
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.training import TINY

QUICK = ["write"]


def step(number: int, keys: int = 7, loss: float | None = 0.5) -> dict:
    return {"step": number, "keys": keys, "loss/motion": loss, "grad_norm/motion": 3.0}


TRUTH = {number: step(number) for number in range(1, 5)}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, False),
        ({3: step(3, loss=0.500001)}, False),
        ({3: step(3, loss=0.501)}, True),
        ({3: step(3, loss=None)}, True),
        ({3: step(3, loss=math.nan)}, True),
        ({3: step(3, keys=8)}, True),
        ({5: step(5)}, True),
    ],
)
def test_any_difference_is_found(change, found):
    assert bool(difference({**TRUTH, **change}, TRUTH)) == found
    assert bool(difference({key: value for key, value in TRUTH.items() if key != 2}, TRUTH))


def test_faults_of_the_page_and_of_the_list_are_the_same():
    page = (ROOT / "docs" / "launch.md").read_text()
    assert all(f"| `{name}` |" in page for name in FAULTS)


def test_the_storage_vanishes_and_comes_back(tmp_path):
    (tmp_path / "a b.tar").write_bytes(bytes(range(100)))
    with serving(tmp_path) as server:
        request = urllib.request.Request(f"{server.url}/a%20b.tar", headers={"Range": "bytes=10-19"})
        assert urllib.request.urlopen(request).read() == bytes(range(10, 20))
        assert urllib.request.urlopen(f"{server.url}/a%20b.tar").read() == bytes(range(100))
        with pytest.raises(OSError, match="404"):
            urllib.request.urlopen(f"{server.url}/../{tmp_path.name}x")
        server.gone = True
        with pytest.raises(OSError, match="without response"):
            urllib.request.urlopen(request)
        assert server.refused == 1
        server.gone = False
        assert len(urllib.request.urlopen(request).read()) == 10


def drilled(command, folder, shards, *options: str):
    words = ["train", "motion", "--config", TINY, f"shards={shards}"]
    done = command("-m", "launch", "drill", "--out", str(folder), "--json", *options, "--", *words)
    return done, json.loads(done.stdout) if done.stdout else []


def test_killed_in_the_middle_of_a_checkpoint_nothing_differs(talker_shards, tmp_path, command):
    """The short form."""
    done, results = drilled(command, tmp_path, talker_shards, "--steps", "8", "--only", ",".join(QUICK))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(one["fault"], one["holds"], one["keys_differ"]) for one in results] == [("write", True, 0)]
    assert results[0]["starts"] == 2
    assert results[0]["loss_differs"] <= trials.RTOL


@pytest.mark.full
def test_the_whole_drill(talker_shards, tmp_path, command):
    done, results = drilled(command, tmp_path, talker_shards)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["fault"] for one in results if one["holds"]] == [name for name in FAULTS if name != "requeue"]


def test_what_was_not_tried_does_not_hold(tmp_path, monkeypatch, capsys):
    def untried(*_) -> str:
        raise trials.NotTried("no")

    monkeypatch.setattr(drill, "undisturbed", lambda *_: ([], TRUTH))
    monkeypatch.setitem(FAULTS, "term", drill.Fault(untried))
    monkeypatch.setitem(FAULTS, "usr1", drill.Fault(lambda *_: "as if", restarts=True))
    typed = ["--out", str(tmp_path), "--only", "term,usr1", "--", "train", "motion"]
    assert drill.run(drill.arguments().parse_args(typed)) == 1
    said = capsys.readouterr().out
    assert "NOT TRIED: no" in said
    assert "the training was not interrupted" in said
    assert "0 of 2 hold" in said


def test_a_shard_is_torn_where_the_training_still_validates(talker_shards, tmp_path, monkeypatch):
    """The first tear leaves nobody to validate, the second damages nobody who is trained on."""
    torn = []

    def ended(words, run, *_):
        file = sorted((tmp_path / "torn-shards").rglob("motion-*.tar"))[0]
        torn.append(file.read_bytes().count(b"\xa5" * faults.TORN_BYTES))
        run.mkdir(exist_ok=True)
        if len(torn) == 3:
            (run / "bad_examples.jsonl").touch()
        return len(torn) == 1, trials.Trial(words, run, places.Here(2), 9.0)

    monkeypatch.setattr(drill, "ended", ended)
    args, words = drill.arguments().parse_args(["--out", str(tmp_path)]), ["train", "m", f"shards={talker_shards}"]
    typed, _ = drill.undisturbed(words, True, args, places.Here(2))
    assert torn == [4, 1, 1]
    assert typed == [*words, f"shards={tmp_path / 'torn-shards'}", "bad_share=1.0"]
    monkeypatch.setattr(drill, "ended", lambda words, run, *_: (1, trials.Trial(words, run, places.Here(2), 9.0)))
    with pytest.raises(trials.NotTried, match="name other shards"):
        drill.undisturbed(words, True, args, places.Here(2))


@pytest.mark.parametrize("error", [KeyboardInterrupt, trials.NotTried])
def test_a_drill_that_is_interrupted_leaves_no_training_behind(tmp_path, monkeypatch, error):
    trial = trials.Trial([], tmp_path / "term", places.Here(2), 9.0)

    def bring(*_) -> str:
        trial.process = subprocess.Popen(["sleep", "60"])
        raise error

    monkeypatch.setattr(drill, "undisturbed", lambda *_: ([], TRUTH))
    monkeypatch.setattr(drill, "fresh", lambda *_: trial)
    monkeypatch.setitem(FAULTS, "term", drill.Fault(bring))
    with contextlib.suppress(KeyboardInterrupt):
        drill.run(drill.arguments().parse_args(["--out", str(tmp_path), "--only", "term", "--", "train", "motion"]))
    assert trial.process is not None
    assert trial.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--only", "flood"], "no fault 'flood'; there are: term, "),
        (["--processes", "1"], "--processes must be at least 2"),
        (["--", "eval", "motion"], "must be train"),
        (["--", "train", "motion", "run=x"], "leave run="),
        (["--processes", "3", "--", "train", "motion"], "cannot be shared by 3 processes"),
        (["--hostfile", "{hosts}", "--only", "node"], "'node' cannot be drilled there: a host is lost only by"),
        (["--hostfile", "{hosts}", "--processes", "9"], "--processes 9 are more than the 4 slots"),
    ],
)
def test_what_cannot_be_drilled_is_refused(tmp_path, typed, said):
    (tmp_path / "hosts").write_text("one slots=2\ntwo slots=2\n")
    typed = [word.format(hosts=tmp_path / "hosts") for word in typed]
    with pytest.raises(UserError, match=said):
        drill.run(drill.arguments().parse_args(typed))


@pytest.mark.parametrize("name", ["storage", "torn-shards", "term.log"])
def test_a_folder_with_files_of_others_is_refused_and_keeps_them(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")
    typed = ["--out", str(tmp_path), "--only", "storage", "--", "train", "motion", "--config", TINY]
    with pytest.raises(UserError, match="name a new folder") as refused:
        drill.run(drill.arguments().parse_args(typed))
    assert "\n" not in str(refused.value)
    assert [path.read_text() for path in tmp_path.rglob("*.txt")] == ["mine"]
    with pytest.raises(UserError, match="is no folder"):
        drill.claim(tmp_path / name / "thesis.txt")


def test_a_drill_takes_a_new_folder_and_its_own_again(tmp_path):
    out = tmp_path / "a" / "drill"
    drill.claim(out)
    (out / "term").mkdir()
    drill.claim(out)
    assert (out / drill.MARKER).read_text().count("\n") == 1
