"""Who the drawn people are: face, colours, hair, clothes, voice and way of speaking, from (seed, identity).

Lengths are px in a picture of 512 x 512 with the face's centre at (0, 0), x to the right, y down. Colours are
(blue, green, red) from 0 to 255.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.speech.articulation import Articulation
from data_pipeline.synthetic.speech.voice import Voice

Colour = tuple[float, float, float]

LOW_VOICES = ["m1", "m2", "m3", "m4", "m5", "m7", "m8", "Andy", "Lee", "Michael", "david", "paul", "adam", "caleb"]
HIGH_VOICES = ["f1", "f2", "f3", "f4", "f5", "Annie", "Alicia", "belinda", "linda", "steph", "steph3", "anika"]
ACCENTS = ["en-us", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029", "en-gb-x-gbclan"]
SHORT_HAIR, SIDE_PARTING, LONG_HAIR, BUN, CURLS, FRINGE, SHAVED = (
    "short", "parting", "long", "bun", "curls", "fringe", "shaved",
)  # fmt: skip
CLOTHES = ("crew", "shirt", "turtleneck", "scarf")
BACKGROUNDS = ("wall", "window", "lights", "shelves")

_PERSON = 1  # tag of this stream of randomness; see `drawn`
_LOW_STYLES = (SHORT_HAIR, CURLS, SIDE_PARTING, SHAVED)
_HIGH_STYLES = (LONG_HAIR, BUN, FRINGE, CURLS)
_SKIN = [
    (206, 218, 246),
    (176, 198, 236),
    (150, 176, 222),
    (118, 150, 204),
    (84, 118, 178),
    (62, 88, 142),
    (48, 66, 108),
]
_HAIR = [(28, 24, 24), (34, 44, 66), (46, 70, 112), (60, 96, 150), (110, 164, 206), (44, 66, 156), (160, 164, 170)]
_IRIS = [(40, 62, 96), (58, 96, 124), (150, 124, 72), (112, 134, 84), (130, 120, 110), (30, 44, 66)]  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One identity. See the module for units."""

    half_width: float
    jaw: float  # 0 = narrow, 1 = square
    chin_y: float
    eye_x: float
    eye_y: float
    eye_half_width: float
    eye_half_height: float
    brow_y: float
    brow_thickness: float
    brow_tilt: float
    nose_y: float
    nose_half_width: float
    mouth_y: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    mouth_curve: float  # how far the corners stand below the middle
    skin: Colour
    lips: Colour
    iris: Colour
    hair: Colour
    clothes: Colour
    clothes_style: str
    hair_style: str
    beard: float  # 0 = none, 1 = dark
    light_x: float  # direction of the light, -1 = from the left
    background: str
    background_hue: float
    texture_seed: int
    liveliness: float  # how much the head moves, 0 = hardly, 1 = far
    voice: Voice
    articulation: Articulation


def person(seed: int, identity: int) -> Person:
    """The person number `identity` of the corpus `seed`."""
    random = np.random.default_rng([_PERSON, seed, identity])

    def between(low: float, high: float) -> float:
        return round(float(random.uniform(low, high)), 4)

    def spread(prime: int, low: float, high: float) -> float:
        """A value between the bounds that keeps the identities of a corpus apart: the Weyl sequence of
        the prime's root, of which every trait has its own."""
        start, step = np.random.default_rng([_PERSON, seed, 1 << 31, prime]).random(), prime**0.5 % 1
        return round(low + (high - low) * float((start + step * identity) % 1), 4)

    high = bool((identity + seed) % 2)
    skin = _mixed(_SKIN, spread(3, 0, 1))
    redness = between(0.75, 1.0) if high else between(0.35, 0.7)
    styles, variants = (_HIGH_STYLES, HIGH_VOICES) if high else (_LOW_STYLES, LOW_VOICES)
    turn = identity // 2
    return Person(
        half_width=between(94, 104) if high else between(100, 112),
        jaw=between(0.0, 0.45) if high else between(0.35, 1.0),
        chin_y=between(126, 138) if high else between(132, 146),
        eye_x=between(42, 49),
        eye_y=between(-26, -18),
        eye_half_width=between(21, 25),
        eye_half_height=between(9.5, 12.5) if high else between(8.0, 10.5),
        brow_y=between(-56, -49),
        brow_thickness=between(5, 7.5) if high else between(7.5, 11),
        brow_tilt=between(-4, 3),
        nose_y=between(30, 40),
        nose_half_width=between(15, 19) if high else between(18, 24),
        mouth_y=between(74, 82),
        mouth_half_width=between(40, 50),
        upper_lip=between(9, 14) if high else between(7, 11),
        lower_lip=between(12, 18) if high else between(10, 15),
        mouth_curve=between(-7, -1),
        skin=skin,
        lips=_lip_colour(skin, redness),
        iris=_IRIS[int(random.integers(len(_IRIS)))],
        hair=_HAIR[int(spread(7, 0, len(_HAIR)))],
        clothes=hue(spread(11, 0, 1), between(0.35, 0.75), between(0.3, 0.8)),
        clothes_style=CLOTHES[int(random.integers(len(CLOTHES)))],
        hair_style=styles[turn % len(styles)],
        beard=between(0.3, 0.8) if not high and turn % 3 == 1 else 0.0,
        light_x=between(-0.6, 0.6),
        background=BACKGROUNDS[int(random.integers(len(BACKGROUNDS)))],
        background_hue=spread(13, 0, 1),
        texture_seed=int(random.integers(1 << 31)),
        liveliness=round(spread(31, 0, 1) ** 1.5, 4),
        voice=Voice(
            name=f"{ACCENTS[identity % len(ACCENTS)]}+{variants[turn % len(variants)]}",
            words_per_min=round(spread(19, 140, 185)),
            pitch=round(between(50, 75) if high else between(25, 50)),
            pitch_range=round(between(35, 75)),
        ),
        articulation=Articulation(
            opening_gain=spread(23, 0.6, 1.5),
            width_gain=between(0.5, 1.5),
            lag_ms=spread(29, -40, 80),
            asymmetry=between(-0.35, 0.35),
        ),
    )


def _mixed(palette: list[tuple[int, int, int]], where: float) -> Colour:
    """The colour at `where` (0 to 1) along a palette."""
    at = np.linspace(0, 1, len(palette))
    blue, green, red = (round(float(np.interp(where, at, channel)), 1) for channel in zip(*palette))
    return blue, green, red


def _lip_colour(skin: Colour, redness: float) -> Colour:
    """Lips are the skin with less green and blue; always clearly darker and redder than what surrounds them."""
    blue, green, red = skin
    return (
        round(blue * (0.80 - 0.22 * redness), 1),
        round(green * (0.72 - 0.28 * redness), 1),
        round(min(red * 0.90 + 14, 225), 1),
    )


def hue(turn: float, saturation: float, value: float) -> Colour:
    """A colour from hue (0 to 1), saturation and value."""
    red, green, blue = colorsys.hsv_to_rgb(turn, saturation, value)
    return round(255 * blue, 1), round(255 * green, 1), round(255 * red, 1)
