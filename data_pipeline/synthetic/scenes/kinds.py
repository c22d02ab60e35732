"""Every kind of scene as a script: who does what where in each shot, how shots are joined, what is heard.

People are numbers from 0 on (`person.py`); a seed has other people in the same parts. Times in s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_pipeline.synthetic.scenes.actor import CHEWS, MOUTHS, NODS, PHOTOGRAPH, RESTS, SPEAKS, Role

CUT, FADE, DISSOLVE = "cut", "fade", "dissolve"
DARK, OVEREXPOSED, BLURRED, UPSIDE_DOWN = LOOKS = ("dark", "overexposed", "blurred", "upside_down")
ROOM_RMS = 10 ** (-75 / 20)  # noise of a quiet room
LEFT, MIDDLE, RIGHT = 0.25, 0.5, 0.75
LENGTH_S = 4.0  # the length of most scenes


@dataclass(frozen=True)
class Shot:
    """Roles in the order in which they are painted: the last stands in front. `joined` is how the shot begins."""

    roles: tuple[Role, ...]
    seconds: float = LENGTH_S
    room: int = 0  # whose room it is
    joined: str = CUT


@dataclass(frozen=True)
class Script:
    """A scene before it is played."""

    shots: tuple[Shot, ...]
    narrator: int | None = None  # a person who is heard and not seen
    music_rms: float = 0.0
    noise_rms: float = ROOM_RMS
    flashes_s: tuple[float, ...] = ()  # moments at which a single picture is overexposed
    hand_s: tuple[float, float] | None = None  # when a hand is held up
    hand_covers: bool = True  # it is before the mouth, else beside the face
    frozen_s: tuple[float, float] | None = None  # the picture stands still
    look: str = ""  # one of LOOKS


def _alone(does: str = SPEAKS, **more) -> tuple[Shot, ...]:
    return (Shot((Role(0, does, **more),)),)


def _beside(*does: str, seconds: float = LENGTH_S) -> tuple[Shot, ...]:
    """Two or three people side by side; several who speak take turns."""
    places = {2: (LEFT, RIGHT), 3: (0.18, MIDDLE, 0.82)}[len(does)]
    turns = does.count(SPEAKS)
    roles, turn = [], 0
    for identity, (what, place) in enumerate(zip(does, places)):
        begins_s, ends_s = (turn * seconds / turns, (turn + 1) * seconds / turns) if what == SPEAKS else (0.0, seconds)
        turn += what == SPEAKS
        roles.append(Role(identity, what, ((0.0, place),), begins_s=begins_s, ends_s=ends_s))
    return (Shot(tuple(roles), seconds),)


def _joined(how: str, rooms: tuple[int, ...], seconds: float = 1.8) -> tuple[Shot, ...]:
    """A shot of another person for each room, all framed alike."""
    return tuple(Shot((Role(who),), seconds, room, how) for who, room in enumerate(rooms))


def _leaves() -> tuple[Shot, ...]:
    """Out at the right, and back after a second and a half."""
    way = ((0.0, MIDDLE), (1.2, MIDDLE), (1.9, 1.3), (3.4, 1.3), (4.1, MIDDLE))
    return (Shot((Role(0, way=way),), 5.6),)


def _crossing() -> tuple[Shot, ...]:
    """Two change places; one passes in front of the other."""
    there = ((0.0, LEFT), (1.2, LEFT), (3.2, RIGHT))
    back = ((0.0, RIGHT), (1.2, RIGHT), (3.2, LEFT))
    return (Shot((Role(0, NODS, there), Role(1, SPEAKS, back)), 4.6),)


def _photograph() -> tuple[Shot, ...]:
    return (Shot((Role(1, PHOTOGRAPH, raised_px=40, sheet_px=260),)),)


def _wide_and_close() -> tuple[Shot, ...]:
    """The same person in the same room, as a second camera sees it."""
    near, far = Role(0), Role(0, sheet_px=200)
    return tuple(Shot((role,), 1.6) for role in (near, far, near))


# What a user types -> its script.
KINDS: dict[str, Callable[[], Script]] = {
    "speaks": lambda: Script(_alone()),
    "cuts": lambda: Script(_joined(CUT, (0, 1, 2, 3))),
    "cuts_alike": lambda: Script(_joined(CUT, (0, 0, 0, 0))),
    "cuts_size": lambda: Script(_wide_and_close()),
    "fade": lambda: Script(_joined(FADE, (0, 1, 2), 3.0)),
    "dissolve": lambda: Script(_joined(DISSOLVE, (0, 1, 2), 2.6)),
    "dissolve_alike": lambda: Script(_joined(DISSOLVE, (0, 0, 0), 2.6)),
    "flash": lambda: Script(_alone(), flashes_s=(0.8, 1.9, 3.0)),
    "two": lambda: Script(_beside(SPEAKS, NODS)),
    "two_chews": lambda: Script(_beside(CHEWS, SPEAKS)),
    "two_turns": lambda: Script(_beside(SPEAKS, SPEAKS, seconds=6.0)),
    "three": lambda: Script(_beside(RESTS, SPEAKS, NODS)),
    "crossing": lambda: Script(_crossing()),
    "leaves": lambda: Script(_leaves()),
    "hand": lambda: Script(_alone(), hand_s=(1.0, 3.2)),
    "hand_beside": lambda: Script(_alone(), hand_s=(1.0, 3.2), hand_covers=False),
    "narrator": lambda: Script(_alone(NODS), narrator=1),
    "narrator_two": lambda: Script(_beside(NODS, RESTS), narrator=2),
    "narrator_chews": lambda: Script(_alone(CHEWS), narrator=1),
    "photograph": lambda: Script(_photograph(), narrator=0),
    "music": lambda: Script(_alone(MOUTHS), music_rms=0.07),
    "music_under": lambda: Script(_alone(), music_rms=0.02),
    "music_over": lambda: Script(_alone(), music_rms=0.1),
    "chews": lambda: Script(_alone(CHEWS)),
    "silence": lambda: Script(_alone(MOUTHS), noise_rms=0.0),
    "noise": lambda: Script(_alone(MOUTHS), noise_rms=10 ** (-63 / 20)),
    "dark": lambda: Script(_alone(), look=DARK),
    "overexposed": lambda: Script(_alone(), look=OVEREXPOSED),
    "blurred": lambda: Script(_alone(), look=BLURRED),
    "upside_down": lambda: Script(_alone(), look=UPSIDE_DOWN),
    "frozen": lambda: Script(_alone(), frozen_s=(1.6, LENGTH_S)),
    "turned": lambda: Script(_alone(yaw=60.0)),
    "small": lambda: Script(_alone(sheet_px=96)),
}
