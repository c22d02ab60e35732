"""Copies are found through re-encoding, scaling, mirroring and trimming, across corpora, and nothing else is."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.talkers import base_face, clip, outlined, pictures, sample, write_shards
from data_pipeline.annotate import candidates, command, duplicates, fingerprints
from data_pipeline.annotate.annotation import Options
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.split import command as split
from data_pipeline.tasks.runner import Runner
from mytalk import media
from mytalk.face.landmarks import CROP_PX, SAMPLE_HZ, SAMPLES_PER_FRAME

FRAMES, TRIM = 90, 23


def speechlike(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Harmonics that glide, in syllables."""
    random, count = np.random.default_rng(seed), round(seconds * SAMPLE_HZ)
    knots = int(seconds * 5) + 2
    pitch_S = np.interp(np.arange(count), np.linspace(0, count, knots), random.uniform(90, 260, knots))
    loud_S = np.interp(np.arange(count), np.linspace(0, count, 2 * knots), random.random(2 * knots) ** 2)
    phase_S = 2 * np.pi * np.cumsum(pitch_S) / SAMPLE_HZ
    return 0.2 * loud_S * sum(np.sin(k * phase_S) * random.uniform(0.2, 1) for k in range(1, 15)) / 4


@pytest.mark.parametrize("seed", range(3))
def test_a_trimmed_noisy_sound_is_the_same_and_others_are_not(seed):
    audio_S = speechlike(seed)
    random = np.random.default_rng(seed)
    trimmed_S = 0.4 * audio_S[9001:-4000] + random.normal(0, 0.002, len(audio_S) - 13001)
    count, share = fingerprints.alike_sound(*fingerprints.sound(audio_S), *fingerprints.sound(trimmed_S))
    assert count > 30
    assert share > 0.25
    for other in (speechlike(seed + 10), random.normal(0, 0.1, len(audio_S))):
        count, share = fingerprints.alike_sound(*fingerprints.sound(audio_S), *fingerprints.sound(other))
        assert share < 0.04, count
    for silence in (np.zeros(SAMPLE_HZ), np.zeros(10)):
        assert fingerprints.alike_sound(*fingerprints.sound(silence), *fingerprints.sound(audio_S)) == (0, 0.0)


