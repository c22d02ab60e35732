"""Training as a whole: sameness over world sizes and ZeRO stages, resuming, stopping, refusing.

One process group per world size trains all runs that the selected tests name (tests/helpers/train_matrix.py).
"""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mytalk.machine import sole_user
from mytalk.networks.motion.files import load_model
from tests.helpers import talkers
from tests.helpers.appearance_models import pixel_syncnet
from tests.helpers.checkout import ROOT, stopped
from tests.helpers.training import PLAYERS, STAGES, TINY, Leg, curve, logged, names_needed, tiny, train_runs
from train import loop
from train.run_folder import checkpoint

GOLDEN = ROOT / "tests" / "golden"
OTHERS = ("identity", "syncnet", "appearance")
SHORT = 8  # steps of the runs that are compared with the first steps of those with golden losses
# World size, ZeRO stage, micro-batch: of a global batch of 8 that is accumulation 4, 2, 4, 2; then 1, 2, 1, 1, 1.
# Every world size and stage once for each kind of loop, of one player and of two; the rest is full.
# test_sameness.py has every combination.
SOON = [(1, 3, 2), (2, 0, 2), (2, 2, 1), (4, 1, 1)]
SOON_OF = {"motion": SOON, "appearance": SOON, "identity": SOON[:2], "syncnet": SOON[2:3]}
DIVIDED = [*SOON, (1, 1, 8), (1, 2, 4), (2, 1, 4), (2, 3, 4), (4, 3, 2)]
DIVISIONS = dict.fromkeys(OTHERS, DIVIDED) | {"motion": [*DIVIDED, (4, 0, 2), (4, 2, 1)]}
DROPPED = [(2, 3, 1), (1, 1, 2), (4, 2, 2)]  # as above, with dropout; the first soon
WORLD_SIZES = (1, 2, 4, 1)  # of the process groups, in the order in which they train


def matrix() -> dict[str, list[Leg]]:
    """All runs of this file, by name. Those with golden losses are the reference of all others of their recipe."""
    runs = {f"{recipe}-golden": [Leg(0, recipe, ("steps=20",))] for recipe in PLAYERS}
    runs["motion-longer"] = [Leg(0, "motion", ("steps=60",))]
    runs["motion-whole"] = [Leg(0, "motion", ("steps=12",))]
    for recipe, divisions in DIVISIONS.items():
        for world_size, stage, micro in divisions:
            settings = (f"zero_stage={stage}", f"max_micro_batch={micro}", f"steps={SHORT}", "workers=0")
            leg = Leg(WORLD_SIZES.index(world_size), recipe, settings)
            runs[f"{recipe}-w{world_size}z{stage}"] = [leg]
        bf16 = ("precision=bf16", f"zero_stage={2 if recipe == 'motion' else 1}", f"steps={SHORT}")
        runs[f"{recipe}-bf16"] = [Leg(1, recipe, bf16)]
    dealt = ("batch_by_length=true", "overlap_comm=true", "max_micro_batch=2")
    runs["motion-by-length"] = [
        Leg(1, "motion", (*dealt, "zero_stage=2", "steps=3")),
        Leg(2, "motion", (*dealt, "zero_stage=1", f"steps={SHORT}")),
    ]
    for world_size, stage, micro in ((1, 0, 8), *DROPPED):
        settings = (f"zero_stage={stage}", f"max_micro_batch={micro}", f"steps={SHORT}", "workers=0", "dropout=0.2")
        runs[f"dropout-w{world_size}z{stage}"] = [Leg(WORLD_SIZES.index(world_size), "motion", settings)]
    for recipe in OTHERS:
        parts = [(0, 3, 0), (1, 6, 3), (3, SHORT, 1)]
        runs[f"{recipe}-chain"] = [
            Leg(group, recipe, (f"steps={steps}", f"zero_stage={stage}", "max_micro_batch=4"))
            for group, steps, stage in parts
        ]
    parts_and_workers = [(0, 5, 1, 0), (1, 8, 3, 2), (2, 10, 0, 1), (3, 12, 2, 1)]
    runs["motion-chain"] = [
        Leg(group, "motion", (f"steps={steps}", f"zero_stage={stage}", f"workers={workers}", "max_micro_batch=8"))
        for group, steps, stage, workers in parts_and_workers
    ]
    # Moved references show the drawn discs of these shards as they are: nothing would be left to learn.
    runs["appearance-alone"] = [Leg(0, "appearance", ("steps=20", "adversarial_weight=0", "model.base=mean"))]
    sync = ("losses.sync=0.5", "losses.sync_share=0.4", "losses.syncnet=SYNCNET", "workers=0")
    runs["sync-whole"] = [Leg(0, "appearance", (*sync, "steps=5"))]
    runs["sync-chain"] = [
        Leg(1, "appearance", (*sync, "steps=3", "zero_stage=3", "max_micro_batch=1")),
        Leg(3, "appearance", (*sync, "steps=5", "zero_stage=1", "max_micro_batch=4")),
    ]
    for name, config, stages in (("poisoned", "motion", STAGES), ("poisoned-critic", "appearance", (0, 2, 3))):
        for stage in stages:
            settings = (f"zero_stage={stage}", "steps=6", "checkpoint_every=1", "keep_last=9")
            runs[f"{name}-z{stage}"] = [Leg(1, name, settings, config)]
    return runs


