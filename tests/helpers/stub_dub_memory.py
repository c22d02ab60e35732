"""How much memory a dub of so many frames takes beyond pictures, in a process of its own.

    python -m tests.helpers.stub_dub_memory FRAMES [motion]

With `motion`, of the writing of motion alone, at 25 frames/s, where landmarks and sound lie on disk.
Prints the most anonymous memory, in kB, from the tracks of the first pass to the regions of the second: what the system
cannot take back. A talking face is drawn as landmarks; the motion model is the smallest there is, in one step.
"""

from __future__ import annotations

import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from mytalk import machine
from mytalk.dub import dubbing, first_pass
from mytalk.dub.faces import Face
from mytalk.dub.person import PersonReference
from mytalk.dub.tracks import Followed, Kept, Track
from mytalk.face import region
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.network import MotionModel
from tests.helpers.appearance_models import talking

FPS = Fraction(30)
TINY = MotionConfig(width=32, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)


def anonymous_kb() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0])


def dub(frames: int) -> None:
    """All of a dub that holds landmarks of every frame."""
    some_TN3, picture = talking(60), np.zeros((64, 64, 3), np.uint8)
    track, kept = Track(0), Kept()
    for frame in range(frames):
        track.see(frame, picture, kept.keep(some_TN3[frame % 60]))
    followed = Followed([track], [], frames, 256, 256)
    del track, kept
    faces = first_pass.of_face(Path("none.mp4"), FPS, followed, Face(tuple(followed.tracks)))
    del followed
    person = PersonReference(
        some_TN3[:50], np.zeros(50 * 640, np.float32), np.zeros((1, 256, 256, 3), np.uint8), some_TN3[:1]
    )
    model = MotionModel(TINY).eval()
    landmarks = dubbing.write_motion(faces, np.zeros(frames * 640, np.float32), model, person, 0, 1)
    for span in faces.spans:
        region.regions(span.landmarks_FN3)
        region.strengths(span.landmarks_FN3, float(FPS))
    assert sum(map(len, landmarks)) == frames


def write_motion(frames: int) -> None:
    """Motion of one span of a talking face and a sound, neither in memory."""
    some_TN3 = talking(60)
    landmarks_TN3, sound_S = machine.zeros((frames, *some_TN3.shape[1:])), machine.zeros((frames * 640,))
    for start in range(0, frames, 60):
        landmarks_TN3[start : start + 60] = some_TN3[: frames - start]
    crops_F23 = np.broadcast_to(np.eye(3)[:2], (frames, 2, 3))
    span = first_pass.FaceSpan(0, frames, crops_F23, landmarks_TN3)
    faces = first_pass.FirstPass(Path("none.mp4"), Fraction(25), 256, 256, frames, [span])
    person = PersonReference(some_TN3[:50], np.zeros(50 * 640, np.float32), np.zeros((1, 8, 8, 3), np.uint8), some_TN3)
    (written_TN3,) = dubbing.write_motion(faces, sound_S, MotionModel(TINY).eval(), person, 0, 1)
    assert len(written_TN3) == frames


def main() -> None:
    torch.set_num_threads(1)
    work = write_motion if sys.argv[2:] == ["motion"] else dub
    work(200)  # what is loaded once
    most, ended = [anonymous_kb()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], anonymous_kb())

    thread = threading.Thread(target=watch)
    thread.start()
    work(int(sys.argv[1]))
    ended.set()
    thread.join()
    print(most[0])


if __name__ == "__main__":
    main()
