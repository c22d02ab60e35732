"""Resuming a run and closing it: settings that may not change, the weights to start from, the folder, the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import nn

from data_pipeline.sample import trained_on
from data_pipeline.sample.batch_plan import Batching
from data_pipeline.sample.order import examples_of_epoch
from data_pipeline.sample.selection import Selection
from data_pipeline.sample.trained_on import TrainedOn
from data_pipeline.storage.faults import without_secrets
from mytalk import atomic
from mytalk import config as configs
from mytalk.command import UserError
from train.config import LoopConfig
from train.engine import deepspeed_config
from train.engine.distributed import Ranks
from train.engine.train_state import TrainState, put
from train.recipe import Player, Recipe, Validated
from train.run_folder import checkpoint, init_from
from train.run_folder.best import Best
from train.run_folder.run_log import RunLog, environment

NEVER_CHANGED = ("recipe", "model", "extractor", "people", "global_batch")  # by no switch: a slot is step * batch
FINISHED = "finished.json"  # for how many steps and with what the exported model was trained; written last


def finished_run(run: Path) -> dict[str, Any]:
    """What the exported model of a run folder was trained for and with: steps (0 where there is none) and `fixed`."""
    try:
        return {"fixed": {}, **json.loads((run / FINISHED).read_text())}
    except FileNotFoundError:
        return {"steps": 0, "fixed": {}}


def is_finished(finished: dict[str, Any], config: LoopConfig) -> str:
    """Whether nothing is left to train, and what would be needed to go on; empty where the run goes on."""
    if finished["steps"] >= config.steps:
        return "raise steps to go on"
    if 0 < config.patience <= finished.get("patience", 0):
        return "patience ended it; raise patience to go on"
    return ""


def recorded(run: Path) -> dict[str, Any]:
    """What the newest checkpoint of a run folder says, or else its exported model; empty where there is neither."""
    newest = checkpoint.newest(run)
    return finished_run(run) if newest is None else checkpoint.read_facts(newest)


def refuse_changes(recipe: Recipe, config: LoopConfig, before: dict[str, Any], accept: bool = False) -> str:
    """UserError where a resumed run would see other data or another network than it began with.

    Other data is taken with `accept`; what changed is returned in words, empty where nothing did.
    """
    now, then = configs.flat(fixed(recipe, config)), configs.flat(before)
    changed = [key for key in {**now, **then} if then.get(key) != now.get(key)]
    changes = "; ".join(f"{key}: {then.get(key)} -> {now.get(key)}" for key in changed)
    kept = [key for key in changed if key.split(".")[0] in NEVER_CHANGED]
    if changed and (kept or not accept):
        also = "" if kept else ", go on all the same with accept_changes=true"
        raise UserError(
            f"{config.run} was begun with other settings ({changes}); restore them{also}, or name a new folder with "
            "run=..."
        )
    return changes


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
    """UserError where the processes do not see the same.

    As when shards are added while they start, or a network disk still hides the newest checkpoint from some.
    """
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=7).digest()
    own = int.from_bytes(digest, "big")
    ends = torch.tensor([own, -own], dtype=torch.int64, device=ranks.device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    if ends[0].item() != -ends[1].item():
        raise UserError(
            "the processes see different data, settings or checkpoints; wait until writing is done, and run again"
        )


def planned(selection: Selection, config: LoopConfig) -> str:
    """The equal-step plan in a line: clips of each corpus, steps an epoch, epochs of the run."""
    corpora = ", ".join(f"{name} {count}" for name, count in selection.clips.items())
    epoch = examples_of_epoch(selection, config.repeats) / config.global_batch
    return (
        f"{len(selection)} clips ({corpora}): {epoch:.1f} steps an epoch; {config.steps} steps are "
        f"{config.steps / epoch:.1f} epochs"
    )


@dataclass(frozen=True)
class Start:
    """Where a run stands before its first step: the step, the checkpoint it goes on from, and what changed since."""

    step: int
    checkpoint: checkpoint.Checkpoint | None = None
    accepted: str = ""  # changes that the user accepted, in words


def load_weights(recipe: Recipe, config: LoopConfig, players: dict[str, Player], ranks: Ranks) -> Start:
    """Put the weights of the newest checkpoint into the players' networks; of `init_from` into those of a new run.

    All ranks call it. Raises UserError for a damaged checkpoint, and where the run was begun with other settings.
    """
    newest = checkpoint.newest(Path(config.run))
    if newest is None:
        if config.init_from:
            modules = {player: one.module for player, one in players.items()}
            init_from.start(Path(config.init_from), modules, Path(config.run), recipe.name, ranks)
        return Start(0)
    accepted = refuse_changes(recipe, config, checkpoint.read_facts(newest)["fixed"], config.accept_changes)
    # Every rank hashes its share of the files; the first opens all of them, the others those near their own.
    checkpoint.refuse(newest, ranks.gather(checkpoint.damaged(newest, ranks.rank, ranks.world_size)))
    resumed = checked(newest, ranks)
    for player, one in players.items():
        put(one.module, sent(resumed, player, "weight", ranks))
    return Start(resumed.step, resumed, accepted)


def checked(folder: Path, ranks: Ranks) -> checkpoint.Checkpoint:
    """A checkpoint that the first rank has found to be whole. All call it, and raise UserError where it is not."""
    found, trouble = checkpoint.index(folder, ranks.rank, ranks.world_size), list[str]()
    if ranks.rank == 0:
        try:
            found.check()
        except UserError as error:
            trouble = [str(error)]
    if trouble := ranks.gather(trouble):
        raise UserError(trouble[0])
    return found


def sent(held: checkpoint.Checkpoint, player: str, kind: str, ranks: Ranks) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a kind, one after another, which the first rank reads and sends. All go through all of them."""
    for name, shape in held.shapes[player].items():
        size = torch.Size(shape)
        own = held.stretch(player, kind, name, 0, size.numel()) if ranks.rank == 0 else torch.empty(size.numel())
        yield name, ranks.from_first(own).view(size)


