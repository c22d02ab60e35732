"""Reports of a benchmark that contradict themselves are not written."""

from __future__ import annotations

import copy

import pytest

from eval.metrics import sync
from eval.report import check
from tests.helpers.small_report import DIGEST, built


def wrong(change: str) -> dict:
    """A sound report, made to contradict itself."""
    made = copy.deepcopy(built({"sync_offset_frames": "at chance"}))
    check.check(made)
    if change == "typed ordering":
        made["ordering"]["holds"] = not made["ordering"]["holds"]
    elif change == "no ordering":
        del made["ordering"]
    elif change == "ordering of nothing":
        made = built(dict.fromkeys(sync.METRICS, "at chance"))
        made["ordering"] = built()["ordering"]
    elif change == "no gate":
        del made["gate"]
    elif change == "refused and there":
        made["refused"]["lmd_px"] = "at chance"
    elif change == "neither refused nor there":
        del made["refused"]
    elif change == "refused without reason":
        made["refused"]["sync_offset_frames"] = ""
    elif change == "refused unknown":
        made["refused"]["typed_in"] = "at chance"
    elif change == "missing in one row":
        del made["methods"]["frozen_mouth"]["lmd_px"]
    elif change == "no digest of a model":
        del made["digests"]["motion_weights"]
    elif change == "digest of no model":
        made["digests"]["motion_extractor_weights"] = DIGEST
    elif change == "no digest of an extractor":
        made["protocol"]["models"]["motion_extractor"] = "conditions it"
    elif change == "no digest of shards":
        del made["digests"]["shards"]
    elif change == "no digest of ridge":
        del made["digests"]["ridge"]
    elif change == "no facts of ridge":
        del made["ridge"]
    elif change == "no comparison with ridge":
        del made["against_ridge"]
    elif change == "typed comparison":
        made["against_ridge"]["metrics"]["lmd_px"]["found"] = "better"
    elif change == "difference of other scores":
        made["against_ridge"]["metrics"]["lmd_px"]["difference"]["mean"] += 0.01
    return made


CHANGES = ["typed ordering", "no ordering", "ordering of nothing", "no gate", "refused and there"]
CHANGES += ["neither refused nor there", "refused without reason", "refused unknown", "missing in one row"]
CHANGES += ["no digest of ridge", "no facts of ridge", "no comparison with ridge", "typed comparison"]
CHANGES += ["difference of other scores"]
CHANGES += ["no digest of a model", "no digest of shards", "digest of no model", "no digest of an extractor"]


@pytest.mark.parametrize("change", CHANGES)
def test_invariant_7_a_report_that_contradicts_itself_is_not_written(change, tmp_path) -> None:
    with pytest.raises(check.UntraceableReport):
        check.write(tmp_path / "broken", wrong(change))
    assert not (tmp_path / "broken").exists()