@pytest.fixture(scope="module")
def runs(request, filmed_shards, tmp_path_factory) -> Path:
    """The folder of those runs that the selected tests name in their `trains` markers."""
    folder, known = tmp_path_factory.mktemp("runs"), matrix()
    needed = {name: known[name] for name in names_needed(request)}
    if "sync-chain" in needed:
        taught = str(pixel_syncnet(folder / "pixels"))
        needed |= {
            name: [replace(leg, settings=tuple(one.replace("SYNCNET", taught) for one in leg.settings)) for leg in legs]
            for name, legs in needed.items()
            if name.startswith("sync-")
        }
    train_runs(folder, filmed_shards, WORLD_SIZES, needed)
    return folder


def soon(*values, when: bool):
    """These parameters of a test; left to `make test-full` unless `when`."""
    return pytest.param(*values, marks=() if when else pytest.mark.full)


@pytest.mark.parametrize(
    ("recipe", "world_size", "stage"),
    [
        soon(recipe, world_size, stage, when=(world_size, stage, micro) in SOON_OF[recipe])
        for recipe, divisions in DIVISIONS.items()
        for world_size, stage, micro in divisions
    ],
)
@pytest.mark.trains("{recipe}-golden", "{recipe}-w{world_size}z{stage}")
def test_invariant_2_same_curve_at_any_world_size_and_stage(runs, recipe, world_size, stage):
    """Loss and gradient norm of every step and player, and the clips consumed, against one process at ZeRO 0."""
    run, reference = runs / f"{recipe}-w{world_size}z{stage}", runs / f"{recipe}-golden"
    np.testing.assert_array_equal(curve(run, "keys"), curve(reference, "keys")[:SHORT])
    for player in PLAYERS[recipe]:
        loss, norm = f"loss/{player}", f"grad_norm/{player}"
        np.testing.assert_allclose(curve(run, loss), curve(reference, loss)[:SHORT], rtol=1e-4)
        np.testing.assert_allclose(curve(run, norm), curve(reference, norm)[:SHORT], rtol=1e-3)


@pytest.mark.trains("motion-golden", "motion-by-length")
def test_invariant_2_holds_by_length_and_with_overlapped_communication(runs):
    """Other examples meet in a micro-batch, and not as many in each; the step's, and so its loss and gradient, are the
    same: on two processes, and on four that resume.
    """
    run, reference = runs / "motion-by-length", runs / "motion-golden"
    np.testing.assert_array_equal(curve(run, "keys"), curve(reference, "keys")[:SHORT])
    np.testing.assert_allclose(curve(run), curve(reference)[:SHORT], rtol=1e-4)
    np.testing.assert_allclose(curve(run, "grad_norm/motion"), curve(reference, "grad_norm/motion")[:SHORT], rtol=1e-3)


@pytest.mark.parametrize(("world_size", "stage"), [soon(*each[:2], when=each == DROPPED[0]) for each in DROPPED])
@pytest.mark.trains("motion-golden", "dropout-w1z0", "dropout-w{world_size}z{stage}")
def test_invariant_2_holds_with_dropout(runs, world_size, stage):
    """Masks are the slot's: the same curve, and another one than without."""
    own, reference = curve(runs / f"dropout-w{world_size}z{stage}"), curve(runs / "dropout-w1z0")
    np.testing.assert_allclose(own, reference, rtol=1e-4)
    assert np.abs(reference / curve(runs / "motion-golden")[:SHORT] - 1).max() > 1e-3


@pytest.mark.trains("sync-whole", "sync-chain")
def test_invariants_1_and_2_hold_with_the_frames_near_some_targets(runs):
    """Micro-batches, one example each at two processes and ZeRO 3, paint as many frames as their slots ask; resumed."""
    run, reference = runs / "sync-chain", runs / "sync-whole"
    for name in ("loss/generator", "loss/discriminator", "loss/generator/sync"):
        np.testing.assert_allclose(curve(run, name), curve(reference, name), rtol=1e-4)
    assert (curve(run, "loss/generator/sync") > 0).all()


