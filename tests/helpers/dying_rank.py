"""A rank that does as it is told: `python -m tests.helpers.dying_rank FOLDER RULE...`, a rule for each rank.

Rules: `wait` (until a signal ends it), `deaf` (TERM does not), `fail CODE`, `peer` (a lost connection, before
the others have said why), `late` (fails a second later with an error of its own), `again` (75 on TERM), `75` (a
second later), `warn`, `said` (as `late`, but it has not ended yet).
Each but `75` writes its process id to FOLDER/RANK once it is ready; `fail`, `late` and `75` wait for those.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"
AGAIN = "python -m tests dying_rank: error: the storage cannot be reached; the same command continues when it can"
OWN = "python -m tests dying_rank: error: the disk is full; free some space"


def main(folder: Path, rules: list[str]) -> int:
    """Obey one rule."""
    rule = rules[int(os.environ["RANK"])]

    def wait_for_all() -> None:
        while len(list(folder.iterdir())) < sum(other != "75" for other in rules):
            time.sleep(0.02)

    if rule == "75":
        wait_for_all()
        time.sleep(1)
        print(AGAIN, file=sys.stderr)
        return 75
    if rule == "again":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    if rule == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"hello from {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    if rule.startswith("fail"):
        wait_for_all()
        print("a warning", file=sys.stderr)
        raise SystemExit(fail(int(rule.removeprefix("fail"))))
    if rule == "peer":
        print(f"Traceback (most recent call last):\n  somewhere\n{LOST}", file=sys.stderr)
        return 1
    if rule == "late":
        wait_for_all()
        time.sleep(1)
        print(OWN, file=sys.stderr)
        return 4
    if rule == "warn":
        print(f"ignored: {LOST}", file=sys.stderr)
        return 0
    if rule == "said":
        print(OWN, file=sys.stderr)
    time.sleep(60)
    return 0


def fail(code: int) -> int:
    """An error of the rank's own, or a death without a word (code 9)."""
    if code == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    print(OWN, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