def drawn_prints(random: np.random.Generator, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of voices so alike that most clips have each of them, and their times: (clips, P)."""
    anchors, after = 150, 4
    time = np.sort(random.integers(0, 250, (clips, anchors)), axis=1)
    first, second, apart = (random.integers(0, high, (clips, anchors, after)) for high in (14, 14, 30))
    first[:] = first[..., :1]
    hashes = (first + 20) << 16 | (second + 20) << 8 | (apart + 1)
    return hashes.reshape(clips, -1).astype(np.uint32), np.repeat(time, after, axis=1).astype(np.uint16)


@pytest.mark.parametrize("clips", [600, pytest.param(10_000, marks=pytest.mark.full)])
def test_of_many_clips_with_the_same_hashes_copies_are_candidates_and_hardly_any_other(clips, monkeypatch):
    """A third of the hashes of a copy is lost, and it begins 61 hops later; in memory are blocks."""
    monkeypatch.setattr(candidates, "BLOCK", 1 << 18 if clips < 1000 else candidates.BLOCK)
    random, copies = np.random.default_rng(0), 40
    hash_nP, time_nP = drawn_prints(random, clips)
    lists = [*hash_nP], [*time_nP]
    for number in range(copies):
        kept = (random.random(hash_nP.shape[1]) < 2 / 3) & (time_nP[number] >= 61)
        lists[0].append(hash_nP[number, kept])
        lists[1].append(time_nP[number, kept] - 61)
    start_n = np.cumsum([0, *map(len, lists[0])])
    tracemalloc.start()
    hash_P, time_P = map(np.concatenate, lists)
    found = candidates.by_sound(hash_P, time_P, start_n, np.arange(len(start_n) - 1), duplicates.CANDIDATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pairs = {*map(tuple, found.tolist())}
    assert {(number, clips + number) for number in range(copies)} <= pairs
    assert len(pairs) < copies + 5 * clips
    assert peak < 150_000 * clips
    apart = np.isin(np.arange(len(start_n) - 1) % clips, range(copies))
    none = candidates.by_sound(hash_P, time_P, start_n, np.where(apart, 0, 1), duplicates.CANDIDATE)
    assert not {*map(tuple, none.tolist())} & {(number, clips + number) for number in range(copies)}, "of one source"


def test_without_sound_or_pictures_there_are_no_candidates():
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint16), np.zeros(4, np.int64), np.arange(3)
    assert candidates.by_sound(*nothing, 1).shape == (0, 2)
    assert candidates.sharing([], np.arange(3), 1).shape == (0, 2)


def test_movement_is_found_at_its_shift():
    random = np.random.default_rng(0)
    one_T3, other_T3 = (np.cumsum(random.normal(size=(100, 3)), axis=0) for _ in range(2))
    assert fingerprints.alike_movement(one_T3, one_T3[17:90] + 5, 36) > 0.999
    assert fingerprints.alike_movement(one_T3[17:90], one_T3, 36) > 0.999
    assert fingerprints.alike_movement(one_T3, other_T3, 50) < 0.7
    assert fingerprints.alike_movement(one_T3[:20], other_T3, 25) == -1


def again(pixels_THW3: np.ndarray, mirror: bool = False, side_px: int = CROP_PX, crf: str = "18") -> bytes:
    """The pictures through a smaller size, a mirror and a stronger codec."""
    small = [cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA) for picture in pixels_THW3]
    large = np.stack([cv2.resize(picture, (CROP_PX, CROP_PX)) for picture in small])
    return media.encode_frames(large[:, :, ::-1] if mirror else large, codec={"crf": crf})


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """Of four recordings, the last without sound: each as it is, and in another corpus mirrored or trimmed."""

    def samples():
        for number in range(4):
            random, face_N3 = np.random.default_rng(number), outlined(base_face(np.random.default_rng([9, number])))
            landmarks_TN3, _ = clip(random, face_N3, 14.0, FRAMES)
            audio_S = speechlike(number, FRAMES / 25) * (number < 3)
            pixels_THW3 = pictures(landmarks_TN3, np.random.default_rng([8, number]))
            yield sample(
                "", "a", f"a/p{number}", f"a{number}", landmarks_TN3, audio_S, media.encode_frames(pixels_THW3)
            )
            noise_S = random.normal(0, 0.003, len(audio_S)) * (number < 3)
            jittered_TN3 = landmarks_TN3 + random.normal(0, 0.3, landmarks_TN3.shape)
            if number % 2:
                mirrored_TN3 = jittered_TN3 * [-1, 1, 1] + [CROP_PX - 1, 0, 0]
                video = again(pixels_THW3, mirror=True, side_px=150, crf="30")
                yield sample("", "b", f"b/q{number}", f"b{number}", mirrored_TN3, 0.5 * (audio_S + noise_S), video)
            if number % 2 == 0 or number == 3:
                cut = TRIM * SAMPLES_PER_FRAME
                video = again(pixels_THW3[TRIM:], crf="32")
                heard_S = (audio_S + noise_S)[cut:]
                yield sample("", "c", f"c/r{number}", f"c{number}", jittered_TN3[TRIM:], heard_S, video)

    folder = tmp_path_factory.mktemp("copied")
    write_shards(folder, samples(), 3, "this test")
    return folder


def test_copies_are_one_group_across_corpora_and_nothing_else(copied):
    lines = command.annotate(copied, "duplicates", Options(), Runner(0))
    manifest = Manifest.load(copied)
    groups: dict[str, set[str]] = {}
    for key, group in zip(manifest.column("key"), manifest.column("copy_group")):
        groups.setdefault(group, set()).add(key)
    expected = [{"a0", "c0"}, {"a1", "b1"}, {"a2", "c2"}, {"a3", "b3", "c3"}]
    assert groups == {f"copy:a{number}": keys for number, keys in enumerate(expected)}
    assert lines[0].startswith("copies   9 clips in 4 groups, ")


def test_a_group_in_two_splits_is_told_and_asks_for_another_split(copied, tmp_path):
    folder = shutil.copytree(copied, tmp_path / "shards")
    shutil.rmtree(folder / "annotations", ignore_errors=True)
    made = Manifest.load(folder)
    if made.has("copy_group"):
        header = {name: value for name, value in made.header.items() if name != "annotations"}
        manifest_update.save(folder, made.table.drop_columns(["copy_group"]), header)
    (folder / "list.txt").write_text("b1\n")
    typed = [str(folder), "--list", f"unseen={folder / 'list.txt'}", "--val", "0.3", "--unseen", "0.3"]
    assert split.run(split.arguments().parse_args(typed)) == 0
    lines = command.annotate(folder, "duplicates", Options(), Runner(0))
    assert any("groups of copy_group lie in two splits; assign people again" in line for line in lines)
    assert split.run(split.arguments().parse_args([*typed, "--force"])) == 0
    manifest = Manifest.load(folder)
    assert manifest.header["split"]["joined"] == ["copy_group"]
    pairs = {*zip(manifest.column("copy_group"), manifest.column("split"))}
    assert len(pairs) == 4
    assert ("copy:a1", "unseen") in pairs
