"""Whether a training that ended is started again, when, and at which world size. Every launcher asks here.

| it ended with | what that means | then |
|---|---|---|
| 0 | done | nothing |
| 1, 2 | a setting, damaged data, a full disk: someone must mend it | nothing |
| 75 | a checkpoint was written, or storage was gone | again at once; without a newer checkpoint it counts as a crash |
| 70, killed, anything else | a crash: a bug, a device, a lost rank | again after a pause that doubles, a few times |

A checkpoint that is newer than at the last start begins the count of crashes anew.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.follow.folder import newest_step
from mytalk import command
from mytalk.command import EXIT_CRASHED, EXIT_DONE, EXIT_INTERRUPTED, EXIT_NOT_DONE, EXIT_RUN_AGAIN, EXIT_USAGE

PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0


@dataclass(frozen=True)
class Ended:
    """How a start of a training ended."""

    code: int
    kind: str = ""  # who can mend it (mytalk.command.kind_of), where a rank left word
    reason: str = ""
    told: bool = False  # somebody told the launcher to end it
    lost: int = 0  # processes whose place is gone: a host that does not answer, a rank that was killed


@dataclass(frozen=True)
class Decision:
    """What follows: again after a pause, or not, and why in words."""

    again: bool
    pause_s: float = 0.0
    why: str = ""


class Policy:
    """Counts the crashes of one run."""

    def __init__(self, run: Path | None, tries: int, pause_s: float = PAUSE_S):
        self.run, self.tries, self.pause_s = run, tries, pause_s
        self.crashes = 0
        self.step = self._step()

    def _step(self) -> int:
        return newest_step(self.run) if self.run is not None else -1

    def after(self, ended: Ended) -> Decision:
        """What follows from an end."""
        step, before = self._step(), self.step
        self.step = step
        if step > before:
            self.crashes = 0
        if ended.code == EXIT_DONE:
            return Decision(False, why="done")
        if ended.told or ended.code == EXIT_INTERRUPTED:
            return Decision(False, why="it was told to stop")
        if needs_someone(ended.code, ended.kind):
            return Decision(False, why="it cannot go on until that is mended")
        if ended.code == EXIT_RUN_AGAIN and step > before:
            return Decision(True, why="a checkpoint was written")
        if self.crashes >= self.tries:
            return Decision(False, why=f"it failed {self.crashes + 1} times without getting further")
        self.crashes += 1
        pause_s = min(LONGEST_PAUSE_S, self.pause_s * 2 ** (self.crashes - 1))
        return Decision(True, pause_s, f"try {self.crashes} of {self.tries}")

    def note(self, ended: Ended, decision: Decision, world_size: int) -> None:
        """Record in the run folder what follows."""
        if self.run is not None and self.run.is_dir():
            event = "restart" if decision.again else "given up"
            if ended.code != EXIT_DONE:
                facts = {"code": ended.code, "kind": ended.kind, "reason": words(ended), "then": decision.why}
                command.note(self.run, event, **facts, world_size=world_size)


def needs_someone(code: int, kind: str) -> bool:
    """Whether trying again is of no use. An exit code of 1 is, where no rank left word that it was a crash."""
    if kind in ("bug", "peer"):
        return False
    return code in (EXIT_NOT_DONE, EXIT_USAGE) or kind == "user"


def words(ended: Ended) -> str:
    """How a job ended, in words."""
    if ended.reason:
        return ended.reason
    if ended.code > 128:
        return f"killed by {signal.Signals(ended.code - 128).name}"
    meaning = {EXIT_RUN_AGAIN: "stopped after a checkpoint", EXIT_CRASHED: "crashed"}
    return meaning.get(ended.code, f"exit code {ended.code}")


def next_world_size(global_batch: int, at_most: int, at_least: int = 1) -> int:
    """The largest world size within bounds that divides the global batch; 0 where there is none."""
    return next((size for size in range(at_most, max(at_least, 1) - 1, -1) if global_batch % size == 0), 0)


def keep_running(
    program: str, policy: Policy, size: int, start: Callable[[int], Ended], fit: Callable[[int, Ended], int]
) -> int:
    """Start a training at a world size, and again as the policy says; the exit code of the last start.

    `fit(size, ended)` is the world size of the next start; 0 where too few processes have a place.
    """
    while True:
        ended = start(size)
        decision, smaller = policy.after(ended), 0
        if decision.again and not (smaller := fit(size, ended)):
            decision = Decision(False, why="too few processes have a place that divides the global batch")
        policy.note(ended, decision, size)
        if not decision.again:
            if ended.code != EXIT_DONE:
                print(f"{program}: {words(ended)}; not started again: {decision.why}", file=sys.stderr, flush=True)
            return ended.code
        when = f"in {decision.pause_s:g} s" if decision.pause_s else "now"
        at = f"at {smaller} processes instead of {size}" if smaller != size else f"at {size} processes"
        print(f"{program}: {words(ended)}; starting again {when} {at} ({decision.why})", file=sys.stderr, flush=True)
        time.sleep(decision.pause_s)
        size = smaller