@pytest.mark.parametrize("recipe", PLAYERS)
@pytest.mark.trains("{recipe}-golden", "{recipe}-chain")
def test_invariant_1_same_curve_when_resumed_at_other_sizes_and_stages(runs, recipe):
    """Stopped after 3 and 6 steps (motion: 5, 8 and 10), resumed at other world sizes and ZeRO stages."""
    run, reference = runs / f"{recipe}-chain", runs / f"{recipe}-golden"
    steps = 12 if recipe == "motion" else SHORT
    np.testing.assert_array_equal(curve(run, "keys"), curve(reference, "keys")[:steps])
    for player in PLAYERS[recipe]:
        np.testing.assert_allclose(curve(run, f"loss/{player}"), curve(reference, f"loss/{player}")[:steps], rtol=1e-4)


@pytest.mark.trains("motion-whole", "motion-chain")
def test_exported_ema_is_the_same_after_the_chain(runs):
    """What a user takes away does not depend on the machines that made it: 1e-4 of the weights' norm, as of the losses.

    Not weight by weight: where rounding moves a prediction across its target, the gradient of L1 changes its sign, and
    Adam turns the little that differs into a good part of a step (1e-3) for weights that hardly have a gradient.
    """
    ours, theirs = (
        torch.cat([weight.flatten() for weight in load_model(runs / name / "model").state_dict().values()])
        for name in ("motion-chain", "motion-whole")
    )
    assert torch.linalg.norm(ours - theirs) < 1e-4 * torch.linalg.norm(theirs)
    assert (ours - theirs).abs().max() < 1e-3
    whom = [(runs / name / "model" / "trained_on.json").read_text() for name in ("motion-chain", "motion-whole")]
    assert whom[0] == whom[1], "nor does whom it was trained on"


@pytest.mark.parametrize(
    ("name", "score", "better"),
    [
        ("motion-longer", "loss", lambda first, last: last < 0.985 * first),
        ("identity-golden", "cosine_different", lambda first, last: last < first - 0.02),
        ("syncnet-golden", "two_way_accuracy", lambda first, last: last > 0.75 > 0.65 > first),
        ("appearance-alone", "l1", lambda first, last: last < 0.97 * first),
    ],
)
@pytest.mark.trains("{name}")
def test_training_learns(runs, name, score, better):
    """In 20 or 60 steps, on people not trained on, at times that stay: a training loss jumps with its times."""
    lines = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    scores = [line["validation"][score] for line in lines if "validation" in line]
    assert len(scores) >= 4
    assert better(scores[0], scores[-1]), scores


