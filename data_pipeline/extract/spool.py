"""Clips kept on disk until their source has ended: then all of them are written to the shard, or none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_pipeline.shards.writer import Clip


class OutputError(OSError):
    """The disk of our output fails: no fault of the source."""


class Spool:
    """A temporary file without a name in `folder`. In memory are only keys, lengths and facts."""

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.clips: list[Clip] = []
        self._sizes: list[tuple[int, int, int]] = []

    def add(self, clip: Clip) -> None:
        """Keep a clip. Raises OutputError."""
        try:
            for member in (clip.landmarks, clip.audio, clip.video):
                self._file.write(member)
            self._file.flush()
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error
        self._sizes.append((len(clip.landmarks), len(clip.audio), len(clip.video)))
        self.clips.append(replace(clip, landmarks=b"", audio=b"", video=b""))

    def whole(self) -> Iterator[Clip]:
        """The clips in order; each is read when it is asked for. Closes the file at the end."""
        self._file.seek(0)
        for clip, sizes in zip(self.clips, self._sizes):
            landmarks, audio, video = (self._file.read(size) for size in sizes)
            yield replace(clip, landmarks=landmarks, audio=audio, video=video)
        self._file.close()
