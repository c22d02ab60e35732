"""A rank that ends in a chosen way: `python -m tests.helpers.dying_rank FOLDER RULE...`, a rule for each rank.

Rules: `wait` (until a signal ends it), `ignore TERM` (only KILL does), `exit CODE` (an error of its own), `killed` (by
SIGKILL), `aborted` (by SIGABRT), `silent CODE` (leaves no error file), `lose peer` (a lost connection, before the
others have left their reason), `bug`, `late` (an error of its own after LATE_S), `75` (storage is gone, after LATE_S),
`75 on TERM`, `warn` (a line that looks like an error), `error, then hang`.
Each but `75` writes its process id to FOLDER/RANK once it is ready; all that end by themselves wait for those, except
`lose peer` and `warn`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mytalk import command
from mytalk.command import EXIT_RUN_AGAIN, RunAgain, UserError

PROGRAM = "python -m tests dying_rank"
LOST = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"
AGAIN = "the storage cannot be reached; the same command continues when it can"
OWN = "the disk is full; free some space"
LATE_S = 0.5


def main(folder: Path, rules: list[str]) -> int:
    """Follow this rank's rule."""
    rank, world_size = int(os.environ["RANK"]), os.environ["WORLD_SIZE"]
    rule, _, code = rules[rank].partition(" ")
    if rules[rank] == "75 on TERM":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_RUN_AGAIN))
    if rule == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if rules[rank] != "75":
        print(f"hello from {rank} of {world_size}", flush=True)
        (folder / str(rank)).write_text(str(os.getpid()))
    if rule not in ("lose", "warn"):
        while len(list(folder.iterdir())) < sum(other != "75" for other in rules):
            time.sleep(0.02)
    return end_by_rule(rules[rank], rule, code)


def end_by_rule(whole: str, rule: str, code: str) -> int:
    """End as the rule says; the exit code."""
    if rule == "exit":
        print("a warning", file=sys.stderr)
        return fail(int(code))
    if rule == "silent":
        print(OWN, file=sys.stderr)
        return int(code)
    if rule in ("killed", "aborted"):
        os.kill(os.getpid(), signal.SIGKILL if rule == "killed" else signal.SIGABRT)
    if rule == "lose":
        raise RuntimeError(LOST)
    if rule == "bug":
        raise ZeroDivisionError("a bug")
    if rule == "warn":
        print(f"ignored: RuntimeError: {LOST}", file=sys.stderr)
        return 0
    if rule == "late":
        time.sleep(LATE_S)
        return fail(4)
    if whole == "75":
        time.sleep(LATE_S)
        raise RunAgain(AGAIN)
    if rule == "error,":
        fail(1)
    time.sleep(60)
    return 0


def fail(code: int) -> int:
    """An error of the rank's own, as a command reports it."""
    command.leave_error("user", OWN, code, UserError(OWN))
    print(f"{PROGRAM}: error: {OWN}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(command.guarded(PROGRAM, lambda: main(Path(sys.argv[1]), sys.argv[2:])))
