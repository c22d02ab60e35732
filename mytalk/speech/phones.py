"""Which English sounds are spoken when, by pocketsphinx's all-phone decoder: a judge, and what closes lips in `dub`.

It knows no words; a phone language model says which sound follows which. It was trained on people, in English, so on
drawn voices and other languages its times are indicative at most (docs/benchmark.md has how far they are off). Shape
suffixes: S audio samples (16 kHz).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ

ACOUSTIC, ORDER = "pocketsphinx-acoustic", "pocketsphinx-phones"  # in configs/weights.yaml
WEIGHTS = (ACOUSTIC, ORDER)
PACKAGES = ("pocketsphinx",)
SEARCH = {"beam": 1e-20, "pbeam": 1e-20, "lw": 2.0}  # as CMU's notes on phone decoding advise
STEP_HZ = 100  # of its segments
LEAST_DB = -60.0  # of full scale; what is softer is no phone
BILABIALS = frozenset({"P", "B", "M"})  # lips closed, in its ARPAbet
SILENT = frozenset({"SIL", "<s>", "</s>", "<sil>", "+SPN+", "+NSN+"})  # pauses, coughs, noises


@dataclass(frozen=True)
class Phone:
    """One sound in ARPAbet and its times in s."""

    symbol: str
    start_s: float
    stop_s: float


class PhoneDecoder:
    """Decodes one sound at a time; each begins anew, so that what was heard before changes nothing."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name of WEIGHTS. Raises ModuleNotFoundError without pocketsphinx."""
        import pocketsphinx

        self._decoder: Any = pocketsphinx.Decoder
        self._models = {"hmm": str(files[ACOUSTIC]), "allphone": str(files[ORDER]), "lm": None, "loglevel": "FATAL"}

    @classmethod
    def of_package(cls) -> PhoneDecoder:
        """With the models that the installed package brings. Raises ModuleNotFoundError without pocketsphinx."""
        import pocketsphinx

        folder = Path(pocketsphinx.get_model_path()) / "en-us"
        return cls({ACOUSTIC: folder / "en-us", ORDER: folder / "en-us-phone.lm.bin"})

    def phones(self, audio_S: np.ndarray) -> list[Phone]:
        """The sounds of a file from its begin, pauses and noises left out; none of a sound shorter than 0.1 s."""
        if len(audio_S) < SAMPLE_HZ // 10:
            return []
        decoder = self._decoder(**self._models, **SEARCH)
        pcm_S = np.round(np.clip(audio_S, -1, 1) * 32767).astype("<i2")
        decoder.start_utt()
        decoder.process_raw(pcm_S.tobytes(), full_utt=True)
        decoder.end_utt()
        phones = [
            Phone(segment.word, segment.start_frame / STEP_HZ, (segment.end_frame + 1) / STEP_HZ)
            for segment in decoder.seg() or ()
            if segment.word not in SILENT
        ]
        return [phone for phone in phones if _audible(audio_S, phone)]

    def bilabials_s(self, audio_S: np.ndarray) -> list[tuple[float, float]]:
        """When a p, b or m is spoken: (start, stop) in s."""
        return bilabials(self.phones(audio_S))


def _audible(audio_S: np.ndarray, phone: Phone) -> bool:
    """The decoder names phones in digital silence too."""
    samples_S = audio_S[round(phone.start_s * SAMPLE_HZ) : round(phone.stop_s * SAMPLE_HZ)]
    return len(samples_S) > 0 and float(np.square(samples_S, dtype=np.float64).mean()) > 10 ** (LEAST_DB / 10)


def bilabials(phones: Iterable[Phone]) -> list[tuple[float, float]]:
    """When the phones are spoken for which the lips close: (start, stop) in s."""
    return [(phone.start_s, phone.stop_s) for phone in phones if phone.symbol in BILABIALS]
