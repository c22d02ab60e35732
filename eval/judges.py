"""Which judges may judge: only those that were shown to be above chance on people they were not trained on."""

from __future__ import annotations

from pathlib import Path

from eval import dub_protocol

NOT_NAMED = "no model was named (--{0})"


def refused(folders: dict[str, Path]) -> dict[str, str]:
    """Metrics that stand in no row, and why: their judge was not named, or judges no better than chance.

    `folders` holds the folders of the judges by name. Raises UserError where one holds no such model.
    """
    from mytalk.networks import identity, syncnet

    made: dict[str, str] = {}
    standings = {
        "syncnet": (dub_protocol.SYNC, syncnet.standing),
        "identity": (dub_protocol.IDENTITY, identity.standing),
    }
    for judge, (metrics, standing) in standings.items():
        above, words = standing(folders[judge]) if judge in folders else (False, NOT_NAMED.format(judge))
        if not above:
            made.update(dict.fromkeys(metrics, words))
    return made
