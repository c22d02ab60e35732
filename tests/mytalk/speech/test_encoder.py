"""Learnt features lie in time where the sound is, at every length; only safetensors and known sizes are read."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from mytalk.command import UserError, one_line
from mytalk.speech import encoder, encoder_folder
from tests.helpers import encoders

pytest.importorskip("transformers", reason="needs the extra speech")
BURST = 64  # samples


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny encoder of every kind."""
    return {kind: encoders.write(tmp_path_factory.mktemp(kind), kind) for kind in encoders.KINDS}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.mark.parametrize(("kind", "layer"), [("wav2vec2", "conv"), ("xlsr", 1), ("hubert", 2), ("whisper", "")])
def test_a_click_changes_the_features_of_its_moment_at_every_length(folders, kind, layer):
    """Its 20 ms vector that changes most is centred within half a frame of it, and in the mean on it."""
    hears, random, off = encoder.load(folders[kind], layer), np.random.default_rng(1), []
    for less in range(0, 640, 9):
        samples = 12 * 640 - less
        at = int(random.integers(samples - 480))
        one_S, click_S = noise(samples), 0.7 * random.standard_normal(BURST).astype(np.float32)
        other_S = one_S.copy()
        one_S[at : at + BURST], other_S[at : at + BURST] = click_S, -click_S
        one_TD, other_TD = (hears(sound_S).astype(np.float32) for sound_S in (one_S, other_S))
        assert one_TD.shape == (12, hears.width)
        change_V = np.square(one_TD - other_TD).reshape(24, -1).sum(1)[: samples // 320]
        off.append(320 * int(change_V.argmax()) + 160 - (at + BURST / 2))
    assert np.abs(off).max() <= 320 + BURST / 2
    assert abs(np.mean(off)) < 80, "a shift of a quarter of a frame would be 160"


def test_features_do_not_depend_on_where_a_long_sound_is_cut(folders, monkeypatch):
    """In windows as in one piece: exactly where the convolutions see no further than the context."""
    described = encoder_folder.describe(folders["xlsr"])
    described = replace(described, normalised=False)
    sound_S = noise(90 * 640 - 100)
    whole_TD = encoder.SpeechEncoder(described)(sound_S)
    monkeypatch.setattr(encoder, "WINDOW_FRAMES", 32)
    pieces_TD = encoder.SpeechEncoder(described)(sound_S)
    np.testing.assert_allclose(pieces_TD.astype(np.float32), whole_TD.astype(np.float32), atol=2e-3)
    whisper = encoder.load(folders["whisper"])
    assert whisper(noise(110 * 640)).shape == (110, whisper.width), "more than it hears at once"
    assert encoder.load(folders["whisper"])(np.zeros(0, np.float32)).shape == (0, whisper.width)


def test_transformers_gives_the_same_hidden_layer(folders):
    """Our reading of the weights against transformers' own, on the same padded wave."""
    from transformers import HubertModel

    theirs, ours = HubertModel.from_pretrained(folders["hubert"]).eval(), encoder.load(folders["hubert"], 2)
    sound_S = noise(5 * 640)
    with torch.no_grad():
        padded_S = np.pad((sound_S - sound_S.mean()) / sound_S.std(), 40)
        expected_VD = theirs(torch.from_numpy(padded_S)[None]).last_hidden_state[0]
        expected_TD = torch.nn.functional.layer_norm(expected_VD, expected_VD.shape[1:]).reshape(5, -1)
    np.testing.assert_allclose(ours(sound_S).astype(np.float32), expected_TD.numpy(), atol=5e-3)


def test_another_encoder_has_another_digest(folders, tmp_path):
    copied = shutil.copytree(folders["wav2vec2"], tmp_path / "a")
    same = encoder_folder.describe(copied)
    assert same.made_by == encoder_folder.describe(folders["wav2vec2"]).made_by, "wherever it lies"
    assert same.made_by != encoder_folder.describe(copied, 1).made_by
    (copied / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert encoder_folder.describe(copied).digest != same.digest


def test_weights_of_older_names_and_in_several_files_are_read(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    expected = encoder.load(folders["xlsr"], 1)(noise(1280))
    state = load_file(folders["xlsr"] / "model.safetensors")
    older = {name.replace("parametrizations.weight.original", "weight_"): value for name, value in state.items()}
    older = {name.replace("weight_0", "weight_g").replace("weight_1", "weight_v"): v for name, v in older.items()}
    names = sorted(older)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in halves.items():
        save_file({name: older[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in halves.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(folders["xlsr"] / "config.json", tmp_path)
    assert np.array_equal(encoder.load(tmp_path, 1)(noise(1280)), expected)


def test_what_is_no_encoder_is_refused_in_one_line(folders, tmp_path, monkeypatch):
    def refused(folder, said: str, layer: str = "") -> None:
        with pytest.raises(UserError, match=said) as caught:
            encoder.load(folder, layer)
        assert "\n" not in str(caught.value)

    refused(tmp_path, "config.json is missing")
    refused("nowhere", "no folder nowhere, and it is neither whisper-tiny.en nor a hub id")
    refused(folders["wav2vec2"], "layer 3 is not there: this encoder has conv or 1 to 2", "3")
    refused(folders["whisper"], "layer conv is not there: this encoder has 1 to 2", "conv")
    broken = shutil.copytree(folders["wav2vec2"], tmp_path / "broken")
    settings = json.loads((broken / "config.json").read_text())

    def with_settings(**changed) -> None:
        (broken / "config.json").write_text(json.dumps({**settings, **changed}))

    with_settings(hidden_size=24)
    refused(broken, "the weights do not fit config.json", "1")
    with_settings(num_hidden_layers=4)
    refused(broken, "weights are missing, as encoder.layers.2", "4")
    with_settings(conv_stride=[5, 2, 2, 2, 2, 2, 3])
    refused(broken, "480 samples apart, which do not fit")
    with_settings(model_type="bert", auto_map={"AutoModel": "evil.Model"})
    refused(broken, "model_type 'bert'; known are wav2vec2, hubert, whisper")
    with_settings(conv_stride="wide")
    refused(broken, "is no encoder's")
    with_settings()
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    refused(broken, "the weights do not fit")
    weights.rename(broken / "pytorch_model.bin")
    refused(broken, "holds no whole model.safetensors, and pickled weights are not read")

    def download(name, revision, allow_patterns):
        assert (name, revision) == ("some/xlsr", "refs/pr/1")
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        return str(folders["xlsr"])

    module = "transformers.models.hubert.configuration_hubert"
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, module, None)
        with pytest.raises(ModuleNotFoundError) as caught:
            encoder_folder.describe(folders["hubert"])
    assert "install it with: pip install -c constraints.txt -e '.[speech]'" in one_line(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=download))
    assert encoder_folder.describe("some/xlsr@refs/pr/1").kind == "wav2vec2"
    refused("other/one", "other/one cannot be downloaded")


def test_a_whisper_of_ctranslate2_hears_as_transformers_own(tmp_path):
    theirs = encoders.write(tmp_path / "theirs", "whisper", d_model=128)
    sound_S = noise(30 * 640 - 200)
    for kind, off in ((torch.float32, 0), (torch.float16, 0.02)):
        folder = encoders.write_ctranslate2(tmp_path / str(kind), theirs, kind)
        for layer in (1, 2):
            ours, expected = encoder.load(folder, layer), encoder.load(theirs, layer)(sound_S)
            np.testing.assert_allclose(ours(sound_S).astype(np.float32), expected.astype(np.float32), atol=off)
    with pytest.raises(UserError, match="layer 3 is not there: this encoder has 1 to 2"):
        encoder.load(folder, 3)
    (folder / "config.json").write_text("{}")  # tokens of its decoder, which is not heard
    assert encoder_folder.describe(folder, 2).made_by == ours.made_by

    weights = folder / "model.bin"
    whole, said = weights.read_bytes(), "no file of CTranslate2 that is known"
    sizes = whole.index(b"encoder/conv1/bias") + len(b"encoder/conv1/bias\0\x01")
    quantised = encoders.write_ctranslate2(tmp_path / "int8", theirs, torch.int8) / "model.bin"
    for damaged, why in (
        (whole[:-9], said),
        (whole[:50], said),
        (b"\x63" + whole[1:], f"{said}: version 99"),
        (whole[:sizes] + b"\x7f" + whole[sizes + 1 :], f"{said}: encoder/conv1/bias is of another size than it says"),
        (quantised.read_bytes(), "holds no Whisper with weights in float16 or float32"),
    ):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=why) as caught:
            encoder.load(folder)
        assert "\n" not in str(caught.value)


def test_the_encoder_of_a_package_is_the_one_that_is_known(tmp_path, monkeypatch):
    """Features of the installed one, or a skip; other weights under its name are refused."""
    known = encoder_folder.PACKAGED["whisper-tiny.en"]
    package = tmp_path / known.package
    monkeypatch.setattr(encoder_folder, "PACKAGED", {"whisper-tiny.en": replace(known, package=f"no_{known.package}")})
    with pytest.raises(UserError, match=f"is not installed; type: {known.install}"):
        encoder.load("whisper-tiny.en")
    (package / known.folder).mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / known.folder / "model.bin").write_bytes(b"other")
    monkeypatch.setattr(encoder_folder, "PACKAGED", {"whisper-tiny.en": known})
    with monkeypatch.context() as other:
        other.syspath_prepend(str(tmp_path))
        with pytest.raises(UserError, match="holds other weights than are known"):
            encoder.load("whisper-tiny.en")
    if importlib.util.find_spec(known.package) is None:
        pytest.skip(f"the package {known.package} is not installed: {known.install}")
    hears = encoder.load("whisper-tiny.en", 2)
    assert hears(noise(5 * 640)).shape == (5, hears.width) == (5, 768)
