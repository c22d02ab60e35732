"""A span becomes a clip, or is rejected by a rule; either way it gets its line in the ledger.

Shape suffixes: T frames, N landmarks, 3 = (x, y, z), S audio samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_pipeline.extract.rules import labels
from data_pipeline.extract.rules import speech as speech_rules
from data_pipeline.extract.rules.picture import Verdict
from data_pipeline.extract.rules.rules import TOO_SHORT, UPSIDE_DOWN, Rules, verdict
from data_pipeline.extract.spans import Span
from data_pipeline.extract.thumbnails import SIDE_PX
from data_pipeline.shards import facts, members
from data_pipeline.shards.facts import ClipData
from data_pipeline.shards.ledger import KEPT
from data_pipeline.shards.writer import Clip
from mytalk import media
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLES_PER_FRAME
from mytalk.face.smooth import smooth


@dataclass(frozen=True)
class Sound:
    """What is heard in a source at 16 kHz (None: it has no track), and for each frame how surely speech and music.

    The samples are int16, as clips store them: 115 MB an hour.
    """

    pcm_S: np.ndarray | None = None
    speech_T: np.ndarray = field(default_factory=lambda: np.zeros(0))
    music_T: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def frames(self) -> int | None:
        """Frames of 25 Hz that begin before it ends; None: without a track, no end."""
        return None if self.pcm_S is None else -(-len(self.pcm_S) // SAMPLES_PER_FRAME)

    def samples(self, start: int, stop: int) -> np.ndarray:
        """The samples of frames [start, stop), float32, silence where there are none."""
        pcm_S = np.zeros(0, np.int16) if self.pcm_S is None else self.pcm_S
        audio_S = members.from_pcm(pcm_S[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME].tobytes())
        return np.pad(audio_S, (0, (stop - start) * SAMPLES_PER_FRAME - len(audio_S)))


@dataclass(frozen=True)
class Judged:
    """A span with what became of it: the clip, or the verdict. `facts` are those that could be measured."""

    span: Span
    facts: dict[str, Any]
    verdict: Verdict | None
    clip: Clip | None
    crop_23: np.ndarray

    def row(self) -> dict[str, Any]:
        """The span's line in the ledger."""
        span = self.span
        row: dict[str, Any] = {"start": span.start, "stop": span.stop, "track": span.track}
        row["box"] = [round(float(value), 1) for value in span.box_3]
        if self.verdict is None:
            return row | {"state": KEPT}
        value, limit = round(float(self.verdict.value), 4), self.verdict.limit
        return row | {"state": self.verdict.rule, "value": value, "limit": limit, "facts": self.facts}

    def thumbnail(self) -> np.ndarray:
        """The middle of the span as a small RGB picture."""
        seen = self.span.seen_T[len(self.span.seen_T) // 2]
        return seen.patch.cropped(self.crop_23 * (SIDE_PX / CROP_PX), SIDE_PX)


def judge(span: Span, key: str, sound: Sound, rules: Rules) -> Judged:
    """Measure a span and judge it by the rules, the cheap ones first; a kept one is encoded."""
    raw_TN3 = np.stack([seen.landmarks_N3 for seen in span.seen_T])
    if len(raw_TN3) < rules.least_frames:
        too_short = Verdict(TOO_SHORT, len(raw_TN3) / FRAME_HZ, rules.min_seconds)
        return Judged(span, {}, too_short, None, crop.canonical(raw_TN3, CROP_PX))
    landmarks_TN3 = smooth(raw_TN3)
    crop_23 = crop.canonical(landmarks_TN3, CROP_PX)
    if (upside_down := float(np.mean([seen.upside_down for seen in span.seen_T]))) > 0.5:
        return Judged(span, {}, Verdict(UPSIDE_DOWN, upside_down, 0.5), None, crop_23)
    if other := labels.verdict([seen.labelled for seen in span.seen_T]):
        return Judged(span, {}, other, None, crop_23)
    audio_S = sound.samples(span.start, span.stop)
    crops = _pictures(span, crop_23, CROP_PX)  # facts are of these, whatever is kept
    clip_data = ClipData(
        landmarks_TN3,
        audio_S,
        crops,
        source_found_share=0.0,  # known when the source ends
        speech_T=_part(sound.speech_T, span),
        music_T=_part(sound.music_T, span),
        crop_23=crop_23,
        hands_T=np.array([seen.hand for seen in span.seen_T]),
        faces=int(np.median([seen.faces for seen in span.seen_T])),
    )
    measured = facts.measured(clip_data)
    if rejected := verdict(measured, rules):
        return Judged(span, measured, rejected, None, crop_23)
    clip = Clip(
        key,
        len(crops),
        measured | speech_rules.labels(measured, rules.speech),
        members.landmarks_npy(crop.apply(landmarks_TN3, crop_23)),
        members.audio_wav(audio_S),
        media.encode_frames(crops if rules.frames_px == CROP_PX else _pictures(span, crop_23, rules.frames_px)),
    )
    return Judged(span, clip.facts, None, clip, crop_23)


def _part(values_T: np.ndarray, span: Span) -> np.ndarray:
    """The span's part of values for each frame of its source, NaN past their end; empty where there are none."""
    if not len(values_T):
        return values_T
    part_T = values_T[span.start : span.stop]
    return np.pad(part_T, (0, len(span.seen_T) - len(part_T)), constant_values=np.nan)


def _pictures(span: Span, crop_23: np.ndarray, side_px: int) -> list[np.ndarray]:
    """The crop of each frame, as large as asked; of a picture that stands for several frames it is made once."""
    pictures: list[np.ndarray] = []
    for number, seen in enumerate(span.seen_T):
        again = number > 0 and seen is span.seen_T[number - 1]
        pictures.append(pictures[-1] if again else seen.patch.cropped(crop_23 * (side_px / CROP_PX), side_px))
    return pictures
