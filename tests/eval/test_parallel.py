"""Scores of others in a folder, and what a forced scoring removes."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval import parallel, score_file
from mytalk import command as commands
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
    score_file.write_whole(out, {"protocol": {}}, [score_file.ClipScore(key, "x"), score_file.ClipScore("a", "x")])
    job = parallel.ScoringJob("benchmark", out, [], {"protocol": {"seed": 1}}, videos="videos", force=True)
    parallel.clear(job, parallel.other_scores(job), set())
    assert sorted(path.name for path in out.iterdir()) == ["kept", "videos"]
    assert [path.name for path in (out / "videos").iterdir()] == ["b"]


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
