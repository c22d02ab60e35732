"""Work for the pool whose items may kill their process. On its own, so that a worker starts quickly."""

from __future__ import annotations

import os
import signal


def work(task: tuple, tick) -> list[str]:
    """Work whose items may kill their process: `die`, or `die once` (a file remembers)."""
    folder, items, condemned = task
    done = []
    for position, item in enumerate(items):
        tick(position, 1)
        if position in condemned:
            continue
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "die once" and not os.path.exists(f"{folder}/died"):
            open(f"{folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "full disk":
            raise OSError(28, "No space left on device", "/some/file")
        if item == "bug":
            raise KeyError("oops")
        done.append(item)
    return done
