"""Closure, gain and lag against drawn people, of whom all three are known: by their articulation, nothing is detected.

The figures stand in docs/decisions.md.
"""

from __future__ import annotations

import functools

import numpy as np

from eval.metrics import PEOPLE_METRICS, people
from eval.metrics.landmarks.closure import Closures, closures
from eval.metrics.people import PersonClip
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.speech.activity import EnergyRule
from tests.helpers import needs

pytestmark = needs.packages("espeakng_loader", extras="demo")
PEOPLE, SECONDS = 12, 5


@functools.cache
def said(identity: int) -> tuple:
    """A drawn person's opening in px at 256, sound at 16 kHz, bilabials, and who it is."""
    from data_pipeline.synthetic import performance
    from data_pipeline.synthetic.paint import mouth

    done = performance.perform(5, identity, 0, SECONDS, FRAME_HZ)
    opening_T = np.array([mouth.gap(done.who, shape[0]) / 2 for shape in done.shapes_TP])
    spoken = done.speech
    at_s = np.arange(len(opening_T) * SAMPLES_PER_FRAME) / SAMPLE_HZ
    sound_S = np.interp(at_s, np.arange(len(spoken.samples_S)) / spoken.sample_hz, spoken.samples_S / 32768)
    times_s = [(p.start_s, p.end_s) for p in spoken.phonemes if p.symbol[0] in "pbm"]
    return opening_T, sound_S, times_s, done.who.articulation


def counted(change) -> Closures:
    """The closures of all people, whose mouths do what `change` makes of them."""
    found = []
    for identity in range(PEOPLE):
        opening_T, sound_S, times_s, _ = said(identity)
        speaking_T = EnergyRule().speech_T(sound_S)[: len(opening_T)] >= 0.5
        if times_s:
            found.append(closures(opening_T, change(opening_T), times_s, speaking_T))
    return Closures(*(sum(getattr(one, name) for one in found) for name in ("hits", "missed", "false")))


def test_drawn_lips_close_on_their_bilabials_and_a_mouth_of_half_the_movement_does_not() -> None:
    random = np.random.default_rng(0)
    whole = counted(lambda opening_T: opening_T)
    assert whole.hits > 60
    assert whole.recall() == 1
    assert whole.precision() > 0.8
    trembling = counted(lambda opening_T: opening_T + random.normal(0, 0.4, len(opening_T)))
    assert trembling.recall() > 0.97
    halved = counted(lambda opening_T: opening_T.mean() + 0.5 * (opening_T - opening_T.mean()))
    assert halved.recall() < 0.25
    elsewhere = counted(lambda opening_T: np.roll(opening_T, FRAME_HZ))
    assert elsewhere.f1() < 0.7 < whole.f1()


def test_drawn_gains_and_lags_are_read_off_opening_and_sound() -> None:
    clips = []
    for identity in range(PEOPLE):
        opening_T, sound_S, _, who = said(identity)
        drawn = {"log_amplitude": float(np.log(who.opening_gain)), "lag_s": who.lag_ms / 1000, "lag_correlation": 1.0}
        clips.append(PersonClip(str(identity), drawn, people.traits(opening_T, sound_S)))
    gain = PEOPLE_METRICS["gain_recovered"].compute(clips, PEOPLE)
    lag = PEOPLE_METRICS["lag_recovered"].compute(clips, PEOPLE)
    assert 0.7 < gain["mean"] < 1.3
    assert 0.7 < lag["mean"] < 1.15
    assert np.corrcoef([c.truth["lag_s"] for c in clips], [c.row["lag_s"] for c in clips])[0, 1] > 0.9