def checkpoint_facts(
    recipe: Recipe, config: LoopConfig, ranks: Ranks, state: TrainState, best: Best, done: int
) -> dict[str, Any]:
    """What a checkpoint holds besides its tensors."""
    return {
        "cursor": done * config.global_batch,
        "fixed": fixed(recipe, config),
        "shards_until": config.shards_until,
        "world_size": ranks.world_size,
        "zero_stage": config.zero_stage,
        "precision": config.precision,
        **state.facts(),
        **best.facts(),
    }


def run_log(recipe: Recipe, config: LoopConfig, batching: Batching, start: Start, ranks: Ranks) -> RunLog:
    """The log of a run; rank 0 makes the run folder, with the config, the one for DeepSpeed, and the environment."""
    run = Path(config.run)
    if ranks.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        atomic.sweep(run / "checkpoints")
        shown = without_credentials(config)
        atomic.write_bytes(run / "config.yaml", resolved(config).encode())
        difference = configs.difference(shown, type(config)())
        atomic.write_json(run / "config_changes.json", {key: list(pair) for key, pair in difference.items()})
        atomic.write_json(run / "deepspeed.json", deepspeed_config.of(config, batching))
        atomic.write_json(run / "environment.json", environment())
        shared = f"{batching.world_size} x {batching.accumulation} x {batching.micro_batch}"
        trained_on.write(run, whom(recipe, config))
        note = f"resuming after step {start.step}" if start.checkpoint else "starting"
        print(f"{recipe.name}: {note}; global batch {config.global_batch} = {shared}; run folder {run}", flush=True)
        if start.accepted:
            print(f"{recipe.name}: going on with what changed: {start.accepted}", flush=True)
        print(f"{recipe.name}: {planned(recipe.examples.selection, config)}", flush=True)
    again = validates_again(config, start) or start.step >= config.steps  # killed before the export
    return RunLog(run, start.step, config.steps, config.log_every, writes=ranks.rank == 0, validates=again)


def without_credentials(config: LoopConfig) -> LoopConfig:
    """Settings that may be shown: an address of shards may hold a password."""
    return dataclasses.replace(config, shards=without_secrets(config.shards))


def resolved(config: LoopConfig) -> str:
    """Every setting as YAML, without credentials."""
    return OmegaConf.to_yaml(OmegaConf.structured(without_credentials(config)))


def validates_again(config: LoopConfig, start: Start) -> bool:
    """Whether a resumed run first validates the step where it stands.

    A checkpoint is written before the validation of its step, so it does not hold that score.
    """
    due = start.step % config.validate_every == 0
    return bool(config.keep_best and start.checkpoint and due and 0 < start.step < config.steps)


def put_best(config: LoopConfig, best: Best, plain: dict[str, nn.Module], ranks: Ranks) -> None:
    """Put the weights of the best step, from its checkpoint, into every rank's `plain`. Raises UserError."""
    folder = Path(config.run) / "checkpoints" / checkpoint.folder_name(best.step or 0)
    is_there = (folder / checkpoint.FACTS).is_file()
    bad = checkpoint.damaged(folder, ranks.rank, ranks.world_size) if is_there else [str(folder)]
    if bad := ranks.gather(bad):
        raise UserError(f"{bad[0]} of the best step ({best.words()}) is gone or damaged; export the last: keep_best=")
    stored = checked(folder, ranks)
    for player, module in plain.items():
        put(module, sent(stored, player, "ema", ranks))


def export(
    recipe: Recipe, config: LoopConfig, plain: dict[str, nn.Module], folder: Path, validated: Validated, ranks: Ranks
) -> None:
    """Rank 0 writes the model that `plain` holds, and whom it has seen."""
    if ranks.rank == 0:
        states = {player: module.state_dict() for player, module in plain.items()}
        recipe.export(states, folder, validated)
        trained_on.write(folder, whom(recipe, config))
    ranks.wait()


def finish(recipe: Recipe, config: LoopConfig, best: Best, ranks: Ranks, done: int) -> None:
    """Rank 0 writes what the exported model was trained for and with, and which step it is of."""
    if ranks.rank == 0:
        trained = {"fixed": fixed(recipe, config), "shards_until": config.shards_until}
        chosen = best.facts()
        ended = {"patience": config.patience} if done < config.steps else {}
        atomic.write_json(Path(config.run) / FINISHED, {"steps": done, **ended, **chosen, **trained})
    ranks.wait()


def whom(recipe: Recipe, config: LoopConfig) -> TrainedOn:
    """Whom the run's weights are trained on and selected by: its own clips, what it began with, who teaches it.

    With what the run folder says already: a run whose clips were changed has seen those before as well.
    """
    manifest, selection = recipe.examples.manifest, recipe.examples.selection
    watched_n = np.flatnonzero(manifest.column("split") == config.validation_split)
    before = trained_on.read(Path(config.run)) or TrainedOn()
    known = before | trained_on.of_rows(manifest, selection.rows_n, watched_n)
    for name, folder in {"init_from": config.init_from, **recipe.teachers()}.items():
        if folder:
            known |= trained_on.inherited(name, Path(folder))
    return known
