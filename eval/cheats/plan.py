"""The cheats, the measure meant for each, and the ladders along which a measure must respond in order.

Every cheat is made from a real clip. What a row is compared with is the row `ground_truth`, the same clip through the
same codec, but for a leak: there the honest answer to a sound that is not the clip's own is a mouth that does not do
what the clip's mouth did, and a still mouth under that sound is such an answer.

Shape suffixes: T frames, H height, W width, 3 = RGB, N landmarks (478), S audio samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from eval.cheats import mouth, pictures
from eval.score_file import FLOOR
from mytalk.face.landmarks import opening
from mytalk.media.writing import X264

REAL, STILL = FLOOR, "still_mouth"
OWN, SILENT, SWAPPED = "own", "silent", "swapped"


@dataclass(frozen=True)
class RealClip:
    """What cheats are made of: a clip's frames (through the codec once), landmarks, and another person's frames."""

    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    stranger_THW3: np.ndarray
    random: np.random.Generator


@dataclass(frozen=True)
class Row:
    """One way to make pictures from a clip: its definition in a protocol, and the sound that it is shown with."""

    definition: str
    make: Callable[[RealClip], np.ndarray] | None = None  # None: the clip's own pictures
    sound: str = OWN
    crf: int | None = None  # of the encoder; None: that of a dubbed video
    encoder: str = X264


@dataclass(frozen=True)
class Expectation:
    """The measures meant for a cheat, any of which must find it worse than `than`.

    `leak`: a measure of how well the row follows the clip's own mouth is turned round. A mouth that follows it although
    another sound is heard has copied it. A measure of leaking itself stays as it is.
    """

    measures: tuple[str, ...]
    than: str = REAL
    leak: bool = False


def _late(clip: RealClip, frames: int) -> np.ndarray:
    return pictures.late(clip.frames_THW3, frames)


def _opened(clip: RealClip, times: float) -> np.ndarray:
    return mouth.reopened(clip.frames_THW3, clip.landmarks_TN3, times * opening(clip.landmarks_TN3))


def _still(clip: RealClip) -> np.ndarray:
    own_T = opening(clip.landmarks_TN3)
    return mouth.reopened(clip.frames_THW3, clip.landmarks_TN3, np.full(len(own_T), own_T.mean()))


def _static(clip: RealClip) -> np.ndarray:
    return pictures.static(clip.frames_THW3)


def _stranger(clip: RealClip) -> np.ndarray:
    return clip.stranger_THW3


def _blurred(clip: RealClip, sigma_px: float) -> np.ndarray:
    return pictures.blurred(clip.frames_THW3, sigma_px)


def _noisy(clip: RealClip, sigma: float) -> np.ndarray:
    return pictures.noisy(clip.frames_THW3, sigma, clip.random)


def _trembling(clip: RealClip, sigma_px: float) -> np.ndarray:
    return pictures.trembling(clip.frames_THW3, clip.landmarks_TN3, sigma_px, clip.random)


LATE, EARLY = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)  # frames
WIDER, NARROWER = (1.25, 1.5), (0.75, 0.5)  # times the opening
BLUR_PX, NOISE, TREMBLE_PX, CRF = (1, 2, 4), (4, 8, 16), (0.5, 1, 2), (24, 32, 40)

CHEATS = {
    REAL: Row("the clip's own frames, written and read twice as a dubbed row is"),
    STILL: Row("the clip, its mouth warped to its mean opening all the time; the head moves", _still),
    "static_picture": Row("the clip's middle picture all the time", _static),
    "swapped_person": Row("another person's clip, cut or repeated to length", _stranger),
    f"{STILL}_swapped": Row("the same under another clip's sound", _still, sound=SWAPPED),
    f"{STILL}_silent": Row("the same under silence", _still, sound=SILENT),
    "copied_mouth_swapped": Row("the clip as it is, under another clip's sound", sound=SWAPPED),
    "copied_mouth_silent": Row("the clip as it is, under silence", sound=SILENT),
    "late_4": Row("the picture 4 frames (160 ms) later than the sound", partial(_late, frames=4)),
    "opened_x1.5": Row("the mouth warped to open 1.5 times as far", partial(_opened, times=1.5)),
    "blur_2": Row("Gaussian blur, sigma 2 px at 256", partial(_blurred, sigma_px=2)),
    "noise_8": Row("Gaussian noise, sigma 8 of 255", partial(_noisy, sigma=8)),
    "tremble_1": Row(
        "the mouth moved at random in every frame, sigma 1 px along each axis",
        partial(_trembling, sigma_px=1),
    ),
    "crf_32": Row("x264 at crf 32 instead of 16", crf=32),
}
RECODED = {
    "vp9_20": Row("VP9 at crf 20 instead of x264 at 16: another codec, about as good", crf=20, encoder="libvpx-vp9")
}

FOLLOWED, ERROR, AMPLITUDE, READ = "opening_correlation", "opening_error_px", "amplitude_ratio", "@reader"
# Each cheat, and what must catch it. A measure of a name that VIDEO_METRICS does not have yet is named as missing.
EXPECTED = {
    "late_4": Expectation(("sync_offset_frames", "lse_offset_frames@mediapipe", FOLLOWED, f"{FOLLOWED}{READ}")),
    "opened_x1.5": Expectation((ERROR, AMPLITUDE, f"{ERROR}{READ}", f"{AMPLITUDE}{READ}")),
    "copied_mouth_swapped": Expectation(("mouth_leak", FOLLOWED, f"{FOLLOWED}{READ}"), f"{STILL}_swapped", leak=True),
    "copied_mouth_silent": Expectation(("mouth_leak", FOLLOWED, f"{FOLLOWED}{READ}"), f"{STILL}_silent", leak=True),
    "static_picture": Expectation((FOLLOWED, f"{FOLLOWED}{READ}")),
    STILL: Expectation((FOLLOWED, AMPLITUDE, f"{FOLLOWED}{READ}")),
    "swapped_person": Expectation(("csim@dlib", "identity_cosine")),
    "blur_2": Expectation(("ssim_mouth", "st_lpips@vgg")),
    "noise_8": Expectation(("psnr_mouth_db", "ssim_mouth")),
    "tremble_1": Expectation(("jitter_excess_px", "flicker_excess", "lmd_px")),
    "crf_32": Expectation(("ssim_mouth", "psnr_mouth_db")),
}

LADDERS: dict[str, tuple[str, ...]] = {  # from what is true to what is worst; every ladder begins at REAL
    "picture late, 1 to 5 frames": tuple(f"late_{n}" for n in LATE),
    "picture early, 1 to 5 frames": tuple(f"early_{n}" for n in EARLY),
    "mouth x1.25, x1.5": tuple(f"opened_x{times:g}" for times in WIDER),
    "mouth x0.75, x0.5": tuple(f"opened_x{times:g}" for times in NARROWER),
    "blur 1, 2, 4 px": tuple(f"blur_{px:g}" for px in BLUR_PX),
    "noise 4, 8, 16": tuple(f"noise_{sigma:g}" for sigma in NOISE),
    "tremble 0.5, 1, 2 px": tuple(f"tremble_{px:g}" for px in TREMBLE_PX),
    "crf 24, 32, 40": tuple(f"crf_{crf}" for crf in CRF),
}


def _rungs() -> dict[str, Row]:
    """The rows that only the ladders need."""
    return {
        **{f"late_{n}": Row(f"the picture {n} frames late", partial(_late, frames=n)) for n in LATE},
        **{f"early_{n}": Row(f"the picture {n} frames early", partial(_late, frames=-n)) for n in EARLY},
        **{
            f"opened_x{times:g}": Row(f"the mouth opens {times:g} times as far", partial(_opened, times=times))
            for times in (*WIDER, *NARROWER)
        },
        **{f"blur_{px:g}": Row(f"blur, sigma {px:g} px", partial(_blurred, sigma_px=px)) for px in BLUR_PX},
        **{f"noise_{sigma:g}": Row(f"noise, sigma {sigma:g}", partial(_noisy, sigma=sigma)) for sigma in NOISE},
        **{
            f"tremble_{px:g}": Row(f"the mouth trembles, sigma {px:g} px", partial(_trembling, sigma_px=px))
            for px in TREMBLE_PX
        },
        **{f"crf_{crf}": Row(f"x264 at crf {crf}", crf=crf) for crf in CRF},
    }


def rows(ladders: bool = True) -> dict[str, Row]:
    """Every row by name, the ground truth first; without `ladders` only the cheats."""
    calibration = {**RECODED, **_rungs()} if ladders else {}
    return CHEATS | {name: row for name, row in calibration.items() if name not in CHEATS}
