"""Checkpoints: written by several ranks, read back whole, refused when damaged."""

from __future__ import annotations

import errno
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mytalk import atomic
from mytalk.command import UserError, one_line
from mytalk.digest import sha256_of
from tests.helpers.disks import small_disk
from train.run_folder import checkpoint

SHAPES = {"net": {"a.weight": [3, 5], "a.bias": [7], "scale": []}, "critic": {"w": [2, 2, 2]}}

CUTS = {"a.weight": [0, 1, 11, 15], "a.bias": [0, 0, 7, 7], "scale": [0, 1, 1, 1], "w": [0, 3, 5, 8]}  # of 3 ranks


def whole() -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """Every tensor of a small checkpoint, all values apart."""
    random = torch.Generator().manual_seed(0)
    return {
        player: {
            kind: {name: torch.randn(shape, generator=random) for name, shape in named.items()}
            for kind in checkpoint.KINDS
        }
        for player, named in SHAPES.items()
    }


def write(run, step: int = 300, cuts: dict[str, list[int]] = CUTS, **facts):
    """A checkpoint of `whole()`, written by three ranks of uneven shares; returns its folder."""
    folder = checkpoint.temporary(run, step)
    folder.mkdir(parents=True)
    tensors = whole()
    for rank in range(3):
        pieces = []
        for player, kinds in tensors.items():
            for kind, named in kinds.items():
                for name, tensor in named.items():
                    start, stop = cuts[name][rank : rank + 2]
                    if stop > start:
                        pieces.append((f"{player}/{kind}/{name}@{start}", tensor.reshape(-1)[start:stop]))
        copy = checkpoint.HostCopy(pieces)
        copy.take()
        checkpoint.write_rank(copy, folder, rank, 3)
    return checkpoint.commit(run, step, {"shapes": SHAPES, "cursor": 2400, **facts}, 3)


def test_a_checkpoint_of_three_ranks_is_read_back_whole(tmp_path):
    folder = write(tmp_path)
    assert folder == tmp_path / "checkpoints" / "step-000300"
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
    read = checkpoint.load(folder)
    assert read.step == 300
    assert read.facts["cursor"] == 2400
    for player, kinds in whole().items():
        for kind, named in kinds.items():
            for name, tensor in named.items():
                assert torch.equal(read.tensors[player][kind][name], tensor), (player, kind, name)


def test_files_are_opened_as_they_are_needed(tmp_path):
    """Those of the reader's own place first; what they do not hold is found wherever it is."""
    folder = write(tmp_path)
    for rank, (start, stop) in enumerate(zip(CUTS["w"], CUTS["w"][1:])):
        read = checkpoint.index(folder, rank, 3)
        assert len(read.unopened) == 3
        expected = whole()["critic"]["exp_avg"]["w"].reshape(-1)
        assert torch.equal(read.stretch("critic", "exp_avg", "w", start, stop), expected[start:stop])
        assert len(read.unopened) == 2
        assert torch.equal(read.stretch("critic", "exp_avg", "w", 0, 8), expected)
        assert read.unopened == []


def test_fragments_are_written_as_fp32(tmp_path):
    copy = checkpoint.HostCopy([("net/weight/w@2", torch.arange(3, dtype=torch.bfloat16))])
    copy.take()
    checkpoint.write_rank(copy, tmp_path, 0, 1)
    (named,) = load_file(tmp_path / "rank-00000-of-00001.safetensors").items()
    assert named[0] == "net/weight/w@2"
    assert torch.equal(named[1], torch.tensor([0.0, 1.0, 2.0]))


def rehashed(folder, **changes) -> None:
    """Change checkpoint.json, its files' digests made to fit."""
    facts = json.loads((folder / "checkpoint.json").read_text())
    facts["files"] = {name: sha256_of(folder / name) for name in facts["files"]}
    (folder / "checkpoint.json").write_text(json.dumps({**facts, **changes}))


