"""The commands `dub` and `motion`, with the real detector and painter, on a drawn person."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mytalk import media
from mytalk.__main__ import COMMANDS
from mytalk.command import EXIT_INTERRUPTED, main
from mytalk.control import motion_file
from mytalk.control.motion_file import Keyframes
from mytalk.dub.commands import dub as dub_command
from mytalk.face.landmarks import NOISED
from mytalk.networks.motion.network import MotionModel
from tests.helpers import needs
from tests.helpers.checkout import ROOT, stopped
from tests.helpers.stand_ins import TINY


@pytest.fixture(scope="module")
def models_on_disk(tmp_path_factory) -> Path:
    """A folder with the smallest models, untrained."""
    from mytalk.networks.appearance import files as appearance_files
    from mytalk.networks.appearance.config import AppearanceConfig
    from mytalk.networks.appearance.generator import Generator
    from mytalk.networks.motion import files as motion_files

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    motion_files.save_model(MotionModel(TINY).state_dict(), TINY, folder / "motion")
    config = AppearanceConfig(size_px=64, channels=(8, 16), blocks=(1, 1), heads=2, discriminator_channels=8)
    appearance_files.save_model(Generator(config).state_dict(), config, folder / "appearance")
    return folder


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    """Two seconds of a drawn person who speaks, at 30 fps."""
    from data_pipeline.synthetic import command as drawn

    folder, name = tmp_path_factory.mktemp("person"), "p000/c00.mp4"
    (folder / name).parent.mkdir()
    corpus = drawn.Corpus(identities=1, clips_per_identity=1, seed=3, seconds=2, size=256, broken=False)
    drawn.draw(folder, corpus, drawn.DrawnClip(name, 0, 0, fps=30))
    return folder / name


def typed(person: Path, out: Path, models_on_disk: Path, *more: str) -> list[str]:
    folders = ["--motion", str(models_on_disk / "motion")]
    if "--appearance" not in more:  # which may be repeated
        folders += ["--appearance", str(models_on_disk / "appearance")]
    return ["-m", "mytalk", "dub", str(person), str(person), "-o", str(out), *folders, "--steps", "2", *more]


@needs.drawn_people
def test_the_command_dubs_a_drawn_person(command, person, models_on_disk, tmp_path):
    out = tmp_path / "new" / "o.mp4"
    done = command(*typed(person, out, models_on_disk))
    assert done.returncode == 0, done.stderr
    assert "60 frames dubbed, 0 without a face left as they are; marked as synthetic" in done.stdout
    assert "in its metadata; took " in done.stdout
    assert "find the faces 60/60 100%" in done.stderr
    assert "paint 60/60 100%" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["o.mp4"]
    before, after = (np.stack(list(media.read_frames(path, 30))).astype(float) for path in (person, out))
    assert before.shape == after.shape
    away_HW = np.abs(before - after).mean(axis=(0, 3))
    assert away_HW[:100].mean() < 3  # the codec's
    assert away_HW[130:230].max() > 40  # an untrained painter's
    heard, said = media.read_audio(out), media.read_audio(person)
    assert np.corrcoef(heard[:31_000], said[:31_000])[0, 1] > 0.95
    assert "synthetic" in media.read_tags(out)["comment"]


@needs.drawn_people
def test_motion_is_written_as_a_file_edited_and_held(person, models_on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own process keeps its signals
    first, second, overlay = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "a.mp4"
    files = [str(person), str(person), "--motion", str(models_on_disk / "motion"), "--steps", "1"]
    assert main("mytalk", "", COMMANDS, ["motion", *files, "-o", str(first), "--overlay", str(overlay)]) == 0
    written = motion_file.read(first)
    assert written.frames_M.tolist() == list(range(60))
    before, after = (np.stack(list(media.read_frames(path, 30))).astype(float) for path in (person, overlay))
    x, y = written.landmarks_MN3[30, 13, :2].round().astype(int)
    assert np.abs(before - after)[30, y - 2 : y + 3, x - 2 : x + 3].max() > 60
    assert "synthetic" in media.read_tags(overlay)["comment"]
    edited = written.landmarks_MN3[[20, 30]]
    edited[:, NOISED, 1] += 5
    motion_file.write(tmp_path / "edited.npz", Keyframes(np.array([20, 30]), edited, 30.0))
    more = ["--keyframes", str(tmp_path / "edited.npz"), "--still", "--close-lips", "phones", "--amplitude", "0.9"]
    assert main("mytalk", "", COMMANDS, ["motion", *files, "-o", str(second), *more]) == 0
    held = motion_file.read(second).landmarks_MN3
    np.testing.assert_allclose(held[[20, 30]][:, NOISED, :2], edited[:, NOISED, :2], atol=0.05)


@needs.drawn_people
def test_the_command_says_in_one_line_what_is_wrong(person, models_on_disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own process keeps its signals
    swapped = shutil.copytree(models_on_disk, tmp_path / "models")
    config, painter = (swapped / name / "config.json" for name in ("motion", "appearance"))
    config.write_text(config.read_text().replace('"hidden": 32', '"hidden": 64'))
    assert "16" in painter.read_text()
    painter.write_text(painter.read_text().replace("16", "24"))
    whole = ("--motion", str(models_on_disk / "motion"))
    both = (*whole, "--appearance", str(models_on_disk / "appearance"))
    out = tmp_path / "o.mp4"
    for more, said in (
        ((), "do not fit its config"),
        (whole, "appearance do not fit its config"),
        ((*whole, "--appearance", str(models_on_disk / "motion")), "not an appearance model"),
        (("--motion", str(tmp_path / "none")), "train one with: python -m train motion"),
        ((*both, "--guidance", "2"), "was trained without speech_dropout; leave it out"),
        (("--steps", "0"), "steps must be 1 or more"),
        (("--amplitude", "0"), "must be above 0"),
        (("--close-lips", str(config)), "are to be numbers of seconds"),
        (("--keyframes", str(config)), "is no motion file"),
        (("--reference", "a", "--motion-source", "b", "--appearance-source", "c"), "leave one of the three out"),
        (("--reference", str(out)), "is read and cannot be written"),
    ):
        code = main("mytalk", "", COMMANDS, typed(person, out, swapped, *more)[2:])
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 1
        assert said in line
        assert [path.name for path in tmp_path.iterdir()] == ["models"]


@needs.drawn_people
def test_a_command_stopped_while_it_paints_leaves_nothing(person, models_on_disk, tmp_path):
    code, said = stopped(typed(person, tmp_path / "o.mp4", models_on_disk), lambda: any(tmp_path.iterdir()))
    assert code == EXIT_INTERRUPTED, said
    assert "interrupted; nothing was written; the same command starts anew" in said
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_has_an_example(tmp_path):
    """Nothing heavy is imported for it."""
    heavy = "import sys; from mytalk.dub.commands.dub import arguments; arguments().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "mediapipe", "cv2"} & set(done.stdout.split())
    assert "python -m mytalk dub actor.mp4 speech.wav -o dubbed.mp4" in dub_command.arguments().format_help()
