"""The drawn benchmark: what each axis changes, that it changes nothing else, and that the definition is frozen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.__main__ import COMMANDS
from data_pipeline.extract.corpora import drawn
from data_pipeline.extract.listing import walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.synthetic.heldout import axes, clip, command, recording
from data_pipeline.synthetic.heldout.axes import CORPORA, Axes
from data_pipeline.synthetic.person import ACCENTS, HIGH_VOICES, LOW_VOICES
from mytalk import command as commands
from tests.helpers import needs

NUMBER, SIZE, SECONDS = (5, 2, 1), 256, 1.2


@pytest.fixture(scope="module")
def performed() -> dict:
    return {name: clip.perform(*NUMBER, SECONDS, along) for name, along in CORPORA.items()}


def test_each_axis_leaves_the_range_of_the_drawn_corpus_and_the_others_stay(performed) -> None:
    plain = performed["new-people"]
    for name, one in performed.items():
        along = CORPORA[name]
        assert (one.who.articulation != plain.who.articulation) == along.kinematics, name
        assert (one.who.voice != plain.who.voice) == along.voice, name
        assert (one.poses_T != plain.poses_T) == along.pose, name
    for identity in range(16):
        who = axes.cast(1, identity, Axes(True, True, True, True, True))
        gain, lag_ms = who.articulation.opening_gain, who.articulation.lag_ms
        assert gain > 1.5 or gain < 0.6
        assert lag_ms > 80 or lag_ms < -40
        language, _, variant = who.voice.name.partition("+")
        assert not any(language == accent.split("-")[0] for accent in ACCENTS)
        assert variant not in (*HIGH_VOICES, *LOW_VOICES)
    yaw = np.abs([pose.yaw for pose in performed["ood-pose"].poses_T])
    assert yaw.max() <= 40
    assert abs(np.mean(yaw) - np.mean([abs(p.yaw) for p in plain.poses_T])) > 3


def test_a_poor_recording_keeps_the_length_and_lies_at_the_noise_asked_for() -> None:
    hz, random = 22_050, np.random.default_rng(0)
    tone_S = (8000 * np.sin(2 * np.pi * 220 * np.arange(hz) / hz)).astype(np.int16)
    heard_S = recording.in_a_room(tone_S, hz, random)
    assert (len(heard_S), heard_S.dtype) == (hz, np.int16)
    power = np.abs(np.fft.rfft(heard_S[hz // 2 :].astype(float))) ** 2
    share_db = 10 * np.log10(power[105:116].sum() / (power.sum() - power[105:116].sum()))
    assert 8 < share_db < 20
    grey = recording.filmed_poorly(np.full((200, 200, 3), 100, np.uint8), random)
    assert grey.mean() == pytest.approx(100 * recording.DIM, abs=0.7)
    assert grey[..., 0].std() == pytest.approx(recording.GRAIN, rel=0.05)


def test_the_second_renderer_draws_the_opening_that_its_truth_says(performed) -> None:
    """In a head that looks ahead the dark between the lips is as high as the truth's gap."""
    from data_pipeline.synthetic.movement import FRONTAL

    drawn_by = clip.face(5, 2, 512, Axes(renderer=True))
    first = clip.face(5, 2, 512, Axes())
    shape = np.array([0.8, 0.0, 0.0])
    (lips_62,) = drawn_by.lips(shape[None], [FRONTAL])
    upper_y, lower_y = lips_62[3, 1], lips_62[4, 1]
    assert lower_y - upper_y == pytest.approx(drawn_by.edges(shape).gap, rel=0.05)
    column = drawn_by.frame(shape, FRONTAL)[int(upper_y) - 25 : int(lower_y) + 25, 256].astype(int)
    changed = np.flatnonzero(
        np.abs(column - drawn_by.frame(np.zeros(3), FRONTAL)[int(upper_y) - 25 : int(lower_y) + 25, 256]).sum(1) > 60
    )
    assert len(changed) > 0.6 * (lower_y - upper_y)
    assert not np.allclose(lips_62, first.lips(shape[None], [FRONTAL])[0], atol=2)


@needs.packages("mediapipe", extras="landmarks")
@pytest.mark.parametrize("name", ["ood-renderer", "ood-all"])
def test_the_detector_finds_the_held_out_faces_and_reads_their_mouths(name) -> None:
    from mytalk.face.landmarks import opening
    from mytalk.face.mediapipe_mesh import FaceDetector
    from mytalk.face.track import find_faces

    along, number = CORPORA[name], (20, 0, 0)
    done = clip.perform(*number, SECONDS, along)
    frames = (picture[..., ::-1] for picture in clip.pictures(number, done, SIZE, along))
    track = find_faces((np.ascontiguousarray(frame) for frame in frames), FaceDetector())
    assert track.found_T.mean() > 0.95
    true_T = np.array(clip.truth(number, done, SIZE, along)["opening_px"])
    assert np.corrcoef(opening(track.landmarks_TN3), true_T)[0, 1] > 0.8


def test_the_command_draws_a_part_and_its_truth_is_frozen(tmp_path: Path, capsys) -> None:
    words = ["heldout", str(tmp_path), "--people", "1", "--clips", "1", "--seconds", "1", "--workers", "1"]
    words += ["--corpora", "new-people", "ood-all"]
    assert commands.main("python -m data_pipeline", "", COMMANDS, words) == 0
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [line["corpus"] for line in lines] == ["new-people", "ood-all"]
    assert all((tmp_path / line["path"]).stat().st_size > 1000 for line in lines)
    assert f"a part of {command.NAME}" in capsys.readouterr().out
    said = json.dumps([[line["text"], line["voice"], line["articulation"]] for line in lines], sort_keys=True)
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "9e6abc2895249c95", (
        f"another benchmark than {command.NAME}"
    )
    for line in lines:
        path = line["path"].removeprefix(f"{line['corpus']}/")
        (video,) = drawn.videos(Tree(tmp_path / line["corpus"], walk.walk(tmp_path / line["corpus"])))
        times = [time for time in str(video.facts["bilabials"]).split(" ") if time]
        spoken = [f"{start:.3f}-{stop:.3f}" for symbol, start, stop in line["phonemes"] if symbol[0] in "pbm"]
        assert times == spoken, "extract --layout drawn reads it"
        assert (tmp_path / line["corpus"] / path).is_file()
        assert video.person == line["identity"]
    assert any(symbol[0] in "pbm" for line in lines for symbol, _, _ in line["phonemes"]), "the case is met"
    assert commands.main("python -m data_pipeline", "", COMMANDS, [*words[:3], "2", *words[4:]]) == 1
    assert "was drawn with other options" in capsys.readouterr().err
    assert (command.PEOPLE, command.CLIPS, command.SECONDS, command.SEED) == (40, 2, 5.0, 20_261_127)


def test_people_after_the_benchmarks_are_drawn_for_a_judge_and_are_nobody_of_it(tmp_path: Path, capsys) -> None:
    words = ["heldout", str(tmp_path), "--people", "1", "--clips", "1", "--seconds", "1", "--workers", "1"]
    words += ["--corpora", "ood-renderer", "--first", str(command.PEOPLE)]
    assert commands.main("python -m data_pipeline", "", COMMANDS, words) == 0
    (line,) = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert line["identity"] == f"ood-renderer-p{command.PEOPLE:03d}"
    assert f"people who are not in {command.NAME}" in capsys.readouterr().out
