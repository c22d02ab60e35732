"""`python -m eval score` as a whole: no truth reaches the model, every miss counts, resuming, processes, refusals."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.shards import checksums, reader
from data_pipeline.shards.manifest import Manifest
from eval import clip, plan, protocol, records, report
from eval.__main__ import COMMANDS
from eval.methods import written
from mytalk import command as commands
from mytalk.face.landmarks import COUNT, NOISED
from mytalk.machine import free_port
from mytalk.networks import weights
from mytalk.networks.identity import IdentityConfig, IdentityEncoder
from mytalk.networks.motion import MotionConfig, MotionModel, SourceStretch, generate, load_model, save_model
from tests.helpers import talkers

STEPS = "3"
SETTINGS = plan.Settings(sampler_steps=int(STEPS))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny motion model with random weights that moves the mouth by some px."""
    config = MotionConfig(width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)
    torch.manual_seed(0)
    made = MotionModel(config)
    torch.nn.init.normal_(made.out.weight, std=0.2)
    folder = tmp_path_factory.mktemp("model")
    save_model(made.state_dict(), config, folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Three unseen people of two clips each."""
    return talkers.write(tmp_path_factory.mktemp("shards"), {"train": 1, "unseen": 3})


def score(shards: Path, model: Path, out: Path, *more: str) -> int:
    """The command in this process; its exit code."""
    argv = ["score", "--shards", str(shards), "--model", str(model), "--out", str(out), "--steps", STEPS, *more]
    return commands.main("python -m eval", "", COMMANDS, argv)


@pytest.fixture(scope="module")
def scored(shards, model, tmp_path_factory) -> Path:
    """An uninterrupted scoring."""
    out = tmp_path_factory.mktemp("scored")
    assert score(shards, model, out) == 0
    return out


def held(out: Path) -> dict:
    return json.loads((out / report.NAME).read_text())


def overwrite(manifest: Manifest, row: int, landmarks_TN2: np.ndarray) -> None:
    """Put other landmarks into a clip's place in its shard."""
    path, offset, size = reader.landmarks_range(manifest, row, 0, len(landmarks_TN2))
    data = landmarks_TN2.astype("<f2").tobytes()
    assert len(data) == size
    with open(path, "r+b") as handle:
        handle.seek(offset)
        handle.write(data)
    checksums.write(path, path.with_suffix(".crc"))


# ---- no truth reaches the model ----


def test_garbage_in_the_scored_mouth_changes_no_generated_landmark(shards, model, tmp_path) -> None:
    folder = talkers.write(tmp_path / "shards", {"unseen": 2})
    network = load_model(model)
    manifest = Manifest.load(folder)
    random = np.random.default_rng(0)
    for task in plan.tasks(manifest, SETTINGS):
        truth, before = clip.landmarks(manifest, SETTINGS, task, network)
        garbage = truth.copy()
        garbage[:, NOISED] = random.uniform(0, 256, garbage[:, NOISED].shape)
        overwrite(manifest, task.scored.row, garbage)
        _, after = clip.landmarks(manifest, SETTINGS, task, network)
        assert np.array_equal(before["mytalk"], after["mytalk"])
        assert np.array_equal(before["shuffled_audio"], after["shuffled_audio"])
        assert not np.array_equal(before["frozen_mouth"], after["frozen_mouth"]), "the garbage is really there"
        assert not np.array_equal(before["mytalk"], before["shuffled_audio"]), "the model hears"
        overwrite(manifest, task.scored.row, truth)


def test_generate_itself_reads_no_true_mouth(shards, model) -> None:
    """`written` erases the mouth first; without that the outcome must be the same."""
    network, manifest = load_model(model), Manifest.load(shards)
    row = int(manifest.rows("unseen")[0])
    truth, audio = reader.read_landmarks(manifest, row), reader.read_audio(manifest, row)
    source, heard = reader.read_landmarks(manifest, row + 1), reader.read_audio(manifest, row + 1)
    erased = written(network, truth, source, heard, audio, seed=1, steps=3)
    assert np.array_equal(erased, generate(network, truth, SourceStretch(source, heard), audio, seed=1, steps=3))


@pytest.mark.parametrize("clips_each", [1, 2, 3])
def test_the_source_is_the_same_person_and_never_what_is_scored(clips_each, tmp_path) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"unseen": 3}, clips_each=clips_each))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    identity = manifest.column("identity")
    for task in plan.tasks(manifest, settings):
        assert task.source is not None
        assert identity[task.source.row] == task.person
        assert task.source.stop - task.source.start == 10
        if task.source.row == task.scored.row:
            assert clips_each == 1
            assert task.source.stop <= task.scored.start


