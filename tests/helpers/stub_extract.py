"""Extraction with a stub for the detector, in a process of its own that can kill itself at any event.

The stub sees a face in every numbered picture below FACELESS, so tests need neither MediaPipe nor faces.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  imported here once, not in every process that is forked
import numpy as np
import scipy.signal  # noqa: F401
import torch
import webdataset.writer

from data_pipeline.extract import command as extract
from data_pipeline.extract import hearing, video
from data_pipeline.extract.pictures import Picture
from data_pipeline.shards import manifest_update, throughput
from mytalk import atomic, command, faults
from mytalk.face import crop, mediapipe_hands, mediapipe_mesh, pose
from mytalk.face.detector import Region, region_of
from mytalk.face.landmarks import COUNT, RIGID
from mytalk.speech.activity import EnergyRule
from tests.helpers import numbered

FACELESS = 200
MISSING = 99  # one picture in which the face is lost
HZ = 16_000
ANY_SOUND = ("speech.min_speech=0", "speech.max_music=1")  # noise counts as speech
SIZE_PX = 64


class StubDetector:
    """A ring of landmarks whose place says the picture's number."""

    def find(self, frame: np.ndarray) -> list[Region]:
        face = self.landmarks(frame)
        return [] if face is None else [region_of(face)]

    def landmarks(self, frame: np.ndarray, region: Region | None = None) -> np.ndarray | None:
        number = numbered.number(frame)
        if number >= FACELESS or number == MISSING:
            return None
        return face_at(32 + number / 50, 32)


class StubHands:
    """Sees no hand."""

    def covers_mouth(self, picture_HW3: np.ndarray, landmarks_N3: np.ndarray) -> bool:
        return False


def no_cuts(pictures: Iterable[Picture], least_frames: int) -> Iterator[tuple[Picture, bool]]:
    """Numbered pictures all differ as only another shot would."""
    return ((picture, False) for picture in pictures)


def face_at(x: float, y: float, side_px: float = 32) -> np.ndarray:
    """A ring of landmarks of that width about a place, with the rigid points of a mean head: (478, 3) float32 px."""
    angle = np.linspace(0, 2 * np.pi, COUNT, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * (side_px / 2)
    ring[RIGID] = (pose.MEAN_RIGID_R3.numpy() - crop.FACE_CENTRE) * (side_px / crop.FACE_SIDE_PX)
    return (ring + np.array([x, y, 0])).astype(np.float32)


def corpus(folder: Path) -> Path:
    """Videos of three people and every kind of failure; names repeat across folders, as they do in the wild."""
    rng = np.random.default_rng(0)

    def sound(seconds: float) -> np.ndarray:
        return rng.normal(0, 0.1, round(seconds * 48_000)).astype(np.float32)

    numbered.write(folder / "ann/talk.mp4", numbered.regular(60), audio=sound(2.4))
    numbered.write(folder / "bob/talk.mp4", numbered.regular(72, 30), rate=30, audio=sound(2.4))
    numbered.write(folder / "bob/lost.mp4", numbered.regular(70), audio=sound(2.8), first=60)
    numbered.write(folder / "bob/short.mp4", numbered.regular(12), audio=sound(0.5))
    numbered.write(folder / "cat/mute.mp4", numbered.regular(40), audio=0 * sound(1.6))
    numbered.write(folder / "cat/no_audio.mp4", numbered.regular(40))
    numbered.write(folder / "cat/no_face.mp4", numbered.regular(40), audio=sound(1.6), first=FACELESS)
    numbered.write(folder / "cat/talk.mkv", numbered.regular(60), audio=sound(2.4), first=5)
    whole = (folder / "ann/talk.mp4").read_bytes()
    (folder / "cat/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "cat/text.mp4").write_bytes(b"hello" * 1000)
    (folder / "cat/notes.txt").write_text("not a video")
    (folder / "cat/.tmp-77-new.mp4").write_bytes(whole)
    return folder


EXPECTED = {
    "ann/talk.mp4": "extracted",
    "bob/lost.mp4": "extracted",
    "bob/short.mp4": "too_short",
    "bob/talk.mp4": "extracted",
    "cat/cut.mp4": "truncated",
    "cat/mute.mp4": "extracted",
    "cat/no_audio.mp4": "extracted",
    "cat/no_face.mp4": "no_face",
    "cat/talk.mkv": "extracted",
    "cat/text.mp4": "unreadable",
}


def run(videos: Path, out: Path, *options: str, kill_at: int | None = None, count: Any = None) -> tuple[int, str]:
    """Extract in a forked process; returns (exit code, or minus the signal; what it said on stderr).

    `kill_at`: SIGKILL itself before that event (a frame detected, a clip written, a flush, a rename).
    `count`: a shared value that receives the number of events.
    """
    said = Path(tempfile.mkdtemp()) / "said"
    process = multiprocessing.get_context("fork").Process(
        target=_child, args=(videos, out, options, kill_at, count, said)
    )
    process.start()
    process.join(120)
    assert process.exitcode is not None
    text = said.read_text()
    shutil.rmtree(said.parent)
    return process.exitcode, text


def _child(videos, out, options, kill_at, count, said) -> None:
    sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    events = 0

    def event() -> None:
        nonlocal events
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        events += 1

    def counted(holder, name: str) -> None:
        real = getattr(holder, name)

        def wrapped(*args, **kwargs):
            event()
            return real(*args, **kwargs)

        setattr(holder, name, wrapped)

    def audit(name: str, args: tuple) -> None:
        """Nothing in the output is written under its final name: a kill at any byte finds no torn file."""
        if name == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR):
            path = Path(args[0])
            leases = {out / "tasks", out / manifest_update.LEASE} & {*path.parents}
            elsewhere = out not in path.parents or leases or path.name == faults.ERRORS_FILE
            if not (elsewhere or any(part.startswith(atomic.TEMPORARY) for part in path.parts)):
                print(f"written in place: {path}", file=sys.stderr)
                os._exit(99)

    torch.set_num_threads(1)  # the threads of the process that was forked are not here
    sys.addaudithook(audit)
    counted(os, "replace")
    counted(os, "fsync")
    counted(StubDetector, "landmarks")
    counted(webdataset.writer.TarWriter, "write")
    install()
    args = extract.arguments().parse_args([str(videos), str(out), "--workers", "0", *options])
    code = command.guarded("extract", lambda: extract.run(args), debug=False)
    if count is not None:
        count.value = events
    os._exit(code)


def install() -> None:
    """Put the stubs in place of what finds faces, hands, cuts and speech, in this process."""
    mediapipe_mesh.version = lambda: "stub"
    video.with_cuts = no_cuts
    mediapipe_hands.Hands = StubHands  # type: ignore[assignment, misc]
    hearing.speech_detector = EnergyRule
    mediapipe_mesh.FaceDetector = StubDetector  # type: ignore[assignment, misc]


def files(out: Path) -> dict[str, bytes]:
    """Every file of a folder by relative path, but for how long the runs took."""
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if name != throughput.FILE}
