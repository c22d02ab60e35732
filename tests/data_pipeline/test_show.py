"""`show` draws a clip: each part of the picture lies where it belongs. What cannot be drawn is an error of one line."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.show import command as show
from data_pipeline.show import sheet
from mytalk import command
from mytalk.face import region
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, OUTER_LIP, SAMPLES_PER_FRAME, opening
from mytalk.networks.appearance import inputs

KEY = "train0-1"
TILE, STEP = sheet.TILE_PX, sheet.TILE_PX + sheet.GAP_PX


@pytest.fixture(scope="module")
def drawn(filmed_shards) -> tuple[Manifest, int, np.ndarray]:
    manifest = Manifest.load(filmed_shards)
    row = show.row_of(manifest, KEY)
    return manifest, row, np.asarray(sheet.of_clip(manifest, row))


def tile(picture: np.ndarray, strip: int, place: int) -> np.ndarray:
    """A tile of the picture: (TILE, TILE, 3)."""
    top, left = sheet.TITLE_PX + strip * STEP, sheet.LEFT_PX + place * STEP
    return picture[top : top + TILE, left : left + TILE].astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int], within: int = 40) -> np.ndarray:
    """(H, W) where a picture has about this colour."""
    return np.abs(picture.astype(int) - colour).max(-1) <= within


def below(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The speech's and the opening's part of the picture, between the ends of the axis."""
    x0, x1 = sheet.TIME_AXIS_PX
    bottom = len(picture) - sheet.AXIS_PX
    middle = bottom - sheet.CURVE_PX
    return picture[middle - sheet.WAVE_PX : middle, x0:x1], picture[middle:bottom, x0:x1]


def moments(frames: int) -> list[int]:
    return [round(place * (frames - 1) / 7) for place in range(8)]


def test_the_command_writes_a_png_named_by_its_key(command, filmed_shards, tmp_path, monkeypatch):
    out = tmp_path / "deep" / "sheet.png"
    done = command("-m", "data_pipeline", "show", str(filmed_shards), KEY, "-o", str(out))
    assert (done.returncode, done.stdout.strip()) == (0, str(out)), done.stderr
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.size == (
            sheet.WIDTH_PX,
            sheet.TITLE_PX + 4 * STEP + sheet.WAVE_PX + sheet.CURVE_PX + sheet.AXIS_PX,
        )
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]
    monkeypatch.chdir(tmp_path)
    assert show.run(show.arguments().parse_args([str(filmed_shards), KEY])) == 0
    assert (tmp_path / f"{KEY}.png").read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("p0/c-1", "p0_c-1.png"),
        ("../../etc/x", "_.._etc_x.png"),
        (".hidden", "hidden.png"),
        ("..", "clip.png"),
        ("a b\n\0ü", "a_b_.png"),
        ("x" * 999, "x" * 150 + ".png"),
    ],
)
def test_a_key_becomes_a_file_name_in_the_current_folder(key, name):
    assert show.file_name(key) == name


def test_landmarks_lie_where_the_clip_has_them(drawn):
    """In the first strip lips in their colour within the lips' outline, other dots over the whole face."""
    manifest, row, picture = drawn
    landmarks = reader.read_landmarks(manifest, row)
    for place, moment in enumerate(moments(len(landmarks))):
        shown = tile(picture, 0, place)
        for index in (0, 17, 61, 291, 13, 14):
            x, y = np.floor(landmarks[moment, index, :2] * TILE / CROP_PX).astype(int)
            assert near(shown[y - 2 : y + 3, x - 2 : x + 3], sheet.LIPS, 110).any(), (place, index)
        for index in (10, 33, 263, 152):
            x, y = np.floor(landmarks[moment, index, :2] * TILE / CROP_PX).astype(int)
            assert near(shown[y - 2 : y + 3, x - 2 : x + 3], sheet.DOTS, 110).any(), (place, index)


