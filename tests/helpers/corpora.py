"""Miniature trees of real corpora: a second of video and of sound under every name, and the labels that are given."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np

from tests.helpers import numbered

FRAMES = 30
VIDEO, SILENT, SOUND = "video", "video without sound", "sound"


def material(folder: Path) -> dict[str, Path]:
    """A video with noise as its sound, the same without sound, and louder noise alone."""
    noise_S = np.random.default_rng(0).normal(0, 0.1, FRAMES * 1920).astype(np.float32)
    whole = numbered.write(folder / "video.mp4", numbered.regular(FRAMES), audio=noise_S)
    silent = numbered.write(folder / "silent.mp4", numbered.regular(FRAMES))
    with av.open(str(folder / "sound.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.clip(2 * noise_S, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return {VIDEO: whole, SILENT: silent, SOUND: folder / "sound.m4a"}


def tree(folder: Path, files: dict[str, str], made: dict[str, Path]) -> Path:
    """Lay files below a folder: name -> VIDEO, SILENT or SOUND, or the text of labels."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content in made:
            shutil.copy(made[content], path)
            box = b"free" + name.encode()  # what decoders skip: so that no two files are the same
            with open(path, "ab") as file:
                file.write((4 + len(box)).to_bytes(4, "big") + box)
        else:
            path.write_text(content)
    return folder
