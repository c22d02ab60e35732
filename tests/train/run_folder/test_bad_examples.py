"""The record of damaged clips."""

from __future__ import annotations

import json

from data_pipeline.sample.batches import BadExample
from tests.helpers.disks import no_file_past
from train.run_folder import bad_examples


def test_damaged_clips_wait_while_the_disk_is_full(tmp_path, capsys):
    ledger = bad_examples.BadExampleLog(tmp_path, {"a": 50}, 0.5, 0, writes=True)
    ledger.add([BadExample(1, "k1", "a", "short", "torn")])
    with no_file_past(ledger.path.stat().st_size + 5):
        ledger.add([BadExample(2, "k2", "a", "short", "torn")])
    assert "lacks some lines" in capsys.readouterr().err
    assert [json.loads(line)["slot"] for line in ledger.path.read_text().splitlines()] == [1]
    ledger.add([BadExample(3, "k3", "a", "short", "torn")])
    assert [json.loads(line)["slot"] for line in ledger.path.read_text().splitlines()] == [1, 2, 3]
