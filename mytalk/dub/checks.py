"""What is refused before any work: files that cannot be read, dubbed or written."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mytalk import atomic, media
from mytalk.command import UserError
from mytalk.dub.first_pass import LEAST_FRAMES
from mytalk.face.landmarks import FRAME_HZ

MOST_PX = 4096 * 2304  # of a picture: 4K in any format; several are in memory at a time
FIXES = {
    "no_video": "name a video file",
    "no_audio": "name a file with sound",
}


def check(
    video: Path,
    speech: Path,
    out: Path,
    references: Sequence[Path] = (),
    sheet: Path | None = None,
    suffix: str = ".mp4",
) -> None:
    """Look at all paths and headers, and at the first pictures. Nothing is written.

    Raises UserError for what cannot be dubbed, OSError for the machine's errors.
    """
    check_paths(video, speech, out, references, suffix)
    if sheet is not None and (sheet.suffix.lower() != ".png" or sheet.is_dir()):
        raise UserError(f"--sheet {sheet} is to be a picture; name it {sheet.with_suffix('.png').name}")
    with as_user_errors():
        media.audio_hz(speech)
        for shown in [video, *references]:
            _check_pictures(shown)
    _check_folder(out, video)


def check_paths(video: Path, speech: Path, out: Path, references: Sequence[Path] = (), suffix: str = ".mp4") -> None:
    """Raise UserError where OUT cannot be written: no mp4, a long name, one of the files read, a file for a folder."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file in it")
    if len(os.fsencode(out.name)) > atomic.LONGEST_NAME_BYTES:
        raise UserError(f"{out} has a name of more than {atomic.LONGEST_NAME_BYTES} bytes; name a shorter OUT")
    if out.suffix.lower() != suffix:
        fix = out.with_suffix(suffix).name
        raise UserError(f"{out} does not end in {suffix}, the format of the result; name it {fix}")
    for read in (video, speech, *references):
        if _same_file(out, read):
            raise UserError(f"{out} is read and cannot be written as well; name another OUT")
    for folder in out.absolute().parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file and cannot hold {out}; name another OUT")


@contextlib.contextmanager
def as_user_errors() -> Iterator[None]:
    """Turn MediaError into UserError with the fix."""
    try:
        yield
    except media.MediaError as error:
        fix = FIXES.get(error.reason, "copy the file again, or convert it with: ffmpeg -i FILE NEW.mp4")
        raise UserError(f"{error}; {fix}") from error


def _check_pictures(video: Path) -> None:
    header = media.probe(video)
    if header.width * header.height > MOST_PX:
        raise UserError(
            f"{video} has pictures of {header.width} x {header.height} px, more than can be dubbed (4096 x 2304); "
            f"make it smaller, as with: ffmpeg -i {video} -vf scale=-2:2160 NEW.mp4"
        )
    fps = header.fps if 0 < header.fps <= media.MOST_HZ else FRAME_HZ
    first = itertools.islice(media.read_frames(video, fps, notes=media.Notes()), LEAST_FRAMES)
    frames = sum(1 for _ in first)
    if frames < LEAST_FRAMES:
        raise UserError(
            f"{video} has {frames} of the {LEAST_FRAMES} frames in which a face must stay; name a longer video"
        )


def _check_folder(out: Path, video: Path) -> None:
    """Raise UserError where the folder of OUT is read-only or too full. The result is rarely smaller than VIDEO."""
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    try:
        atomic.refuse_unwritable(out)
    except PermissionError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name an OUT in another folder") from error
    free_bytes, least_bytes = shutil.disk_usage(folder).free, video.stat().st_size
    if free_bytes < least_bytes:
        raise UserError(
            f"{folder} has {free_bytes / 1e6:.1f} MB free, and {video} alone has {least_bytes / 1e6:.1f} MB; "
            "free some space or name an OUT on another disk"
        )


def _same_file(a: Path, b: Path) -> bool:
    """Whether two paths are one file, through links too, also where neither exists yet."""
    return os.path.realpath(a) == os.path.realpath(b) or (a.exists() and b.exists() and a.samefile(b))
