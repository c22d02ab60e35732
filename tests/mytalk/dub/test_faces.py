"""Which face is dubbed: tracks joined into people, the choice, the contact sheet, and what stays of the others.

Drawn people (two beside each other, cuts between people framed alike) with the real detector; the painter is a
stand-in that inverts colours.
"""

from __future__ import annotations

import argparse
import itertools
import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mytalk import media
from mytalk.command import UserError
from mytalk.dub import compositing, contact_sheet, first_pass, inputs
from mytalk.dub.faces import Choice, Face, choice, chosen_of, joined
from mytalk.dub.tracks import SHOWN_PX, Followed, Track, follow
from mytalk.face import crop, detector
from mytalk.face.shots import face_boxes
from tests.helpers import needs, talkers
from tests.helpers.heads import disc, swaying

REAL = Path(os.environ.get("MYTALK_REAL_VIDEOS", "none"))


def track(number: int, person: int, frames: range, side_px: float = 100, level: int = 120) -> Track:
    """A track of a stub person, who turns a little, with a picture of one grey."""
    face_N3 = talkers.base_face(np.random.default_rng(100 + person))
    face_N3 += np.random.default_rng(person).normal(0, 4, face_N3.shape)  # people differ all over
    turned_FN3 = talkers.turned(np.repeat(face_N3[None], len(frames), 0), np.radians(8 * np.sin(np.array(frames) / 9)))
    scale = side_px / np.ptp(face_N3[:, :2], axis=0).max()
    shown = list(((turned_FN3 - [128, 128, 0]) * scale + [300, 200, 0]).astype(np.float32))
    picture_HW3 = np.full((SHOWN_PX, SHOWN_PX, 3), level, np.uint8)
    return Track(number, list(frames), shown, boxes(shown), [picture_HW3])


def boxes(landmarks: list[np.ndarray]) -> list[np.ndarray]:
    """Centres x, y and sides."""
    centres_F2, sides_F = face_boxes(np.stack(landmarks))
    return list(np.column_stack([centres_F2, sides_F]))


# Who is who ---------------------------------------------------------------------------------------------------


def test_tracks_of_one_person_are_one_face_and_those_of_two_are_two():
    first, other, again = track(0, 0, range(50)), track(1, 1, range(60, 90)), track(2, 0, range(95, 140))
    faces = joined([first, other, again])
    assert [[one.number for one in face.tracks] for face in faces] == [[0, 2], [1]]
    assert [face.frames for face in faces] == [95, 30]
    assert [face.number for face in faces] == [0, 1]


def test_two_faces_of_one_picture_are_two_people_even_if_alike():
    faces = joined([track(0, 0, range(50)), track(1, 0, range(49, 90))])
    assert len(faces) == 2


def test_a_face_of_another_colour_is_another_person():
    assert len(joined([track(0, 0, range(50)), track(1, 0, range(60, 90), level=220)])) == 2


def test_faces_come_by_size_times_time():
    faces = joined([track(0, 0, range(100), side_px=50), track(1, 1, range(40), side_px=100)])
    assert [face.number for face in faces] == [1, 0]
    assert faces[0].area == pytest.approx(40 * 100**2, rel=0.03)


def test_a_face_too_short_to_dub_is_named_and_the_others_are_dubbed(capsys):
    faces = joined([track(0, 0, range(50)), track(1, 1, range(3))])
    film = Followed([one for face in faces for one in face.tracks], [], 50, 640, 360)
    passes = inputs.first_passes(Path("film.mp4"), Fraction(25), film, faces)
    assert list(passes) == [0]
    assert "track 1 is not dubbed: no face stays for 5 frames" in capsys.readouterr().out


# The choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("largest", Choice("largest")),
        ("all", Choice("all")),
        ("track:0", Choice("track", (0,))),
        ("track:3,12", Choice("track", (3, 12))),
        ("640,80,200,260", Choice("box", (640, 80, 200, 260))),
        ("-5,0,20,20", Choice("box", (-5, 0, 20, 20))),
    ],
)
def test_a_choice_is_read(typed, expected):
    assert choice(typed) == expected


@pytest.mark.parametrize("typed", ["", "main", "track", "track:", "track:x", "track:-1", "1,2,3", "1,2,3,0", "0"])
def test_what_is_no_choice_is_refused_with_the_syntax(typed):
    with pytest.raises(argparse.ArgumentTypeError, match="largest, all, track:N or X,Y,W,H"):
        choice(typed)


def beside(*sides_px: float) -> list[Face]:
    """Faces of one picture, each further to the right."""
    tracks = [track(number, number, range(40), side) for number, side in enumerate(sides_px)]
    for one in tracks:
        one.landmarks = [points + np.float32([200 * one.number, 0, 0]) for points in one.landmarks]
        one.boxes = boxes(one.landmarks)
    return joined(tracks)


