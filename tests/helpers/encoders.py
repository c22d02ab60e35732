"""Tiny randomly initialised speech encoders, saved as transformers does. Nothing is downloaded."""

from __future__ import annotations

import struct
from pathlib import Path

import torch

WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
KINDS = ("wav2vec2", "xlsr", "hubert", "whisper")


def write(folder: Path, kind: str, **sizes) -> Path:
    """Save one; wav2vec2 as CTC models are saved, Whisper with its decoder."""
    import transformers as hf

    torch.manual_seed(0)
    if kind == "whisper":
        layers = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
        ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
        wide = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 8}
        made = hf.WhisperConfig(max_source_positions=100, **layers, **ends, **{**wide, **sizes})
        model = hf.WhisperForConditionalGeneration(made)
    elif kind == "hubert":
        model = hf.HubertModel(hf.HubertConfig(**{**WAVES, **sizes}))
    else:
        xlsr = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if kind == "xlsr" else {}
        model = hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(vocab_size=8, **{**WAVES, **xlsr, **sizes}))
    model.save_pretrained(folder)
    return folder


def write_ctranslate2(folder: Path, whisper: Path, kind: torch.dtype = torch.float16) -> Path:
    """The encoder of a saved Whisper as CTranslate2's converter writes it, between variables of other parts."""
    from safetensors.torch import load_file

    weights = load_file(whisper / "model.safetensors")
    state = {name.split("encoder.", 1)[1]: value for name, value in weights.items() if "model.encoder." in name}
    out = {"decoder/other": torch.zeros(3, dtype=torch.int8), "encoder/num_heads": torch.tensor(2, dtype=torch.int16)}
    norm = {"weight": "gamma", "bias": "beta"}

    def put(to: str, of: str, parts=None) -> None:
        for part, name in (parts or {"weight": "weight", "bias": "bias"}).items():
            out[f"encoder/{to}/{name}"] = state[f"{of}.{part}"].to(kind)

    out["encoder/position_encodings/encodings"] = state["embed_positions.weight"].to(kind)
    put("conv1", "conv1"), put("conv2", "conv2"), put("layer_norm", "layer_norm", norm)
    for n in range(2):
        to, of = f"layer_{n}", f"layers.{n}"
        put(f"{to}/self_attention/layer_norm", f"{of}.self_attn_layer_norm", norm)
        put(f"{to}/self_attention/linear_1", f"{of}.self_attn.out_proj")
        put(f"{to}/ffn/layer_norm", f"{of}.final_layer_norm", norm)
        put(f"{to}/ffn/linear_0", f"{of}.fc1"), put(f"{to}/ffn/linear_1", f"{of}.fc2")
        query, key, value = (f"{of}.self_attn.{name}_proj" for name in "qkv")
        biases = (state[f"{query}.bias"], torch.zeros_like(state[f"{query}.bias"]), state[f"{value}.bias"])
        joined = torch.cat([state[f"{name}.weight"] for name in (query, key, value)])
        out[f"encoder/{to}/self_attention/linear_0/weight"] = joined.to(kind)
        out[f"encoder/{to}/self_attention/linear_0/bias"] = torch.cat(biases).to(kind)
    kinds = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.float16: 4}
    content = struct.pack("<I", 6) + _text("WhisperSpec") + struct.pack("<II", 3, len(out))
    for name, value in out.items():
        data = value.contiguous().numpy().tobytes()
        content += _text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", kinds[value.dtype], len(data)) + data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(content)
    return folder


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"
