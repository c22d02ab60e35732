"""The annotation `speech`: how much of a clip is speech, and how loud speech and noise are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.annotate.annotation import Measure, Options, nothing_to_join, stored_audio
from data_pipeline.extract import hearing
from data_pipeline.shards.manifest import Manifest
from mytalk.speech.level import levels_db
from mytalk.speech.speaking import SPEECH

COLUMNS = {"speech_share": pa.float32(), "speech_level_db": pa.float32(), "noise_level_db": pa.float32()}
KEPT: dict[str, pa.DataType] = {}
QUIET_SHARE = 0.1  # of the frames are softer than the noise level
join = nothing_to_join


def made_by(options: Options) -> dict[str, Any]:
    """What tells speech, and what the levels are."""
    return {"speech": hearing.described(), "threshold": SPEECH, "quiet_share": QUIET_SHARE, "version": 1}


def measure(options: Options) -> Measure:
    """Share of frames with speech; level (root mean square, dB of full scale) of those, and of the quietest tenth.

    The level of speech is missing where there is none.
    """
    detector = hearing.speech_detector()

    def of_clip(manifest: Manifest, row: int) -> dict[str, Any]:
        audio_S = stored_audio(manifest, row)
        spoken_T, level_T = detector.speech_T(audio_S) >= SPEECH, levels_db(audio_S)
        power = np.power(10.0, level_T[spoken_T] / 10).mean() if spoken_T.any() else None
        return {
            "speech_share": float(spoken_T.mean()) if len(spoken_T) else None,
            "speech_level_db": None if power is None else float(10 * np.log10(power)),
            "noise_level_db": float(np.quantile(level_T, QUIET_SHARE)) if len(level_T) else None,
        }

    return of_clip