def test_the_mouth_fills_its_tile(drawn):
    """The moment's own lips in the middle of the second strip, with their dots on them, at one scale for the clip."""
    manifest, row, picture = drawn
    lips = reader.read_landmarks(manifest, row)[:, OUTER_LIP, :2]
    side = sheet.MOUTH_WIDE * float(np.ptp(lips, axis=1).max())
    for place, moment in enumerate(moments(len(lips))):
        shown = tile(picture, 1, place)
        y, x = np.nonzero(near(shown, sheet.LIPS))
        assert abs((x.min() + x.max()) / 2 - TILE / 2) < 8
        assert abs((y.min() + y.max()) / 2 - TILE / 2) < 8
        assert abs(np.ptp(x) - np.ptp(lips[moment, :, 0]) / side * TILE) < 8
        assert abs(np.ptp(y) - np.ptp(lips[moment, :, 1]) / side * TILE) < 8
        left, top = (lips[moment].min(0) + lips[moment].max(0) - side) / 2
        frame = Image.fromarray(video_reader.read_video(manifest, row, [moment])[0])
        box = (float(left), float(top), float(left + side), float(top + side))
        alone = np.asarray(frame.resize((TILE, TILE), Image.Resampling.BICUBIC, box=box)).astype(int)
        without_dots = np.array(shown[..., 2] - shown[..., 0] > alone[..., 2] - alone[..., 0] - 30)
        assert (np.abs(shown - alone).max(-1)[without_dots] < 16).mean() > 0.95


def test_dots_and_the_blacked_out_frame_are_the_generators_own(drawn):
    """Dots on black; black inside the region, and the clip's own frame outside."""
    manifest, row, picture = drawn
    landmarks = reader.read_landmarks(manifest, row)
    polygons = region.regions(landmarks)
    for place, moment in enumerate(moments(len(landmarks))):
        dots, hidden = tile(picture, 2, place), tile(picture, 3, place)
        assert 0.5 < (dots.max(-1) < 20).mean() < 0.97
        for colour in sheet.CHANNELS:
            assert near(dots, colour).sum() > 10
        inside = inputs.polygon_mask(torch.from_numpy(polygons[moment : moment + 1]), TILE)[0, 0].numpy() > 0
        assert (hidden[inside].max(-1) < 40).mean() > 0.95
        frame = video_reader.read_video(manifest, row, [moment])[0]
        small = np.asarray(Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.LANCZOS)).astype(int)
        assert (np.abs(hidden - small).max(-1)[~inside] < 10).mean() > 0.95


def test_the_wave_and_the_opening_are_on_one_axis(drawn, monkeypatch):
    """A burst of speech, and a mouth that opens with it, stand in the same columns of the picture."""
    manifest, row, _ = drawn
    landmarks = reader.read_landmarks(manifest, row)
    frames = len(landmarks)
    talks = (np.arange(frames) >= 10) & (np.arange(frames) < 20)
    still = np.repeat(landmarks[:1], frames, axis=0)
    still[talks, 14] += (0, 30, 0)
    speech = np.repeat(talks, SAMPLES_PER_FRAME) * 0.4 * np.sin(np.arange(frames * SAMPLES_PER_FRAME))
    monkeypatch.setattr(reader, "read_landmarks", lambda *_: still)
    monkeypatch.setattr(reader, "read_audio", lambda *_: speech.astype(np.float32))
    wave, curve = below(np.asarray(sheet.of_clip(manifest, row)))
    loud = np.flatnonzero(near(wave, sheet.SPEECH).sum(0) > 30)
    width = wave.shape[1]
    assert abs(loud.min() - 10 / frames * width) < 8
    assert abs(loud.max() - 20 / frames * width) < 8
    lines = near(curve, sheet.CURVE)
    heights = np.array([np.flatnonzero(column).min(initial=len(curve)) for column in lines.T])
    high = np.flatnonzero(heights < (heights.min() + heights[heights < len(curve)].max()) / 2)
    assert abs(high.min() - 10 / frames * width) < 0.6 / frames * width
    assert abs(high.max() - 20 / frames * width) < 0.6 / frames * width
    assert opening(still).argmax() in range(10, 20)


def test_silence_is_flat_and_hardly_louder_silence_too(drawn, monkeypatch):
    manifest, row, picture = drawn
    wave, _ = below(picture)
    samples = len(reader.read_audio(manifest, row))
    assert np.nonzero(near(wave, sheet.SPEECH))[0].size
    assert np.ptp(np.nonzero(near(wave, sheet.SPEECH))[0]) > 0.6 * sheet.WAVE_PX
    for loudness in (0.0, 0.001):
        noise = np.random.default_rng(1).uniform(-loudness, loudness, samples).astype(np.float32)
        monkeypatch.setattr(reader, "read_audio", lambda *_, noise=noise: noise)
        wave, _ = below(np.asarray(sheet.of_clip(manifest, row)))
        assert np.ptp(np.nonzero(near(wave, sheet.SPEECH))[0]) <= 3


