"""Where the time of a scoring goes: CPU seconds of every stage, and how many of them the networks themselves take.

Outside of `clocked` a stage costs nothing. A stage inside another is charged to itself alone.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.metrics.metric import Evaluators
    from mytalk.dub.dubbing import Models
    from mytalk.face.detector import Detector

REST = "everything else"


class Clock:
    """CPU seconds of this process by stage, those inside of networks apart."""

    def __init__(self) -> None:
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # outside of networks, inside
        self._stages, self._networks = [REST], 0
        self._since = time.process_time()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is charged to this stage."""
        self._charge()
        self._stages.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stages.pop()

    def watch(self, thing: Any, *methods: str) -> None:
        """Charge these methods of a network to it, and to the stage that calls them."""
        for name in methods:
            setattr(thing, name, self._watched(getattr(thing, name)))

    def table(self) -> dict[str, tuple[float, float]]:
        """Stage -> CPU seconds, and those inside networks."""
        self._charge()
        return {stage: (spent[False] + spent[True], spent[True]) for stage, spent in self._spent.items()}

    def in_words(self) -> str:
        """The table for a terminal, CPU seconds of this process a stage, and the networks' share of all."""
        table = self.table()
        whole = [sum(row[side] for row in table.values()) for side in range(2)]
        rows = [*table.items(), ("all", whole)]
        lines = [f"{'CPU seconds of this process':30}{'all':>10}{'networks':>10}"]
        lines += [f"{name:30}{spent:10.1f}{inside:10.1f}" for name, (spent, inside) in rows]
        return "\n".join([*lines, f"share of the networks themselves: {whole[1] / whole[0]:.2f}"])

    def _watched(self, method: Callable) -> Callable:
        @functools.wraps(method)
        def timed(*args: Any, **options: Any) -> Any:
            self._charge()
            self._networks += 1
            try:
                return method(*args, **options)
            finally:
                self._charge()
                self._networks -= 1

        return timed

    def _charge(self) -> None:
        now = time.process_time()
        self._spent[self._stages[-1]][self._networks > 0] += now - self._since
        self._since = now


_running: list[Clock] = []


@contextlib.contextmanager
def clocked() -> Iterator[Clock]:
    """A clock that `stage` charges while this is entered."""
    _running.append(Clock())
    try:
        yield _running[-1]
    finally:
        _running.pop()


def stage(name: str) -> contextlib.AbstractContextManager[None]:
    """A stage of the clock that runs; of none, nothing."""
    return _running[-1].stage(name) if _running else contextlib.nullcontext()


def watch_networks(clock: Clock, models: Models, evaluators: Evaluators, detector: Detector) -> None:
    """Charge every network of a benchmark: those that dub, that judge, and the detector's."""
    motion, painter = models.motion, models.appearance
    clock.watch(motion, "encode_speech", "encode_identity", "denoise")
    if motion.extractor is not None:
        clock.watch(motion.extractor, "features")
    clock.watch(painter, "encode_lips", "encode_frame", "decode")
    clock.watch(detector, "find", "landmarks")
    for judge, methods in (
        (evaluators.syncnet, ("mouth", "speech")),
        (evaluators.pixels, ("mouth", "speech")),
        (evaluators.identity, ("forward",)),
        (evaluators.reader, ("forward",)),
        (evaluators.person, ("embed",)),
        (evaluators.arcface, ("embed",)),
        (evaluators.inception, ("embed",)),
        (evaluators.i3d, ("embed",)),
        (evaluators.lpips, ("distances",)),
        (evaluators.lip_reading, ("embed",)),
        (evaluators.perception, ("seen", "distances", "embed")),
        (evaluators.phones, ("phones",)),
        (evaluators.speech, ("speech_T",)),
        (evaluators.lse, ("embed_lips", "embed_sound")),
    ):
        if judge is not None:
            clock.watch(judge, *methods)
