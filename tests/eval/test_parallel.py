"""Scores of others in a folder, and what a forced scoring removes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from eval import parallel, score_file
from eval.rows import features
from eval.score_file import ClipScore
from eval.tasks import ScoringTask, Window
from mytalk import command as commands
from mytalk import faults
from mytalk.machine import sole_user


def test_videos_whose_damaged_scores_were_deleted_are_ours_still(tmp_path) -> None:
    (tmp_path / "videos" / "a").mkdir(parents=True)
    job = parallel.ScoringJob("benchmark", tmp_path, [], {}, videos="videos")
    with pytest.raises(commands.UserError):
        parallel.other_scores(job)
    with sole_user(tmp_path, parallel.LOCK):
        pass
    assert parallel.other_scores(job) == []


@pytest.mark.parametrize("key", ["", ".", "..", "../kept", "/kept"])
def test_keys_that_name_no_folder_of_their_own_remove_nothing(key, tmp_path) -> None:
    out, beside = tmp_path / "out", tmp_path / "out" / "kept"
    beside.mkdir(parents=True)
    (out / "videos" / "a").mkdir(parents=True)
    (out / "videos" / "b").mkdir()
    (out / features.FEATURES).mkdir()
    for name in (f"{'0a' * 16}.npz", "mine.npz"):
        (out / features.FEATURES / name).touch()
    score_file.write_whole(out, {"protocol": {}}, [score_file.ClipScore(key, "x"), score_file.ClipScore("a", "x")])
    job = parallel.ScoringJob("benchmark", out, [], {"protocol": {"seed": 1}}, videos="videos", force=True)
    parallel.clear(job, parallel.other_scores(job), set())
    assert sorted(path.name for path in out.iterdir()) == ["features", "kept", "videos"]
    assert [path.name for path in (out / features.FEATURES).iterdir()] == ["mine.npz"]
    assert [path.name for path in (out / "videos").iterdir()] == ["b"]


def tasks(count: int) -> list[ScoringTask]:
    window = Window(0, 0, 25)
    return [ScoringTask(f"clip-{number}", f"person-{number}", window, window, False) for number in range(count)]


def run(out: Path, raised: dict[str, BaseException], count: int = 3) -> dict[str, str | None]:
    """Score clips of which some raise; the reason of each clip."""
    reasons: dict[str, str | None] = {}

    def score(task: ScoringTask) -> ClipScore:
        if task.key in raised:
            raise raised[task.key]
        return ClipScore(task.key, task.person, methods={"mytalk": {"lmd_px": 1.0}})

    def finish(scores, environment) -> None:
        reasons.update((key, one.reason) for key, one in scores.items())

    parallel.run(parallel.ScoringJob("score", out, tasks(count), {}), lambda device: score, finish)
    return reasons


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("odd"), "error"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "out_of_memory"),
        (FileNotFoundError(errno.ENOENT, "No such file", "shards/motion-000000.tar"), "storage"),
        (OSError(errno.EIO, "Input/output error"), "storage"),
        (commands.RunAgain("the storage failed 5 times"), "storage"),
        (commands.UserError("no face in it"), "refused"),
    ],
)
def test_whatever_is_raised_about_a_clip_is_its_reason_and_the_others_go_on(error, reason, tmp_path, capsys) -> None:
    assert run(tmp_path, {"clip-1": error}) == {"clip-0": None, "clip-1": reason, "clip-2": None}
    log = tmp_path / faults.ERRORS_FILE
    assert log.exists() == (reason in ("error", "out_of_memory"))
    if reason == "error":
        assert log.read_text().startswith("clip-1\nTraceback")
        assert "clip-1" in capsys.readouterr().err


def test_a_full_disk_and_an_interrupt_end_a_scoring(tmp_path) -> None:
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, {"clip-1": OSError(errno.ENOSPC, "No space left on device")})
    with pytest.raises(PermissionError):
        run(tmp_path, {"clip-1": PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "videos/a"))})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"clip-1": KeyboardInterrupt()})


def test_a_storage_that_is_gone_ends_a_scoring_and_its_clips_are_tried_again(tmp_path) -> None:
    dead: dict[str, BaseException] = {f"clip-{n}": OSError(errno.EIO, "Input/output error") for n in range(1, 7)}
    with pytest.raises(commands.RunAgain, match="the last 5 clips could not be read or scored"):
        run(tmp_path, dead, count=8)
    assert set(run(tmp_path, {}, count=8).values()) == {None}


def test_two_processes_on_a_machine_of_one_gpu_share_it(command, tmp_path) -> None:
    """As far as it can be told without a GPU: torch is made to see one, and no wait may go to a second."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1\n"
        "torch._C._get_accelerator = lambda: torch.device('cuda')\n"
        "from eval import parallel\n"
        "job = parallel.ScoringJob('score', Path(sys.argv[1]), [], {})\n"
        "parallel.run(job, lambda device: print('computes on', device), "
        "lambda scores, environment: print('reported from', environment['device']))\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = command(*launch, str(program), str(tmp_path / "out"), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("cuda:0") == done.stdout.count("computes on") == 2, "lines of two processes may mix"
    assert done.stdout.count("reported from cuda") == 1
