"""`init_from` among many ranks: read once, sent to all. What it takes of which folder: tests/train/test_faults.py."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from mytalk.command import UserError
from train.engine.distributed import Ranks
from train.run_folder import checkpoint, init_from

SIZE = 3


class Talking(Ranks):
    """A rank among threads that stand for processes."""

    def __init__(self, rank: int, table: dict, meeting: threading.Barrier):
        super().__init__(rank, SIZE, torch.device("cpu"))
        self.table, self.meeting = table, meeting

    def gather(self, own):
        self.table[self.rank] = own
        self.meeting.wait(10)
        found = [one for rank in range(SIZE) for one in self.table[rank]]
        self.meeting.wait(10)
        return found

    def from_first(self, own):
        (sent,) = self.gather([own] if self.rank == 0 else [])
        return sent.clone()


def by_all_ranks(work) -> list:
    """What work(rank) returns, or raises, on each of `SIZE` ranks at once."""
    table, meeting, ended = {}, threading.Barrier(SIZE), [None] * SIZE

    def go(number: int) -> None:
        try:
            ended[number] = work(Talking(number, table, meeting))
        except UserError as error:
            ended[number] = str(error)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def written(tmp_path) -> tuple:
    """A checkpoint in four files, and the EMA weights that it holds."""
    ema, step = torch.arange(12.0), 7
    for rank in range(4):
        pieces = [
            (f"motion/{kind}/weight@{3 * rank}", ema[3 * rank : 3 * rank + 3] + place)
            for place, kind in enumerate(("ema", "weight", "exp_avg", "exp_avg_sq"))
        ]
        copy = checkpoint.HostCopy(pieces)
        copy.take()
        checkpoint.write_rank(copy, checkpoint.temporary(tmp_path, step), rank, 4)
    facts = {"shapes": {"motion": {"weight": [3, 4]}}, "fixed": {"recipe": "motion"}}
    return checkpoint.commit(tmp_path, step, facts, 4), ema.view(3, 4)


def test_the_first_rank_reads_a_checkpoint_and_all_get_it(tmp_path, monkeypatch, capsys):
    folder, ema = written(tmp_path / "before")
    hashed, opened = [], []
    monkeypatch.setattr(
        checkpoint, "sha256_of", lambda path, real=checkpoint.sha256_of: hashed.append(path) or real(path)
    )
    monkeypatch.setattr(
        checkpoint,
        "safe_open",
        lambda path, real=checkpoint.safe_open, **more: opened.append(path) or real(path, **more),
    )

    def started(ranks):
        module = nn.Linear(4, 3, bias=False)
        init_from.start(folder, {"motion": module}, tmp_path, "motion", ranks)
        return module.weight.detach()

    assert all(torch.equal(weight, ema) for weight in by_all_ranks(started))
    assert len(hashed) == len(opened) == len({*hashed}) == len({*opened}) == 4, "each file once, by one rank"
    assert "1 of 1 tensors taken" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["flipped", "gone", "not json"])
def test_what_is_wrong_is_said_on_every_rank(tmp_path, harm):
    folder, _ = written(tmp_path / "before")
    file = folder / ("checkpoint.json" if harm == "not json" else checkpoint.rank_file(2, 4))
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(b"{" if harm == "not json" else data[:-1] + bytes([data[-1] ^ 1]))
    ended = by_all_ranks(lambda ranks: init_from.read_once(folder, ranks))
    assert len({*ended}) == 1
    assert "damaged" in ended[0]
