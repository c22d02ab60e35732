"""The drawn corpus: determinism, honest truth, files that decode or fail as listed, resuming, found mouths."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path

import av
import numpy as np
import pytest

from data_pipeline.synthetic import command as drawn
from data_pipeline.synthetic import found_faces
from data_pipeline.synthetic.paint import mouth
from data_pipeline.synthetic.performance import perform, pictures
from data_pipeline.synthetic.person import person
from data_pipeline.synthetic.speech import articulation, sentences
from data_pipeline.synthetic.speech.articulation import Articulation, Track, articulate, neutral_track
from data_pipeline.synthetic.speech.voice import PAUSE, Phoneme, Voice, speak
from mytalk import atomic, command
from mytalk.face import landmarks
from mytalk.face.mediapipe_mesh import FaceDetector
from mytalk.face.track import find_faces

PEOPLE, SECONDS = 3, 2.0
SMALL = ["--identities", str(PEOPLE), "--clips-per-identity", "1", "--seed", "5", "--seconds", str(SECONDS)]
FRAMES = round(SECONDS * drawn.FPS)


def demo(out: Path, *more: str) -> int:
    """Run the command as typed, errors as one line included."""
    return command.main(
        "demo", "", {"demo": ("data_pipeline.synthetic.command", "")}, ["demo", str(out), *SMALL, *more]
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A small corpus at the size that is asked of the command; only read it."""
    out = tmp_path_factory.mktemp("drawn") / "corpus"
    assert demo(out, "--workers", "2") == 0
    return out


@pytest.fixture
def copy(corpus, tmp_path) -> Path:
    """A corpus that a test may damage."""
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


def truth_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]


def usable(out: Path) -> list[dict]:
    return [record for record in truth_of(out) if record["usable"]]


