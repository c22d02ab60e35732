"""Some frames of a clip from some of its bytes: the same pictures as decord makes of the whole file, and no trust."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mytalk import media
from mytalk.media import MediaError, mp4

SIDE_PX = 64
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def pictures(count: int, side_px: int = SIDE_PX, seed: int = 0) -> list[np.ndarray]:
    """Squares that move, with noise: every picture differs from its neighbours everywhere."""
    random = np.random.default_rng(seed)
    blocks = np.kron(random.integers(0, 256, (8, 8, 3)), np.ones((side_px // 8, side_px // 8, 1)))
    noise = random.normal(0, 6, (count, side_px, side_px, 3))
    return [np.clip(np.roll(blocks, 3 * k, 1) + noise[k], 0, 255).astype(np.uint8) for k in range(count)]


def clip(count: int, gop: int = 5, **more) -> bytes:
    return media.encode_frames(pictures(count, **more), codec={**media.CLIP_CODEC, "g": str(gop)})


def written(options: dict, codec: str = "libx264", count: int = 12, **container_options) -> bytes:
    """A clip of another make: other codec options, other muxer options."""
    target = io.BytesIO()
    again = {"io_open": lambda *_: io.BytesIO(target.getvalue())}
    with av.open(target, "w", format="mp4", options=container_options, **again) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for picture in pictures(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def track_of(data: bytes) -> mp4.Track:
    return mp4.Track.parse(data, len(data))


def read_ranges(data: bytes, indices: list[int]) -> np.ndarray:
    """Frames `indices`, decoded from the bytes of their ranges alone."""
    track = track_of(data)
    return track.decode([data[offset : offset + size] for offset, size in track.ranges(indices)], indices)


def packets(data: bytes) -> list[tuple[int, int, bool]]:
    """(offset, size, is key) of every picture, by ffmpeg's demuxer: the independent index."""
    with av.open(io.BytesIO(data)) as container:
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]


def bytes_needed(data: bytes, indices: list[int]) -> set[int]:
    """Positions of all bytes from each frame's key picture up to the frame, by ffmpeg's demuxer."""
    index, needed = packets(data), set()
    for wanted in indices:
        key = max(k for k in range(wanted + 1) if index[k][2])
        for offset, size, _ in index[key : wanted + 1]:
            needed |= set(range(offset, offset + size))
    return needed


def index_sets(count: int, random: np.random.Generator) -> list[list[int]]:
    some = [random.integers(0, count, int(random.integers(1, 7))).tolist() for _ in range(8)]  # any order, doubles
    start = int(random.integers(0, count))
    return [list(range(count)), list(range(start, min(start + 5, count))), [count - 1], *some]


@pytest.mark.parametrize("gop", [1, 5, 12])
@pytest.mark.parametrize("count", [1, 2, 25, 250])
def test_frames_of_ranges_are_those_of_the_whole_file(count, gop):
    """Bit for bit, with every byte outside head and ranges zeroed; and the ranges are the groups of pictures."""
    data = clip(count, gop)
    whole = media.decode_frames(data, range(count))
    track = track_of(data[: mp4.Track.needs(data[: mp4.HEAD_BYTES], len(data))] + bytes(len(data)))
    assert (len(track), track.width, track.height) == (count, SIDE_PX, SIDE_PX)
    assert track.keys_K.tolist() == list(range(0, count, gop))
    for indices in index_sets(count, np.random.default_rng(count)):
        ranges = track.ranges(indices)
        covered = [position for offset, size in ranges for position in range(offset, offset + size)]
        assert len(covered) == len(set(covered))
        assert set(covered) == bytes_needed(data, indices)
        assert all(a + size < b for (a, size), (b, _) in itertools.pairwise(ranges)), "neighbours are merged"
        got = track.decode([data[offset : offset + size] for offset, size in ranges], indices)
        assert got.dtype == np.uint8
        assert np.array_equal(got, whole[indices])


