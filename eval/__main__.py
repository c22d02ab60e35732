"""`python -m eval COMMAND`: measure a model on people it has never seen."""

import sys

from mytalk import command

COMMANDS = {
    "motion": ("eval.motion", "landmarks generated for unseen people, against the truth and three baselines"),
    "score": ("eval.score", "videos of any method against the real ones"),
    "clips": ("eval.clips", "the benchmark's clips as videos, and who is to be dubbed with what"),
    "compare": ("eval.compare.command", "paired tests between the methods of several reports"),
    "leaderboard": ("eval.compare.leaderboard", "one page of many reports, grouped by protocol"),
    "benchmark": (
        "eval.benchmark",
        "unseen people dubbed in their own videos; a report with pictures",
    ),
    "gaps": ("eval.gaps.command", "seen people against unseen people and unseen corpora, from finished reports"),
    "cheats": (
        "eval.cheats.command",
        "real clips made into cheats: which measure catches which, and which sees nothing",
    ),
    "judges": ("eval.judges.command", "every file of weights that judges need: there or missing, licence, source"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m eval", __doc__, COMMANDS))