@pytest.mark.parametrize(("people", "clips_each", "same"), [(3, 2, (0, 0)), (3, 1, (3, 0)), (1, 3, (0, 3))])
def test_the_protocol_counts_sources_of_the_same_clip_and_speech_of_the_same_person(
    people, clips_each, same, model, tmp_path
) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"train": 2, "unseen": people}, clips_each=clips_each))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    made = protocol.block(protocol.kind(model), manifest, settings, plan.tasks(manifest, settings))
    assert (made["source_is_same_clip"], made["shuffled_is_same_person"]) == same


def test_shuffled_speech_is_another_persons_and_the_same_in_every_order(shards) -> None:
    manifest = Manifest.load(shards)
    fewer = dataclasses.replace(SETTINGS, clips_per_person=1)
    few = plan.tasks(manifest, fewer)
    assert len(few) == 3
    for task in few:
        rows = list(plan.other_speech(manifest, SETTINGS, task))
        assert task.scored.row not in rows
        assert len(rows) == 5
        assert (manifest.column("identity")[rows[:4]] != task.person).all()
        assert rows == list(plan.other_speech(manifest, fewer, task))
        assert task.source == next(t.source for t in plan.tasks(manifest, SETTINGS) if t.key == task.key)


# ---- every number can be traced ----


def broken(change: str, value: dict) -> dict:
    """A sound report, broken in one way."""
    made = copy.deepcopy(value)
    first = made["methods"]["mytalk"]["lmd_px"]
    if change in made:
        del made[change]
    elif change == "weights digest":
        del made["digests"]["weights"]
    elif change == "empty digest":
        made["digests"]["manifest"] = ""
    elif change == "definition":
        del made["protocol"]["metrics"]["lmd_px"]["definition"]
    elif change == "unit":
        made["protocol"]["metrics"]["lmd_px"]["unit"] = ""
    elif change == "method":
        made["methods"]["typed_in"] = made["methods"]["mytalk"]
    elif change == "count":
        first["n"] -= 1
    elif change == "interval":
        first["ci95"] = None
    elif change == "number":
        first["mean"] = float("nan")
    elif change == "lost clip":
        made["coverage"]["clips"]["total"] += 1
    elif change == "miss without reason":
        made["coverage"]["clips"]["total"] += 1
        made["coverage"]["misses"].append({"key": "a", "person": "b", "reason": "", "message": ""})
    elif change == "typed gate":
        made["gate"]["passed"] = not made["gate"]["passed"]
    assert made != value
    return made


CHANGES = ["protocol", "digests", "coverage", "methods", "weights digest", "empty digest", "definition", "unit"]
CHANGES += ["method", "count", "interval", "number", "lost clip", "miss without reason", "typed gate"]


@pytest.mark.parametrize("change", CHANGES)
def test_invariant_7_a_report_with_an_untraceable_number_is_not_written(change, scored, tmp_path) -> None:
    report.write(tmp_path / "sound", held(scored))
    with pytest.raises(report.UntraceableReport):
        report.write(tmp_path / "broken", broken(change, held(scored)))
    assert not (tmp_path / "broken").exists()


def test_invariant_7_the_command_reports_protocol_digests_and_coverage(scored, shards) -> None:
    made = held(scored)
    assert made["digests"]["manifest"] == Manifest.load(shards).digest
    assert made["protocol"]["sampler_steps"] == 3
    assert made["coverage"] == {"people": {"scored": 3, "total": 3}, "clips": {"scored": 6, "total": 6}, "misses": []}
    for scores in made["methods"].values():
        for metric, value in scores.items():
            assert made["protocol"]["metrics"][metric]["definition"]
            low, high = value["ci95"]
            assert low <= value["mean"] <= high
    assert made["methods"]["frozen_mouth"]["opening_correlation"]["mean"] == 0
    assert (scored / "openings.png").stat().st_size > 1000


def test_every_miss_is_counted_with_its_reason(model, tmp_path, capsys) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 3})
    manifest = Manifest.load(shards)
    still, damaged, *_ = manifest.rows("unseen").tolist()
    truth = reader.read_landmarks(manifest, still)
    overwrite(manifest, still, np.repeat(truth[:1], len(truth), axis=0))
    bad = reader.read_landmarks(manifest, damaged)
    bad[3, 5] = np.nan
    overwrite(manifest, damaged, bad)
    assert score(shards, model, tmp_path / "out") == 0
    made = held(tmp_path / "out")
    reasons = {miss["key"]: miss["reason"] for miss in made["coverage"]["misses"]}
    # The still clip's person is seen in the damaged one.
    assert reasons == {"unseen0-0": "not_finite", "unseen0-1": "not_finite"}
    assert made["coverage"]["people"] == {"scored": 2, "total": 3}
    assert made["methods"]["mytalk"]["lmd_px"]["n"] == 2
    assert made["methods"]["mytalk"]["lmd_px"]["total"] == 3
    assert "scored 2/3 people, 4/6 clips; missed: 2 not_finite" in capsys.readouterr().out


