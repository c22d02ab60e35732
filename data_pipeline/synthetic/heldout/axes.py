"""Along what the held-out corpora differ from the drawn corpus, one axis each and all together.

Nothing here is in the drawn corpus (person.py, movement.py): its voices are English accents by formant synthesis, its
gains on the opening lie between 0.6 and 1.5, its lags between -40 and 80 ms, its heads turn by 25 degrees at most.

Shape suffix: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.synthetic.movement import Pose
from data_pipeline.synthetic.person import Person, person
from data_pipeline.synthetic.speech.articulation import Articulation
from data_pipeline.synthetic.speech.voice import PAUSE, Phoneme, Voice

_AXES = 11  # tag of this stream of randomness; person.py and performance.py have others
LANGUAGES = ("de", "fr", "es", "it", "pl", "sv", "nl", "pt-br")
VARIANTS = (
    "klatt",
    "klatt2",
    "klatt4",
    "Gene",
    "Mario",
    "Andrea",
    "robert",
    "aunty",
)  # two other synthesisers among them
# What espeak-ng calls sounds that English lacks, as the sounds of articulation.py whose mouth they share.
FOREIGN = str.maketrans(
    {
        "y": "u",
        "Y": "U",
        "W": "o",
        "x": "k",
        "C": "S",
        "J": "j",
        "Q": "R",
        "B": "b",
        "H": "w",
        "*": "r",
        "8": "@",
        "&": "a",
    }
)


@dataclass(frozen=True)
class Axes:
    """Which axes a corpus differs along."""

    renderer: bool = False
    voice: bool = False
    kinematics: bool = False
    pose: bool = False
    recording: bool = False


CORPORA = {
    "new-people": Axes(),
    "ood-renderer": Axes(renderer=True),
    "ood-voice": Axes(voice=True),
    "ood-kinematics": Axes(kinematics=True),
    "ood-pose": Axes(pose=True),
    "ood-recording": Axes(recording=True),
    "ood-all": Axes(True, True, True, True, True),
}
WORDS = {
    "new-people": "people of the drawn corpus's own kind, none of whom it has: the control",
    "ood-renderer": "faces of another geometry, lit anew in every frame, with outlines and other lips",
    "ood-voice": f"voices of {len(LANGUAGES)} languages and of other synthesisers read the English text",
    "ood-kinematics": "mouths that open 1.65 to 1.95 or 0.3 to 0.5 times as far, 110 to 170 ms late or 70 to 110 early",
    "ood-pose": "heads turned to one side by 16 to 22 degrees more, up to 40",
    "ood-recording": "a room's echo, noise at 10 to 18 dB, sound at 24 kbit/s, a dim noisy picture at crf 33",
    "ood-all": "all of these at once",
}


def cast(seed: int, identity: int, axes: Axes) -> Person:
    """The person number `identity` of a corpus: the drawn corpus's, but for voice and articulation where held out."""
    who, random = person(seed, identity), np.random.default_rng([_AXES, seed, identity])
    voice, articulation = _voice(who, identity), _articulation(who, identity, random)  # drawn for every corpus alike
    who = replace(who, voice=voice) if axes.voice else who
    return replace(who, articulation=articulation) if axes.kinematics else who


def _voice(who: Person, identity: int) -> Voice:
    language = LANGUAGES[identity % len(LANGUAGES)]
    variant = VARIANTS[identity // len(LANGUAGES) % len(VARIANTS)]
    return replace(who.voice, name=f"{language}+{variant}")


def _articulation(who: Person, identity: int, random: np.random.Generator) -> Articulation:
    """A lively and late mouth, or a lazy and early one, in turn."""
    far = identity % 2 == 0
    gain, lag_ms = ((1.65, 1.95), (110, 170)) if far else ((0.3, 0.5), (-110, -70))
    width = random.uniform(1.6, 1.9) if far else random.uniform(0.1, 0.4)
    return replace(
        who.articulation,
        opening_gain=round(float(random.uniform(*gain)), 4),
        width_gain=round(float(width), 4),
        lag_ms=round(float(random.uniform(*lag_ms)), 4),
    )


def turned(poses_T: list[Pose], random: np.random.Generator) -> list[Pose]:
    """The same movements of a head that is turned to one side."""
    side, more = random.choice([-1, 1]), random.uniform(16, 22)
    return [replace(pose, yaw=float(np.clip(pose.yaw + side * more, -40, 40))) for pose in poses_T]


def heard_as(phonemes: tuple[Phoneme, ...]) -> tuple[Phoneme, ...]:
    """Phonemes of any language in the mnemonics that articulation.py knows; others are a schwa there.

    What espeak-ng marks as a change of language, `(en)`, is a pause.
    """
    return tuple(
        replace(one, symbol=PAUSE if one.symbol.startswith("(") else one.symbol.translate(FOREIGN)) for one in phonemes
    )
