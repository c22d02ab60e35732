"""Who is who in a video: tracks joined into faces, one a person, and which of them is dubbed.

Shape suffixes: N landmarks (478), C clean landmarks, 2 = (x, y), 3 = (x, y, z) in px.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mytalk.command import UserError
from mytalk.dub.tracks import Track
from mytalk.face import plausible
from mytalk.face.landmarks import CLEAN
from mytalk.machine import most_threads

# Of the mean upper faces of two tracks; measured in docs/log.md, 2026-11-26.
MOST_UNALIKE = 0.04
MOST_RECOLOURED = 30.0  # mean difference of their pictures, of 255
MAIN = 2.0  # times the area of any other face, summed over the frames: the video is about this person
SAMPLED = 24  # frames of a track that tell its shape
SYNTAX = "largest, all, track:N or X,Y,W,H"


@dataclass(frozen=True)
class Choice:
    """Which faces are dubbed: `kind` is main, largest, all, track or box.

    `values`: the numbers of tracks, or the box's left, top, width and height in px.
    """

    kind: str = "main"
    values: tuple[int, ...] = ()


MAIN_FACE = Choice()


def choice(text: str) -> Choice:
    """`--face` as it is typed: SYNTAX. Raises argparse.ArgumentTypeError."""
    word, _, numbers = text.partition(":") if text.startswith("track:") else ("box", "", text)
    if text in ("largest", "all"):
        return Choice(text)
    try:
        values = tuple(int(number) for number in numbers.split(","))
    except ValueError:
        values = ()
    right_box = word == "box" and len(values) == 4 and min(values[2:]) > 0
    right_tracks = word == "track" and values and min(values) >= 0
    if not (right_box or right_tracks):
        raise argparse.ArgumentTypeError(f"'{text}' is none of: {SYNTAX}, as in track:0 or 640,80,200,260")
    return Choice(word, values)


@dataclass(frozen=True)
class Face:
    """One person, as tracks that never overlap in time. Its number is that of its first track."""

    tracks: tuple[Track, ...]

    @property
    def number(self) -> int:
        """As the contact sheet shows it."""
        return min(track.number for track in self.tracks)

    @cached_property
    def area(self) -> float:
        """Sum over its frames of the squared side of its box, px."""
        return float(sum(np.square(track.boxes)[:, 2].sum() for track in self.tracks))

    @property
    def frames(self) -> int:
        """In how many it is seen."""
        return sum(len(track.frames) for track in self.tracks)


def joined(tracks: list[Track]) -> list[Face]:
    """The tracks as faces, the largest first: those of one person together, as far as shape and looks tell.

    Two faces of one picture are two people, whatever they look like.
    """
    people: list[list[Track]] = []
    shapes: dict[int, np.ndarray] = {}
    for track in sorted(tracks, key=lambda track: -len(track.frames)):
        shapes[track.number] = _shape(track)
        fits = []
        for person in people:
            if not any(_overlap(track, other) for other in person):
                unlike = min(plausible.difference(shapes[track.number], shapes[other.number]) for other in person)
                fits.append((unlike, person))
        unlike, person = min(fits, key=lambda fit: fit[0], default=(np.inf, []))
        if unlike <= MOST_UNALIKE and _recoloured(track, person) <= MOST_RECOLOURED:
            person.append(track)
        else:
            people.append([track])
    faces = [Face(tuple(sorted(person, key=lambda track: track.frames[0]))) for person in people]
    return sorted(faces, key=lambda face: -face.area)


def chosen_of(faces: list[Face], wanted: Choice) -> list[Face]:
    """The faces to be dubbed. Several only for "all"; none where it must be asked, since others are as large.

    Raises UserError where nothing is there.
    """
    if wanted.kind == "all":
        return faces
    if wanted.kind == "largest" or (len(faces) == 1 and wanted.kind == "main"):
        return faces[:1]
    if wanted.kind == "main":
        return faces[:1] if faces[0].area >= MAIN * faces[1].area else []
    tracks = [track for face in faces for track in face.tracks]
    if wanted.kind == "box":
        return [_in_box(tracks, wanted.values)]
    known = {track.number: face for face in faces for track in face.tracks}
    missing = [number for number in wanted.values if number not in known]
    if missing:
        raise UserError(f"there is no track {missing[0]}; name one of: {', '.join(map(str, sorted(known)))}")
    named = {known[number].number: known[number] for number in wanted.values}
    together = [track for face in named.values() for track in face.tracks]
    _refuse_overlap(together, f"--face track:{','.join(map(str, wanted.values))} names")
    return [Face(tuple(sorted(together, key=lambda track: track.frames[0])))]


def _in_box(tracks: list[Track], box: tuple[int, ...]) -> Face:
    """All tracks whose middle is mostly in the box, as one person, whatever they look like."""
    left, top, width, height = box
    inside = []
    for track in tracks:
        x, y, _ = np.median(track.boxes, axis=0)
        if left <= x <= left + width and top <= y <= top + height:
            inside.append(track)
    where = f"--face {','.join(map(str, box))}"
    if not inside:
        raise UserError(f"no face is in {where} (left, top, width and height in px of the video as it is seen)")
    _refuse_overlap(inside, f"{where} holds")
    return Face(tuple(sorted(inside, key=lambda track: track.frames[0])))


def _refuse_overlap(tracks: list[Track], said: str) -> None:
    for index, one in enumerate(tracks):
        for other in tracks[:index]:
            if _overlap(one, other):
                raise UserError(
                    f"{said} tracks {other.number} and {one.number}, which are seen together; name one of them"
                )


def _overlap(one: Track, other: Track) -> bool:
    if one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0]:
        return False
    return not set(one.frames).isdisjoint(other.frames)


@most_threads(1)
def _shape(track: Track) -> np.ndarray:
    """The mean upright upper face, which neither mouth nor turning changes: (C, 3)."""
    import torch

    from mytalk.face import pose

    picked = np.unique(np.linspace(0, len(track.frames) - 1, SAMPLED).round().astype(int))
    points = torch.from_numpy(np.stack([track.landmarks[index] for index in picked]).astype(np.float64))[None]
    head = pose.person_head(points, torch.ones(points.shape[:2], dtype=torch.float64))
    return pose.fit(points, head.rigid_BR3).upright(points)[0, :, CLEAN].mean(0).numpy()


def _recoloured(track: Track, person: list[Track]) -> float:
    """How much the pictures of a track differ from those of a person's tracks, at best; 0 where there are none."""
    pairs = [(one, other) for known in person for one in track.pictures for other in known.pictures]
    return min((float(np.abs(coarse(one) - coarse(other)).mean()) for one, other in pairs), default=0.0)


def coarse(picture_HW3: np.ndarray) -> np.ndarray:
    """The middle half of a face's picture, blurred: (8, 8, 3)."""
    quarter = len(picture_HW3) // 4
    middle = picture_HW3[quarter:-quarter, quarter:-quarter].astype(np.float32)
    side = len(middle) // 8
    return middle.reshape(8, side, 8, side, 3).mean((1, 3))
