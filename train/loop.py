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
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import divide
from data_pipeline.sample.batches import BadExample
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError
from train.config import RECENT_STEPS, LoopConfig
from train.engine.distributed import Ranks, Stopped
from train.engine.train_state import Outcome, TrainState
from train.recipe import Recipe, Validated
from train.run_folder import checkpoint, resume
from train.run_folder.async_save import AsyncSaver
from train.run_folder.bad_examples import BadExampleLog
from train.run_folder.best import Best
from train.run_folder.run_log import RunLog

LAST = "last"  # folder of a run: the model of its last step, where `model` is the best


@dataclass
class Run:
    """What a run works with on one rank."""

    recipe: Recipe
    config: LoopConfig
    ranks: Ranks
    start: resume.Start
    state: TrainState
    averaged: dict[str, nn.Module]  # the players' networks outside of any engine; `validate` puts EMA weights there
    batches: Generator[Any]
    accumulation: int  # micro-batches of a rank per step
    log: RunLog
    bad_examples: BadExampleLog
    saver: AsyncSaver
    best: Best


def train(recipe: Recipe, config: LoopConfig, ranks: Ranks) -> int:
    """Train until `config.steps`, from the newest checkpoint of the run folder. Returns the exit code."""
    with ranks.watch(f"python -m train {recipe.name}", Path(config.run), config.watchdog_s):
        return steps(prepare(recipe, config, ranks))


def prepare(recipe: Recipe, config: LoopConfig, ranks: Ranks) -> Run:
    """Networks with their weights, engines, batches, logs and the writer of checkpoints."""
    folder, writes = Path(config.run), ranks.rank == 0
    batching = divide(config.global_batch, config.max_micro_batch, ranks.world_size)
    torch.manual_seed(config.seed)
    players = recipe.players()
    start = resume.load_weights(recipe, config, players, ranks)
    best = Best.of(recipe, config, start.checkpoint.facts if start.checkpoint else {})
    averaged = {name: copy.deepcopy(player.module).to(ranks.device).eval() for name, player in players.items()}
    state = TrainState(players, config, batching, ranks)
    if start.checkpoint:
        state.restore(start.checkpoint)
    sizes = config.global_batch, batching.micro_batch, ranks.rank, ranks.world_size
    length_of = recipe.examples.windows.length if config.batch_by_length else None
    slots = loader.SlotStream(recipe.examples, *sizes, start.step, config.steps, length_of)
    batches = loader.load(slots, config.workers, pin=ranks.device.type == "cuda")
    clips, slots_done = recipe.examples.selection.clips, start.step * config.global_batch
    bad_examples = BadExampleLog(folder, clips, config.bad_share, slots_done, writes, bool(start.accepted))
    log = resume.run_log(recipe, config, batching, start, ranks)
    saver = AsyncSaver(config, state.pieces(), log, ranks)
    accumulation = batching.accumulation
    return Run(recipe, config, ranks, start, state, averaged, batches, accumulation, log, bad_examples, saver, best)


def steps(run: Run) -> int:
    """The run itself, to be read from top to bottom. Returns the exit code."""
    recipe, config, ranks, state, log, saver = run.recipe, run.config, run.ranks, run.state, run.log, run.saver
    done, saved, validated_at = run.start.step, run.start.step if run.start.checkpoint else -1, -1

    with log, closing(run.batches), saver:
        try:
            ranks.stop_together()  # a signal may have come while they were starting
            if resume.validates_again(config, run.start):
                validated, validated_at = validate(run, done), done
            for step in range(run.start.step, config.steps):
                if run.best.exhausted(config.patience):
                    break
                rates = state.begin(step)
                own = accumulate(state, run.batches, run.accumulation, step)

                # The one message of a step beside the gradients: from it all ranks decide alike.
                ranks.watchdog.alive(f"waiting for the other ranks at the end of step {step + 1}")
                flags = {"bad": len(own.bad), "keys": own.keys, "stop": ranks.stop.received is not None}
                total = ranks.sum({**state.message(own.losses), **saver.message(), **flags})
                outcome = state.update(step, total)
                done = step + 1
                log.step(done, {**metrics(outcome, rates, state), "keys": int(total["keys"])}, own.wait_s)

                saver.proceed(total)
                forget_lost(run)
                if total["bad"]:
                    run.bad_examples.add(ranks.gather(own.bad))
                if outcome.skipped == "non-finite" and len(state.not_finite) > config.max_skipped_steps:
                    saver.finish()
                    raise UserError(diverged(state, config, done))
                if total["stop"]:
                    raise Stopped
                with log.clock_stopped():
                    validates = done % config.validate_every == 0 and done < config.steps
                    # What `keep_best` may choose has a checkpoint, written first: a kill meanwhile costs nothing.
                    chosen = validates and config.keep_best
                    if done % config.checkpoint_every == 0 or done == config.steps or chosen:
                        save(run, done)
                        saved = done
                    if validates:
                        validated, validated_at = validate(run, done), done
            saver.finish()
            if validated_at != done:
                validated = validate(run, done)
            if run.best.score:
                resume.export(recipe, config, run.averaged, Path(config.run) / LAST, validated, ranks)
                if run.best.step not in (None, done):
                    resume.put_best(config, run.best, run.averaged, ranks)
                    validated = score(run)
        except Stopped:
            if saved != done:
                save(run, done)
            saver.finish()
            log.finish(f"stopped by a signal after step {done}; the same command continues")
            return EXIT_RUN_AGAIN
        resume.export(recipe, config, run.averaged, Path(config.run) / "model", validated, ranks)
        resume.finish(recipe, config, run.best, ranks, done)
        log.finish()
    if ranks.rank == 0:
        chosen = f" is the best: {run.best.words()}; the last in {Path(config.run) / LAST}" if run.best.score else ""
        print(f"{recipe.name}: trained {done} steps; model in {Path(config.run) / 'model'}{chosen}", flush=True)
    return EXIT_DONE