def test_shards_without_frames_have_dots_speech_and_curve(talker_shards, filmed_shards, tmp_path, drawn):
    """Made so, or with the column left behind; the title says it."""
    manifest = Manifest.load(talker_shards)
    bare = np.asarray(sheet.of_clip(manifest, show.row_of(manifest, KEY)))
    assert bare.shape == (drawn[2].shape[0] - 3 * STEP, sheet.WIDTH_PX, 3)
    assert near(tile(bare, 0, 7), sheet.DOTS).sum() > 10
    left = shutil.copytree(filmed_shards, tmp_path / "left", ignore=shutil.ignore_patterns("frames-*"))
    manifest = Manifest.load(left)
    behind = np.asarray(sheet.of_clip(manifest, show.row_of(manifest, KEY)))
    assert behind.shape == bare.shape
    facts = slice(45, sheet.TITLE_PX - 4)
    assert (behind[facts] != drawn[2][facts]).any()


def test_the_title_says_who_and_what(drawn):
    manifest, row, _ = drawn
    frames = int(manifest.column("frames")[row])
    key, facts = sheet.title(manifest, row, frames, has_video=True)
    assert key == KEY
    for fact in ("person test/train0", "corpus test", "split train", f"{frames} frames, {frames / FRAME_HZ:.2f} s"):
        assert fact in facts
    assert "face 160 px" in facts
    assert "yaw +0°" in facts
    assert "sync" not in facts
    assert "no frames" not in facts
    assert "these shards hold no frames" in sheet.title(manifest, row, frames, has_video=False)[1]


def test_the_title_leaves_out_facts_without_a_value(drawn):
    """A missing column, a missing value, and NaN."""
    manifest, row, _ = drawn
    table = manifest.table.set_column(
        manifest.table.column_names.index("face_px"), "face_px", pa.array([float("nan")] * len(manifest))
    )
    table = table.append_column("sync_offset", pa.array([-2.0] * len(manifest)))
    table = table.append_column("sync_confidence", pa.array([None] * len(manifest), pa.float64()))
    facts = sheet.title(Manifest(manifest.folder, manifest.header, table), row, 42, has_video=True)[1]
    assert "sync offset -2.0 frames" in facts
    assert "confidence" not in facts
    assert "face" not in facts
    assert "nan" not in facts


def test_a_fact_may_be_a_whole_number_and_is_left_out_where_it_is_text(drawn):
    manifest, row, _ = drawn
    table = manifest.table.append_column("sync_confidence", pa.array(["high"] * len(manifest)))
    table = table.append_column("sync_offset", pa.array([3] * len(manifest)))
    facts = sheet.title(Manifest(manifest.folder, manifest.header, table), row, 42, has_video=True)[1]
    assert "confidence" not in facts
    assert "sync offset +3.0 frames" in facts


def test_a_clip_of_three_frames_has_three_moments(drawn, monkeypatch):
    manifest, row, _ = drawn
    landmarks, audio = (
        reader.read_landmarks(manifest, row)[:3],
        reader.read_audio(manifest, row)[: 3 * SAMPLES_PER_FRAME],
    )
    monkeypatch.setattr(reader, "read_landmarks", lambda *_: landmarks)
    monkeypatch.setattr(reader, "read_audio", lambda *_: audio)
    picture = np.asarray(sheet.of_clip(manifest, row))
    assert near(tile(picture, 0, 2), sheet.LIPS).any()
    assert (tile(picture, 0, 3) == sheet.PAPER).all()


def test_the_nearest_key_of_very_many_is_found_among_few(drawn, monkeypatch):
    """Comparing a key with millions takes minutes."""
    keys = [f"clip{n:06}-{m}" for n in range(20_000) for m in range(3)]
    compared: list[int] = []
    found = show.difflib.get_close_matches

    def counted(key, known, **more):
        compared.append(len(known))
        return found(key, known, **more)

    monkeypatch.setattr(show.difflib, "get_close_matches", counted)
    with pytest.raises(command.UserError, match="did you mean clip012345-"):
        show.row_of(Manifest(drawn[0].folder, {}, pa.table({"key": keys})), "clip012345-x")
    assert compared == [2 * show.NEAR]


@pytest.mark.parametrize(
    ("key", "more", "said"),
    [
        ("train0-2", [], "has no clip 'train0-2'; did you mean train0-"),
        ("zzzzzz", [], "has no clip 'zzzzzz'; the first is train0-0"),
        (KEY, ["-o", "clip.jpg"], "name a file that ends in .png"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(filmed_shards, key, more, said):
    with pytest.raises(command.UserError) as refused:
        show.run(show.arguments().parse_args([str(filmed_shards), key, *more]))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