@pytest.mark.parametrize("recipe", PLAYERS)
@pytest.mark.trains("{recipe}-golden")
def test_golden_losses(runs, recipe):
    """The first 20 steps of every player as recorded; `make golden` rewrites the record on purpose."""
    losses = {f"loss/{player}": curve(runs / f"{recipe}-golden", f"loss/{player}") for player in PLAYERS[recipe]}
    file = GOLDEN / f"{recipe}.json"
    if os.environ.get("MYTALK_WRITE_GOLDEN"):
        record = {name: [round(x, 7) for x in values.tolist()] for name, values in losses.items()}
        file.write_text(json.dumps(record, indent=1) + "\n")
    golden = json.loads(file.read_text())
    assert set(golden) == set(losses)
    for name, values in losses.items():
        np.testing.assert_allclose(values, golden[name], rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("stage", [soon(stage, when=stage in (0, 3)) for stage in STAGES])
@pytest.mark.trains("poisoned-z{stage}", "motion-golden")
def test_a_gradient_that_is_not_a_number_skips_the_step_on_every_rank(runs, stage):
    """One example of rank 1 poisons step 4: nothing is learnt from it, and training goes on as if unharmed."""
    run, healthy = runs / f"poisoned-z{stage}", runs / "motion-golden"
    losses = curve(run)
    assert np.isnan(losses).tolist() == [False, False, False, True, False, False]
    np.testing.assert_allclose(losses[:3], curve(healthy)[:3], rtol=1e-4)
    before, after, later = (
        checkpoint.load(run / "checkpoints" / checkpoint.folder_name(step)).tensors["motion"] for step in (3, 4, 5)
    )
    for kind in checkpoint.KINDS:  # weights, both moments, EMA
        for name, value in after[kind].items():
            assert torch.equal(value, before[kind][name]), f"{kind} of {name} changed in the skipped step"
            assert value.isfinite().all()
        assert any(not torch.equal(later[kind][name], after[kind][name]) for name in after[kind])


@pytest.mark.parametrize("stage", [soon(stage, when=stage == 2) for stage in (0, 2, 3)])
@pytest.mark.trains("poisoned-critic-z{stage}")
def test_a_gradient_of_one_player_that_is_not_a_number_skips_the_step_of_all(runs, stage):
    """The discriminator's in step 4; the generator's are finite, and it learns nothing either."""
    run = runs / f"poisoned-critic-z{stage}"
    losses = {player: np.isnan(curve(run, f"loss/{player}")).tolist() for player in PLAYERS["appearance"]}
    assert losses == {"generator": [False] * 6, "discriminator": [False] * 3 + [True] + [False] * 2}
    before, after, later = (
        checkpoint.load(run / "checkpoints" / checkpoint.folder_name(step)).tensors for step in (3, 4, 5)
    )
    for player in PLAYERS["appearance"]:
        for kind in checkpoint.KINDS:
            for name, value in after[player][kind].items():
                assert torch.equal(value, before[player][kind][name]), f"{kind} of {name} changed in the skipped step"
        assert any(not torch.equal(v, after[player]["weight"][name]) for name, v in later[player]["weight"].items())


@pytest.mark.parametrize("recipe", PLAYERS)
@pytest.mark.trains("{recipe}-bf16", "{recipe}-golden")
def test_bf16_follows_fp32(runs, recipe):
    """bf16 keeps 8 bits: the curves stay near, and are not the same.

    Of the generator its L1: once the adversary plays, the rest is a ratio of two gradients times its score, near 0.
    """
    for player in PLAYERS[recipe]:
        key = "loss/generator/l1" if player == "generator" else f"loss/{player}"
        ours = curve(runs / f"{recipe}-bf16", key)
        theirs = curve(runs / f"{recipe}-golden", key)[: len(ours)]
        np.testing.assert_allclose(ours, theirs, rtol=0.1)
        assert not np.allclose(ours, theirs, rtol=1e-6), "bf16 was switched on"


@pytest.mark.trains("motion-w2z2")
def test_the_run_folder_tells_what_happened(runs):
    run = runs / "motion-w2z2"
    for name in ("config.yaml", "config_changes.json", "environment.json", "metrics.jsonl"):
        assert (run / name).is_file(), name
    assert json.loads((run / "config_changes.json").read_text())["zero_stage"] == [0, 2]
    assert list((run / "tensorboard").iterdir())
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000005", "step-000008"]


@pytest.mark.trains("motion-golden")
def test_stopped_by_a_signal_it_continues_when_typed_again(filmed_shards, tmp_path, command, runs):
    """TERM: the step is finished, a checkpoint written, exit 75. The same command then ends like an unhurt run."""
    run = tmp_path / "run"
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}"]
    code, said = stopped(typed, lambda: logged(run, 2))
    assert code == 75, said
    assert "the same command continues" in said
    again = command(*typed)
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stdout
    np.testing.assert_allclose(curve(run), curve(runs / "motion-golden")[:12], rtol=1e-4)
    third = command(*typed)
    assert third.returncode == 0
    assert "already trained" in third.stdout


@pytest.mark.parametrize(("sent", "processes"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGUSR1, 2)])
def test_a_signal_to_the_whole_group_spares_the_workers(filmed_shards, tmp_path, sent, processes):
    """As Ctrl-C and cluster schedulers send it: the processes that make batches get it too."""
    run = tmp_path / "run"
    typed = ["train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=4000"]
    typed = ["-m", *(["launch", "local", "--processes", "2", "--"] if processes == 2 else []), *typed]
    settings = ["workers=2", "validate_every=4000", "checkpoint_every=4000"]
    code, said = stopped([*typed, *settings], lambda: logged(run, 2), sent, group=True)
    assert code == 75, said
    assert "the same command continues" in said
    assert list((run / "checkpoints").glob("step-*"))


def test_a_model_of_fewer_steps_is_not_taken_for_finished(filmed_shards, tmp_path, command):
    """Killed between the last checkpoint and the export, a longer run still exports its own model."""
    run = tmp_path / "run"
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}"]
    assert command(*typed, "steps=2").returncode == 0
    old = (run / "model" / "model.safetensors").read_bytes()
    finished = (run / "finished.json").read_text()
    assert command(*typed, "steps=4").returncode == 0
    new = (run / "model" / "model.safetensors").read_bytes()
    (run / "model" / "model.safetensors").write_bytes(old)
    (run / "finished.json").write_text(finished)
    again = command(*typed, "steps=4")
    assert again.returncode == 0, again.stderr
    assert (run / "model" / "model.safetensors").read_bytes() == new != old


