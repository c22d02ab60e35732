"""A drawn scene: pictures, sound and truth, each a function of its kind and seed.

    from data_pipeline.synthetic.scenes.scene import scene
    one = scene("two", seed=0)
    frames, samples, truth = list(one.pictures()), one.audio_S, one.truth

`pictures()` are RGB uint8 (HEIGHT, WIDTH, 3) at 25 Hz, `audio_S` is mono float32 at 16 kHz, `truth` is JSON:

- `kind`, `seed`, `frames`, `width`, `height`, `look` (what is wrong with all pictures, or "")
- `cuts`: frames that begin a shot with a hard cut; `transitions`: [kind, start, stop] of fades and dissolves
- `flashes`: overexposed frames; `frozen`: [start, stop] in which the picture stands still, or null
- `voice`, `music`, `hand`: for every frame, whether any voice is heard, music is, a hand covers the mouth
- `people`, in the order of their first shot: `identity`; `does` (what it does, by shot); and for every frame `box`
  ([x, y, side]: middle and longer side of the face from forehead to chin, px; null where it is not in the picture),
  `visible` (most of the face is seen), `speaking` (its voice is heard)

Shape suffixes: T frames, H height, W width, 3 = RGB (or blue, green, red where it says so), S samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from data_pipeline.synthetic.person import person
from data_pipeline.synthetic.scenes import actor as acting
from data_pipeline.synthetic.scenes import hand, stage
from data_pipeline.synthetic.scenes.actor import Actor
from data_pipeline.synthetic.scenes.kinds import (
    BLURRED,
    CUT,
    DARK,
    DISSOLVE,
    FADE,
    KINDS,
    OVEREXPOSED,
    UPSIDE_DOWN,
    Script,
    Shot,
)
from data_pipeline.synthetic.scenes.music import music
from data_pipeline.synthetic.scenes.stage import HEIGHT, WIDTH
from mytalk.face.landmarks import FRAME_HZ, SAMPLES_PER_FRAME

JOIN_FRAMES = 16  # of a dissolve, and of each half of a fade
SEEN = 0.5  # a face is visible with this share of it in the picture, and of its shot's brightness
HAND_MOVES_FRAMES = 8
CAMERA_NOISE = 1.5  # standard deviation of the pixels' noise
_SCENES = 5  # tag of this stream of randomness; see person.py


@dataclass(frozen=True)
class Part:
    """A shot on the scene's clock: frames [start, stop), and how much of it is seen in each of its frames."""

    shot: Shot
    start: int
    stop: int
    weight_T: np.ndarray  # 0 to 1
    actors: list[Actor]


