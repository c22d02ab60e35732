"""What docs/scale.md claims of a thousand ranks, simulated on one machine."""

from __future__ import annotations

import pytest

from tests.helpers import thousand_ranks
from train.run_folder.checkpoint import KINDS


def test_a_thousand_ranks_share_every_step_evenly():
    found = thousand_ranks.plans(1024)
    assert found["slots"] == 2 * 1024 * thousand_ranks.BATCH_OF_A_RANK
    assert found["validation_imbalance"] < 0.05


@pytest.mark.parametrize("ranks", [48, pytest.param(1024, marks=pytest.mark.full)])
def test_every_ranks_share_of_a_checkpoint_is_an_even_part_of_it(tmp_path, ranks):
    parameters = 100_003  # shared evenly by no number of ranks
    found = thousand_ranks.shares(tmp_path, ranks, parameters)
    assert found["files"] == ranks + 1, "a file a rank, and checkpoint.json"
    values = 4 * len(KINDS) * (parameters // ranks + 1)
    assert values <= found["largest_share_bytes"] < values + 1024
    assert found["opened_by_a_rank"] == 1, "its own"
    assert found["opened_by_one_of_fewer"] <= 4
