"""Tiny randomly initialised speech encoders, saved as transformers does. Nothing is downloaded."""

from __future__ import annotations

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
