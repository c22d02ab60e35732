"""Facts of the pictures against closed forms: painted clips whose light, sharpness and standstill are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data_pipeline.shards import facts, picture_facts
from data_pipeline.shards.facts import ClipData
from mytalk.face.landmarks import OVAL
from tests.helpers import faces

FRAMES = 40
PX = 256
WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])  # the crop is the source


def clip(pictures, landmarks_TN3=None, **more) -> ClipData:
    """A clip of these pictures (T, 256, 256, 3), or one for all frames, around a face that stands still."""
    pictures = np.asarray(pictures, np.uint8)
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[None], FRAMES, axis=0)
    landmarks_TN3 = faces.still(len(pictures)) if landmarks_TN3 is None else landmarks_TN3
    return ClipData(landmarks_TN3, np.zeros(640 * len(pictures)), list(pictures), 1.0, crop_23=WHOLE, **more)


def noise(seed: int = 0, sigma: float = 40.0) -> np.ndarray:
    """A picture whose spectrum, times the frequency squared, is even: as detailed as a picture can be."""
    random = np.random.default_rng(seed)
    along = np.fft.fftfreq(PX)
    frequency = np.maximum(np.hypot(along[:, None], along), 1 / PX)
    grey = np.fft.ifft2(np.fft.fft2(random.normal(size=(PX, PX))) / frequency).real
    grey = np.clip(128 + sigma * grey / grey.std(), 0, 255)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def flat(level: float) -> np.ndarray:
    return np.full((PX, PX, 3), level, np.uint8)


def inside() -> np.ndarray:
    """Which px lie inside the face's outline, (256, 256)."""
    outline_V2 = np.round(faces.FACE[OVAL, :2]).astype(np.int32)
    return cv2.fillConvexPoly(np.zeros((PX, PX), np.uint8), cv2.convexHull(outline_V2), 1).astype(bool)


@pytest.mark.parametrize("level", [0, 20, 128, 255])
def test_the_brightness_of_an_even_face_is_its_grey_whatever_is_around_it(level):
    picture = flat(200)
    picture[inside()] = level
    assert picture_facts.luma(clip(picture)) == level


def test_overexposed_counts_the_face_where_two_colours_are_clipped():
    picture = flat(255)  # around the face nothing counts
    rows, columns = np.nonzero(inside())
    picture[inside()] = 100
    half = np.arange(len(rows)) < len(rows) // 2
    picture[rows[half], columns[half]] = [255, 251, 90]
    picture[rows[~half], columns[~half]] = [255, 240, 90]  # red light alone
    assert picture_facts.overexposed(clip(picture)) == pytest.approx(0.5, abs=1e-3)


def test_more_light_is_never_less_exposed():
    lit = [clip(np.clip(noise() * gain, 0, 255)) for gain in (0.1, 0.5, 1.0, 2.0, 4.0)]
    for fact in (picture_facts.luma, picture_facts.overexposed):
        values = [fact(one) for one in lit]
        assert values == sorted(values)
        assert values[0] < values[-1]


@pytest.mark.parametrize("stands_from", [0, 10, 30, FRAMES])
def test_frozen_is_the_share_of_frames_from_which_on_nothing_changes(stands_from):
    pictures = [noise(min(t, stands_from)) for t in range(FRAMES)]
    assert picture_facts.frozen(clip(pictures)) == pytest.approx((FRAMES - stands_from) / FRAMES, abs=1e-3)


def test_what_moves_beside_the_face_does_not_thaw_it_and_grain_of_a_codec_neither():
    random = np.random.default_rng(1)
    pictures = [noise(t) for t in range(FRAMES)]
    grain = [np.clip(noise() + random.normal(0, 1, (PX, PX, 1)).round(), 0, 255) for _ in range(FRAMES)]
    low, high = faces.FACE[:, :2].min(0).astype(int), np.ceil(faces.FACE[:, :2].max(0)).astype(int)
    for picture in pictures:
        picture[low[1] : high[1], low[0] : high[0]] = 90
    assert picture_facts.frozen(clip(pictures)) == 1
    assert picture_facts.frozen(clip(grain)) == 1


