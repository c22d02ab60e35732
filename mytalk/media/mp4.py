"""Some frames of an mp4 from some of its bytes: the index at its start, the byte ranges of groups of pictures.

For H.264 files whose index (moov) comes before the pictures and whose pictures are stored in the order in which
they are shown, as `media.encode_frames` writes them; `media.decode_frames` takes whole files of any layout. The
bytes may come from anywhere: every count, size and offset is checked against what is there before it is used.

Boxes are those of ISO/IEC 14496-12, the sample entry that of 14496-15. Shape suffixes: S samples (pictures),
K key pictures, C chunks, T frames asked for, H height, W width, 3 = RGB.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mytalk.media import MediaError

HEAD_BYTES = 4096  # holds the index of a clip of some 700 frames
LONGEST_SIDE_PX = 4096
ENTRY_BYTES = 78  # of a VisualSampleEntry, before its boxes


@dataclass(frozen=True, eq=False)
class Track:
    """Where the pictures of a file's video lie: byte offsets and sizes, the numbers of the key pictures."""

    width: int
    height: int
    avcc: bytes  # the decoder's parameters
    offsets_S: np.ndarray  # int64, from the start of the file
    sizes_S: np.ndarray  # int64
    keys_K: np.ndarray  # int64, ascending from 0

    def __len__(self) -> int:
        return len(self.sizes_S)

    @staticmethod
    def needs(head: bytes, size_bytes: int) -> int:
        """How many bytes from the start `parse` needs of a file of `size_bytes`, as far as `head` tells.

        Enough where it is at most len(head); else ask again with as many. Raises MediaError: corrupt, layout (the
        index does not come first).
        """
        at = 0
        while at + 16 <= len(head):
            kind, _, stop = _box(head, at, size_bytes)
            if kind == b"moov":
                return stop
            if at == 0 and kind != b"ftyp":
                raise _corrupt("no mp4")
            if kind in (b"mdat", b"moof"):
                raise MediaError("layout", "the index does not come before the pictures")
            at = stop
        if at + 16 > size_bytes:
            raise _corrupt("no index")
        return at + 16

    @classmethod
    def parse(cls, head: bytes, size_bytes: int) -> Track:
        """The first video track of a file of `size_bytes` that begins with `head`.

        Raises MediaError: corrupt, or layout where only `media.decode_frames` can read the file (index at the end,
        fragments, another codec, pictures stored in another order than shown).
        """
        if cls.needs(head, size_bytes) > len(head):
            raise _corrupt("the index is cut short")
        top = _boxes(head, 0, cls.needs(head, size_bytes))
        start, stop = next((start, stop) for kind, start, stop in top if kind == b"moov")
        inside = list(_boxes(head, start, stop))
        if any(kind == b"mvex" for kind, _, _ in inside):
            raise MediaError("layout", "fragments")
        for kind, start, stop in inside:
            if kind == b"trak":
                media = _named(head, start, stop, b"mdia")
                handler, end = _named(head, *media, b"hdlr")
                if head[handler + 8 : min(handler + 12, end)] == b"vide":
                    table = _named(head, *_named(head, *media, b"minf"), b"stbl")
                    return cls._of_table(head, *table, size_bytes)
        raise _corrupt("no video track")

    @classmethod
    def _of_table(cls, head: bytes, start: int, stop: int, size_bytes: int) -> Track:
        boxes = {kind: (begin, end) for kind, begin, end in _boxes(head, start, stop)}
        if b"ctts" in boxes and len(np.unique(_table(head, boxes, b"ctts", 2)[:, 1])) > 1:
            raise MediaError("layout", "pictures are not stored in the order in which they are shown")
        width, height, avcc = _sample_entry(head, boxes)
        sizes_S = _sample_sizes(head, boxes, size_bytes)
        offsets_S = _sample_offsets(head, boxes, sizes_S, size_bytes)
        keys_K = np.arange(len(sizes_S))
        if b"stss" in boxes:
            keys_K = _table(head, boxes, b"stss", 1)[:, 0] - 1
            if not len(keys_K) or keys_K[0] != 0 or (np.diff(keys_K) <= 0).any() or keys_K[-1] >= len(sizes_S):
                raise _corrupt("key pictures out of order")
        return cls(width, height, avcc, offsets_S, sizes_S, keys_K)

    def groups(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """[first, past the last) picture to decode, of each group of pictures of `indices`, in order.

        Raises IndexError for a frame that the file does not have.
        """
        wanted_T = np.unique(np.asarray(indices, np.int64))
        if len(wanted_T) and not 0 <= wanted_T[0] <= wanted_T[-1] < len(self):
            raise IndexError(f"frames {list(indices)} of a clip of {len(self)}")
        group_T = np.searchsorted(self.keys_K, wanted_T, side="right") - 1
        last_T = np.append(group_T[1:] != group_T[:-1], True)[: len(group_T)]
        return [(int(self.keys_K[g]), int(t) + 1) for g, t in zip(group_T[last_T], wanted_T[last_T])]

    def ranges(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """(offset, size) in bytes of all that decoding `indices` needs, ascending, none touching another.

        Raises IndexError for a frame that the file does not have.
        """
        merged: list[tuple[int, int]] = []
        samples = [s for first, past in self.groups(indices) for s in range(first, past)]
        for offset, size in sorted((int(self.offsets_S[s]), int(self.sizes_S[s])) for s in samples):
            begin, length = merged[-1] if merged else (-1, 0)
            if begin <= offset <= begin + length:
                merged[-1] = (begin, max(length, offset + size - begin))
            else:
                merged.append((offset, size))
        return merged

    def decode(self, pieces: Sequence[bytes], indices: Sequence[int]) -> np.ndarray:
        """Frames `indices`, in any order, as RGB uint8 (T, H, W, 3); `pieces` are the bytes of `ranges(indices)`.

        Raises MediaError (corrupt) where a picture is damaged or missing, IndexError as `ranges` does.
        """
        ranges = self.ranges(indices)
        if [len(piece) for piece in pieces] != [size for _, size in ranges]:
            raise _corrupt(f"{[len(piece) for piece in pieces]} bytes for the ranges {ranges}")
        starts = np.array([offset for offset, _ in ranges], np.int64)

        def sample_bytes(sample: int) -> bytes:
            offset, size = int(self.offsets_S[sample]), int(self.sizes_S[sample])
            piece = int(np.searchsorted(starts, offset, side="right")) - 1
            begin = offset - int(starts[piece])
            return pieces[piece][begin : begin + size]

        rgb: dict[int, np.ndarray] = {}
        asked = {int(index) for index in indices}
        try:
            decoder, to_rgb = _of_thread.of(self)
            for first, past in self.groups(indices):
                for picture in self._decode_group(decoder, sample_bytes, first, past):
                    if picture.pts in asked:
                        rgb[picture.pts] = to_rgb.reformat(picture, format="rgb24", threads=1).to_ndarray()
        except (av.error.FFmpegError, MediaError) as error:
            _of_thread.forget()
            if isinstance(error, MediaError):
                raise
            raise _corrupt(f"cannot be decoded: {error.strerror}") from error
        empty = np.zeros((0, self.height, self.width, 3), np.uint8)
        return np.stack([rgb[int(index)] for index in indices]) if rgb else empty

    def _decode_group(self, decoder: Any, sample_bytes: Callable[[int], bytes], first: int, past: int) -> list[Any]:
        """The pictures [first, past) of one group, decoded from its key picture on. Raises MediaError (corrupt)."""
        pictures = []
        for sample in range(first, past):
            packet = av.Packet(sample_bytes(sample))
            packet.pts = sample
            pictures += decoder.decode(packet)
        pictures += decoder.decode(None)
        decoder.flush_buffers()
        if [picture.pts for picture in pictures] != list(range(first, past)):
            raise _corrupt(f"{len(pictures)} pictures of {past - first} can be decoded from picture {first} on")
        for picture in pictures:
            if picture.is_corrupt or (picture.width, picture.height) != (self.width, self.height):
                raise _corrupt(f"damaged picture {picture.pts}")
        return pictures


class _DecoderOfThread(threading.local):
    """Each thread keeps its last decoder: creating one costs more than decoding a small picture."""

    avcc: tuple[bytes, int, int] | None = None
    decoder: Any = None

    def of(self, track: Track) -> tuple[Any, VideoReformatter]:
        """A decoder for the track, with no pictures in its buffers, and the converter of its pictures to RGB."""
        if self.avcc != (track.avcc, track.width, track.height):
            decoder: Any = av.CodecContext.create("h264", "r")
            decoder.extradata = track.avcc
            decoder.thread_count = 1
            most_px = (track.width + 64) * (track.height + 64)  # coded in whole blocks; a picture may state any size
            # "aggressive": a picture must end where its bits do, as x264's do; finds most of what "explode" leaves.
            decoder.options = {"err_detect": "explode+aggressive", "max_pixels": str(most_px)}
            self.decoder = decoder, VideoReformatter()
            self.avcc = track.avcc, track.width, track.height
        return self.decoder

    def forget(self) -> None:
        self.avcc = self.decoder = None


_of_thread = _DecoderOfThread()


# Boxes -----------------------------------------------------------------------------------------------


def _corrupt(message: str) -> MediaError:
    return MediaError("corrupt", message)


def _box(head: bytes, at: int, stop: int) -> tuple[bytes, int, int]:
    """(kind, start of its content, its end) of the box at `at`, inside what ends at `stop`."""
    if at + 8 > min(stop, len(head)):
        raise _corrupt("half a box")
    length, kind = struct.unpack_from(">I4s", head, at)
    start = at + 8
    if length == 1:  # a length of 8 bytes follows
        if at + 16 > min(stop, len(head)):
            raise _corrupt("half a box")
        (length,) = struct.unpack_from(">Q", head, start)
        start = at + 16
    elif length == 0:  # "to the end of the file"
        length = stop - at
    if not start <= at + length <= stop:
        raise _corrupt(f"a box of {length} bytes where {stop - at} are left")
    return kind, start, at + length


def _boxes(head: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    while at < stop:
        kind, start, at = _box(head, at, stop)
        yield kind, start, at


def _named(head: bytes, start: int, stop: int, wanted_kind: bytes) -> tuple[int, int]:
    """(start, end) of the content of the first box of that kind."""
    for kind, begin, end in _boxes(head, start, stop):
        if kind == wanted_kind:
            return begin, end
    raise _corrupt(f"no {wanted_kind.decode()}")


def _table(head: bytes, boxes: dict[bytes, tuple[int, int]], kind: bytes, columns: int, wide: bool = False):
    """The numbers of a table box, which follow version, flags and a count, as int64 (count, columns)."""
    start, stop = boxes.get(kind, (0, 0))
    if stop - start < 8:
        raise _corrupt(f"no {kind.decode()}")
    (count,) = struct.unpack_from(">I", head, start + 4)
    number = np.dtype(">i8" if wide else ">u4")  # an offset above 2^63 becomes negative, which is refused
    if start + 8 + count * columns * number.itemsize > stop:
        raise _corrupt(f"{kind.decode()} of {count} entries in {stop - start} bytes")
    return np.frombuffer(head, number, count * columns, start + 8).astype(np.int64).reshape(count, columns)


def _sample_entry(head: bytes, boxes: dict[bytes, tuple[int, int]]) -> tuple[int, int, bytes]:
    """Width and height in px and the decoder's parameters, of the only sample description."""
    start, stop = boxes.get(b"stsd", (0, 0))
    entries = list(_boxes(head, start + 8, stop)) if stop - start >= 8 else []
    if not entries:
        raise _corrupt("no sample description")
    if len(entries) > 1 or entries[0][0] != b"avc1":
        raise MediaError("layout", "the video is not one stream of H.264")
    _, start, stop = entries[0]
    if stop - start < ENTRY_BYTES:
        raise _corrupt("half a sample description")
    width, height = struct.unpack_from(">HH", head, start + 24)
    if not (0 < width <= LONGEST_SIDE_PX and 0 < height <= LONGEST_SIDE_PX):
        raise _corrupt(f"pictures of {width} x {height}")
    start, stop = _named(head, start + ENTRY_BYTES, stop, b"avcC")
    if stop - start < 7:
        raise _corrupt("half an avcC")
    return width, height, bytes(head[start:stop])


def _sample_sizes(head: bytes, boxes: dict[bytes, tuple[int, int]], size_bytes: int) -> np.ndarray:
    """Bytes of every picture: int64 (S,), none empty, together at most the file."""
    start, stop = boxes.get(b"stsz", (0, 0))
    if stop - start < 12:
        raise _corrupt("no stsz")
    same, count = struct.unpack_from(">II", head, start + 4)
    if count * max(same, 1) > size_bytes or (not same and start + 12 + 4 * count > stop):
        raise _corrupt(f"stsz of {count} entries")
    sizes_S = np.full(count, same, np.int64) if same else np.frombuffer(head, ">u4", count, start + 12).astype(np.int64)
    if not count or (sizes_S == 0).any() or sizes_S.sum() > size_bytes:
        raise _corrupt("no pictures, empty ones, or larger than the file")
    return sizes_S


def _sample_offsets(head: bytes, boxes: dict, sizes_S: np.ndarray, size_bytes: int) -> np.ndarray:
    """Where every picture lies: int64 (S,), all inside the file. Chunks hold pictures one after the other."""
    wide = b"co64" in boxes
    offsets_C = _table(head, boxes, b"co64" if wide else b"stco", 1, wide)[:, 0]
    runs = _table(head, boxes, b"stsc", 3)  # (first chunk, pictures in each chunk, sample description)
    first = runs[:, 0] - 1
    if not len(runs) or first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= len(offsets_C):
        raise _corrupt("chunks out of order")
    in_chunk_C = np.repeat(runs[:, 1], np.diff(np.append(first, len(offsets_C))))
    if in_chunk_C.sum() != len(sizes_S) or (runs[:, 2] != 1).any():
        raise _corrupt("chunks do not hold the pictures")
    if (in_chunk_C == 0).any() or ((offsets_C < 0) | (offsets_C > size_bytes)).any():
        raise _corrupt("a chunk outside the file, or empty")
    before_S = np.cumsum(sizes_S) - sizes_S
    begins_C = np.cumsum(in_chunk_C) - in_chunk_C  # number of each chunk's first picture
    offsets_S = np.repeat(offsets_C - before_S[begins_C], in_chunk_C) + before_S
    if (offsets_S + sizes_S > size_bytes).any():
        raise _corrupt("a picture outside the file")
    return offsets_S
