"""Learnt features of speech: what a wav2vec 2.0, HuBERT, XLSR or Whisper encoder makes of it, a row a frame of 25 Hz.

A column of shards holds them (`python -m data_pipeline column SHARDS speech`), and `dub --speech-encoder` computes the
same ones. An encoder gives a vector every 20 ms. Its input is padded so that the vectors of video frame t are centred
on samples 640 t + 160 and 640 t + 480; they lie side by side in the row. So nothing is interpolated, and no length of
the sound moves them. Each vector is brought to mean 0 and variance 1.

Weights are read from safetensors, or CTranslate2's file, into transformers' modules (what a folder holds:
speech/encoder_folder.py). Shape suffixes: S audio samples (16 kHz), T frames (25 Hz), V vectors (50 Hz), D values,
B batch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mytalk import machine
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.speech import ctranslate2
from mytalk.speech.encoder_folder import CONFIG, CONVOLUTIONS, KINDS, Described, describe

if TYPE_CHECKING:
    import torch

WINDOW_FRAMES, CONTEXT_FRAMES = 600, 50  # longer sound is heard in windows of 24 s, 2 s of them beyond either end
LEAST_VARIANCE = 1e-5  # of a vector, as in the encoders: below it, as of silence, it stays small
Vectors = Callable[[np.ndarray, int], "torch.Tensor"]  # (samples, frames) -> (V, D), centred as above


class SpeechEncoder:
    """A frozen encoder; called with speech, (S,) in [-1, 1], it gives its features, (T, width) fp16, as a column has
    them. A last frame that is not whole is filled up with silence.
    """

    def __init__(self, described: Described, device: str | torch.device = "cpu"):
        """Raises UserError for weights that are damaged, missing, or of other sizes than config.json says."""
        self.width, self.made_by = described.width, described.made_by
        self.vectors, most = (_whisper if described.kind == "whisper" else _waves)(described, device)
        self.window = min(WINDOW_FRAMES, most)
        self.context = min(CONTEXT_FRAMES, self.window // 8)

    def __call__(self, audio_S: np.ndarray) -> np.ndarray:
        frames = -(-len(audio_S) // SAMPLES_PER_FRAME)
        out_TD = machine.zeros((frames, self.width), np.float16)
        core = frames if frames <= self.window else self.window - 2 * self.context
        for start in range(0, frames, max(core, 1)):
            stop = min(start + core, frames)
            first, last = max(0, start - self.context), min(frames, stop + self.context)
            heard_TD = self._heard(audio_S[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME], last - first)
            out_TD[start:stop] = heard_TD[start - first : stop - first]
        return out_TD

    def _heard(self, audio_S: np.ndarray, frames: int) -> np.ndarray:
        import torch

        with torch.inference_mode():
            vectors_VD = self.vectors(np.asarray(audio_S, np.float32), frames)
            even_VD = torch.nn.functional.layer_norm(vectors_VD, vectors_VD.shape[1:], eps=LEAST_VARIANCE)
        return even_VD.reshape(frames, -1).cpu().numpy()


def load(encoder: str | Path, layer: str | int = "", device: str | torch.device = "cpu") -> SpeechEncoder:
    """`describe` and its weights. Raises UserError, OSError."""
    return SpeechEncoder(describe(encoder, layer), device)


def _waves(described: Described, device: str | torch.device) -> tuple[Vectors, int]:
    """Of wav2vec 2.0 and HuBERT, whose convolutions see the wave itself; and how many frames it hears at once."""
    import torch

    config, stride = described.config, described.stride
    of_convolutions = described.layer == CONVOLUTIONS
    network = _network(described, "feature_extractor." if of_convolutions else "", device)
    reach, step = 1, 1  # samples that a vector is made of
    for kernel, of_layer in zip(config.conv_kernel, config.conv_stride, strict=True):
        reach, step = reach + (kernel - 1) * step, step * of_layer
    before = (reach - stride) // 2

    def vectors(audio_S: np.ndarray, frames: int) -> torch.Tensor:
        if described.normalised:  # as Wav2Vec2FeatureExtractor
            audio_S = (audio_S - audio_S.mean()) / np.sqrt(audio_S.var() + 1e-7)
        padded_S = np.zeros(frames * SAMPLES_PER_FRAME + reach - stride, np.float32)
        padded_S[before : before + len(audio_S)] = audio_S
        padded_BS = torch.from_numpy(padded_S)[None].to(device)
        if of_convolutions:
            return network.feature_extractor(padded_BS)[0].T
        return network(padded_BS).last_hidden_state[0]

    return vectors, WINDOW_FRAMES


def _whisper(described: Described, device: str | torch.device) -> tuple[Vectors, int]:
    """Of Whisper, which hears its log-mel of 30 s, padded with silence; and how many frames it hears at once.

    Its vector v is centred on sample 320 v: a silent 160 samples before, and vector 0 left out, bring them where they
    belong.
    """
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    config, shift = described.config, described.stride // 2
    samples = config.max_source_positions * described.stride
    network = _network(described, "", device)
    log_mel = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=samples // 16_000)

    def vectors(audio_S: np.ndarray, frames: int) -> torch.Tensor:
        shifted_S = np.concatenate([np.zeros(shift, np.float32), audio_S])
        mel = log_mel(shifted_S, sampling_rate=16_000, return_tensors="pt", padding="max_length")
        heard_VD = network(mel.input_features.to(device)).last_hidden_state[0]
        return heard_VD[1 : 1 + 2 * frames]

    return vectors, (samples - shift) // SAMPLES_PER_FRAME


def _network(described: Described, part: str, device: str | torch.device) -> Any:
    """The encoder with its weights, in evaluation mode; only those whose name begins with `part` are read."""
    import importlib

    import torch
    from safetensors import SafetensorError

    kind = KINDS[described.kind]
    module = importlib.import_module(f"transformers.models.{kind.module}.modeling_{kind.module}")
    try:
        with torch.device("meta"):  # without weights of its own
            network = getattr(module, kind.network)(described.config)
        expected = {name for name in network.state_dict() if name.startswith(part) and name != "masked_spec_embed"}
        state = _state(described, expected)
        if lacking := sorted(expected - {*state}):
            raise UserError(f"{described.folder}: {len(lacking)} weights are missing, as {lacking[0]}; copy it again")
        network.load_state_dict(state, strict=False, assign=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        why = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise UserError(f"{described.folder}: the weights do not fit {CONFIG}: {why[:200]}; copy it again") from None
    network.eval().requires_grad_(False)
    (network.feature_extractor if part else network).to(device)
    return network


def _state(described: Described, expected: set[str]) -> dict[str, torch.Tensor]:
    """The weights of these names, fp32, whatever they were saved in."""
    from safetensors import safe_open

    if described.files == (ctranslate2.FILE,):
        found = ctranslate2.state(described.folder / ctranslate2.FILE)
        return {name: value for name, value in found.items() if name in expected}
    state = {}
    for file in described.files:
        with safe_open(described.folder / file, framework="pt") as held:
            stored_names = held.keys()
            for stored in stored_names:
                for prefix in KINDS[described.kind].prefixes:
                    name = _renamed(stored.removeprefix(prefix))
                    if stored.startswith(prefix) and name in expected:
                        state[name] = held.get_tensor(stored).float()
                        break
    return state


def _renamed(name: str) -> str:
    """A weight's name today: until torch 2.0 weight norm called its two parts otherwise."""
    return re.sub(r"weight_([gv])$", lambda part: f"parametrizations.weight.original{'gv'.index(part[1])}", name)


