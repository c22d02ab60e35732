"""One source, from video file to clips, in one pass: memory does not grow with its length.

Pictures go through the shot detector and the tracker; what is seen of each face is gathered into runs; a span that is
complete is judged, and what is kept waits on disk until the source has ended.

Shape suffixes: N landmarks, H height, W width, 2 = (x, y), 3 = RGB, or (x, y, z) in px.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.extract import pictures, transnet
from data_pipeline.extract.clips import Sound, judge
from data_pipeline.extract.corpora.layouts import FaceBox
from data_pipeline.extract.listing.sources import Source, digest_of, key_of
from data_pipeline.extract.patches import cut_out, shrinking
from data_pipeline.extract.pictures import Picture
from data_pipeline.extract.rules import labels
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.shots import with_cuts
from data_pipeline.extract.spans import Runs, Seen, Span
from data_pipeline.extract.spool import Spool
from data_pipeline.extract.thumbnails import Thumbnails
from data_pipeline.shards import members
from data_pipeline.shards.layout import FRAMES_PX
from data_pipeline.shards.writer import Clip
from mytalk import media
from mytalk.digest import sha256_of
from mytalk.face.detector import Detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ
from mytalk.face.shots import face_boxes
from mytalk.face.track import Face, Tracker
from mytalk.speech.activity import EnergyRule, SpeechDetector
from mytalk.speech.music import music_T

NO_FACE = "no_face"
NO_FRAME = "no_frame"  # no picture lies in its time ranges
NO_SOUND = "audio_ends_early"
STILL = "still_picture"
MAIN = 2.0  # times the area of any other face in the picture: the video is about this person
HAND_EVERY = 15  # frames from one look for hands to the next


@dataclass(frozen=True)
class Tools:
    """What a worker creates once: the face detector, what tells speech, what sees a hand before a mouth, and shots.

    `covers_mouth(picture_HW3, landmarks_N3)`, both in px of the picture; None: nobody looks. `shots`: the network that
    finds shots; None: `with_cuts` does.
    """

    detector: Detector
    speech: SpeechDetector = field(default_factory=EnergyRule)
    covers_mouth: Callable[[np.ndarray, np.ndarray], bool] | None = None
    shots: transnet.Network | None = None


@dataclass
class Extracted:
    """What a pass over a source gave. `spans` are lines of the ledger, the clips wait in `spool`."""

    source: Source
    path: Path
    corpus: str
    spool: Spool
    header: media.Probe
    sha256: str
    notes: media.Notes = field(default_factory=media.Notes)
    width: int = 0
    height: int = 0
    frames: int = 0
    still_frames: int = 0
    frames_with_face: int = 0
    spans: list[dict[str, Any]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    main_frames: Counter[int] = field(default_factory=Counter)  # by track: in which it is the main face
    other_frames: Counter[int] = field(default_factory=Counter)  # and in which it is not

    def why_nothing(self) -> str:
        """The reason of a source without a kept span: that of its longest, or that there could be none."""
        if not self.frames:
            return NO_FRAME
        if 2 * self.still_frames > self.frames:
            return STILL
        if not self.frames_with_face:
            return NO_FACE
        longest = max(self.spans, key=lambda row: row["stop"] - row["start"], default=None)
        return longest["state"] if longest else NO_SOUND

    def person(self, track: int) -> str:
        """Who a track shows: the source's person where it is the main face of most of its pictures.

        Any other is a person of its own, since nobody says which of several like faces the source is named for.
        """
        identity = self.source.identity
        if self.main_frames[track] >= self.other_frames[track]:
            return identity
        return f"{identity}#{digest_of(self.corpus, self.source.path)}-{track}"

    @property
    def found_share(self) -> float:
        """Share of the frames in which there is a face."""
        return round(self.frames_with_face / max(self.frames, 1), 4)

    @property
    def people(self) -> list[str]:
        """Who is on the kept clips."""
        return sorted({self.person(clip.facts["track"]) for clip in self.spool.clips})

    def clips(self) -> Iterator[Clip]:
        """The clips of the ended source with all of their facts, in order. Raises OSError."""
        of_source = {
            "corpus": self.corpus,
            "source": self.source.path,
            "source_fps": round(float(self.header.fps), 4),
            "source_width": self.width,
            "source_height": self.height,
            "source_sha256": self.sha256,
            "detected_share": self.found_share,
        }
        for clip in self.spool.whole():
            person = {"identity": self.person(clip.facts["track"])}
            yield replace(clip, facts={**clip.facts, **of_source, **person, **self.source.facts})


class Pass:
    """The one pass over a source. `folder` takes the temporary file of its clips; `thumbnails` those of its shard."""

    def __init__(self, source: Source, corpus: str, rules: Rules, tools: Tools, folder: Path, thumbnails: Thumbnails):
        self.source, self.corpus, self.rules, self.tools = source, corpus, rules, tools
        self.ranges_s: list[list[float]] = []
        self.faces: tuple[FaceBox, ...] = ()  # what the corpus says, in seconds
        self.folder, self.thumbnails = folder, thumbnails
        self.runs = Runs(rules.least_frames, rules.most_frames)
        self.tracker = Tracker(tools.detector, rules.most_faces, rules.min_face_px / 2)
        self.sound = Sound()
        self.cut = False  # a shot has begun since the tracker last saw a picture
        self.looked_at = -HAND_EVERY  # frame of the last look for hands

    def run(self, path: Path, tick: Callable[[int], None] = lambda n: None, audio: Path | None = None) -> Extracted:
        """Extract the file; `tick(n)` says that n more frames are taken, `tick(0)` that it is at work.

        `audio`: where its sound lies, if that is another file. A file that breaks off is taken as far as it decodes.
        Raises MediaError where nothing does, OSError.
        """
        works = functools.partial(tick, 0)
        header, sha256 = media.probe(path), sha256_of(path, works)
        self.ranges_s, self.faces = self.source.times_s(header.fps)
        done = Extracted(self.source, path, self.corpus, Spool(self.folder), header, sha256)
        if audio is not None and not audio.is_file():
            done.notes.say(f"its sound {self.source.audio} is missing: that of the video itself is taken")
            audio = None
        self.sound = hear(audio or path, done.notes, self.tools.speech, works)
        behind = None
        for picture, cut in self._pictures(path, done.notes, tick):
            starts = cut or picture.first != behind
            if starts and behind is not None:
                done.cuts.append(picture.first)
                self._take(self.runs.end(), done)
            done.frames += picture.count
            done.height, done.width = picture.frame_HW3.shape[:2]
            self._take(self._see(picture, starts, done), done)
            behind = picture.stop
        self._take(self.runs.end(), done)
        done.spans.sort(key=lambda row: (row["start"], row["track"]))
        for row in done.spans:
            if row.get("facts"):
                row["facts"]["detected_share"] = done.found_share
        return done

    def _pictures(self, path: Path, notes: media.Notes, tick: Callable[[int], None]) -> Iterator[tuple[Picture, bool]]:
        """Each picture, and whether it begins a shot."""
        ranges_s = self.ranges_s
        if self.tools.shots is None:
            yield from with_cuts(pictures.read(path, ranges_s, notes, tick), self.rules.least_frames)
            return
        looked_at = pictures.read(path, ranges_s, media.Notes(), lambda n: tick(0))
        starts = transnet.starts(looked_at, self.tools.shots)
        for picture in pictures.read(path, ranges_s, notes, tick):
            yield picture, picture.first in starts

    def _see(self, picture: Picture, starts: bool, done: Extracted) -> Iterator[Span]:
        """Track the faces of a picture; yield the spans that are complete with it."""
        self.cut = self.cut or starts
        if picture.still:
            done.still_frames += picture.count
            return self.runs.add(picture.first, picture.count, {})
        faces = self.tracker.next(picture.frame_HW3, self.cut)
        self.cut = False
        done.frames_with_face += picture.count * bool(faces)
        count = picture.count if self.sound.frames is None else min(picture.count, self.sound.frames - picture.first)
        if not faces or count <= 0:
            return self.runs.add(picture.first, max(count, 0), {})
        seen = self._seen(picture, faces)
        for track, one in seen.items():
            (done.main_frames if one.main else done.other_frames)[track] += count
        return self.runs.add(picture.first, count, seen)

    def _seen(self, picture: Picture, faces: dict[int, Face]) -> dict[int, Seen]:
        """The faces of a picture with their surroundings, by track."""
        look = self.tools.covers_mouth is not None and picture.first - self.looked_at >= HAND_EVERY
        if look:
            self.looked_at = picture.first
        centres_F2, sides_F = face_boxes(np.stack([face.landmarks_N3 for face in faces.values()]))
        height, width = picture.frame_HW3.shape[:2]
        meant = labels.labelled(self.faces, picture.first / FRAME_HZ, (width, height), centres_F2, sides_F)
        seen = {}
        for at, (track, face) in enumerate(faces.items()):
            box_3 = np.array([*centres_F2[at], sides_F[at]])
            patch = cut_out(picture.frame_HW3, box_3, self._shrink(track, picture.first, box_3))
            others = np.delete(sides_F, at)
            largest = not len(others) or sides_F[at] ** 2 >= MAIN * others.max() ** 2
            seen[track] = Seen(
                face.landmarks_N3,
                box_3,
                patch,
                face.upside_down,
                self._hand(patch.rgb(), patch.placed(face.landmarks_N3)) if look else np.nan,
                len(faces),
                largest if meant is None else meant == {at},  # two at once may be two people
                None if meant is None else at in meant,
            )
        return seen

    def _shrink(self, track: int, first: int, box_3: np.ndarray) -> int:
        """By how much a face's patch is reduced: alike through a run, and chosen anew where a part of it begins."""
        run = self.runs.going_on(track, first, box_3)
        settled = run is not None and len(run.seen_T) > self.runs.least
        return run.seen_T[-1].patch.shrink if run is not None and settled else shrinking(box_3[2], self.rules.frames_px)

    def _hand(self, picture_HW3: np.ndarray, landmarks_N3: np.ndarray) -> float:
        assert self.tools.covers_mouth is not None
        return float(self.tools.covers_mouth(picture_HW3, landmarks_N3))

    def _take(self, spans: Iterator[Span], done: Extracted) -> None:
        """Judge spans; keep their clips, lines and thumbnails."""
        for span in spans:
            key = key_of(self.corpus, self.source.path, span.start, span.track)
            judged = judge(span, key, self.sound, self.rules)
            row = judged.row()
            if judged.clip is not None:
                done.spool.add(replace(judged.clip, facts={**judged.facts, **_place(span, judged.crop_23, self.rules)}))
            elif self.thumbnails.wants(row["state"]):
                row["thumb"] = f"{key}.jpg"
                self.thumbnails.add(row["state"], row["thumb"], judged.thumbnail())
            done.spans.append(row)


def hear(path: Path, notes: media.Notes, speech: SpeechDetector, works: Callable[[], None] = lambda: None) -> Sound:
    """The sound of a source; `works` is called now and then, as a sign of life. Raises MediaError, OSError."""
    try:
        audio_S = media.read_audio(path, SAMPLE_HZ, notes, on_packet=works)
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        return Sound()
    return Sound(members.pcm(audio_S), speech.speech_T(audio_S, works), music_T(audio_S, works))


def _place(span: Span, crop_23: np.ndarray, rules: Rules) -> dict[str, Any]:
    """Where a clip lies in its source, and how large its pictures are where that is not the crop's side."""
    crop: dict[str, Any] = {"crop": crop_23.reshape(-1).tolist(), "crop_px": CROP_PX}
    if rules.frames_px != CROP_PX:
        crop[FRAMES_PX] = rules.frames_px
    return {"track": span.track, "start_frame": span.start, "stop_frame": span.stop, **crop}
