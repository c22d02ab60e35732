"""When something is promised: read from a file, or heard in the sound. Shape suffix: S audio samples (16 kHz)."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ
from mytalk.face.shots import runs
from mytalk.speech.activity import EnergyRule

Times = list[tuple[float, float]]  # (start, stop) in s

COLUMNS = ("start_s", "stop_s")
LEAST_SILENCE_S = 0.4  # a shorter pause is part of the speech: people keep moving


def read(path: Path) -> Times:
    """The times of a CSV file with the columns start_s and stop_s. Raises UserError for anything else, OSError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file ({error}); its first line is to be {','.join(COLUMNS)}") from error
    times = []
    for number, row in enumerate(rows, 2):
        try:
            start_s, stop_s = (float(row[column]) for column in COLUMNS)
        except (KeyError, TypeError, ValueError) as error:
            said = f"{path}, line {number}: start_s and stop_s are to be numbers of seconds below a line "
            raise UserError(f"{said}{','.join(COLUMNS)}") from error
        if not (0 <= start_s <= stop_s and math.isfinite(stop_s)):
            raise UserError(f"{path}, line {number}: {start_s} to {stop_s} s is no time in a video")
        times.append((start_s, stop_s))
    return times


def bilabials(speech_S: np.ndarray) -> Times:
    """When p, b and m are spoken, by a decoder of English phones. Raises UserError where it is not installed."""
    from mytalk.speech.phones import PhoneDecoder

    try:
        decoder = PhoneDecoder.of_package()
    except ModuleNotFoundError as error:
        raise UserError(
            "--close-lips phones needs the package pocketsphinx; type: pip install 'mytalk[judges]', or name a CSV file"
        ) from error
    return decoder.bilabials_s(speech_S)


def silences(speech_S: np.ndarray, until_s: float) -> Times:
    """Pauses of LEAST_SILENCE_S or more, by level; after the speech ends, all up to `until_s`."""
    silent_T = EnergyRule().speech_T(speech_S) == 0
    after = np.ones(max(math.ceil(until_s * FRAME_HZ) - len(silent_T), 0), bool)
    pauses = runs(np.concatenate([silent_T, after]))
    return [
        (start / FRAME_HZ, (stop - 1) / FRAME_HZ)
        for start, stop in pauses
        if stop - start >= LEAST_SILENCE_S * FRAME_HZ
    ]