@pytest.mark.parametrize(
    ("cuts", "said"),
    [
        ({"a.weight": [0, 1, 11, 14]}, "does not hold net/weight/a.weight whole"),
        ({"w": [0, 3, 5, 5]}, "does not hold critic/weight/w whole"),
    ],
)
def test_a_checkpoint_with_a_gap_is_refused(tmp_path, cuts, said):
    folder = write(tmp_path, cuts={**CUTS, **cuts})
    with pytest.raises(UserError, match=said):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "stretches", [[(0, 3), (1, 4)], [(0, 5), (3, 4)], [(0, 7), (2, 3)], [(1, 6)], [(0, 3), (4, 3)], []], ids=str
)
def test_a_tensor_must_be_there_once_and_whole(tmp_path, stretches):
    """Stretches (start, length) of a.bias, 7 values: twice in part, as many values as there should be, or too few."""
    folder = write(tmp_path)
    path = folder / "rank-00001-of-00003.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if "a.bias" not in name}
    for kind in checkpoint.KINDS:
        kept |= {f"net/{kind}/a.bias@{start}": torch.ones(length) for start, length in stretches}
    save_file(kept, path)
    rehashed(folder)
    with pytest.raises(UserError, match=r"does not hold net/weight/a.bias whole"):
        checkpoint.load(folder)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    folder = write(tmp_path)
    path = folder / "rank-00002-of-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"rank-00002-of-00003.safetensors is missing or damaged; remove .*step-000300"):
        checkpoint.load(folder)
    path.unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        checkpoint.load(folder)


def test_another_format_or_an_unreadable_record_is_refused(tmp_path):
    folder = write(tmp_path)
    rehashed(folder, format=99)
    with pytest.raises(UserError, match="format 99, this version reads 1"):
        checkpoint.load(folder)
    for text in ("", "{", "[]"):
        (folder / "checkpoint.json").write_text(text)
        with pytest.raises(UserError, match=r"checkpoint.json is damaged; remove .*step-000300"):
            checkpoint.load(folder)


def test_newest_sees_whole_checkpoints_only(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    folder = tmp_path / "checkpoints"
    for name in ("step-000010", "step-000200", "step-1000000"):
        (folder / name).mkdir(parents=True)
        (folder / name / "checkpoint.json").write_text("{}")
    for name in ("step-9000000", ".tmp-step-9000001", "step-9", "step-abcdef"):
        (folder / name).mkdir()
    for name in (".tmp-step-9000001", "step-9", "step-abcdef"):
        (folder / name / "checkpoint.json").write_text("{}")
    newest = checkpoint.newest(tmp_path)
    assert newest.name == "step-1000000"
    assert checkpoint.step_of(newest) == 1_000_000
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        checkpoint.step_of(folder / "step-9")


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "left"),
    [
        (1, 0, [70]),
        (2, 0, [60, 70]),
        (2, 30, [30, 60, 70]),
        (1, 20, [20, 40, 60, 70]),
        (99, 0, [10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_prune_keeps_the_last_and_the_multiples(tmp_path, keep_last, keep_every, left):
    for step in range(10, 80, 10):
        atomic.write_json(tmp_path / "checkpoints" / checkpoint.folder_name(step) / "checkpoint.json", {})
    (tmp_path / "checkpoints" / checkpoint.folder_name(80)).mkdir()  # incomplete: counts for nothing
    other = tmp_path / "checkpoints" / "mine"
    other.mkdir()
    checkpoint.prune(tmp_path, keep_last, keep_every)
    other.rmdir()
    (tmp_path / "checkpoints" / checkpoint.folder_name(80)).rmdir()
    assert sorted(checkpoint.step_of(path) for path in (tmp_path / "checkpoints").iterdir()) == left


def test_a_full_disk_is_told_as_one(tmp_path):
    with small_disk(tmp_path / "small", "64k"):
        copy = checkpoint.HostCopy([("motion/weight/w@0", torch.zeros(100_000))])
        with pytest.raises(OSError, match=r"No space left") as told:
            checkpoint.write_rank(copy, tmp_path / "small", 0, 1)
        assert told.value.errno == errno.ENOSPC
        assert "the disk is full" in one_line(told.value)
