"""Annotating adds columns, leaves shards and the order of runs alone, and continues where it was stopped."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_pipeline.annotate import annotation, command, speech
from data_pipeline.annotate.annotation import Options
from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import checksums, manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import leaks, merging, schema
from data_pipeline.split import command as split
from data_pipeline.tasks.board import Board
from data_pipeline.tasks.runner import Runner
from mytalk.command import RunAgain, UserError
from tests.helpers.manifests import place_of


@pytest.fixture
def shards(talker_shards, tmp_path) -> Path:
    return shutil.copytree(talker_shards, tmp_path / "shards")


def annotate(folder: Path, name: str = "speech", **options) -> list[str]:
    return command.annotate(folder, name, Options(**options), Runner(0))


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def child(folder: Path, kill_at: int | None) -> None:
    """Annotate, and end with the number of clips measured; with `kill_at` die before the clip of that number."""
    real, seen = speech.measure, 0

    def measure(options):
        of_clip = real(options)

        def counted(manifest, row):
            nonlocal seen
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            return of_clip(manifest, row)

        return counted

    speech.measure = measure
    annotate(folder, same_person=0.1)  # not asked for here, but no options that this process has used before
    os._exit(seen)


def started(folder: Path, kill_at: int | None = None):
    torch.set_num_threads(1)  # the threads of the process that is forked are not in its child
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, kill_at))
    process.start()
    return process


def test_two_processes_share_the_shards_and_a_killed_one_costs_the_shard_that_it_was_at(shards, tmp_path):
    alone, dying = shutil.copytree(shards, tmp_path / "alone"), shutil.copytree(shards, tmp_path / "dying")
    annotate(alone)
    both = [started(shards), started(shards)]
    for process in both:
        process.join(60)
    assert sum(process.exitcode for process in both) == 16, "each clip is measured once"
    killed = started(dying, kill_at=5)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    parts = stamps(dying / "annotations/speech")
    assert sum(name.endswith(".parquet") for name in parts) == 1
    annotate(dying)
    after = stamps(dying / "annotations/speech")
    assert {name: after[name] for name in parts if name.endswith("parquet")}.items() <= parts.items()
    for folder in (shards, dying):
        assert Manifest.load(folder).digest == Manifest.load(alone).digest
        assert (folder / "manifest.json").read_bytes() == (alone / "manifest.json").read_bytes()
        assert not (folder / "annotations/speech/tasks").exists()


def test_other_options_are_refused_while_another_process_is_at_work(shards):
    work = command.Annotating(shards, "speech", Options(), False)
    with Board(work.board, work.done, work.all_done) as other:
        other.begin([], "another kind")
        with pytest.raises(UserError, match=r"others are at work in .* with other options"):
            annotate(shards)
    annotate(shards)


def test_a_part_that_another_process_commits_meanwhile_is_not_removed(shards, monkeypatch):
    """It is missing when this process looks, and there a moment later."""
    annotate(shards)
    before = stamps(shards / "annotations/speech")
    work = command.Annotating(shards, "speech", Options(), False)
    with Board(work.board, work.done, work.all_done) as other:
        other.begin([], work.plan().kind)
        monkeypatch.setattr(annotation, "finished", lambda manifest, task: False)
        annotate(shards)
    after = stamps(shards / "annotations/speech")
    assert {name: after[name] for name in before} == before


def test_columns_are_added_and_shards_and_order_stay(shards, command):
    before, tars = Manifest.load(shards), {path: path.read_bytes() for path in shards.glob("*.tar")}
    digest = SourcedWindows(before, SamplingConfig(), WindowConfig(12, 24, 10)).selection.digest
    done = command("-m", "data_pipeline", "annotate", str(shards), "speech", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "speech   16 of 16 clips" in done.stdout
    made = Manifest.load(shards)
    assert {path: path.read_bytes() for path in shards.glob("*.tar")} == tars
    assert made.names == [*before.names, *speech.COLUMNS]
    assert made.column("speech_share").max() <= 1
    assert (made.column("noise_level_db") < 0).all()
    entry = made.header["annotations"]["speech"]
    assert entry["columns"] == [*speech.COLUMNS]
    assert entry["digest"] == annotation.digest_of(entry["made_by"])
    assert SourcedWindows(made, SamplingConfig(), WindowConfig(12, 24, 10)).selection.digest == digest
    again = stamps(shards)
    annotate(shards)
    changed = {name for name, stamp in stamps(shards).items() if again.get(name) != stamp}
    assert not changed


def test_only_shards_without_a_part_of_the_same_kind_are_measured(shards, monkeypatch):
    annotate(shards)
    digest, parts = Manifest.load(shards).digest, shards / "annotations" / "speech"
    before = stamps(parts)
    (parts / "000002.parquet").unlink()
    (parts / "000003.parquet").write_bytes(b"PAR1 half of a part")
    annotate(shards)
    after = stamps(parts)
    assert {name for name in before if after[name] != before[name]} == {"000002.parquet", "000003.parquet"}
    assert Manifest.load(shards).digest == digest
    monkeypatch.setattr(speech, "QUIET_SHARE", 0.2)
    annotate(shards)
    assert not {*stamps(parts).items()} & {*after.items()}
    assert Manifest.load(shards).header["annotations"]["speech"]["made_by"]["quiet_share"] == 0.2


def test_killed_between_table_and_header_the_same_command_mends_it(shards):
    header = (shards / "manifest.json").read_bytes()
    annotate(shards)
    digest = Manifest.load(shards).digest
    (shards / "manifest.json").write_bytes(header)
    with pytest.raises(UserError, match="not of one write"):
        Manifest.load(shards)
    annotate(shards)
    assert Manifest.load(shards).digest == digest
    (shards / "manifest.json").write_bytes(header)
    shutil.rmtree(shards / "annotations")
    with pytest.raises(UserError, match="not of one write"):
        annotate(shards)


def test_a_damaged_clip_has_no_value_and_a_reason(shards, capsys):
    made = Manifest.load(shards)
    path, offset, size = place_of(made, 3, "audio")
    data = bytearray(path.read_bytes())
    data[offset + size // 2] ^= 1
    path.write_bytes(data)
    annotate(shards)
    values = Manifest.load(shards).table["speech_share"].to_pylist()
    lost = [row for row, value in enumerate(values) if value is None]
    assert 3 in lost
    assert "could not be measured and have no speech: " in capsys.readouterr().err
    part = pq.read_table(shards / "annotations" / "speech" / "000001.parquet")
    assert part["damaged"][0].as_py().startswith("checksum: ")
    checksums.write(path, path.with_suffix(".crc"))  # the tar is whole again, by its header's digest it is the same
    (shards / "annotations" / "speech" / "000001.parquet").unlink()
    annotate(shards)
    assert None not in Manifest.load(shards).table["speech_share"].to_pylist()


def test_a_column_that_came_with_the_shards_is_refused_until_it_is_replaced(shards):
    made = Manifest.load(shards)
    given = pa.array([0.25] * len(made), pa.float64())
    manifest_update.save(shards, made.table.append_column("speech_share", given), made.header)
    with pytest.raises(UserError, match=r"'speech_share' came with the shards; .*--replace"):
        annotate(shards)
    command.annotate(shards, "speech", Options(), Runner(0), replace=True)
    assert Manifest.load(shards).types["speech_share"] == pa.float32()


def test_a_column_that_came_meanwhile_is_kept_and_other_clips_are_not_overwritten(shards, monkeypatch):
    real, whole = annotation.parts, Manifest.load(shards).table

    def meanwhile(table):
        def parts(*given):
            manifest_update.save(shards, table, Manifest.load(shards).header)
            return real(*given)

        return parts

    monkeypatch.setattr(annotation, "parts", meanwhile(whole.slice(1)))
    with pytest.raises(RunAgain, match="its clips are others meanwhile"):
        annotate(shards)
    assert not Manifest.load(shards).has("speech_share")
    shutil.rmtree(shards / "annotations")
    manifest_update.save(shards, whole, Manifest.load(shards).header)
    monkeypatch.setattr(annotation, "parts", meanwhile(whole.append_column("x", pa.array([1] * len(whole)))))
    annotate(shards)
    assert {"x", "speech_share"} <= {*Manifest.load(shards).names}


def test_who_was_taken_for_dead_while_it_wrote_does_not_overwrite_what_another_wrote(shards, tmp_path, monkeypatch):
    real, made = leaks.refuse_leaks, Manifest.load(shards)
    manifest_update.save(tmp_path, made.table.append_column("x", pa.array([1] * len(made))), made.header)

    def meanwhile(*given):
        monkeypatch.undo()
        for name in (schema.TABLE, schema.HEADER):
            os.replace(tmp_path / name, shards / name)
        real(*given)

    monkeypatch.setattr(leaks, "refuse_leaks", meanwhile)
    split = manifest_update.Change({"split": pa.array([""] * len(made))}, made.header)
    with pytest.raises(RunAgain, match="rewritten meanwhile"):
        manifest_update.update(shards, lambda now: split)
    assert Manifest.load(shards).has("x")
    assert not list(shards.glob(".tmp-*"))


def _gathered(what, all_read) -> None:
    """In a process: what it has read of the manifest it writes when the others have read it too, or do not come."""
    real = merging.set_column

    def waits(*given):
        with contextlib.suppress(threading.BrokenBarrierError):
            all_read.wait(0.5)
        return real(*given)

    merging.set_column = waits
    what()
    os._exit(0)


def test_annotations_and_a_split_at_once_lose_no_column_of_each_other(shards):
    torch.set_num_threads(1)  # the threads of the process that is forked are not in its child
    before = {name: (shards / name).read_bytes() for name in (schema.TABLE, schema.HEADER)}
    for name in ("speech", "duplicates"):
        annotate(shards, name)
    for name, data in before.items():  # what was measured is there, the columns are not
        (shards / name).write_bytes(data)
    context = multiprocessing.get_context("fork")
    all_read = context.Barrier(3)
    typed = split.arguments().parse_args([str(shards), "--labels-only", "--val", "0.3", "--unseen", "0.3", "--force"])
    work = [lambda: split.run(typed), lambda: annotate(shards), lambda: annotate(shards, "duplicates")]
    processes = [context.Process(target=_gathered, args=(what, all_read)) for what in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    made = Manifest.load(shards)
    assert {*speech.COLUMNS, "copy_group", "duplicate_group"} <= {*made.names}
    assert made.header["annotations"].keys() == {"speech", "duplicates"}
    assert made.header["split"]["val"] == 0.3
    assert not (shards / manifest_update.LEASE).exists()


def test_what_is_typed_wrongly_is_refused(shards, capsys):
    with pytest.raises(UserError, match="--syncnet FOLDER"):
        annotate(shards, "sync")
    with pytest.raises(SystemExit):
        command.arguments().parse_args([str(shards), "loudness"])
    assert "invalid choice" in capsys.readouterr().err
    assert json.loads((shards / "manifest.json").read_text()).get("annotations") is None