def test_some_frames_need_a_small_part_of_the_file():
    data, indices = clip(250), [201, 3, 77]
    track = mp4.Track.parse(data[: mp4.HEAD_BYTES], len(data))
    assert np.array_equal(read_ranges(data, indices), media.decode_frames(data, indices))
    assert mp4.HEAD_BYTES + sum(size for _, size in track.ranges(indices)) < len(data) / 4
    with pytest.raises(MediaError):
        track.decode([data[:9000][offset : offset + size] for offset, size in track.ranges([201])], [201])


def test_a_head_of_any_length_says_how_much_it_needs():
    data = clip(30)
    end = data.index(b"mdat") - 12  # behind an empty box and before the length
    for length in range(end):
        needed = mp4.Track.needs(data[:length], len(data))
        assert length < needed <= end
        with pytest.raises(MediaError):
            mp4.Track.parse(data[:length], len(data))
    assert mp4.Track.needs(data[:end], len(data)) == end
    assert len(mp4.Track.parse(data[:end], len(data))) == 30
    long = media.encode_frames([np.zeros((64, 64, 3), np.uint8)] * 1200)
    assert mp4.Track.needs(long[: mp4.HEAD_BYTES], len(long)) > mp4.HEAD_BYTES
    got = read_ranges(long, [1199])
    assert np.array_equal(got, media.decode_frames(long, [1199]))


def test_no_frames_and_frames_outside():
    data = clip(7)
    track = track_of(data)
    assert track.ranges([]) == []
    assert track.decode([], []).shape == (0, SIDE_PX, SIDE_PX, 3)
    for wrong in ([7], [-1], [0, 2**40]):
        with pytest.raises(IndexError):
            track.ranges(wrong)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: written({"bf": "0"}), id="index at the end"),
        pytest.param(lambda: written({"bf": "2", "b-adapt": "0"}, movflags="faststart"), id="B pictures"),
        pytest.param(lambda: written({}, "mpeg4", movflags="faststart"), id="MPEG-4 part 2"),
        pytest.param(lambda: written({"bf": "0"}, movflags="frag_keyframe+empty_moov"), id="fragments"),
    ],
)
def test_another_layout_is_left_to_the_whole_file(data):
    data = data()
    with pytest.raises(MediaError) as caught:
        read_ranges(data, [0])
    assert caught.value.reason == "layout"
    assert len(media.decode_frames(data, range(12))) == 12


# Files put together by hand --------------------------------------------------------------------------


def edited(data: bytes, change) -> bytes:
    """The boxes of a file anew; `change(kind, content)` gives the (kind, content) of every box without children."""
    out, at = b"", 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + length]
        kind, content = (kind, edited(content, change)) if kind in PARENTS else change(kind, content)
        out += struct.pack(">I4s", len(content) + 8, kind) + content
        at += length
    return out


def table(*rows: tuple[int, ...] | int, form: str = ">I") -> bytes:
    flat = [value for row in rows for value in (row if isinstance(row, tuple) else (row,))]
    return struct.pack(">II", 0, len(rows)) + b"".join(struct.pack(form, value) for value in flat)


def chunked(data: bytes, chunks: list[int], gap: int, wide: bool) -> bytes:
    """The same pictures in chunks of so many each, `gap` bytes apart, with offsets of 4 or 8 bytes."""
    index, spread, starts = packets(data), b"", []
    for held in chunks:
        starts.append(len(spread))
        spread += b"".join(data[offset : offset + size] for offset, size, _ in index[:held]) + b"\xff" * gap
        index = index[held:]
    assert not index
    runs = [(k + 1, held, 1) for k, held in enumerate(chunks) if k == 0 or held != chunks[k - 1]]

    def change(at: int):
        offsets = table(*[start + at for start in starts], form=">Q" if wide else ">I")
        new = {b"stco": (b"co64" if wide else b"stco", offsets), b"stsc": (b"stsc", table(*runs))}
        new[b"mdat"] = (b"mdat", spread)
        return edited(data, lambda kind, content: new.get(kind, (kind, content)))

    return change(change(0).index(b"mdat") + 4)