def save(run: Run, done: int) -> None:
    """Begin a checkpoint. All ranks call it."""

    def facts() -> dict[str, Any]:
        forget_lost(run)  # the checkpoint before this one, settled by now, may be lost
        return resume.checkpoint_facts(run.recipe, run.config, run.ranks, run.state, run.best, done)

    run.saver.save(done, facts)


def forget_lost(run: Run) -> None:
    """Steps whose checkpoint could not be written cannot be the best."""
    while run.saver.lost:
        run.best.forget(run.saver.lost.pop())


@dataclass
class StepSums:
    """What one rank adds up over the micro-batches of a step."""

    losses: dict[str, torch.Tensor] = field(default_factory=dict)  # sums over examples, by player and by player/term
    keys: int = 0  # see `key_sum`
    bad: list[BadExample] = field(default_factory=list)
    wait_s: float = 0.0  # for data


def accumulate(state: TrainState, batches: Iterator[Any], accumulation: int, step: int) -> StepSums:
    """Forward and backward of a rank's micro-batches of a step; the gradients are then in the engines."""
    sums, watchdog = StepSums(), state.ranks.watchdog
    for micro in range(accumulation):
        watchdog.alive(f"waiting for a batch of step {step + 1}")
        wait_began = time.perf_counter()
        batch = next(batches)
        sums.wait_s += time.perf_counter() - wait_began
        watchdog.alive(f"computing step {step + 1}")
        sums.keys += key_sum(batch)  # before it moves: on a GPU this would wait for all that is under way
        sums.bad += batch.bad
        batch = batch.to(state.ranks.device)
        outputs: dict[str, Any] = {}
        for name, player in state.players.items():
            with state.turn(name) as networks:
                loss = player.loss_of(networks, batch, outputs)
            outputs[name] = loss.output
            for term, values_B in {"": loss.total_B, **loss.terms}.items():
                label = f"{name}/{term}" if term else name
                sums.losses[label] = sums.losses.get(label, 0.0) + values_B.detach().double().sum()
            state.backward(name, loss.total_B, last=micro == accumulation - 1)
    return sums


def validate(run: Run, done: int) -> Validated:
    """Score people who are not trained on with the EMA weights, put into `run.averaged`; rank 0 logs and draws.

    Raises Stopped on all ranks where one gets a signal meanwhile.
    """
    recipe, ranks = run.recipe, run.ranks
    ranks.watchdog.alive(f"validating after step {done}")
    run.state.put_averages(run.averaged)
    validated = score(run)
    run.best.add(done, validated.scores)
    with torch.no_grad():
        run.log.validation(done, validated.scores, recipe.pictures(run.averaged) if ranks.rank == 0 else {})
    if validated.at_chance:
        run.log.warn(done, f"{recipe.name} after step {done} of {run.config.steps}: {validated.at_chance}")
    ranks.wait()
    return validated


@torch.no_grad()
def score(run: Run) -> Validated:
    """Scores of the weights that `run.averaged` holds. Raises Stopped as `validate` does."""
    return Validated.of(run.recipe.validate(run.averaged, run.ranks))


def metrics(outcome: Outcome, rates: dict[str, float], state: TrainState) -> dict[str, Any]:
    """What is logged of a step's outcome."""
    values: dict[str, Any] = {}
    for player, rate in rates.items():
        values[f"loss/{player}"] = finite_or_none(outcome.losses[player])
        values[f"grad_norm/{player}"] = finite_or_none(outcome.norms[player])
        values[f"lr/{player}"] = rate
    values |= {f"loss/{term}": finite_or_none(value) for term, value in outcome.terms.items()}
    if state.scale.patience:
        values["loss_scale"] = state.scale.value
    return {**values, "skipped": outcome.skipped, "skipped_steps": state.skipped}


def diverged(state: TrainState, config: LoopConfig, done: int) -> str:
    """The message where too many steps were not finite: going on would hide it."""
    return (
        f"{len(state.not_finite)} of the last {min(done, RECENT_STEPS)} steps had a non-finite loss or gradient, "
        f"step {done} (slots up to {done * config.global_batch - 1}) among them; lower optimizer.lr or use "
        f"precision=fp32, then run again from {checkpoint.newest(Path(config.run)) or 'the start'}"
    )


def finite_or_none(value: float) -> float | None:
    """The value for JSON, which has no NaN or infinity: None in their place."""
    return value if math.isfinite(value) else None


def key_sum(batch: Any) -> int:
    """A number that tells which windows of which clips a batch held, whatever their order or grouping."""
    total = 0
    for slot, key, start in zip(batch.slots_B.tolist(), batch.keys_B, batch.starts_B.tolist()):
        named = hashlib.blake2b(f"{slot}:{key}:{start}".encode(), digest_size=5).digest()
        total += int.from_bytes(named, "big")  # 40 bits: sums of up to 8192 stay exact in float64
    return total
