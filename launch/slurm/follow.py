"""What becomes of a job of Slurm: its state by scontrol, and its log."""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
from pathlib import Path

from launch.follow.attend import State, Tail, attend, leaving
from launch.slurm.submit import come_back
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError

ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
ENDED |= {"TIMEOUT"}
FORGOTTEN = "Invalid job id"  # as scontrol says it
SHOWN_BYTES = 1 << 16  # of a log that was written before somebody comes back


def follow(number: str, from_end: bool = False) -> int:
    """Show the log and the state of a job until it has ended; its exit code. Of an array the states alone.

    UserError for a job that Slurm does not know.
    """
    if not re.fullmatch(r"[1-9]\d{0,11}", number, re.ASCII):
        raise UserError(f"--follow takes the number of a job, not {number!r}")
    name, job = f"job {number}", Job(number)
    with leaving(name, come_back(number)):
        found = job.ask()
        if len(found) > 1 or "ArrayTaskId" in found[0]:
            return attend(name, lambda: of_array(job.ask()), nothing)
        log = Tail(Path(found[0]["StdOut"]), SHOWN_BYTES if from_end else None)
        return attend(name, lambda: of_job(job.ask()[0]), log)


def nothing() -> bool:
    """The logs of an array are not shown: there are as many as elements."""
    return False


class Job:
    """A job, or an array, as it was last seen: Slurm forgets what ended some minutes ago."""

    def __init__(self, number: str):
        self.number = number
        self.seen: dict[str, dict[str, str]] = {}  # by element
        self.waiting: list[dict[str, str]] = []  # records of elements that have not begun

    def ask(self) -> list[dict[str, str]]:
        """The records, those that are forgotten as they were. UserError for a job that was never known."""
        try:
            found = records(self.number)
        except UserError as error:
            known = [*self.seen.values(), *self.waiting]
            gone = FORGOTTEN in str(error) and not all(one["JobState"] in ENDED for one in known)
            if not known or gone:
                raise
            return known  # or the controller does not answer for a moment
        self.waiting = [one for one in found if not one.get("ArrayTaskId", "0").isdecimal()]
        self.seen |= {one.get("ArrayTaskId", "0"): one for one in found if one not in self.waiting}
        return [*self.seen.values(), *self.waiting]


def records(number: str) -> list[dict[str, str]]:
    """What scontrol says of a job, or of every element of an array. UserError where it is not known."""
    program = shutil.which("scontrol")
    if program is None:
        raise UserError("there is no scontrol here; go to a login node of the cluster")
    typed = [program, "--oneliner", "show", "job", number]
    done = subprocess.run(typed, capture_output=True, text=True, errors="replace", check=False)
    lines = [line for line in done.stdout.splitlines() if "JobId=" in line]
    if done.returncode != 0 or not lines:
        said = (done.stderr.strip().splitlines() or ["it ended some time ago"])[-1]
        raise UserError(
            f"Slurm does not know job {number} ({said}); its log is slurm-{number}.out, in the --log folder"
        )
    return [parsed(line) for line in lines]


def parsed(line: str) -> dict[str, str]:
    """The fields of a record, of each the first; StdOut may hold spaces, others end at one."""
    found = dict(reversed(re.findall(r"(?:^|\s)([A-Za-z/:]+)=(\S*)", line)))
    path = re.search(r"\sStdOut=(.*?)(?=\s+[A-Z][A-Za-z/:]*=|\s*$)", line)
    return found | {"StdOut": path[1] if path else ""}


def of_job(job: dict[str, str]) -> State:
    """Of a record."""
    state = job["JobState"]
    if state in ENDED:
        return State(f"{state}, exit code {job.get('ExitCode', '?')}", exit_code(job))
    times = f", started {int(job['Restarts']) + 1} times" if job.get("Restarts", "0") != "0" else ""
    if state == "PENDING":
        begins = f", not before {job['StartTime']}" if job.get("Reason") == "BeginTime" else ""
        return State(f"PENDING ({job.get('Reason', '')}{begins}){times}")
    return State(f"{state} on {job.get('NodeList', '?')}{times}")


def of_array(elements: list[dict[str, str]]) -> State:
    """Of the elements' records: how many are in each state. One that waits may stand for many."""
    counts: collections.Counter[str] = collections.Counter()
    for element in elements:
        counts[element["JobState"]] += waiting(element.get("ArrayTaskId", ""))
    words = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    if not all(state in ENDED for state in counts):
        return State(words)
    failed = [element for element in elements if exit_code(element) != EXIT_DONE]
    named = f"; see {failed[0].get('StdOut', '')}" if failed else ""
    return State(words + named, exit_code(failed[0]) if failed else EXIT_DONE)


def waiting(elements: str) -> int:
    """How many elements `3`, or of those that have not begun `0-2,7%4`, are."""
    count = 0
    for part in elements.partition("%")[0].split(","):
        first, dash, last = part.partition("-")
        count += int(last) - int(first) + 1 if dash and last.isdecimal() and first.isdecimal() else 1
    return count


def exit_code(job: dict[str, str]) -> int:
    """Of a record of a job that has ended: its own code, 128 and the signal that ended it, or 1."""
    code, _, number = job.get("ExitCode", "0:0").partition(":")
    if job["JobState"] == "COMPLETED":
        return EXIT_DONE
    return int(code) or (128 + int(number) if int(number or 0) else EXIT_NOT_DONE)
