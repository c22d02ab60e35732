"""Reading pictures of clips out of shards: the groups of pictures that hold the frames, and nothing else.

Shape suffixes: T frames, H height, W width, 3 = RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError, Piece
from mytalk.face.landmarks import CROP_PX


def read_video(manifest: Manifest, row: int, indices: Sequence[int], side_px: int = CROP_PX) -> np.ndarray:
    """`read_frames` of one clip. Raises ClipError (short, checksum, corrupt), OSError."""
    (found,) = read_frames(manifest, [(row, indices)], side_px)
    if isinstance(found, ClipError):
        raise found
    return found


def read_frames(
    manifest: Manifest, asked: Sequence[tuple[int, Sequence[int]]], side_px: int = CROP_PX
) -> list[np.ndarray | ClipError]:
    """Some frames of some clips, (row, indices) each, as RGB uint8 (T, H, W, 3); a ClipError where one is damaged.

    Frames larger than their crop are reduced to `side_px`, by default the crop's: px of landmarks are px of pictures
    for whoever asks for no more. Read are the index at each file's start, then the groups of pictures that hold the
    frames, of all clips at once. A file laid out otherwise is read whole. Raises IndexError for frames that a clip has
    not, OSError.
    """
    from mytalk import media
    from mytalk.face import crop
    from mytalk.media import mp4  # the motion job touches no pixels and needs no codecs

    for row, indices in asked:
        frames = int(manifest.at(row, "frames"))
        if not all(0 <= index < frames for index in indices):
            raise IndexError(f"frames {list(indices)} of a clip of {frames}")
    if manifest.blank:
        return [np.zeros((len(indices), side_px, side_px, 3), np.uint8) for _, indices in asked]
    whole = [reader.member_piece(manifest, row, "video") for row, _ in asked]
    heads = reader.fetch(manifest, [piece._replace(size=min(piece.size, mp4.HEAD_BYTES)) for piece in whole])
    plans = [_plan(manifest, piece, head, indices) for piece, head, (_, indices) in zip(whole, heads, asked)]
    fetched = iter(reader.fetch(manifest, [piece for _, pieces in plans for piece in pieces]))
    found: list[np.ndarray | ClipError] = []
    for (row, indices), (track, pieces) in zip(asked, plans):
        data: list[Any] = [next(fetched) for _ in pieces]
        fault = track if isinstance(track, ClipError) else next((d for d in data if isinstance(d, ClipError)), None)
        try:
            if fault is None:
                pixels = track.decode(data, indices) if track is not None else media.decode_frames(data[0], indices)
                fault = _other_video(manifest, row, track, pixels.shape[1:3])
                if len(pixels) and len(pixels[0]) > max(side_px, int(manifest.at(row, "crop_px"))):
                    pixels = np.stack([crop.reduced(picture_HW3, side_px) for picture_HW3 in pixels])
            found.append(pixels if fault is None else fault)
        except (media.MediaError, IndexError) as error:
            found.append(reader.clip_error(manifest, row, "corrupt", str(error)))
    return found


def _other_video(manifest: Manifest, row: int, track: Any, shape: tuple[int, ...]) -> ClipError | None:
    """The error of a video that is not one picture of the crop's size for each frame, as others' tars may hold."""
    side, frames = int(manifest.frames_px([row])[0]), int(manifest.at(row, "frames"))
    if shape != (side, side):
        return reader.clip_error(
            manifest, row, "layout", f"its video is {shape[1]} x {shape[0]} px and the crop {side} px"
        )
    if track is not None and len(track) != frames:
        return reader.clip_error(
            manifest, row, "layout", f"its video has {len(track)} pictures and the clip {frames} frames"
        )
    return None


def _plan(manifest: Manifest, whole: Piece, head: bytes | ClipError, indices: Sequence[int]) -> tuple[Any, list[Piece]]:
    """The video's index and what to read; None where only the whole can be decoded; an error and nothing to read."""
    from mytalk import media
    from mytalk.media import mp4

    try:
        while isinstance(head, bytes) and (needed := mp4.Track.needs(head, whole.size)) > len(head):
            more = min(whole.size, max(needed, 2 * len(head)))  # a hostile index asks for a few bytes each time
            (head,) = reader.fetch(manifest, [whole._replace(size=more)])
        if isinstance(head, ClipError):
            return head, []
        track = mp4.Track.parse(head, whole.size)
        ranges = track.ranges(indices)
        return track, [whole._replace(offset=whole.offset + at, size=size) for at, size in ranges]
    except (media.MediaError, IndexError) as error:
        if isinstance(error, media.MediaError) and error.reason == "layout":
            return None, [whole]
        return reader.clip_error(manifest, whole.row, "corrupt", str(error)), []
