"""The parts of training on their own: batch arithmetic, schedules, clipping, records, checkpoints, ZeRO settings."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import re
import shutil
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from data_pipeline.sample import batch_plan
from data_pipeline.sample.batches import Bad
from data_pipeline.shards import manifest
from mytalk import atomic, config
from mytalk.command import UserError, one_line
from mytalk.digest import sha256_of
from tests.data_pipeline.extract.test_extract import no_file_past, small_disk
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import RECIPES
from train import loop
from train.config import LoopConfig, OptimizerConfig
from train.engine import deepspeed_engine, train_state
from train.recipes.appearance import AppearanceTrainConfig
from train.recipes.identity import IdentityTrainConfig
from train.recipes.motion import MotionTrainConfig
from train.recipes.syncnet import SyncTrainConfig
from train.run_folder import bad_examples, checkpoint, run_log

# Batch arithmetic

sizes = st.integers(1, 400)


@given(sizes, st.integers(1, 64), st.integers(1, 32))
@settings(max_examples=200)
def test_divide_gives_the_largest_micro_batch_or_the_neighbours_that_work(global_batch, max_micro, world_size):
    if global_batch % world_size:
        with pytest.raises(UserError) as refused:
            batch_plan.divide(global_batch, max_micro, world_size)
        named = [int(n) for n in re.findall(r"\d+", str(refused.value).split("global_batch=")[1])]
        works = [n for n in range(1, 500) if n % world_size == 0]
        below, above = [n for n in works if n < global_batch][-1:], min(n for n in works if n > global_batch)
        assert named == [*below, above]
        for number in named:
            batch_plan.divide(number, max_micro, world_size)
        return
    made = batch_plan.divide(global_batch, max_micro, world_size)
    assert made.micro_batch * made.accumulation * made.world_size == made.global_batch == global_batch
    assert made.micro_batch <= max_micro
    share = global_batch // world_size
    assert not [m for m in range(made.micro_batch + 1, min(max_micro, share) + 1) if share % m == 0]


@given(st.integers(0, 5000), st.integers(1, 40))
def test_shares_cover_a_tensor_exactly_and_evenly(numel, world_size):
    shares = [deepspeed_engine.share(numel, rank, world_size) for rank in range(world_size)]
    assert shares[0][0] == 0
    assert shares[-1][1] == numel
    assert all(stop == start for (_, stop), (start, _) in pairwise(shares))
    lengths = [stop - start for start, stop in shares]
    assert max(lengths) - min(lengths) <= 1


# Optimizer


def test_learning_rates_in_closed_form():
    """Linear warm-up to lr; then lr sqrt(w / n), a half cosine to 0, or lr, n being the steps taken with this one."""
    for schedule in ("inverse_sqrt", "cosine", "constant"):
        rates = OptimizerConfig(lr=2.0, schedule=schedule, warmup_steps=100)
        for step in (0, 49, 98):
            assert rates.lr_at(step, 1100) == pytest.approx(2.0 * (step + 1) / 100)
        assert rates.lr_at(99, 1100) == pytest.approx(2.0)
        assert OptimizerConfig(lr=2.0, schedule=schedule, warmup_steps=0).lr_at(0, 10) == pytest.approx(2.0)
    inverse = OptimizerConfig(lr=2.0, schedule="inverse_sqrt", warmup_steps=100)
    assert inverse.lr_at(399, 1100) == pytest.approx(1.0)
    assert inverse.lr_at(9999, 1100) == pytest.approx(0.2)
    cosine = OptimizerConfig(lr=2.0, schedule="cosine", warmup_steps=100)
    assert cosine.lr_at(100 + 250, 1100) == pytest.approx(1 + math.sqrt(0.5))
    assert cosine.lr_at(100 + 500, 1100) == pytest.approx(1.0)
    assert cosine.lr_at(1100, 1100) == pytest.approx(0.0, abs=1e-12)
    assert cosine.lr_at(5000, 1100) == pytest.approx(0.0, abs=1e-12), "past the end it does not rise again"
    assert OptimizerConfig(lr=2.0, schedule="constant", warmup_steps=100).lr_at(5000, 1100) == 2.0


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_clip_factor_brings_the_norm_to_the_limit_and_lets_small_ones_be(norm, limit):
    clipped = norm * train_state.clip_factor(norm, limit)
    assert clipped == pytest.approx(min(norm, limit), rel=2e-3)
    assert clipped <= limit * (1 + 1e-9)


def test_clip_factor_without_a_limit_or_a_number():
    assert train_state.clip_factor(1e9, 0) == 1.0
    assert train_state.clip_factor(math.nan, 1.0) == 1.0
    assert train_state.clip_factor(math.inf, 1.0) == 1.0
    assert train_state.clip_factor(0.0, 1.0) == 1.0


def test_guarded_adamw_skips_or_scales():
    """Skipping leaves weights and moments; a factor is as if the gradient had been smaller; 1 is plain AdamW."""

    def stepped(optimizer_class, gradient: float, **switches) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = optimizer_class([weight], lr=0.1, eps=1.0)
        for name, value in switches.items():
            setattr(optimizer, name, value)
        weight.grad = torch.full((3,), gradient)
        optimizer.step()
        return weight, optimizer

    plain, _ = stepped(torch.optim.AdamW, 2.0)
    assert torch.equal(stepped(deepspeed_engine.GuardedAdamW, 2.0)[0], plain)
    assert torch.equal(stepped(deepspeed_engine.GuardedAdamW, 8.0, factor=0.25)[0], plain)
    skipped, optimizer = stepped(deepspeed_engine.GuardedAdamW, math.nan, skip=True)
    assert torch.equal(skipped, torch.ones(3))
    assert not optimizer.state


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: OptimizerConfig(schedule="linear"), "constant, inverse_sqrt, cosine"),
        (lambda: OptimizerConfig(lr=0), "lr must be above 0"),
        (lambda: LoopConfig(precision="fp8"), "fp32, bf16, fp16"),
        (lambda: LoopConfig(offload_optimizer=True), "offload_optimizer needs zero_stage"),
        (lambda: LoopConfig(failed_checkpoint="pray"), "failed_checkpoint must be go_on or stop"),
        (lambda: LoopConfig(loss_scale=0.5), r"loss_scale must lie in \[1, 2\^24\]"),
        (lambda: LoopConfig(watchdog_s=-1), "watchdog_s must be 0 or more"),
        (lambda: LoopConfig(loss_scale_steps=0), "loss_scale_steps must be 1 or more"),
        (lambda: LoopConfig(zero_stage=4), "0, 1, 2 or 3"),
        (lambda: LoopConfig(steps=0), "steps must be 1 or more"),
        (lambda: LoopConfig(checkpoint_every=0), "checkpoint_every must be 1 or more"),
        (lambda: LoopConfig(keep_last=0), "keep_last must be 1 or more"),
        (lambda: LoopConfig(ema_decay=1.0), r"\[0, 1\)"),
        (lambda: OptimizerConfig(clip_norm=-1), "clip_norm must be 0 or more"),
        (lambda: OptimizerConfig(clip_norm=math.nan), "clip_norm must be 0 or more"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), r"betas must lie in \[0, 1\)"),
        (lambda: OptimizerConfig(betas=(-0.1, 0.9)), r"betas must lie in \[0, 1\)"),
        (lambda: OptimizerConfig(eps=0), "eps must be above 0"),
        (lambda: OptimizerConfig(warmup_steps=-1), "warmup_steps must be 0 or more"),
        (lambda: OptimizerConfig(weight_decay=-0.1), "weight_decay must be 0 or more"),
        (lambda: LoopConfig(workers=-1), "workers must be 0 or more"),
        (lambda: LoopConfig(keep_every=-1), "keep_every must be 0 or more"),
        (lambda: LoopConfig(max_skipped_steps=-1), "max_skipped_steps must lie in"),
        (lambda: LoopConfig(max_skipped_steps=100), "max_skipped_steps must lie in"),
        (lambda: MotionTrainConfig(sampling_steps=0), "sampling_steps must be 1 or more"),
        (lambda: MotionTrainConfig(pictured_clips=-1), "pictured_clips must be 0 or more"),
        (lambda: SyncTrainConfig(pictured_clips=-1), "pictured_clips must be 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_each_recipe_has_a_run_folder_of_its_own():
    schemas = (IdentityTrainConfig, SyncTrainConfig, MotionTrainConfig, AppearanceTrainConfig)
    assert len({schema().run for schema in schemas}) == len(schemas)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_crops_of_another_size_are_refused(filmed_shards, tmp_path, name, split):
    """A single clip of 128 px among those that are trained or measured on, for every recipe."""
    shards = tmp_path / "shards"
    shutil.copytree(filmed_shards, shards)
    made = manifest.Manifest.load(shards)
    crop_px, row = made.column("crop_px").copy(), made.rows(split)[1]
    crop_px[row] = 128
    place = made.table.column_names.index("crop_px")
    manifest.save(shards, made.table.set_column(place, "crop_px", manifest.pa.array(crop_px)), made.header)
    schema, recipe = RECIPES[name]
    tiny = ROOT / "tests" / "helpers" / f"tiny_{name}.yaml"
    with pytest.raises(UserError, match=r"is a crop of 128 px and training needs 256; extract again") as told:
        recipe(config.load(schema, tiny, [f"shards={shards}"]))
    assert made.column("key")[row] in str(told.value)


# Records


def held(slots: list[int], keys: list[str], starts: list[int]) -> SimpleNamespace:
    """A batch, as far as `key_sum` looks."""
    return SimpleNamespace(slots_B=torch.tensor(slots), keys_B=keys, starts_B=torch.tensor(starts))


@given(st.lists(st.tuples(st.integers(0, 99), st.text("ab", max_size=3), st.integers(0, 9))), st.randoms(), st.data())
@settings(max_examples=50)
def test_key_sum_does_not_depend_on_order_or_grouping(examples, random, data):
    def total(some) -> int:
        return loop.key_sum(held([s for s, _, _ in some], [k for _, k, _ in some], [f for _, _, f in some]))

    mixed = list(examples)
    random.shuffle(mixed)
    cut = data.draw(st.integers(0, len(mixed)))
    assert total(mixed[:cut]) + total(mixed[cut:]) == total(examples)


def test_key_sum_tells_slot_clip_and_window_apart():
    """Swapping the clips of two slots is noticed; sums of the largest batches stay exact in float64."""
    sums = {
        loop.key_sum(held(*each))
        for each in (
            ([1, 2], ["a", "b"], [0, 0]),
            ([1, 2], ["b", "a"], [0, 0]),
            ([1, 2], ["a", "b"], [0, 1]),
            ([1, 3], ["a", "b"], [0, 0]),
            ([1, 2], ["a", "c"], [0, 0]),
        )
    }
    assert len(sums) == 5
    assert max(sums) < 2 * 2**40
    assert 8192 * 2**40 <= 2**53


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


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    atomic.append(path, b"one\n")
    with no_file_past(6), pytest.raises(OSError, match="too large"):  # two bytes of it would fit
        atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\n"
    atomic.append(path, b"two\n", sync=False)
    assert path.read_bytes() == b"one\ntwo\n"


def test_metrics_wait_while_the_disk_is_full(tmp_path, capsys):
    """No line is lost or torn, and a checkpoint that counts on them is refused meanwhile."""
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "text": "x" * 9000}) + "\n")
    with run_log.Board(tmp_path, 1, 20, 1) as drawn:
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
    with run_log.Board(tmp_path, 0, 20, 1) as drawn:
        (file,) = (tmp_path / "tensorboard").iterdir()
        with no_file_past(file.stat().st_size + 5000):
            for step in range(1, 200):
                drawn._draw(lambda writer, step=step: writer.add_scalar("train/loss", 1.0, step))
                drawn._draw(lambda writer: writer.flush())
        said = capsys.readouterr().err
        assert "TensorBoard goes without some values" in said
        assert "Traceback" not in said
        drawn._draw(lambda writer: writer.add_scalar("train/loss", 1.0, 300))
    assert len(list((tmp_path / "tensorboard").iterdir())) > 1


def test_damaged_clips_wait_while_the_disk_is_full(tmp_path, capsys):
    ledger = bad_examples.Ledger(tmp_path, {"a": 50}, 0.5, 0, writes=True)
    ledger.add([Bad(1, "k1", "a", "short", "torn")])
    with no_file_past(ledger.path.stat().st_size + 5):
        ledger.add([Bad(2, "k2", "a", "short", "torn")])
    assert "lacks some lines" in capsys.readouterr().err
    assert [json.loads(line)["slot"] for line in ledger.path.read_text().splitlines()] == [1]
    ledger.add([Bad(3, "k3", "a", "short", "torn")])
    assert [json.loads(line)["slot"] for line in ledger.path.read_text().splitlines()] == [1, 2, 3]


def test_json_has_no_nan():
    assert [loop.finite_or_none(value) for value in (1.5, math.nan, math.inf)] == [1.5, None, None]


# Checkpoints

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


def test_digest_is_sha256_of_the_whole_file(tmp_path):
    data = bytes(range(256)) * 5000
    atomic.write_bytes(tmp_path / "file", data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


# ZeRO settings


def engine(**deepspeed) -> dict:
    """The DeepSpeed configuration of a run with raw keys."""
    config = LoopConfig(global_batch=24, max_micro_batch=5, zero_stage=2, deepspeed=deepspeed)
    return deepspeed_engine.engine_config(config, batch_plan.divide(24, 5, 2))


def test_engine_config_is_made_from_ours():
    made = engine()
    assert made["train_batch_size"] == 24
    assert made["train_micro_batch_size_per_gpu"] * made["gradient_accumulation_steps"] * 2 == 24
    assert made["zero_optimization"]["stage"] == 2
    assert made["gradient_clipping"] == 0.0


def test_raw_keys_are_added():
    made = engine(comms_logger={"enabled": True}, zero_optimization={"stage": 2, "reduce_bucket_size": 1000})
    assert made["comms_logger"] == {"enabled": True}
    assert made["zero_optimization"] == {**engine()["zero_optimization"], "reduce_bucket_size": 1000}
    assert "comms_logger" not in engine()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"train_batch_size": 25}, "deepspeed.train_batch_size"),
        ({"gradient_clipping": 1.0}, "deepspeed.gradient_clipping"),
        ({"zero_optimization": {"stage": 3}}, "deepspeed.zero_optimization.stage"),
        ({"zero_optimization": 3}, "deepspeed.zero_optimization"),
    ],
    ids=str,
)
def test_raw_keys_never_replace_ours(raw, said):
    with pytest.raises(UserError, match=f"{said} is made from our own keys"):
        engine(**raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"bf16": {"enabled": True}}, "deepspeed.bf16 is decided by precision="),
        ({"scheduler": {"type": "WarmupLR"}}, "deepspeed.scheduler is decided by optimizer.schedule="),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "deepspeed.zero_optimization.offload_optimizer is decided by offload_optimizer=",
        ),
    ],
    ids=str,
)
def test_raw_keys_never_decide_what_ours_decide(raw, said):
    with pytest.raises(UserError, match=said):
        engine(**raw)


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_player_has_dropout(recipe, filmed_shards):
    """It would be drawn by torch's generator, and a curve would depend on how a batch is divided."""
    schema, made = RECIPES[recipe]
    settings = config.load(schema, str(ROOT / "tests" / "helpers" / f"tiny_{recipe}.yaml"), [f"shards={filmed_shards}"])
    for player in made(settings).players().values():
        for module in player.module.modules():
            assert not isinstance(module, torch.nn.modules.dropout._DropoutNd) or module.p == 0
            assert not getattr(module, "dropout", 0)


