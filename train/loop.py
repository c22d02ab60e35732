"""The one training loop. It owns batches, accumulation, precision, the guard, EMA, logs, checkpoints, signals.

A recipe brings its networks, its per-example loss and its pictures (see `Recipe`; train/motion.py is one).
The loss of a step is the mean over the global batch of per-example losses, so it does not depend on how the
batch was divided among micro-batches and ranks.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import nn

from data_pipeline import stream
from data_pipeline.batches import Bad, Examples
from data_pipeline.batching import divide
from data_pipeline.slots import Selection, examples_of_epoch
from data_pipeline.store import without_secrets
from mytalk import atomic, command
from mytalk import config as configs
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError
from mytalk.machine import sole_user
from train import checkpoint, zero
from train.board import Board, environment
from train.config import LoopConfig
from train.damaged import Ledger, gathered
from train.ranks import Ranks, StopSignals, join, leave

Networks = Mapping[str, Callable[..., Any]]  # every player's network by name, to be called
NEVER_CHANGED = ("recipe", "model", "extractor", "people", "global_batch")  # by no switch: a slot is step * batch
FINISHED = "finished.json"  # for how many steps and with what the exported model was trained; written last


class Recipe(Protocol):
    """What a model brings to the loop. Players are networks with an optimizer of their own."""

    name: str

    def modules(self) -> dict[str, nn.Module]:
        """The players, freshly initialised, in the order in which they step."""

    @property
    def examples(self) -> Examples:
        """Slots -> batch, of the train split; picklable. See data_pipeline/batches.py."""

    def loss(self, player: str, networks: Networks, batch: Any) -> torch.Tensor:
        """Per-example losses (B,) of a player. The other players' weights take no gradient meanwhile."""

    def fixed(self) -> dict[str, Any]:
        """What a resumed run may not change beside the selection: how examples are made, losses, networks' sizes."""

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        """Scores on people who are not trained on. All ranks call it and get the same answer.

        The last call before `export` is in the same process, of the weights that are exported.
        """

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Pictures of people who are not trained on, (H, W, 3) uint8. Rank 0 calls it."""

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
        """Write the trained networks for `mytalk` to use."""


def arguments(recipe: str, words: str, example: str) -> argparse.ArgumentParser:
    """The command line of `python -m train RECIPE`: what it is for in words, and settings of an example."""
    made = command.parser(
        f"python -m train {recipe}",
        f"{words} Stopped or killed, the same command continues; "
        f"several processes: python -m launch local --processes 2 -- train {recipe} ...",
        f"python -m train {recipe} --config configs/demo/{recipe}.yaml {example}",
    )
    made.add_argument("--config", metavar="FILE", help="YAML of settings; configs/ holds those that ship")
    made.add_argument("settings", nargs="*", metavar="key=value", help="settings that win over the file's")
    return made


def start(config: LoopConfig, make_recipe: Callable[[], Recipe]) -> int:
    """What every recipe's command does: nothing if the model is there, else join the ranks and train.

    Raises UserError where the model that is there was trained with other settings or data.
    """
    run = Path(config.run)
    finished = finished_run(run)
    if not config.shards_until:
        config.shards_until = begun(run).get("shards_until", 0)
    recipe = make_recipe()
    if finished["steps"] >= config.steps:
        refuse_changes(recipe, config, finished["fixed"], config.accept_changes)
        print(f"{run} is already trained for {finished['steps']} steps; raise steps to go on")
        return EXIT_DONE
    joined = join()
    try:
        agree({**fixed(recipe, config), "shards_until": config.shards_until}, joined)
        with sole_user(run, "train") if joined.rank == 0 else contextlib.nullcontext():
            return train(recipe, config, joined)
    finally:
        leave()


def train(recipe: Recipe, config: LoopConfig, ranks: Ranks) -> int:
    """Train until `config.steps`, from the newest checkpoint of the run folder. Returns the exit code."""
    run = Path(config.run)
    batching = divide(config.global_batch, config.max_micro_batch, ranks.world_size)
    torch.manual_seed(config.seed)
    modules = recipe.modules()
    shapes = {p: {n: tuple(w.shape) for n, w in m.named_parameters()} for p, m in modules.items()}
    start, resumed, accepted = 0, None, ""
    if (newest := checkpoint.newest(run)) is not None:
        resumed = checkpoint.load(newest)
        accepted = refuse_changes(recipe, config, resumed.facts["fixed"], config.accept_changes)
        start = resumed.step
        for player, module in modules.items():
            module.load_state_dict(resumed.tensors[player]["weight"], strict=True)
    engines = {p: zero.make_engine(m, config, batching, ranks) for p, m in modules.items()}
    fragments = {player: zero.fragments(engine) for player, engine in engines.items()}
    emas = {player: [f.weight.clone() for f in pieces] for player, pieces in fragments.items()}
    if resumed is not None:
        restore(resumed, engines, fragments, emas)
    plain = recipe.modules()  # for validation and export: whole EMA weights, no engine
    for module in plain.values():
        module.to(ranks.device).eval()
    batches = stream.load(
        stream.SlotStream(
            recipe.examples,
            config.global_batch,
            batching.micro_batch,
            ranks.rank,
            ranks.world_size,
            start,
            config.steps,
        ),
        config.workers,
        pin=ranks.device.type == "cuda",
    )
    cursor = start * config.global_batch
    damaged = Ledger(run, recipe.examples.selection.clips, config.bad_share, cursor, ranks.rank == 0, bool(accepted))
    skipped_in_a_row = 0
    if ranks.rank == 0:
        shared = f"{batching.world_size} x {batching.accumulation} x {batching.micro_batch}"
        note = f"resuming after step {start}" if start else "starting"
        print(f"{recipe.name}: {note}; global batch {config.global_batch} = {shared}; run folder {run}", flush=True)
        if accepted:
            print(f"{recipe.name}: going on with what changed: {accepted}", flush=True)
        print(f"{recipe.name}: {planned(recipe.examples.selection, config)}", flush=True)

    with board_of(run, recipe, config, start, ranks) as board, StopSignals() as stop, contextlib.closing(batches):
        for step in range(start, config.steps):
            began = time.perf_counter()
            waited = 0.0
            totals = torch.zeros(len(engines), dtype=torch.float64, device=ranks.device)
            keys, bad = 0, list[Bad]()
            lr = config.optimizer.lr_at(step, config.steps)
            for engine in engines.values():
                engine.train()
                zero.set_lr(engine, lr)
            for micro in range(batching.accumulation):
                asked = time.perf_counter()
                batch = next(batches).to(ranks.device)
                waited += time.perf_counter() - asked
                keys += key_sum(batch)
                bad += batch.bad
                for index, (player, engine) in enumerate(engines.items()):
                    precise = config.precision == "fp32"
                    with learning(player, engines), torch.autocast(ranks.device.type, torch.bfloat16, not precise):
                        loss_B = recipe.loss(player, called(player, engines), batch)
                    totals[index] += loss_B.detach().double().sum()
                    engine.backward(loss_B.mean())
                if micro < batching.accumulation - 1:
                    for engine in engines.values():
                        engine.step()

            squares = torch.stack([zero.gradient_square_sum(engine) for engine in engines.values()])
            flags = torch.tensor([len(bad), keys, stop.received is not None], dtype=torch.float64)
            agreed = torch.cat([totals, squares, flags.to(ranks.device)])
            dist.all_reduce(agreed)  # the one message of a step beside the gradients: all ranks decide alike
            losses, norms = agreed[: len(engines)] / config.global_batch, agreed[len(engines) : -3].sqrt()
            finite = bool(torch.isfinite(agreed[:-3]).all())
            skipped_in_a_row = 0 if finite else skipped_in_a_row + 1
            for index, engine in enumerate(engines.values()):
                engine.basic_optimizer.skip = not finite
                engine.basic_optimizer.factor = clip_factor(norms[index].item(), config.optimizer.clip_norm)
                engine.step()
            if finite:
                decay = min(config.ema_decay, (1 + step) / (10 + step))
                for player, pieces in fragments.items():
                    for average, piece in zip(emas[player], pieces):
                        average.lerp_(piece.weight, 1 - decay)

            done = step + 1
            stopping = agreed[-1].item() > 0
            if board is not None:
                values = {f"loss/{p}": finite_or_none(losses[i].item()) for i, p in enumerate(engines)}
                values |= {f"grad_norm/{p}": finite_or_none(norms[i].item()) for i, p in enumerate(engines)}
                values |= {"lr": lr, "keys": int(agreed[-2].item())}
                values |= {"seconds": time.perf_counter() - began, "wait_s": waited, "skipped": not finite}
                board.step(done, values, "loss " + " ".join(f"{loss:.4f}" for loss in losses.tolist()))
            if agreed[-3].item():
                damaged.add(gathered(bad, ranks.world_size))
            if skipped_in_a_row > config.max_skipped_steps:
                raise UserError(
                    f"{skipped_in_a_row} steps in a row had a non-finite loss or gradient (slots from "
                    f"{(done - skipped_in_a_row) * config.global_batch}); lower optimizer.lr or use precision=fp32, "
                    f"then run again from {checkpoint.newest(run) or 'the start'}"
                )
            if done % config.checkpoint_every == 0 or done == config.steps or stopping:
                if board is not None:
                    board.flush()
                save(recipe, config, run, done, engines, fragments, emas, shapes, ranks)
            if stopping and done < config.steps:
                if board is not None:
                    board.progress.finish(f"stopped by a signal after step {done}; the same command continues")
                return EXIT_RUN_AGAIN
            if done % config.validate_every == 0 or done == config.steps:
                validate(recipe, fragments, emas, shapes, plain, ranks, board, done)

        if start >= config.steps:  # stopped between the last checkpoint and the export
            validate(recipe, fragments, emas, shapes, plain, ranks, board, start)
        states = {p: gather_ema(fragments[p], emas[p], shapes[p], ranks) for p in engines}
        if board is not None:
            recipe.export(states, run / "model")
            facts = {"fixed": fixed(recipe, config), "shards_until": config.shards_until}
            atomic.write_json(run / FINISHED, {"steps": max(start, config.steps), **facts})
            board.progress.finish()
            print(f"{recipe.name}: trained {config.steps} steps; model in {run / 'model'}", flush=True)
        dist.barrier()
    return EXIT_DONE


def called(player: str, engines: Mapping[str, Any]) -> dict[str, Any]:
    """What a player's loss may call: its engine, and the others' bare modules.

    DeepSpeed hooks the outputs of engines for their own backward, so that another player's loss cannot pass through.
    """
    return {name: engine if name == player else engine.module for name, engine in engines.items()}


@contextlib.contextmanager
def learning(player: str, engines: Mapping[str, Any]) -> Iterator[None]:
    """While a player's loss is computed, the other players' weights take no gradient."""
    still = [w for name, engine in engines.items() if name != player for w in engine.module.parameters()]
    for weight in still:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in still:
            weight.requires_grad_(True)


def finished_run(run: Path) -> dict[str, Any]:
    """What the exported model of a run folder was trained for and with: steps (0 where there is none) and `fixed`."""
    try:
        return {"fixed": {}, **json.loads((run / FINISHED).read_text())}
    except FileNotFoundError:
        return {"steps": 0, "fixed": {}}


def clip_factor(norm: float, limit: float) -> float:
    """What the gradient is multiplied with so that its global norm is at most `limit` (0: no limit)."""
    return min(1.0, limit / (norm + 1e-6)) if limit and math.isfinite(norm) else 1.0


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


def begun(run: Path) -> dict[str, Any]:
    """What the newest checkpoint of a run folder says, or else its exported model; empty where there is neither."""
    newest = checkpoint.newest(run)
    return finished_run(run) if newest is None else checkpoint.read_facts(newest)


def refuse_changes(recipe: Recipe, config: LoopConfig, before: dict[str, Any], accept: bool = False) -> str:
    """UserError where a resumed run would see other data or another network than it began with.

    Other data is taken with `accept`; what changed is returned in words, empty where nothing did.
    """
    now, then = configs.flat(fixed(recipe, config)), configs.flat(before)
    changed = [key for key in {**now, **then} if then.get(key) != now.get(key)]
    told = "; ".join(f"{key}: {then.get(key)} -> {now.get(key)}" for key in changed)
    kept = [key for key in changed if key.split(".")[0] in NEVER_CHANGED]
    if changed and (kept or not accept):
        also = "" if kept else ", go on all the same with accept_changes=true"
        raise UserError(
            f"{config.run} was begun with other settings ({told}); restore them{also}, or name a new folder with "
            "run=..."
        )
    return told


def fixed(recipe: Recipe, config: LoopConfig) -> dict[str, Any]:
    """What may not change over the life of a run: the clips, how they are drawn, and all that the recipe names."""
    return {
        "recipe": recipe.name,
        "seed": config.seed,
        "global_batch": config.global_batch,
        "repeats": {name: float(times) for name, times in config.repeats.items()},
        "selection": recipe.examples.selection.facts(),
        **recipe.fixed(),
    }


def agree(facts: dict[str, Any], ranks: Ranks) -> None:
    """UserError where the processes do not see the same data, as when shards are added while they start."""
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=7).digest()
    own = int.from_bytes(digest, "big")
    ends = torch.tensor([own, -own], dtype=torch.int64, device=ranks.device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    if ends[0].item() != -ends[1].item():
        raise UserError("the processes see different data or settings; wait until writing is done, and run again")


def planned(selection: Selection, config: LoopConfig) -> str:
    """The equal-step plan in a line: clips of each corpus, steps an epoch, epochs of the run."""
    corpora = ", ".join(f"{name} {count}" for name, count in selection.clips.items())
    epoch = examples_of_epoch(selection, config.repeats) / config.global_batch
    return (
        f"{len(selection)} clips ({corpora}): {epoch:.1f} steps an epoch; {config.steps} steps are "
        f"{config.steps / epoch:.1f} epochs"
    )


def board_of(run: Path, recipe: Recipe, config: LoopConfig, start: int, ranks: Ranks):
    """The board of rank 0, in a run folder with config, its difference from the defaults, and environment."""
    if ranks.rank:
        return contextlib.nullcontext()
    run.mkdir(parents=True, exist_ok=True)
    atomic.sweep(run / "checkpoints")
    told = dataclasses.replace(config, shards=without_secrets(config.shards))
    atomic.write_bytes(run / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(told)).encode())
    difference = configs.difference(told, type(config)())
    atomic.write_json(run / "config_changes.json", {key: list(pair) for key, pair in difference.items()})
    atomic.write_json(run / "environment.json", environment())
    return Board(run, start, config.steps, config.log_every)


def gather_ema(pieces: list[zero.Fragment], averages: list[torch.Tensor], shapes: dict, ranks: Ranks):
    """Whole EMA weights on every rank."""
    named = [(piece.name, piece.start, average) for piece, average in zip(pieces, averages)]
    return zero.gather(named, shapes, ranks.device)


def validate(recipe, fragments, emas, shapes, plain, ranks: Ranks, board: Board | None, done: int) -> None:
    """Score people who are not trained on with the EMA weights; rank 0 logs and draws."""
    for player, module in plain.items():
        module.load_state_dict(gather_ema(fragments[player], emas[player], shapes[player], ranks), strict=True)
    with torch.no_grad():
        scores = recipe.validate(plain, ranks)
        if board is not None:
            board.validation(done, scores, recipe.pictures(plain))
            shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
            board.progress.say(f"validation after step {done}: {shown}")
    dist.barrier()


def save(recipe, config: LoopConfig, run: Path, done: int, engines, fragments, emas, shapes, ranks: Ranks) -> None:
    """Write a checkpoint: every rank its fragments, then rank 0 names the folder."""
    folder = checkpoint.temporary(run, done)
    folder.mkdir(parents=True, exist_ok=True)
    pieces: dict[str, dict[str, list]] = {}
    for player, owned in fragments.items():
        pieces[player] = {
            kind: [(f.name, f.start, getattr(f, kind)) for f in owned] for kind in ("weight", *zero.MOMENTS)
        }
        pieces[player]["ema"] = [(f.name, f.start, average) for f, average in zip(owned, emas[player])]
    checkpoint.write_fragments(folder, ranks.rank, ranks.world_size, pieces)
    dist.barrier()
    if ranks.rank == 0:
        facts = {
            "cursor": done * config.global_batch,
            "fixed": fixed(recipe, config),
            "shards_until": config.shards_until,
            "world_size": ranks.world_size,
            "zero_stage": config.zero_stage,
            "adam_steps": {player: zero.adam_steps(engine) for player, engine in engines.items()},
            "shapes": {p: {n: list(s) for n, s in named.items()} for p, named in shapes.items()},
        }
        checkpoint.commit(run, done, facts, ranks.world_size)
        checkpoint.prune(run, config.keep_last, config.keep_every)
    dist.barrier()


def restore(resumed: checkpoint.Checkpoint, engines, fragments, emas) -> None:
    """Put moments, EMA and Adam's step count into the local fragments; the weights are in already."""
    for player, owned in fragments.items():
        tensors = resumed.tensors[player]
        zero.load_moments(engines[player], owned, tensors, resumed.facts["adam_steps"][player])
        for piece, average in zip(owned, emas[player]):
            average.copy_(tensors["ema"][piece.name].view(-1)[piece.start : piece.stop])