@pytest.mark.parametrize("wide", [False, True], ids=["stco", "co64"])
@pytest.mark.parametrize("chunks", [[20], [1] * 20, [3, 3, 3, 5, 5, 1]], ids=str)
def test_chunks_and_wide_offsets(chunks, wide):
    plain = clip(20)
    data = chunked(plain, chunks, 11, wide)
    whole = media.decode_frames(plain, range(20))
    assert np.array_equal(media.decode_frames(data, range(20)), whole), "decord reads it as well"
    track = track_of(data)
    assert list(zip(track.offsets_S.tolist(), track.sizes_S.tolist())) == [p[:2] for p in packets(data)]
    for indices in index_sets(20, np.random.default_rng(0)):
        ranges = track.ranges(indices)
        assert sum(size for _, size in ranges) == len(bytes_needed(data, indices))
        got = track.decode([data[offset : offset + size] for offset, size in ranges], indices)
        assert np.array_equal(got, whole[indices])


def test_lengths_of_8_bytes():
    """A moov whose length is written in 8 bytes is the same track, 8 bytes further."""
    data = clip(6)
    at = data.index(b"moov")
    (length,) = struct.unpack_from(">I", data, at - 4)
    wide = data[: at - 4] + struct.pack(">I4sQ", 1, b"moov", length + 8) + data[at + 4 :]
    track, plain = track_of(wide), track_of(data)
    assert (track.sizes_S.tolist(), track.offsets_S.tolist()) == (plain.sizes_S.tolist(), plain.offsets_S.tolist())


# Damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"stsz", b"stco", b"co64", b"stsc", b"stss", b"ctts", b"stsd", b"avcC"])
@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_no_number_of_a_table_makes_it_allocate(kind, value):
    """Every 4 bytes of every table in turn, the box's length too: refused or right, in little memory."""
    data = chunked(clip(12), [5, 7], 0, True) if kind == b"co64" else clip(12)
    if kind == b"ctts":
        data = written({"bf": "2", "b-adapt": "0"}, movflags="faststart")
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    tracemalloc.start()
    for place in range(at - 4, min(at - 4 + length, at + 120) - 3):
        read_or_refused(data[:place] + struct.pack(">I", value) + data[place + 4 :])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def read_or_refused(data: bytes, decode: bool = False) -> None:
    """What hostile bytes may do: raise MediaError, or give ranges inside the file and pictures of the stated size."""
    try:
        track = track_of(data)
        ranges = track.ranges(range(len(track)))
        assert all(0 <= offset < offset + size <= len(data) for offset, size in ranges)
        if decode:
            some = [0, len(track) - 1]
            pieces = [data[offset : offset + size] for offset, size in track.ranges(some)]
            assert track.decode(pieces, some).shape == (2, track.height, track.width, 3)
    except MediaError:
        pass


GOOD = clip(12)
HEAD = mp4.Track.needs(GOOD[: mp4.HEAD_BYTES], len(GOOD))
NUMBERS = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1), st.sampled_from([2**31, 2**32 - 1, len(GOOD), HEAD]))
EDITS = st.lists(st.tuples(st.integers(0, HEAD - 4), NUMBERS, st.sampled_from([1, 2, 4])), min_size=1, max_size=6)


@settings(max_examples=600, deadline=None)
@given(edits=EDITS, cut=st.one_of(st.none(), st.integers(0, HEAD)))
def test_a_hostile_head_is_refused_or_read(edits, cut):
    data = bytearray(GOOD)
    for at, number, width in edits:
        data[at : at + width] = (number % 256**width).to_bytes(width, "big")
    if cut is not None:
        del data[cut : cut + 4]
    read_or_refused(bytes(data), decode=True)