def frames_of(path: Path) -> np.ndarray:
    """Decoded pictures (T, H, W, 3) RGB."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Voice and phonemes


def test_speech_depends_on_its_arguments_alone():
    voice = Voice("en-us+f3", 160, 50, 50)
    first = speak("My brother made a big umbrella.", voice, 3.0)
    speak("Something else, by another person.", Voice("en-gb-x-rp+m3", 150, 30, 50), 3.0)
    time.sleep(1.1)  # espeak-ng starts with the second of the clock as its seed
    again = speak("My brother made a big umbrella.", voice, 3.0)
    np.testing.assert_array_equal(first.samples_S, again.samples_S)
    assert first.phonemes == again.phonemes


@pytest.mark.parametrize("seconds", [1.0, 2.0, 6.0])
def test_phonemes_tile_the_audio_and_the_text_is_what_was_said(seconds):
    text = "A happy farmer bought apples, before the bishop woke up."
    speech = speak(text, Voice("en-us+m3", 160, 40, 50), seconds, lead_s=0.25)
    assert len(speech.samples_S) == round(seconds * speech.sample_hz)
    assert text.startswith(speech.text)
    assert speech.phonemes[0] == Phoneme(PAUSE, 0.0, speech.phonemes[1].start_s)
    assert speech.phonemes[-1].end_s == pytest.approx(seconds)
    for before, after in zip(speech.phonemes, speech.phonemes[1:]):
        assert before.start_s < before.end_s == after.start_s
    stop = round(speech.phonemes[-1].start_s * speech.sample_hz)
    assert np.abs(speech.samples_S[: round(0.2 * speech.sample_hz)]).max() == 0
    if speech.phonemes[-1].symbol == PAUSE:
        after = stop + round(0.1 * speech.sample_hz)  # the last sound decays into the pause
        assert np.abs(speech.samples_S[after:].astype(int)).max(initial=0) == 0
    assert np.abs(speech.samples_S[:stop].astype(int)).max() > 3000


def test_an_unknown_voice_is_refused():
    with pytest.raises(command.UserError, match="no voice"):
        speak("hello", Voice("xx-none+q9", 160, 40, 50), 1.0)


# Mouth shapes


def test_mnemonics_become_targets():
    sounds = articulation.SOUNDS
    assert articulation.targets("aI") == [sounds["a"], sounds["I"]]
    assert articulation.targets("tS") == [sounds["t"], sounds["S"]]
    assert articulation.targets("O2") == [sounds["O"]]
    assert articulation.targets("3:") == [sounds["3"]]
    assert articulation.targets("?!") == [sounds["@"]]


def test_a_long_sound_reaches_its_target():
    track = neutral_track([Phoneme(PAUSE, 0, 0.5), Phoneme("A:", 0.5, 1.5), Phoneme(PAUSE, 1.5, 2)])
    sound = articulation.SOUNDS["A"]
    np.testing.assert_allclose(track.at(np.array([1.0]))[0], [sound.opening, sound.width, sound.rounding], atol=1e-3)
    np.testing.assert_allclose(track.at(np.array([0.1, 1.9]))[:, 0], 0, atol=1e-3)


@pytest.mark.parametrize("lag_ms", [-40.0, 0.0, 80.0])
def test_gain_and_lag_are_applied_exactly(lag_ms):
    times_T = np.linspace(0, 4, 801)
    shapes_TP = np.stack([0.5 + 0.5 * np.sin(times_T), 0.2 * np.cos(times_T), times_T / 4], -1)
    who = Articulation(opening_gain=1.4, width_gain=0.6, lag_ms=lag_ms, asymmetry=0.0)
    at_T = np.linspace(1, 3, 50)
    late_T = at_T - lag_ms / 1000
    wanted_TP = np.stack([1.4 * (0.5 + 0.5 * np.sin(late_T)), 0.6 * 0.2 * np.cos(late_T), late_T / 4], -1)
    np.testing.assert_allclose(articulate(Track(times_T, shapes_TP), who, at_T), wanted_TP, atol=1e-5)


def test_lips_close_at_every_bilabial_of_every_clip(corpus):
    seen = 0
    for record in usable(corpus):
        lag_s, fps = record["articulation"]["lag_ms"] / 1000, record["fps"]
        opening_T = np.array(record["opening"])
        for symbol, start_s, end_s in record["phonemes"]:
            half_s = max(end_s - start_s, articulation.PLATEAU_S) / 2
            low, high = ((start_s + end_s) / 2 + lag_s + side * half_s for side in (-1, 1))
            frames = np.arange(int(np.ceil(low * fps - 1e-6)), int(np.floor(high * fps + 1e-6)) + 1)
            if symbol[0] in articulation.BILABIALS and frames[0] >= 0 and frames[-1] < len(opening_T):
                assert opening_T[frames].min() < 1e-3, (record["path"], symbol, start_s)
                seen += 1
    assert seen >= 2 * PEOPLE


def test_the_drawn_gap_is_the_opening():
    who = person(0, 3)
    for opening in (0.0, 0.3, 1.2):
        edges = mouth.contours(who, opening, 0.1, 0.4)
        middle = len(edges.upper_inner) // 2
        gap = edges.lower_inner[middle, 1] - edges.upper_inner[middle, 1]
        assert gap == pytest.approx(opening * mouth.WIDEST * 2 * who.mouth_half_width)
        assert (edges.upper_outer[:, 1] <= edges.upper_inner[:, 1]).all()
        assert (edges.lower_outer[:, 1] >= edges.lower_inner[:, 1]).all()


def test_people_differ_in_how_they_articulate_look_and_sound():
    people = [person(0, identity) for identity in range(12)]
    gains = np.array([who.articulation.opening_gain for who in people])
    lags_ms = np.array([who.articulation.lag_ms for who in people])
    assert gains.min() < 0.8
    assert gains.max() > 1.3
    assert lags_ms.max() - lags_ms.min() > 80
    assert len({who.articulation for who in people}) == len({who.skin for who in people}) == 12
    assert len({who.voice for who in people}) == 12
    assert abs(np.corrcoef(gains, lags_ms)[0, 1]) < 0.7


def test_the_head_moves_whatever_is_said():
    """Two clips of one person with the same words would move differently: poses have their own randomness."""
    one = perform(0, 1, 0, 2.0, 25)
    assert one.poses_T == perform(0, 1, 0, 2.0, 25).poses_T
    assert one.poses_T != perform(0, 1, 1, 2.0, 25).poses_T
    shut = dataclasses.replace(one, shapes_TP=np.zeros_like(one.shapes_TP))
    frames = [next(pictures(0, 1, which, 128)) for which in (one, shut)]
    assert frames[0].shape == (128, 128, 3)


# The command


def test_the_same_arguments_give_the_same_truth_and_pictures(corpus, tmp_path):
    """Other files beside them, another number of workers and another order change no clip either."""
    assert demo(tmp_path, "--no-broken", "--workers", "1") == 0
    lines = (corpus / "truth.jsonl").read_bytes().splitlines()
    again = (tmp_path / "truth.jsonl").read_bytes().splitlines()
    assert again == lines[:PEOPLE]
    for line in again:
        one, two = (frames_of(out / json.loads(line)["path"]) for out in (corpus, tmp_path))
        np.testing.assert_array_equal(one, two)


def test_another_seed_gives_other_people_and_words():
    one, two = perform(5, 0, 0, 2.0, 25), perform(6, 0, 0, 2.0, 25)
    assert one.speech.text != two.speech.text
    assert one.who != two.who
    assert perform(5, 0, 1, 2.0, 25).speech.text != one.speech.text


def test_no_two_clips_say_the_same():
    texts = {sentences.compose(np.random.default_rng([7, clip]), 1) for clip in range(500)}
    assert len(texts) == 500


def test_every_usable_clip_decodes_at_its_rate_with_audio(corpus):
    paths = {record["path"] for record in usable(corpus)}
    assert paths == {"p000/c00.mp4", "p001/c00.mp4", "p002/c00.mp4", "p000/c_30fps.mp4"}
    for record in usable(corpus):
        fps = 30 if "30fps" in record["path"] else 25
        with av.open(str(corpus / record["path"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec.name, video.pix_fmt, video.average_rate) == ("h264", "yuv420p", fps)
            assert (video.width, video.height) == (512, 512)
            assert audio.codec.name == "aac"
            shown = [frame.time for frame in container.decode(video)]
            container.seek(0)
            heard = sum(frame.samples for frame in container.decode(audio)) / audio.rate
        np.testing.assert_allclose(shown, np.arange(len(shown)) / fps, atol=1e-4)
        assert len(shown) == record["frames"] == len(record["opening"]) == round(SECONDS * fps)
        assert heard == pytest.approx(SECONDS, abs=0.1)
        assert record["fps"] == fps
        assert record["identity"] == Path(record["path"]).parent.name


def test_broken_files_fail_as_they_claim(corpus):
    broken = {record["reason"]: corpus / record["path"] for record in truth_of(corpus) if not record["usable"]}
    assert set(broken) == set(drawn.BROKEN)
    for reason in ("truncated", "not_a_video"):
        with pytest.raises(av.error.InvalidDataError):
            av.open(str(broken[reason]))
    with av.open(str(broken["no_audio"])) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    with av.open(str(broken["no_face"])) as container:
        assert container.streams.audio
    assert found_faces.count(broken["no_face"]) == (FRAMES // found_faces.EVERY, 0)


def test_the_detector_finds_the_faces_and_follows_the_mouths(corpus):
    detector = FaceDetector()
    for record in usable(corpus):
        track = find_faces(frames_of(corpus / record["path"]), detector)
        assert track.found_T.all()
        opening_T, true_T = landmarks.opening(track.landmarks_TN3), np.array(record["opening"])
        assert np.corrcoef(opening_T, true_T)[0, 1] > 0.95
        apart = [np.corrcoef(np.roll(opening_T, -k)[3:-3], true_T[3:-3])[0, 1] for k in (-2, -1, 0, 1, 2)]
        assert int(np.argmax(apart)) == 2  # neither early nor late by a frame
        slope = np.polyfit(true_T * record["opening_1_px"], opening_T, 1)[0]
        assert 0.7 < slope < 1.3


def test_figures_are_measured_and_stored(corpus):
    described = json.loads((corpus / "corpus.json").read_text())
    assert described["drawing"]["frames"] == PEOPLE * FRAMES + round(SECONDS * 30)
    assert described["drawing"]["frames_per_cpu_s"] > 0
    assert described["faces"]["found"] == described["faces"]["frames"] > 0


def test_resuming_redoes_only_what_is_missing(copy):
    before = {path: (digest(path), path.stat().st_mtime_ns) for path in copy.rglob("*.mp4")}
    truth = digest(copy / "truth.jsonl")
    lost = copy / "p001" / "c00.mp4"
    lost.unlink()
    (copy / "truth.jsonl").unlink()
    (copy / "p001" / f"{atomic.TEMPORARY}1-c01.mp4").write_bytes(b"half a file")
    assert demo(copy, "--workers", "1") == 0
    assert digest(copy / "truth.jsonl") == truth
    for path, (content, changed) in before.items():
        assert digest(path) == content
        assert (path.stat().st_mtime_ns != changed) == (path == lost)
    assert not list(copy.rglob(f"{atomic.TEMPORARY}*"))


def test_a_finished_corpus_is_left_alone_at_once(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    began = time.monotonic()
    assert demo(copy) == 0
    assert time.monotonic() - began < 2
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}


def refused(capsys, out: Path, *more: str) -> str:
    """The one line with which the command refuses."""
    assert demo(out, *more) == command.EXIT_NOT_DONE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_other_arguments_in_an_existing_corpus_are_refused(copy, capsys):
    assert "seed 5" in refused(capsys, copy, "--seed", "6")
    assert "broken True" in refused(capsys, copy, "--no-broken")
    assert demo(copy, "--workers", "1") == 0


def test_the_version_is_in_every_record_and_a_corpus_of_another_is_refused(copy, capsys):
    described = json.loads((copy / "corpus.json").read_text())
    assert described["arguments"]["version"] == drawn.VERSION
    assert {record["corpus"] for record in truth_of(copy)} == {f"drawn-v{drawn.VERSION}"}
    described["arguments"]["version"] = 1
    atomic.write_json(copy / "corpus.json", described)
    assert f"another version than drawn-v{drawn.VERSION}; remove" in refused(capsys, copy)


def test_what_cannot_be_written_or_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "folder" in refused(capsys, tmp_path / "file" / "corpus")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("")
    assert "no corpus.json" in refused(capsys, tmp_path / "other")
    assert "--size" in refused(capsys, tmp_path / "odd", "--size", "511")
    assert "--identities" in refused(capsys, tmp_path / "none", "--identities", "0")


def test_a_failure_in_a_worker_is_one_line(tmp_path, capsys):
    out = tmp_path / "corpus"
    out.mkdir()
    atomic.write_json(out / "corpus.json", {"arguments": vars(drawn.Corpus(PEOPLE, 1, 5, SECONDS, 512, True))})
    (out / "p001").write_text("a file where a worker needs a folder")
    assert "p001" in refused(capsys, out, "--workers", "1")
