"""The faults: each starts a training, disturbs it, has it continued, and says in words what happened.

They raise NotTried where the fault could not be brought about.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.drill.by_slurm import BySlurm
from launch.drill.storage import serving
from launch.drill.trial import NotTried, Trial
from launch.words import settings_of
from mytalk.command import EXIT_DONE

STOPPED = "stopped by a signal after step"  # as training says it
KILLS = 3  # times that a checkpoint is aimed at
TORN_BYTES = 2048
# Where a shard is torn, as parts of its file; the next where that leaves no clip to validate, or damages none to train.
TEARS = ((0.2, 0.4, 0.6, 0.8), (0.1,), (0.3,), (0.5,), (0.7,), (0.9,))


@dataclass(frozen=True)
class Options:
    """What a user may set about the faults."""

    watchdog_s: float = 30.0
    storage_gone_s: float = 60.0


def told(trial: Trial, number: signal.Signals) -> str:
    """A signal to the launcher: a checkpoint is written, and the same command continues."""
    process = trial.start()
    trial.under_way(process)
    trial.place.tell(trial.run, process, number)
    code = trial.wait(process)
    if not trial.place.took_it(code, trial.said(STOPPED)):
        raise NotTried(f"it ended with exit code {code} and wrote no checkpoint; see {trial.log}")
    trial.finish(code)
    return f"{number.name}: a checkpoint was written, continued"


def term(trial: Trial, _: Options) -> str:
    """TERM, as from a scheduler that ends the job."""
    return told(trial, signal.SIGTERM)


def usr1(trial: Trial, _: Options) -> str:
    """USR1, as from Slurm before the time is up."""
    return told(trial, signal.SIGUSR1)


def rank(trial: Trial, _: Options) -> str:
    """KILL of one rank, as for want of memory; the launcher starts all again."""
    process = trial.start("--restarts", "2")
    trial.under_way(process)
    trial.hit_last(signal.SIGKILL)
    trial.finish(trial.wait(process))
    return "a rank was killed, all were started again"


def write(trial: Trial, _: Options) -> str:
    """KILL of all while a checkpoint is being written, as when the power fails."""
    for _attempt in range(KILLS):
        process = trial.start()
        trial.under_way(process)
        if trial.place.kills_by_itself:
            trial.place.act(trial.run, "write")
        else:
            trial.until(trial.writing, process, "a checkpoint was being written")
            os.killpg(process.pid, signal.SIGKILL)
        code = trial.wait(process)
        while not trial.place.kills_by_itself and trial.ranks():  # they are killed with their launcher
            time.sleep(0.01)
        if trial.writing():
            break
        if code == EXIT_DONE:
            raise NotTried(f"it was done before it could be killed; give more --steps, see {trial.log}")
    else:
        raise NotTried(f"{KILLS} times no checkpoint was half written when all were killed; see {trial.log}")
    trial.finish(1)
    return "all were killed in the middle of a checkpoint, continued from the one before"


def shard(trial: Trial, _: Options) -> str:
    """A shard that is torn: its clips are replaced, the same at any world size and after a stop."""
    return told(trial, signal.SIGTERM) + "; damaged clips were replaced by the same others"


def disk(trial: Trial, __: Options) -> str:
    """A disk that is full for a while (no file of the ranks may grow): training goes on, and saves when it can."""
    process = trial.start()
    trial.under_way(process)
    trial.place.act(trial.run, "full")
    trial.until(lambda: trial.said("could not be written"), process, "a checkpoint could not be written")
    trial.place.act(trial.run, "room")
    trial.finish(trial.wait(process))
    return "a checkpoint could not be written, training went on, later ones could"


def hung(trial: Trial, options: Options) -> str:
    """A rank that hangs (SIGSTOP): the others' watchdogs end the run, and it is started again."""
    more = (f"watchdog_s={options.watchdog_s}",)
    process = trial.start("--restarts", "2", more=more)
    trial.under_way(process)
    trial.hit_last(signal.SIGSTOP)
    trial.finish(trial.wait(process), more=more)
    return f"no progress for {options.watchdog_s:g} s, all were ended and started again"


def node(trial: Trial, _: Options) -> str:
    """A place that is gone for good: training goes on without it, at the next world size that divides."""
    process = trial.start("--restarts", "2", "--min-processes", "1")
    trial.under_way(process)
    trial.hit_last(signal.SIGKILL)
    trial.finish(trial.wait(process))
    if not trial.said(f"processes instead of {trial.place.processes}"):
        raise NotTried(f"it did not shrink; see {trial.log}")
    return f"went on with fewer than {trial.place.processes} processes"


def storage(trial: Trial, options: Options) -> str:
    """Storage that does not answer for a minute: reads wait, or the run ends with 75 and continues."""
    shards = local_shards(trial.words)
    try:
        import aiohttp  # noqa: F401
        import fsspec  # noqa: F401
    except ImportError:
        raise NotTried("needs the packages of remote shards: pip install -e '.[remote]'") from None
    with serving(shards) as server:
        trial.words = [*trial.words, f"shards={server.url}"]
        process = trial.start("--restarts", "5")
        trial.under_way(process)
        server.gone = True
        asked = server.refused
        trial.until(lambda: server.refused > asked, process, "something was read")
        time.sleep(options.storage_gone_s)
        server.gone = False
        trial.finish(trial.wait(process))
    return f"nothing could be read for {options.storage_gone_s:g} s ({server.refused} requests refused)"


def requeue(trial: Trial, _: Options) -> str:
    """The scheduler takes the nodes back, as for a job that is more urgent, and starts the job again later."""
    assert isinstance(trial.place, BySlurm), "left out elsewhere"
    process = trial.start()
    trial.under_way(process)
    trial.place.requeue(trial.run)
    trial.finish(trial.wait(process))
    return "the nodes were taken back, the job continued by itself"


@dataclass(frozen=True)
class Fault:
    """A fault by its name, and whether the undisturbed run must have been torn alike, or may end in one start."""

    bring: Callable[[Trial, Options], str]
    torn: bool = False
    restarts: bool = True


FAULTS = {
    "term": Fault(term),
    "usr1": Fault(usr1),
    "rank": Fault(rank),
    "write": Fault(write),
    "shard": Fault(shard, torn=True),
    "disk": Fault(disk, restarts=False),
    "hung": Fault(hung),
    "node": Fault(node),
    "storage": Fault(storage, restarts=False),
    "requeue": Fault(requeue),
}


def local_shards(words: list[str]) -> Path:
    """The folder of shards that the words name. Raises NotTried where it is none of this machine."""
    folder = Path(str(settings_of(words).get("shards", "data/shards")).strip("'\""))
    if not folder.is_dir():
        raise NotTried(f"needs shards in a folder of this machine, not {folder}")
    return folder


def torn_shards(words: list[str], out: Path, tears: Sequence[float]) -> Path:
    """A copy of the shards whose first file of motion is torn in these places."""
    torn = out / "torn-shards"
    shutil.rmtree(torn, ignore_errors=True)
    shutil.copytree(local_shards(words), torn)
    files = sorted(torn.rglob("motion-*.tar")) or sorted(torn.rglob("*.tar"))
    if not files:
        raise NotTried("needs shards with tars in their folder")
    size = files[0].stat().st_size
    with open(files[0], "r+b") as file:
        for place in tears:
            file.seek(int(place * size))
            file.write(b"\xa5" * TORN_BYTES)
    return torn