KINDS = st.sampled_from([b"stsz", b"stco", b"stsc", b"stss", b"stsd", b"hdlr", b"mvex", b"free", b"avc1"])
TREES = st.recursive(
    st.tuples(KINDS, st.binary(max_size=40)),
    lambda inner: st.tuples(st.sampled_from(PARENTS), st.lists(inner, max_size=5)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.lists(TREES, max_size=4), raw=st.binary(max_size=64))
def test_any_boxes_are_refused_or_read(tree, raw):
    def box(node) -> bytes:
        kind, content = node
        content = content if isinstance(content, bytes) else b"".join(box(child) for child in content)
        return struct.pack(">I4s", len(content) + 8, kind) + content

    start = struct.pack(">I4s", 16, b"ftyp") + b"isom0000"
    moov = box((b"moov", tree))
    for data in (raw, start + raw, start + moov + raw, start + box((b"moov", [(b"trak", tree)]))):
        try:
            if mp4.Track.needs(data, 10**6) <= len(data):
                mp4.Track.parse(data, 10**6)
        except MediaError:
            pass


def test_damaged_pictures_are_refused_and_leave_no_trace():
    """Zeroed or cut pictures are refused, flipped bytes refused or decoded; the next good clip is exact."""
    data = clip(20)
    track, whole = track_of(data), media.decode_frames(data, range(20))
    (where,) = track.ranges([7, 8, 9])
    piece = data[where[0] : sum(where)]

    def good() -> None:
        assert np.array_equal(track.decode([piece], [9, 7]), whole[[9, 7]])

    good()
    first = int(track.sizes_S[5])
    for bad in (bytes(len(piece)), bytes(first) + piece[first:], piece[:first] + bytes(len(piece) - first), piece[:-1]):
        with pytest.raises(MediaError) as caught:
            track.decode([bad], [7, 8, 9])
        assert caught.value.reason == "corrupt"
        good()
    with pytest.raises(MediaError):
        track.decode([], [7])
    random, refused = np.random.default_rng(0), 0
    for _ in range(200):
        bad = bytearray(piece)
        for at in random.integers(0, len(bad), 3):
            bad[at] ^= int(random.integers(1, 256))
        try:
            assert track.decode([bytes(bad)], [7, 8, 9]).shape == (3, SIDE_PX, SIDE_PX, 3)
        except MediaError:
            refused += 1
    assert refused > 196  # with less strict settings of the decoder, 191
    good()


def test_a_picture_of_another_size_than_stated_is_refused():
    """Larger than the index says, smaller, and as many pixels in another shape."""
    data = media.encode_frames([picture[:, :32] for picture in pictures(3)])
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    assert struct.unpack_from(">HH", data, at) == (32, 64)
    assert len(media.decode_frames(data, [0, 1])) == 2
    for stated in ((16, 32), (64, 64), (64, 32), (1, 1), (4096, 4096)):
        wrong = data[:at] + struct.pack(">HH", *stated) + data[at + 4 :]
        with pytest.raises(MediaError) as caught:
            read_ranges(wrong, [0, 1])
        assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("keys", [(), (2, 6), (1, 6, 6), (1, 11, 6), (1, 6, 13), (0, 1, 6), (1, 2**32 - 1)], ids=str)
def test_key_pictures_out_of_order_are_refused(keys):
    data = edited(GOOD, lambda kind, content: (kind, table(*keys).ljust(len(content)) if kind == b"stss" else content))
    with pytest.raises(MediaError) as caught:
        track_of(data)
    assert caught.value.reason == "corrupt"


def test_a_picture_that_is_no_key_is_not_taken_for_one():
    """An index that names a dependent picture as key: refused, whatever was decoded before."""
    track = track_of(GOOD)
    wrong = mp4.Track(track.width, track.height, track.avcc, track.offsets_S, track.sizes_S, np.array([0, 3, 5]))
    for indices in ([3], [1, 4], [2, 3]):
        with pytest.raises(MediaError):
            wrong.decode([GOOD[offset : offset + size] for offset, size in wrong.ranges(indices)], indices)


def test_threads_do_not_meet():
    clips = [clip(15, gop, seed=gop) for gop in (1, 3, 5, 8)]
    whole = [media.decode_frames(data, range(15)) for data in clips]

    def some(number: int) -> bool:
        data, random = clips[number % 4], np.random.default_rng(number)
        indices = random.integers(0, 15, 4).tolist()
        got = read_ranges(data, indices)
        return np.array_equal(got, whole[number % 4][indices])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(some, range(80)))


def test_an_encoded_clip_has_its_index_first():
    data = clip(5)
    assert data.index(b"moov") < data.index(b"mdat")
    assert data == clip(5)
