"""The one training loop. It owns batches, accumulation, precision, the guard, EMA, logs, checkpoints, signals.

A recipe brings its players, each with a per-example loss (train/recipe.py; docs/training.md shows a whole one). The
loss of a step is the mean over the global batch of per-example losses, so it does not depend on how the batch was
divided among micro-batches and ranks.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import divide
from data_pipeline.sample.batches import BadExample
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError
from train.config import LATELY, LoopConfig
from train.engine.distributed import Ranks, Stopped
from train.engine.train_state import Outcome, State
from train.engine.watchdog import Watchdog
from train.recipe import Recipe
from train.run_folder import checkpoint, resume
from train.run_folder.async_save import Saver
from train.run_folder.bad_examples import Ledger
from train.run_folder.run_log import Board


def train(recipe: Recipe, config: LoopConfig, ranks: Ranks) -> int:
    """Train until `config.steps`, from the newest checkpoint of the run folder. Returns the exit code."""
    with ranks.watch(f"python -m train {recipe.name}", Path(config.run), config.watchdog_s) as watchdog:
        return steps(recipe, config, ranks, watchdog)


def steps(recipe: Recipe, config: LoopConfig, ranks: Ranks, watchdog: Watchdog) -> int:
    """The run itself, to be read from top to bottom."""
    run, writes = Path(config.run), ranks.rank == 0
    batching = divide(config.global_batch, config.max_micro_batch, ranks.world_size)
    torch.manual_seed(config.seed)
    players = recipe.players()
    begun = resume.weights(recipe, config, players, ranks)
    plain = {p: copy.deepcopy(one.module).to(ranks.device).eval() for p, one in players.items()}  # never in an engine
    state = State(players, config, batching, ranks)
    if begun.checkpoint:
        state.restore(begun.checkpoint)
    slots = loader.SlotStream(
        recipe.examples,
        config.global_batch,
        batching.micro_batch,
        ranks.rank,
        ranks.world_size,
        begun.step,
        config.steps,
    )
    batches = loader.load(slots, config.workers, pin=ranks.device.type == "cuda")
    clips = recipe.examples.selection.clips
    damaged = Ledger(run, clips, config.bad_share, begun.step * config.global_batch, writes, bool(begun.accepted))
    board = resume.board(recipe, config, batching, begun, ranks)
    saver = Saver(config, state.pieces(), board, ranks)
    done, saved = begun.step, begun.step if begun.checkpoint else -1

    with board, closing(batches), saver:
        try:
            ranks.stop_together()  # told to while they were starting
            for step in range(begun.step, config.steps):
                rates, keys, bad, waited_s = state.begin(step), 0, list[BadExample](), 0.0
                totals = {p: torch.zeros((), dtype=torch.float64, device=ranks.device) for p in players}
                for micro in range(batching.accumulation):
                    watchdog.alive(f"waiting for a batch of step {step + 1}")
                    asked = time.perf_counter()
                    batch = next(batches)
                    waited_s += time.perf_counter() - asked
                    watchdog.alive(f"computing step {step + 1}")
                    keys += key_sum(batch)  # while it is here: on a GPU it would wait for all that is under way
                    bad += batch.bad
                    batch = batch.to(ranks.device)
                    for name, player in players.items():
                        with state.turn(name) as networks:
                            loss_B = player.loss(networks, batch)
                        totals[name] += loss_B.detach().double().sum()
                        state.backward(name, loss_B, last=micro == batching.accumulation - 1)

                # The one message of a step beside the gradients: from it all ranks decide alike.
                watchdog.alive(f"waiting for the other ranks at the end of step {step + 1}")
                flags = {"bad": len(bad), "keys": keys, "stop": ranks.stop.received is not None}
                said = ranks.sum({**state.says(totals), **saver.says(), **flags})
                outcome = state.update(step, said)
                done = step + 1
                board.step(done, {**told(outcome, rates, state), "keys": int(said["keys"])}, waited_s)

                saver.proceed(said)
                if said["bad"]:
                    damaged.add(ranks.gather(bad))
                if outcome.skipped == "non-finite" and len(state.not_finite) > config.max_skipped_steps:
                    saver.finish()
                    raise UserError(lost(state, config, done))
                if said["stop"]:
                    raise Stopped
                with board.apart():
                    if done % config.checkpoint_every == 0 or done == config.steps:
                        saver.save(done, resume.facts(recipe, config, ranks, state, done))
                        saved = done
                    if done % config.validate_every == 0 and done < config.steps:
                        validate(recipe, state, plain, board, ranks, done)
            saver.finish()
            validate(recipe, state, plain, board, ranks, done)
        except Stopped:
            if saved != done:
                saver.save(done, resume.facts(recipe, config, ranks, state, done))
            saver.finish()
            board.finish(f"stopped by a signal after step {done}; the same command continues")
            return EXIT_RUN_AGAIN
        resume.export(recipe, config, plain, ranks, done)
        board.finish()
    if writes:
        print(f"{recipe.name}: trained {done} steps; model in {run / 'model'}", flush=True)
    return EXIT_DONE


def validate(recipe: Recipe, state: State, plain: dict[str, nn.Module], board: Board, ranks: Ranks, done: int) -> None:
    """Score people who are not trained on with the EMA weights, which `plain` then holds; rank 0 logs and draws.

    Raises Stopped on all ranks where one was told to stop meanwhile.
    """
    ranks.watchdog.alive(f"validating after step {done}")
    state.put_averages(plain)
    with torch.no_grad():
        scores = recipe.validate(plain, ranks)
        board.validation(done, scores, recipe.pictures(plain) if ranks.rank == 0 else {})
    if line := recipe.at_chance():
        board.warn(done, f"{recipe.name} after step {done} of {state.config.steps}: {line}")
    ranks.wait()


def told(outcome: Outcome, rates: dict[str, float], state: State) -> dict[str, Any]:
    """What is logged of a step's outcome."""
    values: dict[str, Any] = {}
    for player, rate in rates.items():
        values[f"loss/{player}"] = finite_or_none(outcome.losses[player])
        values[f"grad_norm/{player}"] = finite_or_none(outcome.norms[player])
        values[f"lr/{player}"] = rate
    if state.scale.patience:
        values["loss_scale"] = state.scale.value
    return {**values, "skipped": outcome.skipped, "skipped_steps": state.skipped}


def lost(state: State, config: LoopConfig, done: int) -> str:
    """What to say where too many steps were not finite: going on would hide it."""
    return (
        f"{len(state.not_finite)} of the last {min(done, LATELY)} steps had a non-finite loss or gradient, step {done} "
        f"(slots up to {done * config.global_batch - 1}) among them; lower optimizer.lr or use precision=fp32, "
        f"then run again from {checkpoint.newest(Path(config.run)) or 'the start'}"
    )


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: None stands for it."""
    return value if math.isfinite(value) else None


def key_sum(batch: Any) -> int:
    """A number that tells which windows of which clips a batch held, whatever their order or grouping."""
    total = 0
    for slot, key, start in zip(batch.slots_B.tolist(), batch.keys_B, batch.starts_B.tolist()):
        named = hashlib.blake2b(f"{slot}:{key}:{start}".encode(), digest_size=5).digest()
        total += int.from_bytes(named, "big")  # 40 bits: sums of up to 8192 stay exact in float64
    return total
