"""Small networks in ONNX with known answers, written byte by byte."""

from __future__ import annotations


def field(number: int, content: bytes | int) -> bytes:
    """A field of a protobuf message: a whole number, or bytes."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def tensor_type(name: str, shape: tuple[int, ...]) -> bytes:
    """A float tensor of a graph's inputs or outputs."""
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, dims)))


def channel_means(*sides: int) -> bytes:
    """An ONNX file whose embedding is the mean of each channel: GlobalAveragePool, Flatten."""
    pool = field(1, b"in") + field(2, b"pooled") + field(4, b"GlobalAveragePool")
    flat = field(1, b"pooled") + field(2, b"out") + field(4, b"Flatten")
    graph = field(1, pool) + field(1, flat) + field(2, b"g")
    graph += field(11, tensor_type("in", (1, 3, *sides))) + field(12, tensor_type("out", (1, 3)))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