def test_damaged_shards_stop_the_run_in_one_line(tmp_path, command):
    """A shard that is gone, or torn so that more than a corpus's share is lost: one line, and the fix."""
    for damage, said in ((lambda path: path.unlink(), "no such file"), (lambda path: os.truncate(path, 9), "mend")):
        shards = talkers.write(tmp_path / said.replace(" ", "-"), {"train": 3, "val": 1})
        damage(shards / "motion-000000.tar")
        run = tmp_path / f"run-{said.replace(' ', '-')}"
        done = command("-m", "train", "motion", "--config", TINY, f"shards={shards}", f"run={run}")
        assert done.returncode == 1
        assert said in done.stderr
        assert len([line for line in done.stderr.splitlines() if "error" in line]) == 1
        assert "Traceback" not in done.stderr


def test_one_run_folder_serves_one_run_at_a_time(filmed_shards, tmp_path, command):
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={tmp_path}", "steps=1"]
    with sole_user(tmp_path, "train"):
        refused = command(*typed)
    assert refused.returncode == 1
    assert "another train is at work" in refused.stderr


@pytest.mark.trains("motion-golden")
def test_stopped_at_world_size_2_it_continues_at_1(filmed_shards, tmp_path, command, runs):
    """TERM to the launcher reaches both ranks; they agree on the step after which they stop."""
    run = tmp_path / "run"
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    long = ["steps=4000", "checkpoint_every=4000", "validate_every=4000"]
    code, said = stopped([*launch, *typed, *long], lambda: logged(run, 2))
    assert code != 0
    assert "the same command continues" in said
    (saved,) = (run / "checkpoints").glob("step-*")
    again = command(*typed, f"steps={max(checkpoint.step_of(saved) + 1, 12)}")
    assert again.returncode == 0, again.stderr
    np.testing.assert_allclose(curve(run)[:12], curve(runs / "motion-golden")[:12], rtol=1e-4)


def test_a_torn_checkpoint_is_never_loaded(filmed_shards, tmp_path, command):
    """Leftovers of a killed write are ignored and swept; a damaged file is named, with the way out."""
    run = tmp_path / "run"
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}"]
    assert command(*typed, "steps=2").returncode == 0
    torn = run / "checkpoints" / ".tmp-step-000004"
    torn.mkdir()
    (torn / "rank-00000-of-00001.safetensors").write_bytes(b"half")
    assert command(*typed, "steps=3").returncode == 0
    assert not torn.exists()
    weights = run / "checkpoints" / "step-000003" / "rank-00000-of-00001.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    refused = command(*typed, "steps=4")
    assert refused.returncode == 1
    assert "damaged" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.widht=64"], "did you mean 'model.width'"),
        (["precision=fp8"], "precision must be fp32, bf16 or fp16"),
        (["zero_stage=5"], "zero_stage must be 0, 1, 2 or 3"),
        (["model.width=30"], "must be a multiple of"),
        (["window.min_frames=90"], "window.min_frames 90"),
        (["shards=nowhere"], "is missing"),
        (["steps=ten"], "steps"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(filmed_shards, tmp_path, command, settings, said):
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={tmp_path / 'run'}"]
    refused = command(*typed, *settings)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_seed_neither_resumes_nor_passes_for_trained(filmed_shards, tmp_path, command):
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={tmp_path / 'run'}"]
    assert command(*typed, "steps=1").returncode == 0
    for steps in (1, 2):
        refused = command(*typed, f"steps={steps}", "seed=9")
        assert refused.returncode == 1
        assert "seed: 1 -> 9" in refused.stderr


def test_stopped_between_checkpoint_and_export_it_still_measures_what_it_exports(filmed_shards, tmp_path, command):
    """The facts beside a SyncNet's weights come from the last validation, which a kill can have cut off."""
    run = tmp_path / "run"
    typed = ["-m", "train", "syncnet", "--config", tiny("syncnet"), f"shards={filmed_shards}", f"run={run}", "steps=2"]
    assert command(*typed).returncode == 0
    exported = (run / "model" / "config.json").read_text()
    assert "validation" in json.loads(exported)["facts"]
    (run / "finished.json").unlink()
    (run / "model" / "config.json").unlink()
    again = command(*typed)
    assert again.returncode == 0, again.stderr
    assert (run / "model" / "config.json").read_text() == exported


# What a step logs


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


def test_json_has_no_nan():
    assert [loop.finite_or_none(value) for value in (1.5, math.nan, math.inf)] == [1.5, None, None]
