"""Small pictures of rejected spans, a few for each rule, so that a person can see what the rules refuse."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.shards.layout import rejected_path
from mytalk import atomic

SIDE_PX = 160
MOST = 12  # of one rule in a shard
JPEG_QUALITY = 85


class Thumbnails:
    """The pictures of a shard's rejected spans, by file name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._of_rule: Counter[str] = Counter()

    def wants(self, rule: str) -> bool:
        """Whether one more of this rule is kept."""
        return self._of_rule[rule] < MOST

    def add(self, rule: str, name: str, picture_HW3: np.ndarray) -> None:
        """Keep an RGB picture under a name."""
        import cv2

        bgr_HW3 = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR)
        self.files[name] = cv2.imencode(".jpg", bgr_HW3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        self._of_rule[rule] += 1

    def write(self, out: Path, shard: int, ledger: Iterable[dict[str, Any]]) -> None:
        """Write OUT/rejected/NNNNNN.tar with the pictures that the sources' rows name, if there are any.

        Raises OSError.
        """
        names = [span["thumb"] for row in ledger for span in row["spans"] if "thumb" in span]
        if not names:
            return
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(self.files[name])
                tar.addfile(entry, io.BytesIO(self.files[name]))
        path = rejected_path(out, shard)
        path.parent.mkdir(exist_ok=True)
        atomic.write_bytes(path, target.getvalue())
