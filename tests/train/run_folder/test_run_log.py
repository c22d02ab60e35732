"""The log of a run: resumed, and on a full disk."""

from __future__ import annotations

import json

import pytest

from tests.helpers.disks import no_file_past
from train.run_folder import run_log


def test_keep_until_drops_later_steps_and_a_torn_line(tmp_path):
    """A resumed run goes on from its checkpoint: what was logged past it was not lived."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 7}) for step in range(1, 9)]
    lines.insert(4, json.dumps({"step": 4, "validation": {"loss": 1.0}}))
    whole = "\n".join(lines) + "\n"
    for torn in ("", '{"step": 9, "lo', '{"step": 2', "{"):
        path.write_text(whole + torn)
        run_log.keep_until(path, 5)
        assert path.read_text() == "\n".join(lines[:6]) + "\n"
    path.write_text(whole)
    run_log.keep_until(path, 0)
    assert path.read_text() == ""
    run_log.keep_until(tmp_path / "none.jsonl", 3)
    assert not (tmp_path / "none.jsonl").exists()


def test_metrics_wait_while_the_disk_is_full(tmp_path, capsys):
    """No line is lost or torn, and a checkpoint that counts on them is refused meanwhile."""
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "text": "x" * 9000}) + "\n")
    with run_log.RunLog(tmp_path, 1, 20, 1) as drawn:
        drawn.step(2, {"loss/a": 0.5}, 0.0)
        drawn.sync()
        with no_file_past(drawn.path.stat().st_size + 5):
            drawn.step(3, {"loss/a": 0.25}, 0.0)
            drawn.step(4, {"loss/a": 0.125}, 0.0)
            with pytest.raises(OSError, match="too large"):
                drawn.sync()
        assert capsys.readouterr().err.count("metrics wait to be written") == 1
        assert [json.loads(line)["step"] for line in drawn.path.read_text().splitlines()] == [1, 2]
        drawn.step(5, {"loss/a": 0.0}, 0.0)
        drawn.sync()
    assert [json.loads(line)["step"] for line in drawn.path.read_text().splitlines()] == [1, 2, 3, 4, 5]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_goes_without_in_one_line(tmp_path, capsys):
    """Its file is written by a thread of its own, whose end is not the user's to read."""
    with run_log.RunLog(tmp_path, 0, 20, 1) as drawn:
        (file,) = (tmp_path / "tensorboard").iterdir()
        with no_file_past(file.stat().st_size + 5000):
            for step in range(1, 200):
                drawn.validation(step, {"loss": 1.0}, {})
        said = capsys.readouterr().err
        assert "TensorBoard goes without some values" in said
        assert "Traceback" not in said
        drawn.validation(300, {"loss": 1.0}, {})
    assert len(list((tmp_path / "tensorboard").iterdir())) > 1
