"""What a clip's members are called in third-party tars, and how the person is found."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_PATTERN = 200  # characters of a user's regular expression


@dataclass(frozen=True)
class FieldMapping:
    """The names of a clip's members in a tar. Extensions are those of webdataset: all after the key's dot."""

    landmarks: str = "landmarks.npy"
    audio: str = "audio.wav"
    video: str = "frames.mp4"  # may be missing
    facts: str = "facts.json"  # may be missing
    identity: str = "facts.identity"  # facts.NAME; key:REGEX, its first group; or file, the tar's stem
    corpus: str = ""  # default: the facts' own, else the name of the tar's folder
    crop_px: int = 256  # of clips whose facts do not give it

    def __post_init__(self) -> None:
        given = [self.landmarks, self.audio, self.video, self.facts]
        if not (self.landmarks and self.audio) or len({*filter(None, given)}) < len([*filter(None, given)]):
            raise ValueError("landmarks and audio need an extension, and all extensions must differ")
        for name in filter(None, given):
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise ValueError(
                    f"'{name[:70]}' is not an extension; write one like landmarks.npy, without the key's dot"
                )
        if self.crop_px < 32 or self.crop_px > 4096:
            raise ValueError(f"crop_px {self.crop_px} must lie between 32 and 4096")
        self.pattern()

    def pattern(self) -> re.Pattern[str] | None:
        """The expression that finds the person in a key, where `identity` is key:REGEX. Raises ValueError."""
        kind, _, text = self.identity.partition(":")
        if kind != "key":
            if self.identity != "file" and not re.fullmatch(r"facts\.[A-Za-z_]\w{0,63}", self.identity):
                raise ValueError(f"identity '{self.identity[:70]}' must be facts.NAME, key:REGEX or file")
            return None
        if len(text) > LONGEST_PATTERN:
            raise ValueError(f"the pattern of identity has {len(text)} characters, more than {LONGEST_PATTERN}")
        try:
            pattern = re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"'{text}' of identity is not a regular expression: {error}") from None
        if pattern.groups < 1:
            raise ValueError(f"'{text}' of identity has no group; put parentheses round the person: key:^(.+)-")
        return pattern