@pytest.mark.parametrize(
    ("sides_px", "wanted", "numbers"),
    [
        ((100,), "main", [0]),
        ((100, 60), "main", [0]),
        ((60, 100), "main", [1]),
        ((100, 80), "main", []),  # it must be asked
        ((100, 80), "largest", [0]),
        ((80, 100, 30), "all", [1, 0, 2]),
        ((100, 80), "track:1", [1]),
        ((100, 80), "450,150,100,100", [1]),
    ],
)
def test_the_face_that_is_dubbed(sides_px, wanted, numbers):
    typed = Choice() if wanted == "main" else choice(wanted)
    assert [face.number for face in chosen_of(beside(*sides_px), typed)] == numbers


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("track:7", "there is no track 7; name one of: 0, 1"),
        ("track:0,1", "names tracks 0 and 1, which are seen together"),
        ("0,0,900,900", "holds tracks 0 and 1, which are seen together"),
        ("0,0,20,20", "no face is in --face 0,0,20,20"),
    ],
)
def test_a_choice_that_fits_no_single_face_is_refused(wanted, said):
    with pytest.raises(UserError, match=said):
        chosen_of(beside(100, 80), choice(wanted))


def test_tracks_named_together_are_one_person_whatever_they_look_like():
    faces = joined([track(0, 0, range(50)), track(1, 1, range(60, 90)), track(2, 2, range(95, 140))])
    (face,) = chosen_of(faces, choice("track:0,1"))
    assert [one.number for one in face.tracks] == [0, 1]


def test_the_contact_sheet_has_a_row_a_face_with_its_picture(tmp_path):
    faces = joined([track(0, 0, range(50), level=40), track(1, 1, range(60, 80), level=180)])
    contact_sheet.write(tmp_path / "sheet.png", faces, Fraction(25))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    height = len(sheet) // 2
    for row, level in enumerate((40, 180)):
        assert (sheet[row * height + 10 : row * height + 130, 10:130] == level).all()
        assert (sheet[row * height : (row + 1) * height, 4 * 136 + 16 :] < 100).any()  # words
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert contact_sheet.beside(Path("new/dubbed.mp4")) == Path("new/dubbed.faces.png")


# Layers ----------------------------------------------------------------------------------------------------------


class Inverter:
    """Paints a disc of inverted colours."""

    side_px = 256
    in_order = True

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        return [255 - frames_BHW3 for _ in several], np.stack([disc()] * len(frames_BHW3))


def layer(found: first_pass.FirstPass) -> compositing.Layer:
    landmarks = [span.landmarks_FN3 for span in found.spans]
    shown = [np.ones(len(span.landmarks_FN3), np.float32) for span in found.spans]
    return compositing.Layer(found.spans, landmarks, landmarks, shown, Inverter())  # type: ignore[arg-type]


def reach(span: first_pass.FaceSpan, height: int, width: int, at: int) -> np.ndarray:
    """Where the disc may reach in a frame of a span: (H, W) bool."""
    back_23 = crop.invert(span.crops_F23[at])
    (x, y), (edge, _) = crop.apply(np.array([[128.0, 160.0], [178.0, 160.0]]), back_23)
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(columns - x, rows - y) < edge - x + 2


def written(tmp_path: Path, frames, name: str = "v.mp4") -> Path:
    media.write_video(tmp_path / name, frames, 25)
    return tmp_path / name


def two_heads(tmp_path: Path) -> tuple[Path, Followed]:
    """A film of two people of whom the second comes in frame 10 and leaves in frame 40."""
    noise = np.random.default_rng(0).integers(60, 200, (60, 30, 60, 3))
    video = written(tmp_path, [np.kron(one, np.ones((6, 6, 1), int)).astype(np.uint8) for one in noise])
    heads = [swaying(60, centre=(x, 90.0)) for x in (90.0, 260.0)]
    tracks = [Track(0, list(range(60)), list(heads[0])), Track(1, list(range(10, 40)), list(heads[1][10:40]))]
    return video, Followed(tracks, [], 60, 360, 180)


@pytest.mark.parametrize("wanted", [[0], [1], [0, 1]])
def test_only_the_chosen_faces_are_painted_and_each_where_it_is(tmp_path, wanted):
    video, followed = two_heads(tmp_path)
    found = [first_pass.of_face(video, Fraction(25), followed, Face((followed.tracks[k],))) for k in wanted]
    layers = [layer(one) for one in found]
    shown = list(compositing.dubbed_frames(found[0], layers, lambda: None))
    for index, (after, before) in enumerate(zip(shown, media.read_frames(video), strict=True)):
        changed = (after != before).any(-1)
        allowed = np.zeros(changed.shape, bool)
        for one in found:
            (span,) = one.spans
            if span.start <= index < span.stop:
                here = reach(span, *changed.shape, index - span.start)
                allowed |= here
                assert changed[here].mean() > 0.5
        assert not changed[~allowed].any()


