"""Which judges may judge: only those that were shown to be above chance on people they were not trained on."""

from __future__ import annotations

from pathlib import Path

from eval import dub_protocol
from mytalk.intervals import above_chance

NOT_NAMED = "no model was named (--{0})"
IDENTITY_MEASURED = "verification_auc"  # the fact beside an identity encoder's weights (train/identity.py)


def refused(folders: dict[str, Path]) -> dict[str, str]:
    """Metrics that stand in no row, and why: their judge was not named, or judges no better than chance.

    `folders` holds the folders of the judges by name. Raises UserError where one holds no such model.
    """
    from mytalk import syncnet

    made: dict[str, str] = {}
    standings = {"syncnet": (dub_protocol.SYNC, syncnet.standing), "identity": (dub_protocol.IDENTITY, identity)}
    for judge, (metrics, standing) in standings.items():
        above, words = standing(folders[judge]) if judge in folders else (False, NOT_NAMED.format(judge))
        if not above:
            made.update(dict.fromkeys(metrics, words))
    return made


def identity(folder: Path) -> tuple[bool, str]:
    """Whether a folder's identity encoder was shown to be above chance, and that in words (cf. `syncnet.standing`).

    The measure is the verification AUC over people, chance 0.5. Raises UserError where there is no encoder.
    """
    from mytalk import weights

    facts = weights.describe(folder, "identity").get("facts")
    validation = facts.get("validation") if isinstance(facts, dict) else None
    return above_chance(validation.get(IDENTITY_MEASURED) if isinstance(validation, dict) else None)
