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


def tensor_type(name: str, shape: tuple[int | str, ...]) -> bytes:
    """A float tensor of a graph's inputs or outputs; a size may be a name."""
    sizes = (field(1, size) if isinstance(size, int) else field(2, size.encode()) for size in shape)
    dims = b"".join(field(1, size) for size in sizes)
    return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, dims)))


def channel_means(*sides: int) -> bytes:
    """An ONNX file whose embedding is the mean of each channel: GlobalAveragePool, Flatten."""
    pool = field(1, b"in") + field(2, b"pooled") + field(4, b"GlobalAveragePool")
    flat = field(1, b"pooled") + field(2, b"out") + field(4, b"Flatten")
    graph = field(1, pool) + field(1, flat) + field(2, b"g")
    graph += field(11, tensor_type("in", (1, 3, *sides))) + field(12, tensor_type("out", (1, 3)))
    return _model(graph)


def row_means(side: int) -> bytes:
    """An ONNX file that takes (1, 1, frames, side, side) and gives each frame's mean along its rows: ReduceMean."""
    axes = field(1, b"axes") + field(8, 1) + field(8, 4) + field(20, 7)
    dropped = field(1, b"keepdims") + field(3, 0) + field(20, 2)
    mean = field(1, b"in") + field(2, b"out") + field(4, b"ReduceMean") + field(5, axes) + field(5, dropped)
    graph = field(1, mean) + field(2, b"g") + field(11, tensor_type("in", (1, 1, "frames", side, side)))
    return _model(graph + field(12, tensor_type("out", (1, "frames", side))))


def _model(graph: bytes) -> bytes:
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
