"""Speech features: the one log-mel function that training, dubbing and scoring share.

Shape suffixes: B batch, S audio samples (16 kHz), M mel frames (100 Hz), C mel bands, T video frames (25 Hz).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLE_HZ, SAMPLES_PER_FRAME

MEL = "mel"  # the log-mel energies below, where a model may hear a column of shards instead
HOP = 160  # 10 ms: four mel frames for each video frame
WINDOW = 400  # 25 ms
FFT = 512
BANDS = 80
MEL_PER_FRAME = SAMPLES_PER_FRAME // HOP
LEVEL_DB, QUIETEST_DB = -20.0, -45.0  # of full scale, see `levelled`
AUDIBLE_DB = -60.0
SPOKEN, LEAST_MEAN = 0.9, -0.6  # in units of `log_mel`, see `about_mean`


@functools.cache
def mel_filters() -> torch.Tensor:
    """Triangular filters of equal height, evenly spaced on the HTK mel scale from 0 to Nyquist.

    Returns (80, 257), float64. mel = 2595 log10(1 + f / 700).
    """
    return triangles(mel_edges_hz()[None])[0]


@functools.cache
def mel_edges_hz() -> torch.Tensor:
    """The edges of the filters: filter i spans edges i, i + 1, i + 2. (82,) float64."""
    top_mel = 2595.0 * math.log10(1.0 + SAMPLE_HZ / 2 / 700.0)
    edges_mel = torch.linspace(0.0, top_mel, BANDS + 2, dtype=torch.float64)
    return 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)


def triangles(edges_hz_BE: torch.Tensor) -> torch.Tensor:
    """Triangular filters between these edges, over the bins of the spectrum: (B, E) -> (B, E - 2, 257)."""
    bins_hz = torch.linspace(0.0, SAMPLE_HZ / 2, FFT // 2 + 1, dtype=edges_hz_BE.dtype, device=edges_hz_BE.device)
    low, centre, high = (edges_hz_BE[:, i : i - 2 or None, None] for i in range(3))
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    return torch.minimum(rising, falling).clamp_min(0.0)


def levelled(audio_BS: torch.Tensor) -> torch.Tensor:
    """Audio with its speech at LEVEL_DB: the mean square over the frames (40 ms) within 20 dB of the loudest one.

    Softer speech is amplified up to QUIETEST_DB only, so that the noise of a silent stretch does not become loud.
    Padding with silence changes nothing. (B, S) -> (B, S).
    """
    power_BT = audio_BS.unflatten(1, (-1, SAMPLES_PER_FRAME)).square().mean(-1)
    spoken_BT = (power_BT >= 0.01 * power_BT.amax(1, keepdim=True)).to(power_BT.dtype)
    power_B1 = (power_BT * spoken_BT).sum(1, keepdim=True) / spoken_BT.sum(1, keepdim=True)
    return audio_BS * (10 ** (LEVEL_DB / 10) / power_B1.clamp_min(10 ** (QUIETEST_DB / 10))).sqrt()


def about_mean(mel_BMC: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Log-mel energies about each band's mean over the speech, (B, M, C): cepstral mean normalisation (Atal 1974).

    Speech are the valid frames whose mean over the bands is within SPOKEN (16 dB) of the largest one. A mean below
    LEAST_MEAN counts as that: a silent stretch stays silent.
    """
    valid_BM = mask_BT.repeat_interleave(MEL_PER_FRAME, dim=1) > 0
    loud_BM = mel_BMC.mean(-1).masked_fill(~valid_BM, -math.inf)
    spoken_BM1 = (loud_BM >= loud_BM.amax(1, keepdim=True) - SPOKEN).to(mel_BMC.dtype)[..., None]
    mean_B1C = (mel_BMC * spoken_BM1).sum(1, keepdim=True) / spoken_BM1.sum(1, keepdim=True)
    return mel_BMC - mean_B1C.clamp_min(LEAST_MEAN)


def audible(audio_BS: torch.Tensor) -> torch.Tensor:
    """Whether the loudest frame (40 ms) of each sound reaches AUDIBLE_DB: (B,) bool. A codec's silence does not."""
    power_BT = audio_BS.unflatten(1, (-1, SAMPLES_PER_FRAME)).square().mean(-1)
    return power_BT.amax(1) >= 10 ** (AUDIBLE_DB / 10)


def of_column(features_BTD: torch.Tensor | None, kind: str, column: str, width: int) -> torch.Tensor:
    """The features of a model that hears a column. Raises UserError where there are none or of another width."""
    if features_BTD is None:
        raise UserError(
            f"the {kind} model hears the column '{column}' of shards, which this command does not give it; "
            f"use a model trained with model.features={MEL}"
        )
    if features_BTD.shape[-1] != width:
        raise UserError(
            f"the {kind} model hears {width} values a frame in column '{column}', not {features_BTD.shape[-1]}; write "
            "the column as it was in training"
        )
    return features_BTD


def features_by(facts: Any) -> dict[str, Any] | None:
    """What made the column that a model hears, of the facts of its folder; None where they do not say."""
    maker = facts.get("features_by") if isinstance(facts, dict) else None
    return maker if isinstance(maker, dict) else None


def log_mel(audio_BS: torch.Tensor, voice_B: torch.Tensor | None = None) -> torch.Tensor:
    """Log-mel energies of speech in [-1, 1] at 16 kHz: (B, S) -> (B, S // 160, 80), about zero mean.

    Mel frame m is centred on sample 160 m + 80, so that the four mel frames of a video frame lie within it.
    Sound outside the input counts as silence: padding a clip with zeros changes none of its own values.
    `voice_B` stretches the filters' frequencies, which is what another length of the vocal tract does to a
    voice (vocal tract length perturbation, Jaitly & Hinton 2013): an augmentation, 1 changes nothing.
    """
    samples = audio_BS.shape[-1]
    frames = samples // HOP
    padded = torch.nn.functional.pad(audio_BS, (FFT // 2 - HOP // 2, FFT // 2))
    windows_BMF = padded.unfold(-1, FFT, HOP)[:, :frames]
    taper = torch.zeros(FFT, dtype=audio_BS.dtype, device=audio_BS.device)
    side = (FFT - WINDOW) // 2
    taper[side : side + WINDOW] = torch.hann_window(WINDOW, dtype=audio_BS.dtype, device=audio_BS.device)
    spectrum = torch.fft.rfft(windows_BMF * taper, dim=-1)
    power = spectrum.real.square() + spectrum.imag.square()
    if voice_B is None:
        mel_BMC = power @ mel_filters().to(power).T
    else:
        stretched = triangles(mel_edges_hz().to(power.device) * voice_B.double()[:, None])
        mel_BMC = power @ stretched.to(power.dtype).transpose(1, 2)
    return (torch.log(mel_BMC + 1e-5) + 4.0) / 4.0
