"""Watches the ranks of this machine: relays what they write, and when one has failed shows why and ends the rest."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from launch.follow.restart import Ended
from launch.processes.rank import Rank, StderrGate, channel, child_setup, exit_code, how_it_ended, write_through
from mytalk import command
from mytalk.command import ERROR_FILE, EXIT_DONE, EXIT_RUN_AGAIN

POLL_S = 0.1
SETTLE_S = 3.0  # a rank that fails closes its connections before it leaves its reason; wait this long for the reason


class Supervisor:
    """Starts the ranks, relays their output, and ends the rest when one has failed."""

    def __init__(self, grace_s: float, error_folder: Path, debug: bool):
        self.grace_s = grace_s
        self.error_folder = error_folder
        self.debug = debug
        self.ranks: list[Rank] = []
        self.selector = selectors.DefaultSelector()
        self.gate = StderrGate(self._error_file(0))
        self.setup = child_setup()
        self.sent: set[int] = set()  # signals passed on
        self.died_of_signal = False  # a rank died of such a signal: it had not begun to train
        self.run_again_at: float | None = None  # when the first rank ended with 75
        self.failures: list[Rank] = []  # in the order of their ends, until the rest are told to end
        self.first_failed_at = 0.0
        self.cause: Rank | None = None
        self.ended_at: float | None = None  # when the rest were told to end

    def add(self, typed: list[str], environment: dict[str, str]) -> None:
        """Start the next rank."""
        number = len(self.ranks)
        error_file = self._error_file(number)
        if number == 0:
            out, read_out = channel(sys.stdout.isatty())
            err, read_err = channel(sys.stderr.isatty())
        else:
            out, read_out = err, read_err = channel(terminal=False)
        process = subprocess.Popen(
            typed,
            env={**environment, ERROR_FILE: str(error_file)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=self.setup,
        )
        rank = Rank(number, process, error_file)
        self.ranks.append(rank)
        for end in {out, err}:
            os.close(end)
        if number == 0:
            self.selector.register(read_out, selectors.EVENT_READ, lambda data: write_through(sys.stdout, data))
            self.selector.register(read_err, selectors.EVENT_READ, self.gate.write)
        else:
            self.selector.register(read_out, selectors.EVENT_READ, rank.keep)

    def forward(self, number: int, _: object) -> None:
        """Handler of signals: pass it on to every rank."""
        self.sent.add(number)
        for rank in self._alive():
            rank.process.send_signal(number)

    def wait(self) -> int:
        """Until every rank has ended: relay, notice failures, end the rest. The exit code of the whole."""
        while self._alive():
            self._read(POLL_S)
            self._collect()
            self._end_the_rest()
        if self.failures and self.cause is None:
            self._show_cause()
        self.gate.decide(show=True)
        if self.cause is not None:
            return exit_code(self.cause.code)
        return EXIT_DONE if all(rank.code == EXIT_DONE for rank in self.ranks) else EXIT_RUN_AGAIN

    def ended(self, code: int) -> Ended:
        """How the whole ended, after `wait`."""
        killed = [rank for rank in self.failures if (rank.code or 0) < 0 and rank.code != -signal.SIGABRT]
        if self.cause is None:
            return Ended(code, told=bool(self.sent))
        error = self.cause.error()
        how = error.get("message", how_it_ended(self.cause.code))
        return Ended(code, error.get("kind", ""), f"rank {self.cause.number}: {how}", bool(self.sent), len(killed))

    def kill(self) -> None:
        """KILL what is left, with the processes that it started."""
        for rank in self._alive():
            if rank.process.poll() is None:
                os.killpg(rank.process.pid, signal.SIGKILL)
                rank.process.wait()

    def _error_file(self, number: int) -> Path:
        return self.error_folder / f"rank-{number}.json"

    def _alive(self) -> list[Rank]:
        return [rank for rank in self.ranks if rank.code is None]

    def _read(self, timeout_s: float) -> bool:
        """Take what the ranks have written; whether there was anything."""
        if not self.selector.get_map():  # all have closed their output
            time.sleep(timeout_s)
            return False
        ready = self.selector.select(timeout_s)
        # stderr (opened later) first: the closing progress line comes before what is printed about the result.
        for key, _ in sorted(ready, key=lambda pair: -pair[0].fd):
            try:
                data = os.read(key.fd, 65536)
            except OSError:  # so a terminal tells that its other end was closed
                data = b""
            if data:
                key.data(data)
            else:
                self.selector.unregister(key.fd)
                os.close(key.fd)
        return bool(ready)

    def _collect(self) -> None:
        """Note which ranks have ended, and how."""
        ended = [rank for rank in self._alive() if rank.process.poll() is not None]
        if not ended:
            return
        until = time.monotonic() + 1  # what it started may go on writing to the same pipe
        while self._read(0) and time.monotonic() < until:
            pass
        for rank in ended:
            rank.code = rank.process.returncode
            if rank.code == EXIT_RUN_AGAIN:
                self.run_again_at = self.run_again_at or time.monotonic()
            elif rank.code == EXIT_DONE or self.ended_at is not None:
                continue
            elif rank.code in {code for number in self.sent for code in (-number, 128 + number)}:
                self.died_of_signal = True
            else:
                self.first_failed_at = self.first_failed_at or time.monotonic()
                self.failures.append(rank)

    def _end_the_rest(self) -> None:
        """TERM to the rest once the cause of a failure is known, or when they stay after others; KILL later."""
        now = time.monotonic()
        if self.ended_at is not None:
            if now - self.ended_at > self.grace_s:
                self.kill()
        elif self._must_end(now):
            self.ended_at = now
            if self.failures:
                self._show_cause()
            elif not self.died_of_signal:
                self._show_who_stayed()
            for rank in self._alive():
                rank.process.terminate()

    def _must_end(self, now: float) -> bool:
        """Whether the rest must end: at once if a failure has its own cause, else after a moment."""
        if not self.failures:
            return self.died_of_signal or (self.run_again_at is not None and now - self.run_again_at > self.grace_s)
        return now - self.first_failed_at > SETTLE_S or any(rank.order_as_cause() < 2 for rank in self.failures)

    def _show_who_stayed(self) -> None:
        """Some ranks hang after others have ended with 75: show why those did."""
        first = next(rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN)
        stay = ", ".join(str(rank.number) for rank in self._alive())
        reason = [] if first.number == 0 else first.reason(self.debug)
        self._print(first, reason, f"rank {stay} of {len(self.ranks)} did not end and is being stopped")

    def _show_cause(self) -> None:
        """Choose the failure that explains the others, and show it once."""

        # An error that all ranks share (a wrong key) is taken from rank 0, which has printed it.
        def order(rank: Rank) -> tuple[int, bool]:
            return rank.order_as_cause(), rank.order_as_cause() == 0 and rank.number > 0

        self.cause = min(self.failures, key=order)
        run_again = [rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN]
        if run_again and self.cause.order_as_cause() == 2:  # they lost a peer that is to be run again
            self.cause = run_again[0]
        if error := self.cause.error():
            command.leave_error(error["kind"], error["message"], exit_code(self.cause.code))
        messages = [rank.error().get("message") for rank in (self.cause, self.ranks[0])]
        printed_by_rank_0 = self.cause.number == 0 or (messages[0] is not None and messages[0] == messages[1])
        self.gate.decide(show=printed_by_rank_0)
        reason = [] if printed_by_rank_0 else self.cause.reason(self.debug)
        rest = "; the others are being stopped" if self._alive() else ""
        number, total = self.cause.number, len(self.ranks)
        self._print(self.cause, reason, f"rank {number} of {total} {how_it_ended(self.cause.code)}{rest}")

    def _print(self, rank: Rank, reason: list[str], line: str) -> None:
        """Print a rank's reason, and a line of the launcher itself."""
        lines = [f"rank {rank.number}: {text}" for text in reason]
        start = "\n" if sys.stderr.isatty() else ""  # below a moving line
        print(start + "\n".join([*lines, f"python -m launch local: {line}"]), file=sys.stderr, flush=True)