def test_a_still_truth_and_a_person_without_a_source_are_misses(model, tmp_path) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 2}, clips_each=1)
    manifest = Manifest.load(shards)
    network = load_model(model)
    for task in plan.tasks(manifest, SETTINGS):  # 40 frames: too few for 50 of source
        assert clip.score(manifest, SETTINGS, task, network).reason == clip.NO_SOURCE
    first = int(manifest.rows("unseen")[0])
    truth = reader.read_landmarks(manifest, first)
    overwrite(manifest, first, np.repeat(truth[:1], len(truth), axis=0))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    reasons = [clip.score(manifest, settings, task, network).reason for task in plan.tasks(manifest, settings)]
    assert reasons == [clip.STILL, None]


def test_a_lone_clip_has_no_other_speech_and_a_model_of_nans_misses(model, tmp_path) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"train": 2, "unseen": 1}, clips_each=1))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    network = load_model(model)
    task = plan.tasks(manifest, settings)[0]
    assert clip.score(manifest, settings, task, network).reason == clip.NO_OTHER_SPEECH
    truth = reader.read_landmarks(manifest, task.scored.row)
    with pytest.raises(clip.Miss, match="not finite"):
        clip.measured(task, truth, {"mytalk": np.full((len(truth), COUNT, 2), np.nan)})


def test_nothing_scored_is_an_error_in_one_line(model, tmp_path, capsys) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 2}, clips_each=1)
    assert score(shards, model, tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no clip could be scored" in error
    assert not (tmp_path / "out" / report.NAME).exists()


# ---- stopping, resuming, processes ----


def test_a_stopped_scoring_continues_and_ends_as_if_never_stopped(shards, model, scored, tmp_path, monkeypatch) -> None:
    whole, asked = clip.score, []

    def until_third(manifest, settings, task, network):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(task.key)
        return whole(manifest, settings, task, network)

    monkeypatch.setattr(clip, "score", until_third)
    assert score(shards, model, tmp_path) == commands.EXIT_INTERRUPTED
    part = tmp_path / "clips-0000.jsonl"
    part.write_bytes(part.read_bytes() + b'{"key": "torn by a ki')

    def the_rest(manifest, settings, task, network):
        asked.append(task.key)
        return whole(manifest, settings, task, network)

    monkeypatch.setattr(clip, "score", the_rest)
    assert score(shards, model, tmp_path) == 0
    assert len(asked) == len(set(asked)) == 6, "each clip once"
    assert held(tmp_path) == held(scored)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clips.jsonl",
        "openings.png",
        "report.json",
        "scoring.lock",
    ]


