"""`show --source` draws what extraction made of a video: boxes, lips, verdicts, cuts, and the sound."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import talkers
from data_pipeline.shards import ledger, manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging
from data_pipeline.show import command as show
from data_pipeline.show import film
from data_pipeline.show.story import BAD, GOOD, SILENT, story
from mytalk import media
from mytalk.command import UserError
from mytalk.face.landmarks import CROP_PX, INNER_LIP, OUTER_LIP, SAMPLES_PER_FRAME

WIDTH, HEIGHT, FRAMES = 400, 300, 60
SCALE, SHIFT = 1.6, (40.0, 30.0)  # source px -> crop px of the one clip
NAME = "ann/talk.mp4"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """(videos, shards): a grey video of 60 frames, a cut at 30; a clip of frames 10 to 30, then a span too small."""
    videos, shards = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("shards")
    (videos / "ann").mkdir()
    sound_S = 0.3 * np.sin(np.arange(FRAMES * SAMPLES_PER_FRAME) * 2 * np.pi * 440 / 16000)
    media.write_video(videos / NAME, [np.full((HEIGHT, WIDTH, 3), 110, np.uint8)] * FRAMES, 25, sound_S)
    random = np.random.default_rng(0)
    landmarks_TN3, audio_S = talkers.clip(random, talkers.base_face(random), 12, 20)
    sample = talkers.sample("train", "drawn", "drawn/ann", "ann-talk-0-000010", landmarks_TN3, audio_S)
    crop = [SCALE, 0.0, -SHIFT[0] * SCALE, 0.0, SCALE, -SHIFT[1] * SCALE]
    sample[1]["facts"] |= {"source": NAME, "start_frame": 10, "stop_frame": 30, "crop": crop}
    talkers.write_shards(shards, [sample], 4, "tests")
    small = {"state": "small_face", "value": 30.0, "limit": 48.0, "box": [320.0, 80.0, 40.0]}
    spans = [
        {"start": 10, "stop": 30, "track": 0, "state": ledger.KEPT, "box": [110.0, 100.0, 90.0]},
        {"start": 30, "stop": 60, "track": 1, **small},
    ]
    row = {"source": NAME, "state": ledger.EXTRACTED, "frames": FRAMES, "cuts": [30], "spans": spans}
    ledger.write(shards, [{"shard": 0, "sources": [row]}], {})
    return videos, shards


@pytest.fixture(scope="module")
def shown(extracted, tmp_path_factory) -> np.ndarray:
    """The film's frames, read back: (T, H, W, 3)."""
    videos, shards = extracted
    out = tmp_path_factory.mktemp("out") / "tracks.mp4"
    args = [str(shards), "--source", NAME, "--videos", str(videos), "-o", str(out)]
    assert show.run(show.arguments().parse_args(args)) == 0
    found = media.probe(out)
    assert (found.width, found.audio_hz) == (WIDTH, 16_000)
    sound_S = media.read_audio(out)
    assert np.sqrt(np.mean(sound_S[1000:-1000] ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    return np.stack(list(media.read_frames(out)))


def near(picture_HW3: np.ndarray, colour: tuple[int, int, int], within: int = 70) -> np.ndarray:
    return np.abs(picture_HW3.astype(int) - colour).max(-1) <= within


def test_a_kept_span_is_boxed_in_green_while_it_lasts(shown):
    assert len(shown) == FRAMES
    for number in range(FRAMES):
        edge = near(shown[number, 75:130, 64:68], GOOD)
        assert edge.any(1).all() == (10 <= number < 30), number


def test_a_rejected_span_is_boxed_in_red(shown):
    for number in range(FRAMES):
        edge = near(shown[number, 66:94, 299:303], BAD)
        assert edge.any(1).all() == (30 <= number < 60), number


def test_the_lips_lie_where_the_clip_has_them_in_the_source(extracted, shown):
    whole = Manifest.load(extracted[1])
    for frame, number in ((0, 10), (12, 22)):
        landmarks_N3 = reader.read_landmarks(whole, 0)[frame]
        for index in (OUTER_LIP[0], OUTER_LIP[10], INNER_LIP[15]):
            x, y = landmarks_N3[index, :2] / SCALE + SHIFT
            around = shown[number, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].astype(int)
            assert (around[..., 1] - around[..., 2]).max() > 60, "yellow"


def test_a_cut_is_marked_for_a_moment_and_in_the_timeline(shown):
    framed = [bool(near(shown[number, 100:200, :5], film.PLAYHEAD, 60).mean() > 0.9) for number in range(FRAMES)]
    assert framed == [30 <= number < 30 + film.CUT_FRAMES for number in range(FRAMES)]
    lane = shown[5, HEIGHT + 4 : HEIGHT + film.LANE_PX - 5]
    assert near(lane[:, 75:190], GOOD).mean() > 0.9
    second = shown[5, HEIGHT + film.LANE_PX + 4 : HEIGHT + 2 * film.LANE_PX - 5]
    assert near(second[:, 215:390], BAD).mean() > 0.9
    assert not near(second[:, 75:190], BAD).any()


def test_words_say_the_rule_with_its_value_and_who_is_kept(extracted):
    told = story(str(extracted[1]), NAME)
    assert [span.words for span in told.spans] == ["0: drawn/ann", "1: small_face 30, limit 48"]
    assert (told.frames, told.cuts, told.state) == (FRAMES, [30], "extracted")


def test_a_clip_that_does_not_speak_is_kept_in_another_colour(extracted, tmp_path):
    whole = Manifest.load(extracted[1])
    table = whole.table
    for name, value in (("speaks", False), ("why_silent", "music"), ("speaking", 0.25)):
        table = merging.set_column(table, name, pa.array([value]))
    manifest_update.save(tmp_path, table, {k: v for k, v in whole.header.items() if k != "table"})
    (span,) = story(str(tmp_path), NAME).spans
    assert (span.words, span.colour) == ("0: drawn/ann, music, speaking 0.25", SILENT)


def test_without_boxes_or_a_ledger_the_crop_gives_the_place(extracted, tmp_path):
    """The face is the crop without its margin, in its middle."""
    for name in ("manifest.json", "manifest.parquet"):
        (tmp_path / name).write_bytes((extracted[1] / name).read_bytes())
    (span,) = story(str(tmp_path), NAME).spans
    half = CROP_PX / SCALE / 2
    assert span.box_3 == pytest.approx((SHIFT[0] + half, SHIFT[1] + half, 2 * half / 1.5))
    lines = [{"source": NAME, "state": "rejected", "reason": "small_face"}]
    lines.append({"span_of": NAME, "start": 3, "stop": 9, "state": "small_face"})
    older = tmp_path / "older"
    older.mkdir()
    (older / ledger.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (span,) = story(str(older), NAME).spans
    assert (span.words, span.box_3, span.colour) == ("0: small_face", None, BAD)
    picture = film.Canvas(story(str(older), NAME), WIDTH, HEIGHT).frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 5)
    assert near(picture, BAD).sum() > 50


def test_a_large_source_is_shrunk_and_its_film_is_even(extracted):
    canvas = film.Canvas(story(str(extracted[1]), NAME), 3841, 2161)
    frame = canvas.frame(np.zeros((2161, 3841, 3), np.uint8), 0)
    assert frame.shape[1] == film.LONGEST_PX
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "name either the KEY of a clip or a --source"),
        (["key", "--source", NAME], "name either the KEY of a clip or a --source"),
        (["--source", NAME], "needs --videos"),
        (["--source", "ann/talk.mov", "--videos", "."], f"has no source 'ann/talk.mov'; did you mean {NAME}"),
        (["--source", NAME, "--videos", "nowhere"], "no file nowhere/ann/talk.mp4"),
        (["--source", NAME, "--videos", ".", "-o", "x.png"], "name a file that ends in .mp4"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(extracted, tmp_path, monkeypatch, typed, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        show.run(show.arguments().parse_args([str(extracted[1]), *typed]))
    assert said in str(refused.value)
    assert not list(tmp_path.iterdir())
