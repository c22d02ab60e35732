"""Checksums of a shard: a CRC-32 for every block of the tar, in a small file beside it.

So a read of any window is checked, not only of whole files or members: the window is widened to whole blocks. The
blocks are those of the file, whatever its members are, so that any tar can have them. The file holds one little-endian
uint32 a block, and last the CRC-32 of all that: 4 bytes for every 16 KiB.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from mytalk import atomic

try:
    from isal.isal_zlib import crc32  # the same sums in a ninth of the time
except ImportError:  # no wheel for this machine
    from zlib import crc32

BLOCK_BYTES = 16 * 1024


def write(tar: Path, target: Path) -> None:
    """Write the checksums of a tar, atomically. Raises OSError."""
    sums = []
    with open(tar, "rb") as handle:
        while block := handle.read(BLOCK_BYTES):
            sums.append(crc32(block))
    data = np.array(sums, "<u4").tobytes()
    atomic.write_bytes(target, data + zlib.crc32(data).to_bytes(4, "little"))


def parsed(data: bytes, tar_bytes: int) -> np.ndarray:
    """The checksums in the bytes of such a file, one for each block. Raises ValueError for a damaged one."""
    blocks = -(-tar_bytes // BLOCK_BYTES)
    if len(data) != 4 * (blocks + 1):
        raise ValueError(f"{len(data)} bytes of checksums do not fit a shard of {tar_bytes}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("the checksums themselves are damaged")
    return np.frombuffer(data[:-4], "<u4")


def widened(offset: int, size: int, tar_bytes: int) -> tuple[int, int]:
    """(offset, size) of the whole blocks that hold a range."""
    start = offset // BLOCK_BYTES * BLOCK_BYTES
    stop = -(-(offset + size) // BLOCK_BYTES) * BLOCK_BYTES
    return start, min(stop, tar_bytes) - start


def first_damaged(data: bytes, start: int, sums_B: np.ndarray) -> int | None:
    """The first block whose bytes are not what was written, None where all are. `data` begins at block `start`."""
    return next(iter(damaged(data, start, sums_B)), None)


def damaged(data: bytes, start: int, sums_B: np.ndarray) -> list[int]:
    """All blocks whose bytes are not what was written. `data` begins with a block, at byte `start` of the tar."""
    whole, first = memoryview(data), start // BLOCK_BYTES
    found = [crc32(whole[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]
    stated = sums_B[first : first + len(found)].tolist()
    if found == stated:
        return []
    return [first + place for place, (sum_, own) in enumerate(zip(found, stated)) if sum_ != own]


def flipped_byte(block: bytes, stated: int) -> int | None:
    """Where in a block the one byte lies by whose change its checksum is `stated` no more; None where more changed.

    A CRC is linear: the difference of two sums is that of the changed bytes alone. So all 255 changes of each byte are
    compared, from the last on: a byte further from the end has run through one more step of zeros.
    """
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1).astype(np.uint32)
    difference, state = np.uint32(crc32(block) ^ int(stated)), table
    for place in reversed(range(len(block))):
        if (state[1:] == difference).any():
            return place
        state = (state >> np.uint32(8)) ^ table[state & np.uint32(255)]
    return None
