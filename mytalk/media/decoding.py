"""Frames of a video stream as the decoder gives them: the undamaged ones, deinterlaced, in the order shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av

from mytalk.media.notes import MediaError, Notes
from mytalk.media.opening import machine_error, packets


@dataclass
class DecodedFrame:
    """A frame of the decoder; `after_damage`: damaged ones before it were left out."""

    frame: Any
    after_damage: bool


def decoded_frames(container, stream, path, seen: Notes, on_packet: Callable[[], None]) -> Iterator[DecodedFrame]:
    """The undamaged pictures of a stream in the order shown. After damage the next key picture is waited for."""
    decoder = stream.codec_context
    lost = damaged = False  # packets until a key packet, frames until a key frame

    def whole(frames: Iterable[Any]) -> Iterator[DecodedFrame]:
        nonlocal damaged
        for frame in frames:
            if frame.is_corrupt or (damaged and not frame.key_frame):
                damaged = True
                continue
            frame.time_base = frame.time_base or stream.time_base  # drained ones have none
            yield DecodedFrame(frame, damaged)
            damaged = False

    def broken(error: MediaError) -> None:
        seen.pictures_cut = error

    for packet in packets(container, stream, path, broken, on_packet):
        if lost and not packet.is_keyframe:
            continue
        lost = bool(packet.is_corrupt)
        frames = None if lost else _of_packet(decoder, packet, path)
        if frames is None:
            yield from whole(_drained(decoder))
            lost = damaged = True
        else:
            yield from whole(frames)
    yield from whole(_drained(decoder))
    if damaged and seen.pictures_cut is None:
        seen.pictures_cut = MediaError("corrupt", f"{path}: the last pictures are damaged")


def _of_packet(decoder, packet, path) -> list[Any] | None:
    """The frames that a packet completes; None: it cannot be decoded. Raises OSError for the machine's errors."""
    try:
        return decoder.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        if machine := machine_error(error, path):
            raise machine from error
        return None


def _drained(decoder) -> list[Any]:
    """What the decoder still holds; it can be used again afterwards."""
    try:
        frames = decoder.decode(None)
    except av.error.FFmpegError:
        frames = []
    decoder.flush_buffers()
    return frames


def progressive(frames: Iterable[DecodedFrame], seen: Notes) -> Iterator[DecodedFrame]:
    """Interlaced pictures deinterlaced by FFmpeg's bwdif, from the first one on; others as they are."""
    graph, shape = None, None
    damaged = False
    for decoded in frames:
        frame = decoded.frame
        if graph is None and not frame.interlaced_frame:
            yield decoded
            continue
        if shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                yield from (DecodedFrame(after, False) for after in _filtered(graph, None))
            seen.say("interlaced pictures were deinterlaced")
            shape, graph = (frame.width, frame.height, frame.format.name), _bwdif(frame)
        damaged |= decoded.after_damage
        for after in _filtered(graph, frame):
            yield DecodedFrame(after, damaged)
            damaged = False
    if graph is not None:
        yield from (DecodedFrame(after, damaged) for after in _filtered(graph, None))


def _bwdif(frame) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _filtered(graph, frame) -> Iterator[Any]:
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
