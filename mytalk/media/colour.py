"""How a video's numbers stand for colours: the tags that a file carries, and what stands in for those it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Numbers of ITU-T H.273.
UNKNOWN = 2
BT_709, BT_601, BT_2020 = 1, 6, 9
PQ, HLG = 16, 18  # transfer functions of HDR
HDR = {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}

HD_WIDTH_PX, SD_HEIGHT_PX = 1280, 576  # players take untagged video from here on for HD
# Of each matrix, swscale's number of it.
SWSCALE = {BT_709: 1, 4: 4, 5: 5, BT_601: 5, 7: 7, BT_2020: 9, 10: 9}


@dataclass(frozen=True)
class Colour:
    """Colour matrix, primaries and transfer function, by the numbers of ITU-T H.273; 2: the file does not say."""

    matrix: int = BT_601
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN

    @classmethod
    def of(cls, tagged: Any) -> Colour:
        """Of a decoded frame or a stream's codec context: its tags. Without a matrix HD is BT.709, the rest BT.601."""
        hd = tagged.width >= HD_WIDTH_PX or tagged.height > SD_HEIGHT_PX
        matrix, primaries, transfer = int(tagged.colorspace), int(tagged.color_primaries), int(tagged.color_trc)
        if matrix not in SWSCALE:
            matrix = BT_709 if hd else BT_601
            if hd and primaries == transfer == UNKNOWN:
                primaries = transfer = BT_709
        return cls(matrix, primaries, transfer)

    @property
    def swscale(self) -> int:
        """swscale's number of the matrix."""
        return SWSCALE[self.matrix]

    @property
    def hdr(self) -> str:
        """The name of its kind of HDR; empty: none."""
        return HDR.get(self.transfer, "")
