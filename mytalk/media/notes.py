"""What is noticed of a file while it is read, and the error where nothing of it can be used."""

from __future__ import annotations

from dataclasses import dataclass, field


class MediaError(Exception):
    """A file's content cannot be used. `reason` is a short snake_case code for ledgers."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return (type(self), (self.reason, str(self)))


@dataclass
class Notes:
    """What `read_frames` and `read_audio` noticed of one file; complete once they have reached its end.

    `still` has a picture before its first frame is yielded, with all of its frames, also those past a `stop`.

    Who gives them a Notes takes a file that breaks off as far as it decodes, and finds the break here. Who gives none
    gets MediaError at the break.
    """

    pictures_cut: MediaError | None = None  # why the pictures end before their time
    sound_cut: MediaError | None = None
    cut_s: float | None = None  # seconds from the first picture to the earlier of the two breaks
    still: list[tuple[int, int]] = field(default_factory=list)  # output frames [start, stop) that repeat one picture
    lines: list[str] = field(default_factory=list)  # anything else a user wants to know, a line each

    def say(self, line: str) -> None:
        """Add a line, once."""
        if line not in self.lines:
            self.lines.append(line)

    def cut_at(self, end_s: float) -> None:
        """Pictures or sound break off there."""
        self.cut_s = end_s if self.cut_s is None else min(self.cut_s, end_s)

    @property
    def cut(self) -> MediaError | None:
        """Why the file breaks off; None: it does not."""
        return self.pictures_cut or self.sound_cut