class Hearer(Protocol):
    """A model that may hear a column of features: the column's name, what made it, and what computes it of a sound."""

    @property
    def column(self) -> str: ...

    features_by: dict[str, Any] | None
    hear: Callable[[np.ndarray], np.ndarray] | None


def give(model: Hearer, kind: str, encoder: str | Path | None, device: str | torch.device = "cpu") -> None:
    """Let a model that hears learnt features hear those of any sound. `encoder`: what --speech-encoder says.

    Raises UserError where it is not the encoder of the model's training, or where one is missing or needless.
    """
    if not model.column:
        if encoder is not None:
            raise UserError(f"--speech-encoder: the {kind} model hears log-mel energies; leave the option out")
        return
    by = model.features_by or {}
    if "encoder" not in by:
        raise UserError(
            f"the {kind} model hears the column '{model.column}' of shards, which cannot be computed of a video; use a "
            "model trained with model.features=mel, or on a column that `column speech` wrote"
        )
    wanted = f"{by.get('kind')} encoder {str(by['encoder'])[:12]}"
    if encoder is None:
        raise UserError(f"the {kind} model hears features of the {wanted}; name it with --speech-encoder FOLDER")
    described = describe(encoder, by.get("layer", ""))
    if described.made_by != by:
        raise UserError(
            f"--speech-encoder {encoder} is the {described.kind} encoder {described.digest[:12]}, and the {kind} model "
            f"was trained on features of the {wanted}; name that one"
        )
    model.hear = SpeechEncoder(described, device)


@functools.lru_cache(maxsize=2)
def loaded(encoder: str, layer: str, device: str = "cpu") -> SpeechEncoder:
    """`load`, kept by this process."""
    return load(encoder, layer, device)