@dataclass(frozen=True)
class Scene:
    """See the module."""

    kind: str
    seed: int
    script: Script
    parts: list[Part]
    frames: int

    def pictures(self) -> Iterator[np.ndarray]:
        """RGB uint8 (HEIGHT, WIDTH, 3), a frame at a time."""
        random = _random(self.kind, self.seed, 1)
        noise = random.normal(0, CAMERA_NOISE, (2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)
        frozen = _frames(self.script.frozen_s)
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for frame in range(self.frames):
            down, right = random.integers(HEIGHT), random.integers(WIDTH)
            if not (frozen and frozen[0] < frame < frozen[1]):
                seen = self._looked_at(self._painted(frame), frame)
                seen += noise[down : down + HEIGHT, right : right + WIDTH]
                picture = np.clip(seen, 0, 255).astype(np.uint8)[..., ::-1]
            yield np.ascontiguousarray(picture)

    @cached_property
    def audio_S(self) -> np.ndarray:
        """Mono float32 at 16 kHz."""
        random = _random(self.kind, self.seed, 2)
        total_S = np.zeros(self.frames * SAMPLES_PER_FRAME, np.float32)
        for part in self.parts:
            for actor in part.actors:
                total_S[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME] += actor.voice_S
        total_S += self._narration[0]
        total_S += self.script.noise_rms * random.standard_normal(len(total_S)).astype(np.float32)
        if self.script.music_rms:
            total_S += music(random, self.frames / FRAME_HZ, self.script.music_rms)
        return np.clip(total_S, -1, 1)

    @cached_property
    def truth(self) -> dict[str, Any]:
        """See the module."""
        people = self._people()
        voice_T = self._narration[1] | np.any([one["speaking"] for one in people], axis=0)
        joined = [(part, part.shot.joined) for part in self.parts[1:]]
        return {
            "kind": self.kind,
            "seed": self.seed,
            "frames": self.frames,
            "width": WIDTH,
            "height": HEIGHT,
            "look": self.script.look,
            "cuts": [part.start for part, how in joined if how == CUT],
            "transitions": [
                [how, part.start - (JOIN_FRAMES if how == FADE else 0), part.start + JOIN_FRAMES]
                for part, how in joined
                if how != CUT
            ],
            "flashes": self._flashes(),
            "frozen": _frames(self.script.frozen_s),
            "voice": voice_T.tolist(),
            "music": [self.script.music_rms > 0] * self.frames,
            "hand": [self._hand_covers(frame) for frame in range(self.frames)],
            "people": people,
        }

    @cached_property
    def _narration(self) -> tuple[np.ndarray, np.ndarray]:
        if self.script.narrator is None:
            return np.zeros(self.frames * SAMPLES_PER_FRAME, np.float32), np.zeros(self.frames, bool)
        who = person(self.seed, self.script.narrator)
        speech = acting.said(who, _random(self.kind, self.seed, 3), self.frames / FRAME_HZ)
        return acting.heard(speech, 0.0, self.frames)

    def _flashes(self) -> list[int]:
        return [round(at_s * FRAME_HZ) for at_s in self.script.flashes_s]

    def _painted(self, frame: int) -> np.ndarray:
        """The picture as it is before the camera, (HEIGHT, WIDTH, 3) float32 blue green red."""
        total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for part in self.parts:
            if part.start <= frame < part.stop and part.weight_T[frame - part.start] > 0:
                picture = stage.room(self.seed, part.shot.room).copy()
                for actor in part.actors:
                    stage.enter(picture, self.seed, actor, frame - part.start)
                if part is self.parts[0] and self.script.hand_s:
                    self._hold_up(picture, frame)
                total += part.weight_T[frame - part.start] * picture
        return total

    def _looked_at(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """What the camera makes of it, (HEIGHT, WIDTH, 3) float32, not cut off at 255."""
        if frame in self._flashes():
            picture = picture * 1.6 + 90
        if self.script.look == DARK:
            return picture * 0.06
        if self.script.look == OVEREXPOSED:
            return picture * 1.9 + 110
        if self.script.look == BLURRED:
            return np.asarray(cv2.GaussianBlur(picture, (0, 0), 5), np.float32)
        return picture[::-1, ::-1].copy() if self.script.look == UPSIDE_DOWN else picture

    def _hand(self, frame: int) -> tuple[np.ndarray, int, int] | None:
        """The hand's sheet and the px of its upper left corner: it comes from below, stays, and goes down again."""
        times = _frames(self.script.hand_s)
        if times is None or not times[0] <= frame < times[1]:
            return None
        actor = self.parts[0].actors[0]
        side_px = round(0.5 * actor.role.sheet_px)
        middle = stage.mouth_at(actor, frame)
        if not self.script.hand_covers:
            middle[0] += 0.33 * actor.role.sheet_px
        away = np.clip(1 - (min(frame - times[0], times[1] - 1 - frame) / HAND_MOVES_FRAMES), 0, 1)
        middle[1] += away * (HEIGHT - middle[1] + side_px / 2)
        left, top = np.round(middle - hand.COVERS * side_px / hand.SIDE).astype(int)
        return hand.sheet(actor.who.skin, side_px), int(left), int(top)

    def _hold_up(self, picture: np.ndarray, frame: int) -> None:
        hand_sheet = self._hand(frame)
        if hand_sheet is not None:
            stage.lay(picture, *hand_sheet)

    def _hand_covers(self, frame: int) -> bool:
        hand_sheet = self._hand(frame)
        if hand_sheet is None:
            return False
        sheet, left, top = hand_sheet
        x, y = np.round(stage.mouth_at(self.parts[0].actors[0], frame)).astype(int) - (left, top)
        return bool(0 <= x < sheet.shape[1] and 0 <= y < len(sheet) and sheet[y, x, 3] > 128)

    def _people(self) -> list[dict[str, Any]]:
        people: dict[int, dict[str, Any]] = {}
        for part in self.parts:
            for place, actor in enumerate(part.actors):
                identity = actor.role.identity
                empty = {
                    "identity": f"s{self.seed}p{identity}",
                    "does": [],
                    "box": [None] * self.frames,
                    "visible": [False] * self.frames,
                    "speaking": [False] * self.frames,
                }
                one = people.setdefault(identity, empty)
                one["does"].append(actor.role.does)
                for frame in range(part.start, part.stop):
                    self._seen(one, part, place, frame)
        begin, end = _frames(self.script.frozen_s) or (0, 0)
        for one in people.values():
            one["box"][begin:end] = [one["box"][begin]] * (end - begin)
        return list(people.values())

    def _seen(self, one: dict[str, Any], part: Part, place: int, frame: int) -> None:
        """Write what is seen of an actor in a frame into its truth."""
        at = frame - part.start
        actor, before = part.actors[place], part.actors[place + 1 :]
        share = stage.inside(actor, at)
        if share > 0 and part.weight_T[at] >= SEEN:
            x, y, side = stage.box(actor, at)
            if self.script.look == UPSIDE_DOWN:
                x, y = WIDTH - x, HEIGHT - y
            one["box"][frame] = [round(x, 1), round(y, 1), round(side, 1)]
            one["visible"][frame] = share >= SEEN and stage.hidden(actor, before, at) < 1 - SEEN
        one["speaking"][frame] = one["speaking"][frame] or bool(actor.speaking_T[at])


def scene(kind: str, seed: int = 0) -> Scene:
    """The scene of one of KINDS. Raises KeyError for another."""
    script = KINDS[kind]()
    random = _random(kind, seed, 0)
    parts: list[Part] = []
    start = 0
    for number, shot in enumerate(script.shots):
        frames = round(shot.seconds * FRAME_HZ)
        if number > 0 and shot.joined == DISSOLVE:
            start -= JOIN_FRAMES
        after = script.shots[number + 1].joined if number + 1 < len(script.shots) else CUT
        weight_T = _rising(shot.joined if number else CUT, frames) * _rising(after, frames)[::-1]
        actors = [acting.play(role, seed, random, frames, WIDTH) for role in shot.roles]
        parts.append(Part(shot, start, start + frames, weight_T, actors))
        start += frames
    return Scene(kind, seed, script, parts, start)


def _rising(joined: str, frames: int) -> np.ndarray:
    """How a shot comes up from nothing, (T,): at once, or over JOIN_FRAMES frames."""
    if joined == CUT:
        return np.ones(frames)
    return np.clip((np.arange(frames) + 0.5) / JOIN_FRAMES, 0, 1)


def _frames(times_s: tuple[float, float] | None) -> list[int] | None:
    return None if times_s is None else [round(time_s * FRAME_HZ) for time_s in times_s]


def _random(kind: str, seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([_SCENES, seed, zlib.crc32(kind.encode()), part])