# Drawn people, with the real detector -----------------------------------------------------------------------------


def drawn(kind: str, seed: int, start: int, stop: int) -> list[np.ndarray]:
    from data_pipeline.synthetic.scenes.scene import scene

    return list(itertools.islice(scene(kind, seed).pictures(), start, stop))


@needs.drawn_people
def test_of_two_drawn_people_only_the_chosen_one_is_dubbed(tmp_path):
    """Through the codec: elsewhere the video is what its own frames are, encoded the same way."""
    pictures = drawn("two", 0, 0, 25)
    video = written(tmp_path, pictures)
    followed, fps = first_pass.follow_faces(video, detector.load())
    faces = joined(followed.tracks)
    assert len(faces) == 2
    assert chosen_of(faces, Choice()) == []  # they are alike in size: it must be asked
    left, right = sorted(faces, key=lambda face: face.tracks[0].landmarks[0][:, 0].mean())
    x, y = left.tracks[0].landmarks[0][:, :2].mean(0).astype(int)
    (picked,) = chosen_of(faces, choice(f"{x - 40},{y - 40},80,80"))
    assert picked.tracks == left.tracks
    found = first_pass.of_face(video, fps, followed, picked)
    dubbed = written(tmp_path, compositing.dubbed_frames(found, [layer(found)], lambda: None), "dubbed.mp4")
    plain = written(tmp_path, media.read_frames(video), "plain.mp4")
    shown, after, before = (np.stack(list(media.read_frames(path))).astype(int) for path in (video, dubbed, plain))
    x, y = right.tracks[0].landmarks[0][:, :2].mean(0).astype(int)
    other = np.s_[:, y - 40 : y + 60, x - 40 : x + 40]
    assert np.abs(after[other] - shown[other]).mean() < 1.1 * np.abs(before[other] - shown[other]).mean() < 3
    away = np.abs(after - before).mean(-1)
    (span,) = found.spans
    assert (span.start, span.stop) == (0, 25)
    assert np.stack([away[k][reach(span, *away[k].shape, k)].mean() for k in range(25)]).min() > 20


@needs.drawn_people
def test_a_cut_between_people_framed_alike_does_not_make_them_one(tmp_path):
    """The same room, the same place, another person: no landmark jumps."""
    from data_pipeline.synthetic.scenes.scene import scene

    one = scene("cuts_alike", 0)
    cut = one.truth["cuts"][0]
    followed = follow(itertools.islice(one.pictures(), cut - 20, cut + 25), detector.load())
    assert followed.cuts == [20]
    assert all(track.frames[-1] < 20 or track.frames[0] >= 20 for track in followed.tracks)
    faces = joined(followed.tracks)
    assert len(faces) == 2
    found = first_pass.of_face(tmp_path / "v.mp4", Fraction(25), followed, faces[0])
    assert all(span.stop <= 20 or span.start >= 20 for span in found.spans)


@pytest.mark.skipif(not REAL.is_dir(), reason="set MYTALK_REAL_VIDEOS to a folder of real videos")
@pytest.mark.parametrize(
    ("name", "people"), [("ap_cxk.mp4", 2), ("ap_num18.mp4", 3), ("hdtf_k.mp4", 1), ("ls_3.mp4", 1)]
)
def test_real_faces_beside_each_other_are_people_of_their_own_and_others_stay(name, people):
    start = 211 if name == "ls_3.mp4" else 0  # there, a cut in frame 226 between like pictures
    frames = list(media.read_frames(REAL / name, 25, start, start + 30))
    followed = follow(frames, detector.load())
    assert followed.cuts == [226 - start] * bool(start)
    faces = joined(followed.tracks)
    assert len(faces) == people
    for face in faces:
        found = first_pass.of_face(REAL / name, Fraction(25), followed, face)
        others = [other for other in faces if other is not face]
        for span in found.spans:
            for at in (span.start, span.stop - 1):
                painted = compositing.paste(
                    frames[at], np.zeros((256, 256, 3), np.uint8), disc(), span.crops_F23[at - span.start]
                )
                changed = (painted != frames[at]).any(-1)
                assert changed.any()
                for other in others:
                    x, y = other.tracks[0].landmarks[0][:, :2].mean(0).astype(int)
                    assert not changed[y - 20 : y + 20, x - 20 : x + 20].any()