def test_a_film_of_twelve_pictures_a_second_is_not_frozen():
    assert picture_facts.frozen(clip([noise(t // 2) for t in range(FRAMES)])) == 0


def test_one_frame_is_not_frozen_and_has_every_other_fact():
    one = clip(noise()[None])
    assert picture_facts.frozen(one) == 0
    assert picture_facts.jump(one) == 0
    assert picture_facts.luma(one) > 0
    assert picture_facts.detail_px(one) > 0


def blurred(sigma_px: float) -> np.ndarray:
    """Blurred by so many px of a face of 128 px: its box is the face's."""
    side_px = float(np.ptp(faces.FACE[:, :2], axis=0).max())
    return cv2.GaussianBlur(noise(), (0, 0), sigma_px * side_px / picture_facts.SPECTRUM_PX)


@pytest.mark.parametrize("sigma_px", [2.0, 3.0, 4.0])
def test_detail_of_an_even_spectrum_is_where_a_gaussian_blur_has_taken_all_but_a_share_of_the_power(sigma_px):
    """|G(f)|^2 = exp(-(2 pi sigma f)^2); the reference are frequencies of 6 to 12 cycles, blurred themselves."""
    cycles = np.arange(6, 13)

    def gain(f):
        return np.exp(-((2 * np.pi * sigma_px * f / picture_facts.SPECTRUM_PX) ** 2))

    faded = -np.log(picture_facts.FADED * gain(cycles).mean())
    truth = 2 * picture_facts.SPECTRUM_PX * np.sqrt(faded) / (2 * np.pi * sigma_px)
    assert picture_facts.detail_px(clip(blurred(sigma_px))) == pytest.approx(truth, rel=0.12)


def test_detail_falls_with_blur_but_not_with_contrast_as_the_old_measure_does():
    values = [picture_facts.detail_px(clip(blurred(sigma) if sigma else noise())) for sigma in (0, 1, 2, 3, 5)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5 * values[0]
    pale, plain = clip(noise(sigma=12)), clip(noise(sigma=40))
    assert picture_facts.detail_px(pale) == pytest.approx(picture_facts.detail_px(plain), rel=0.15)
    assert facts.blur(pale) < 0.2 * facts.blur(plain)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_an_even_picture_has_finite_facts(level):
    for fact in (picture_facts.luma, picture_facts.overexposed, picture_facts.frozen, picture_facts.detail_px):
        assert np.isfinite(fact(clip(flat(level))))


def test_profile_is_the_share_of_frames_that_look_away_by_more_than_fifty_degrees():
    from tests.helpers import talkers

    yaw_T = np.radians(np.repeat([0.0, 40.0, -75.0, 75.0], FRAMES // 4))
    landmarks_TN3 = talkers.turned(faces.still(FRAMES), yaw_T)
    assert picture_facts.profile(clip(flat(90), landmarks_TN3)) == pytest.approx(0.5)


def test_jump_is_the_longest_step_in_face_sides_whatever_the_picture_s_size():
    landmarks_TN3 = faces.still(FRAMES)
    side_px = clip(flat(90), landmarks_TN3).face_T[1][0]
    landmarks_TN3[20:, :, 0] += 0.3 * side_px
    landmarks_TN3[30:, :, 1] += 0.1 * side_px
    assert picture_facts.jump(clip(flat(90), landmarks_TN3)) == pytest.approx(0.3, abs=1e-3)
    assert picture_facts.jump(clip(flat(90), 4 * landmarks_TN3)) == pytest.approx(0.3, abs=1e-3)


def striped(pictures: list[np.ndarray], seconds: float) -> list[np.ndarray]:
    """Pictures with stripes of letters' hardness over the lower face, other ones every so many seconds."""
    out = [picture.copy() for picture in pictures]
    for t, picture in enumerate(out):
        shift = 4 * int(t / 25 / seconds)
        picture[:, shift::16] = picture[:, 1 + shift :: 16] = 0
        picture[:, 2 + shift :: 16] = picture[:, 3 + shift :: 16] = 255
    return out


def test_overlay_is_the_share_of_edges_that_stay_for_two_seconds_and_is_missing_in_shorter_clips():
    moving = [noise(t) for t in range(100)]
    assert picture_facts.overlay(clip(moving)) == 0
    assert picture_facts.overlay(clip(striped(moving, 9.0))) > 0.18
    assert picture_facts.overlay(clip(striped(moving, 2.0))) > 0.18, "subtitles change"
    assert picture_facts.overlay(clip(striped(moving, 0.1))) < 0.02
    assert picture_facts.overlay(clip(moving[:40])) is None


def test_edges_away_from_the_mouth_are_no_overlay():
    moving = [noise(t) for t in range(60)]
    eyes_px = int(faces.FACE[[33, 263], 1].mean())
    text = striped(moving, 9.0)
    for plain, picture in zip(moving, text):
        picture[eyes_px:] = plain[eyes_px:]
    assert picture_facts.overlay(clip(text)) == 0


def test_hand_is_the_share_of_the_frames_looked_at_and_missing_where_nobody_looked():
    looked = np.full(FRAMES, np.nan)
    assert picture_facts.hand(clip(flat(90))) is None
    assert picture_facts.hand(clip(flat(90), hands_T=looked)) is None
    looked[::10] = [1, 0, 0, 0]
    assert picture_facts.hand(clip(flat(90), hands_T=looked)) == 0.25


def test_without_its_matrix_a_clip_s_landmarks_are_taken_to_the_canonical_crop():
    own = ClipData(faces.still(FRAMES), np.zeros(9), [flat(90)] * FRAMES, 1.0)
    assert own.crop_landmarks_TN3.shape == (FRAMES, 478, 3)
    np.testing.assert_allclose(own.crop_landmarks_TN3[0, :, :2].mean(0), [PX / 2, PX / 2], atol=PX / 6)


def test_every_fact_has_a_meaning_and_a_unit_and_new_ones_stand_last():
    names = [fact.name for fact in facts.FACTS]
    assert names[:3] == ["detected_share", "face_px", "yaw_deg"]
    assert len(set(names)) == len(names)
    assert all(fact.function.__doc__ and fact.unit for fact in facts.FACTS)