def test_deepspeed_is_touched_in_one_file():
    inside = re.compile(r"^\s*(?:import|from) deepspeed|basic_optimizer|engine\.optimizer", re.MULTILINE)
    found = {path.name for path in (ROOT / "train").glob("*.py") if inside.search(path.read_text())}
    assert found == {"zero.py"}


def test_a_full_disk_is_told_as_one(tmp_path):
    with small_disk(tmp_path / "small", "64k"):
        copy = checkpoint.HostCopy([("motion/weight/w@0", torch.zeros(100_000))])
        with pytest.raises(OSError, match=r"No space left") as told:
            checkpoint.write_rank(copy, tmp_path / "small", 0, 1)
        assert told.value.errno == errno.ENOSPC
        assert "the disk is full" in one_line(told.value)


def game() -> SimpleNamespace:
    """As much of a State of two players as a turn looks at; the critic has a frozen bias."""
    engines = {name: SimpleNamespace(module=torch.nn.Linear(3, 1)) for name in ("painter", "critic")}
    engines["critic"].module.bias.requires_grad_(False)
    cpu = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(engines=engines, config=SimpleNamespace(precision="fp32"), ranks=cpu)


def test_while_a_player_learns_the_others_stand_still():
    """Their weights take no gradient, the gradient passes through them, and all is as before, after an error too."""
    playing = game()
    painter, critic = (engine.module for engine in playing.engines.values())
    with train_state.State.turn(playing, "painter"):
        critic(painter(torch.ones(2, 3)).expand(2, 3)).sum().backward()
    assert all(weight.grad is None for weight in critic.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in painter.parameters())
    with contextlib.suppress(ZeroDivisionError), train_state.State.turn(playing, "critic"):
        assert not any(weight.requires_grad for weight in painter.parameters())
        raise ZeroDivisionError
    learns = {name: weight.requires_grad for name, weight in critic.named_parameters()}
    assert all(weight.requires_grad for weight in painter.parameters())
    assert learns == {"weight": True, "bias": False}, "what is frozen stays frozen"


def test_a_players_loss_calls_its_own_engine_and_the_others_bare():
    playing = game()
    with train_state.State.turn(playing, "painter") as networks:
        assert networks == {"painter": playing.engines["painter"], "critic": playing.engines["critic"].module}
