"""The encoder of a Whisper in CTranslate2's file `model.bin`, which faster-whisper reads: its sizes and its weights.

The file is plain: u32 version, text, u32 revision, u32 count, and for each variable a text, u8 rank, u32 sizes, u8
type, u32 bytes and these bytes, all little-endian; a text is u16 length and bytes that end in zero. Nothing of it is
executed.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mytalk.command import UserError

if TYPE_CHECKING:
    import torch

FILE = "model.bin"
VERSIONS = (4, 5, 6)
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # by its number in the file; others are skipped
PART = "encoder/"
HEAD = 64  # values of a head of attention, in every Whisper
ATTENTION = ("q_proj", "k_proj", "v_proj")  # one matrix in the file; keys have no bias in Whisper
NAMES = {  # of a block, the file's and transformers'
    "self_attention/linear_1": "self_attn.out_proj",
    "self_attention/layer_norm": "self_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def settings(path: Path) -> dict[str, Any]:
    """What a config.json of transformers would say of this encoder. Raises UserError for another file, OSError."""
    shapes = {name: variable.shape for name, variable in _variables(path).items()}
    try:
        width, bins, _ = shapes["conv1/weight"]
        positions, _ = shapes["position_encodings/encodings"]
        hidden, _ = shapes["layer_0/ffn/linear_0/weight"]
    except (KeyError, ValueError):
        raise UserError(f"{path} holds no Whisper with weights in float16 or float32") from None
    blocks = {name.split("/")[0] for name in shapes if name.startswith("layer_") and "/ffn/" in name}
    return {
        "model_type": "whisper",
        "d_model": width,
        "encoder_layers": len(blocks),
        "encoder_attention_heads": width // HEAD,
        "encoder_ffn_dim": hidden,
        "num_mel_bins": bins,
        "max_source_positions": positions,
        "activation_function": "gelu",
        "scale_embedding": False,
    }


def state(path: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights by transformers' names, fp32. Raises UserError as `settings`, OSError."""
    import torch

    variables, found = _variables(path), {}
    with path.open("rb") as file:
        weights = {name: _read(file, variable) for name, variable in variables.items()}
    for name, value in weights.items():
        *parents, part = name.split("/")
        block, _, inner = "/".join(parents).partition("/")
        if block.startswith("layer_") and block != "layer_norm":
            here = f"layers.{block.removeprefix('layer_')}."
            if inner == "self_attention/linear_0":
                for projection, rows in zip(ATTENTION, np.array_split(value, len(ATTENTION)), strict=True):
                    found[f"{here}self_attn.{projection}.{part}"] = rows
            elif inner in NAMES and part in PARTS:
                found[f"{here}{NAMES[inner]}.{PARTS[part]}"] = value
        elif block == "position_encodings":
            found["embed_positions.weight"] = value
        elif part in PARTS:
            found[f"{block}.{PARTS[part]}"] = value
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in found.items()}


class Variable(NamedTuple):
    """Where a variable lies in the file, and what it is."""

    kind: np.dtype
    shape: tuple[int, ...]
    start: int  # byte


def _variables(path: Path) -> dict[str, Variable]:
    """The encoder's variables of floats, names without their PART; no weight is read."""
    out: dict[str, Variable] = {}
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            version = _number(file, "I")
            _text(file)
            _number(file, "I")
            if version not in VERSIONS:
                raise ValueError(f"version {version}")
            for _ in range(_number(file, "I")):
                name, shape = _text(file), tuple(_number(file, "I") for _ in range(_number(file, "B")))
                kind, length = TYPES.get(_number(file, "B")), _number(file, "I")
                start = file.tell()
                if file.seek(length, os.SEEK_CUR) > size:
                    raise ValueError(f"it ends within {name}")
                if kind is None or not name.startswith(PART):
                    continue
                if math.prod(shape) * np.dtype(kind).itemsize != length:
                    raise ValueError(f"{name} is of another size than it says")
                out[name.removeprefix(PART)] = Variable(np.dtype(kind), shape, start)
    except (struct.error, ValueError) as error:
        raise UserError(f"{path} is no file of CTranslate2 that is known: {error}") from None
    return {name: variable for name, variable in out.items() if variable.kind.kind == "f"}


def _read(file: IO[bytes], variable: Variable) -> np.ndarray:
    file.seek(variable.start)
    return np.fromfile(file, variable.kind, math.prod(variable.shape)).reshape(variable.shape)


def _number(file: IO[bytes], kind: str) -> int:
    return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])


def _text(file: IO[bytes]) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode("ascii", "replace")