def test_a_finished_scoring_ends_without_loading_torch(command, shards, model, scored) -> None:
    program = (
        "import sys; from eval.__main__ import COMMANDS, command\n"
        "code = command.main('python -m eval', '', COMMANDS, sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    arguments = ["--shards", str(shards), "--model", str(model), "--out", str(scored), "--steps", STEPS]
    done = command("-c", program, "score", *arguments)
    assert done.returncode == 0, done.stderr
    assert "scored 3/3 people" in done.stdout


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_report_what_one_does(command, shards, model, scored, tmp_path, launcher) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "eval", "score"]
    if launcher == "accelerate":
        two = ["--multi_gpu", "--num_processes", "2", "--main_process_port", str(free_port())]
        launch = ["-m", "accelerate.commands.launch", *two, "-m", "eval", "score"]
    # As if another number of processes had begun it: the clip done by then is not done again.
    said, first = records.read(scored / records.WHOLE)
    assert said is not None
    with records.part(tmp_path, 5, said) as append:
        append(first[0])
    arguments = ["--shards", str(shards), "--model", str(model), "--out", str(tmp_path), "--steps", STEPS]
    done = command(*launch, *arguments, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gate:") == 1, "one process speaks"
    two, one = held(tmp_path), held(scored)
    assert [two[name] for name in ("protocol", "digests", "coverage")] == [
        one[name] for name in ("protocol", "digests", "coverage")
    ]
    for method, scores in one["methods"].items():
        for metric, value in scores.items():
            assert two["methods"][method][metric]["mean"] == pytest.approx(value["mean"], rel=1e-4, abs=1e-6)
    lines = [json.loads(line) for line in (tmp_path / records.WHOLE).read_text().splitlines()[1:]]
    assert sorted(line["key"] for line in lines) == sorted(score.key for score in first), "each clip exactly once"


def test_another_model_in_the_same_folder_is_refused_until_forced(shards, model, scored, tmp_path, capsys) -> None:
    (tmp_path / "model").mkdir()
    state = {name: value * 1.5 for name, value in load_model(model).state_dict().items()}
    save_model(state, load_model(model).config, tmp_path / "model")
    out = tmp_path / "out"
    report.write(out, held(scored))
    assert score(shards, tmp_path / "model", out) == 1
    assert "differ in digests.weights;" in capsys.readouterr().err
    assert held(out) == held(scored), "nothing is lost by asking"
    assert score(shards, tmp_path / "model", out, "--force") == 0
    assert held(out)["digests"]["weights"] != held(scored)["digests"]["weights"]


@pytest.mark.parametrize(
    "earlier", ["report", "report that is no object", "report of a row less", "clips", "first line"]
)
def test_what_an_earlier_version_wrote_is_one_line_and_force_replaces_it(
    earlier, shards, model, scored, tmp_path, capsys
) -> None:
    made = held(scored)
    if earlier.startswith("report"):
        path = tmp_path / report.NAME
        del made["methods"]["shuffled_audio"]
        text = {"report": '{"format": 0}', "report that is no object": "[]"}.get(earlier, json.dumps(made))
    else:
        path = tmp_path / records.WHOLE
        text = {"clips": '{}\n{"clip": "a", "lmd": 1}\n', "first line": '"of version 0"\n'}[earlier]
    path.write_text(text)
    assert score(shards, model, tmp_path) == 1
    error = capsys.readouterr().err
    assert error.count(os.linesep) == 1
    assert "--force" in error
    assert path.read_text() == text
    assert score(shards, model, tmp_path, "--force") == 0
    assert held(tmp_path) == held(scored)


def test_two_processes_on_a_machine_of_one_gpu_share_it(command, tmp_path) -> None:
    """As far as it can be told without a GPU: torch is made to see one, and no wait may go to a second."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1\n"
        "torch._C._get_accelerator = lambda: torch.device('cuda')\n"
        "from eval import work\n"
        "work.run(work.Job('score', Path(sys.argv[1]), [], {}), lambda device: print('computes on', device), "
        "lambda scores, environment: print('reported from', environment['device']))\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = command(*launch, str(program), str(tmp_path / "out"), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("cuda:0") == done.stdout.count("computes on") == 2, "lines of two processes may mix"
    assert done.stdout.count("reported from cuda") == 1


def test_the_id_extractor_inside_the_model_is_among_the_digests(shards, tmp_path, capsys) -> None:
    small = IdentityConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, embedding=8)
    config = MotionConfig(
        width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1, extractor_width=16
    )
    torch.manual_seed(0)
    state = MotionModel(config).state_dict()
    found = []
    for _ in range(2):
        save_model(state, config, tmp_path / "model", IdentityEncoder(small))
        found.append(weights.digest(tmp_path / "model" / "identity"))
        assert score(shards, tmp_path / "model", tmp_path / f"out{len(found)}") == 0
        assert held(tmp_path / f"out{len(found)}")["digests"]["extractor_weights"] == found[-1]
    assert found[0] != found[1]
    capsys.readouterr()
    assert score(shards, tmp_path / "model", tmp_path / "out1") == 1
    assert "differ in digests.extractor_weights;" in capsys.readouterr().err


# ---- the gate and what a user can get wrong ----


def test_a_failed_gate_is_an_error_only_where_it_is_required(shards, model, scored, capsys) -> None:
    assert score(shards, model, scored) == 0
    assert "gate: FAIL: opening_correlation mytalk" in capsys.readouterr().out
    assert score(shards, model, scored, "--require-gate") == 1


@pytest.mark.parametrize("wrong", ["no model", "no weights", "unknown split", "empty split", "no shards", "no report"])
def test_what_a_user_can_get_wrong_is_one_line(wrong, shards, model, tmp_path, capsys) -> None:
    out, more = tmp_path / "out", []
    if wrong == "no model":
        model = tmp_path
    elif wrong == "no weights":
        (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
        model = tmp_path
    elif wrong == "unknown split":
        more = ["--split", "unsen"]
    elif wrong == "empty split":
        more = ["--split", "val"]
    elif wrong == "no shards":
        shards = tmp_path
    elif wrong == "no report":
        out.mkdir()
        (out / report.NAME).write_text("{}")
    assert score(shards, model, out, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m eval score: error: ")
    assert error.count(os.linesep) == 1


def test_weights_that_do_not_fit_are_one_line(shards, model, tmp_path, capsys) -> None:
    state = load_model(model).state_dict()
    config = dataclasses.replace(load_model(model).config, width=32)
    save_model(state, config, tmp_path / "model")
    assert score(shards, tmp_path / "model", tmp_path / "out") == 1
    assert "do not fit its config" in capsys.readouterr().err
