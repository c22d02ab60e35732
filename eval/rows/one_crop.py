"""A real video and another method's prediction of it, brought to one 256 px crop and written through our codec.

The real video gives the crop, by its own landmarks. A prediction is cropped at the same place where it shows the face
there (at whatever size in px), else by its own landmarks. What was decided is noted with the clip.

Shape suffixes: T frames, N landmarks (478), H height, W width, S audio samples, 3 = RGB, or (x, y, z) in px, 23 an
affine map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.detection import LEAST_DETECTED
from eval.metrics.metric import DetectedVideo, Miss
from eval.rows.videos import detect, filled
from mytalk import media
from mytalk.dub.retiming import cut_or_pad
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLES_PER_FRAME
from mytalk.face.shots import shot_starts
from mytalk.face.smooth import smooth
from mytalk.face.track import find_faces

if TYPE_CHECKING:
    from mytalk.face.detector import Detector, Region

LONGEST_S = 60  # of a video; what follows is not looked at, so that memory does not grow with its length
LENGTH_SHARE, LENGTH_FRAMES = 0.05, 1  # lengths may differ by the larger of the two
IN_PLACE_PX = 0.05 * CROP_PX  # mean distance of the corners of two crops that show the face in the same place
ASPECT_SHARE = 0.01  # sides of a picture in which one is another enlarged
HELD_BYTES = 500_000_000  # of a real video's pictures that are kept; more are decoded twice
NO_FACE, LOST, JUMPS, OTHER_LENGTH = "no_face", "face_lost", "face_jumps", "other_length"
FIRST_MINUTE, SEVERAL_FACES, OTHER_SIZE, OTHER_RATE, OWN_CROP, LENGTH = (
    *("only_the_first_minute", "several_faces", "other_size", "other_rate", "own_crop", "length_cut"),
)


@dataclass(frozen=True)
class Shown:
    """What a video shows: its crop in px of its picture of `width` x `height`, and landmarks in px of the crop."""

    landmarks_TN3: np.ndarray
    crop_23: np.ndarray
    width: int
    height: int


class Looking:
    """A detector that remembers whether it ever saw several faces."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.several = detector, False

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        """As the detector."""
        regions = self._detector.find(frame_HW3)
        self.several |= len(regions) > 1
        return regions

    def landmarks(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        """As the detector."""
        return self._detector.landmarks(frame_HW3, region)


# The real video -------------------------------------------------------------------------------------------


def read_real(path: Path, detector: Detector, notes: list[str]) -> tuple[np.ndarray, Shown]:
    """A real video's crops (T, 256, 256, 3), and what it shows. Raises Miss, MediaError, OSError."""
    header = media.probe(path)
    pictures: list[np.ndarray] | None = []
    if header.width * header.height * 3 * min(header.duration_s, LONGEST_S) * FRAME_HZ > HELD_BYTES:
        pictures = None
    looking = Looking(detector)
    track = find_faces(_kept(_frames(path, notes), pictures), looking)
    if not track.found_T.any():
        raise Miss(NO_FACE, f"no face in {path.name}")
    if track.found_T.mean() < LEAST_DETECTED:
        raise Miss(LOST, f"a face in {100 * track.found_T.mean():.0f} % of the frames of {path.name}")
    landmarks_TN3 = filled(track.landmarks_TN3, track.found_T)
    jumps_T = shot_starts(landmarks_TN3, np.ones(len(landmarks_TN3), bool))
    if jumps_T.any():
        raise Miss(JUMPS, f"the face jumps at frame {int(jumps_T.argmax())} of {path.name}, as at a cut")
    if looking.several:
        notes.append(SEVERAL_FACES)
    if round(header.fps, 2) != FRAME_HZ:
        notes.append(OTHER_RATE)
    smoothed_TN3 = smooth(landmarks_TN3)
    crop_23 = crop.canonical(smoothed_TN3)
    frames = _frames(path, []) if pictures is None else pictures
    real_THW3 = np.stack([crop.warp(frame, crop_23) for frame in frames])
    return real_THW3, Shown(crop.apply(smoothed_TN3, crop_23), crop_23, track.width, track.height)


def read_speech(path: Path, frames: int) -> np.ndarray:
    """The sound of a file for so many frames, (S,): cut, or continued with silence. Raises MediaError, OSError."""
    return fitted(media.read_audio(path), frames)


def fitted(audio_S: np.ndarray, frames: int) -> np.ndarray:
    """Sound cut to so many frames, or continued with silence, (S,)."""
    return cut_or_pad(audio_S, frames * SAMPLES_PER_FRAME)


def _frames(path: Path, notes: list[str]) -> Iterator[np.ndarray]:
    """The pictures of the first LONGEST_S."""
    most = LONGEST_S * FRAME_HZ
    for index, frame in enumerate(media.read_frames(path)):
        if index == most:
            notes.append(FIRST_MINUTE)
            return
        yield frame


def _kept(frames: Iterable[np.ndarray], held: list[np.ndarray] | None) -> Iterator[np.ndarray]:
    for frame in frames:
        if held is not None:
            held.append(frame)
        yield frame


# A prediction ---------------------------------------------------------------------------------------------


def predicted(
    path: Path,
    shown: Shown,
    detector: Detector,
    file: Path,
    speech_S: np.ndarray,
    frames: int | None,
    notes: list[str],
) -> DetectedVideo:
    """A prediction in the crop of what the real video shows, through our codec into `file`, detected.

    `frames`: about how many it must have; None: any. Raises Miss, MediaError, OSError.
    """
    header = media.probe(path)
    width, height = _size(path)
    if round(header.fps, 2) != FRAME_HZ:
        notes.append(OTHER_RATE)
    if (width, height) != (shown.width, shown.height):
        notes.append(OTHER_SIZE)
    zoom = np.array([width / shown.width, height / shown.height])
    if abs(zoom[0] / zoom[1] - 1) <= ASPECT_SHARE:
        same_23 = np.hstack([shown.crop_23[:, :2] / zoom.mean(), shown.crop_23[:, 2:]])
        video = through_codec(_cropped(path, same_23, frames), file, detector, speech_S, least=0)
        if in_place(video, shown.landmarks_TN3):
            return video
    notes.append(OWN_CROP)
    track = find_faces(_frames(path, []), detector)
    if not track.found_T.any():
        raise Miss(NO_FACE, f"no face in {path.name}")
    own_23 = crop.canonical(track.landmarks_TN3[track.found_T])
    return through_codec(_cropped(path, own_23, frames), file, detector, speech_S)


def through_codec(
    frames: Iterable[np.ndarray], file: Path, detector: Detector, speech_S: np.ndarray, least: float = LEAST_DETECTED
) -> DetectedVideo:
    """Crops written by our encoder, read again and detected. Raises Miss for a face in less than `least` of them."""
    media.write_video(file, frames, FRAME_HZ, speech_S)
    video = detect(file, detector)
    share = float(video.detected_T.mean())
    if share < least:
        reason, words = (LOST, f"a face in {100 * share:.0f} % of the frames") if share else (NO_FACE, "no face")
        raise Miss(reason, f"{words} of its crops")
    return video


def in_place(video: DetectedVideo, landmarks_TN3: np.ndarray) -> bool:
    """Whether crops show their face where and as large as these landmarks do."""
    if video.detected_T.mean() < LEAST_DETECTED:
        return False
    corners_42 = np.array(list(itertools.product((0.0, CROP_PX), repeat=2)))
    there_23 = crop.canonical(video.landmarks_TN3[video.detected_T])
    here_23 = crop.canonical(landmarks_TN3)
    apart_42 = crop.apply(corners_42, there_23) - crop.apply(corners_42, here_23)
    return float(np.linalg.norm(apart_42, axis=1).mean()) <= IN_PLACE_PX


def _size(path: Path) -> tuple[int, int]:
    """Width and height of the upright pictures, px."""
    frame_HW3 = next(media.read_frames(path, stop=1))
    return frame_HW3.shape[1], frame_HW3.shape[0]


def _cropped(path: Path, crop_23: np.ndarray, frames: int | None) -> Iterator[np.ndarray]:
    """Its crops. Raises Miss where it has not about so many `frames` (None: any), MediaError, OSError."""
    longest, allowed = LONGEST_S * FRAME_HZ, 0
    if frames is not None and frames < longest:
        allowed = max(LENGTH_FRAMES, int(LENGTH_SHARE * frames))
        longest = frames + allowed + 1
    count = 0
    for frame in media.read_frames(path, stop=longest):
        yield crop.warp(frame, crop_23)
        count += 1
    if frames is None:
        return
    allowed = allowed or int(LENGTH_SHARE * frames)
    if abs(count - frames) > allowed:
        words = f"more than {frames + allowed}" if count > frames else count
        raise Miss(OTHER_LENGTH, f"{path.name} has {words} frames, the real video {frames}")
