"""`python -m launch slurm`: its script run by bash among stand-ins of Slurm. A real one: slurm/test_two_nodes.py."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import slurm
from mytalk.command import UserError
from tests.helpers.checkout import ROOT

TINY = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
TRAIN = ["--", "train", "motion", "--config", "x.yaml"]

# Stand-ins. srun starts the ranks one after another and returns the highest code, as the real one does.
SRUN = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/srun"
while [[ $1 == --* ]]; do shift; done
highest=0
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
  SLURM_PROCID=$rank SLURM_LOCALID=$((rank % LOCAL)) "$@" &
  started=$!
  wait $started
  code=$?
  [ "$(cat "$RECORD/$rank.pid")" = $started ] || echo "rank $rank is not the process that srun started" >&2
  if ((code > highest)); then highest=$code; fi
done
exit $highest
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'first-of-%s\\nsecond\\n' "$3"; exit; fi
printf '%s ' "$@" >> "$RECORD/scontrol"
exit "$(cat "$RECORD/requeue_code")"
"""
PYTHON = """#!/bin/bash
echo $$ > "$RECORD/$RANK.pid"
printf '%s\\0' "$@" > "$RECORD/$RANK.argv"
env -0 > "$RECORD/$RANK.env"
grep SigIgn /proc/self/status > "$RECORD/$RANK.ignored"
exit "$(cat "$RECORD/$RANK.code")"
"""
SBATCH = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/sbatch"
cat > "$RECORD/script"
echo "$SAYS"
echo "$COMPLAINS" >&2
exit "$CODE"
"""


def stand_in(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


class Cluster:
    """A folder of stand-ins that goes first on PATH, and what they were told."""

    def __init__(self, folder: Path):
        self.bin, self.record = folder / "bin", folder / "record"
        self.bin.mkdir(parents=True)
        self.record.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH}.items():
            stand_in(self.bin / name, text)
        self.python = stand_in(self.bin / "a python's; $(exit)", PYTHON)

    def job(self, **more) -> slurm.SlurmJob:
        given = {"name": "x", "nodes": 2, "ranks_per_node": 2, "gpus_per_node": 2, "signal_s": 60, "folder": "/"}
        return slurm.SlurmJob(**{**given, "log": "/", "python": str(self.python), **more})

    def run(
        self, job: slurm.SlurmJob, words: list[str], codes: tuple[int, ...] = (), requeue: int = 0, **environment: str
    ):
        """The script run as the batch step of job 123456; `codes` are those of the ranks."""
        shutil.rmtree(self.record)
        self.record.mkdir()
        ranks = job.nodes * job.ranks_per_node
        for rank in range(ranks):
            (self.record / f"{rank}.code").write_text(str(codes[rank] if codes else 0))
        (self.record / "requeue_code").write_text(str(requeue))
        path = self.record / "script"
        path.write_bytes(os.fsencode(slurm.script(job, words)))
        told = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NTASKS": str(ranks)}
        told |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "RECORD": str(self.record), "RANK": "of the submission"}
        told |= {"LOCAL": str(job.ranks_per_node), **environment}
        return subprocess.run(["/bin/bash", str(path)], env=told, capture_output=True, text=True)

    def strings(self, name: str) -> list[str]:
        """What a stand-in wrote, ended by NUL each."""
        return [os.fsdecode(part) for part in (self.record / name).read_bytes().split(b"\0")[:-1]]

    def environment(self, rank: int) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.strings(f"{rank}.env"))

    def requeued(self) -> str:
        told = self.record / "scontrol"
        return told.read_text().strip() if told.exists() else ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("cluster"))


def parsed(*typed: str):
    return slurm.arguments().parse_args(list(typed))


def options(text: str) -> dict[str, str | None]:
    """The #SBATCH lines."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {key: value if equals else None for key, equals, value in (line.partition("=") for line in lines)}


NASTY = st.sampled_from(
    [
        "a b",
        "$(exit 9)",
        "`exit`",
        "'",
        '"',
        ";",
        "\\",
        "\n#PBS -N x",
        "\\'\r\n$x",
        "",
        "*",
        "~",
        "--",
        "{}",
        "\udcff",
        "!",
    ]
)
WORDS = st.lists(
    st.one_of(NASTY, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))), max_size=4
)


@settings(max_examples=20, deadline=None)
@given(words=WORDS, nodes=st.integers(1, 3), ranks=st.integers(1, 2))
def test_every_rank_gets_its_words_and_its_place(cluster, words, nodes, ranks):
    """Whatever is in a word, python gets it unchanged; RANK and the others are as torchrun would set them.

    No word begins a line of the script: sbatch would read it as an option if it looked like one.
    """
    job = cluster.job(nodes=nodes, ranks_per_node=ranks)
    done = cluster.run(job, ["train", *words])
    assert slurm.script(job, ["train", *words]).count("\n") == slurm.script(job, ["train"]).count("\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for rank in range(nodes * ranks):
        assert cluster.strings(f"{rank}.argv") == ["-m", "train", *words]
        told = cluster.environment(rank)
        assert (told["RANK"], told["LOCAL_RANK"]) == (str(rank), str(rank % ranks))
        assert (told["WORLD_SIZE"], told["LOCAL_WORLD_SIZE"]) == (str(nodes * ranks), str(ranks))
        assert (told["MASTER_ADDR"], told["MASTER_PORT"]) == ("first-of-n[1-2]", "23456")
        assert told["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((75, 75, 75, 75), 75), ((0, 0, 0, 0), 0), ((0, 1, 0, 0), 1), ((75, 137, 75, 75), 137), ((1, 2, 143, 0), 143)],
)
def test_75_requeues_and_every_other_code_is_handed_on(cluster, codes, expected):
    done = cluster.run(cluster.job(), ["train"], codes)
    assert done.returncode == expected
    assert cluster.requeued() == ("requeue 123456" if expected == 75 else "")
    assert ("requeueing job 123456" in done.stdout) == (expected == 75)


def test_who_may_not_requeue_is_told_to_submit_again(cluster):
    done = cluster.run(cluster.job(), ["train"], (75,) * 4, requeue=1)
    assert done.returncode == 75
    assert done.stderr == "job 123456 cannot be requeued; submit it again to continue\n"


def test_a_rank_is_the_process_that_is_signalled_and_survives_early_and_late_signals(cluster):
    """No shell in between, and TERM and USR1 ignored until training catches them and after it has ended."""
    done = cluster.run(cluster.job(), ["train"])
    assert done.stderr == "", "the stand-in for srun compares process ids"
    ignored = int((cluster.record / "3.ignored").read_text().split()[1], 16)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert ignored >> (number - 1) & 1, signal.Signals(number).name


def test_scoring_is_ended_by_any_signal_and_is_sent_none_before_its_time(cluster):
    """It goes on where it stopped without having to be asked for a checkpoint."""
    done = cluster.run(cluster.job(), ["eval", "motion"])
    assert (done.returncode, done.stderr) == (0, "")
    ignored = int((cluster.record / "3.ignored").read_text().split()[1], 16)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert not ignored >> (number - 1) & 1, signal.Signals(number).name
    text = slurm.script(cluster.job(), ["eval", "motion"])
    assert "signal" not in options(text)
    typed = ["--nodes", "1", "--gpus-per-node", "1", "--time", "00:03:00", "--", "eval", "motion"]
    assert slurm.job_of(parsed(*typed)).time == "00:03:00", "no time is kept for a checkpoint"


def test_the_batch_shell_outlives_usr1(cluster):
    """`scancel --full` signals it as well; it must still requeue."""
    job, telling = cluster.job(nodes=1, ranks_per_node=1), "import os, signal; os.kill(os.getppid(), signal.SIGUSR1)"
    srun = cluster.bin / "srun"
    stand_in(srun, f"#!/bin/bash\nexec {shlex.join([sys.executable, '-c', telling + '; raise SystemExit(75)'])}\n")
    try:
        done = cluster.run(job, ["train"])
    finally:
        stand_in(srun, SRUN)
    assert done.returncode == 75
    assert cluster.requeued() == "requeue 123456"


def test_cpus_and_threads_of_a_rank(cluster):
    """srun is told the CPUs again (it does not inherit them), threads are as many, and the user's own wish wins."""
    job = cluster.job(cpus_per_rank=3)
    cluster.run(job, ["train"])
    assert "--cpus-per-task=3" in cluster.strings("srun")
    assert options(slurm.script(job, ["train"]))["cpus-per-task"] == "3"
    assert cluster.environment(0)["OMP_NUM_THREADS"] == "3"
    cluster.run(job, ["train"], OMP_NUM_THREADS="7")
    assert cluster.environment(0)["OMP_NUM_THREADS"] == "7"
    cluster.run(cluster.job(), ["train"])
    assert not any(word.startswith("--cpus-per-task") for word in cluster.strings("srun"))


def test_the_lines_for_sbatch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs of mine"
    more = ["--sbatch", "gres=gpu:4", "--sbatch", "exclusive", "--sbatch", "comment=a #b", "--log", str(folder)]
    typed = ["--nodes", "2", "--gpus-per-node", "8", "--time", "1-12:00:00", "--partition", "a,b", "--account", "me"]
    job = slurm.job_of(parsed(*typed, *more, *TRAIN))
    assert options(slurm.script(job, ["train"])) == {
        "job-name": "train-motion",
        "nodes": "2",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "time": "1-12:00:00",
        "partition": "a,b",
        "account": "me",
        "chdir": str(tmp_path),
        "output": f'"{folder}/slurm-%j.out"',
        "signal": "USR1@120",
        "open-mode": "append",
        "requeue": None,
        "gres": "gpu:4",
        "exclusive": None,
        "comment": '"a #b"',
    }


@pytest.mark.parametrize("kind", slurm.CONTAINERS)
def test_in_a_container_ranks_still_get_their_words_and_place(cluster, kind):
    """pyxis: options of srun; apptainer: a program before Python, which is the process that is signalled."""
    stand_in(cluster.bin / "apptainer", '#!/bin/bash\nwhile [[ $1 != *.sif ]]; do shift; done\nshift\nexec "$@"\n')
    mounts = ("/data:/data:ro", "/my runs;$(x):/runs")
    variables = (("NCCL_DEBUG", "a b;$(exit 9)"), ("X", "line\n#SBATCH --wrap=x"))
    job = cluster.job(container=kind, image="a.sif", mounts=mounts, variables=variables, folder="/some; folder")
    done = cluster.run(job, ["train", "a $(exit 9)"])
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.strings("3.argv") == ["-m", "train", "a $(exit 9)"]
    assert cluster.environment(3)["RANK"] == "3"
    assert cluster.environment(3)["NCCL_DEBUG"] == "a b;$(exit 9)"
    assert cluster.environment(3)["X"] == "line\n#SBATCH --wrap=x"
    assert "\n#SBATCH --wrap" not in slurm.script(job, ["train"])
    told = cluster.strings("srun")
    pyxis = [f"--container-mounts={','.join(mounts)}", "--container-image=a.sif", "--container-workdir=/some; folder"]
    assert {*pyxis} <= {*told} if kind == "pyxis" else not any(word.startswith("--container") for word in told)
    if kind == "apptainer":
        assert ["--bind", "/some; folder:/some; folder", "--bind", mounts[0]] == told[told.index("--bind") :][:4]


def test_the_clusters_file_fills_in_what_is_not_typed(monkeypatch):
    monkeypatch.chdir(ROOT)
    job = slurm.job_of(parsed("--cluster", "lab", "--nodes", "2", *TRAIN))
    assert (job.gpus_per_node, job.cpus_per_rank, job.partition) == (8, 8, "gpu")
    assert (job.container, job.image, job.python) == ("pyxis", "mytalk-train:1", "python")
    assert ("NCCL_SOCKET_IFNAME", "eth0") in job.variables
    other = slurm.job_of(parsed("--cluster", "lab", "--nodes", "2", "--container", "apptainer", *TRAIN))
    assert (other.container, other.image, other.mounts) == ("apptainer", "mytalk-train:1", job.mounts)
    typed = slurm.job_of(parsed("--cluster", "lab", "--nodes", "2", "--gpus-per-node", "4", "--partition", "x", *TRAIN))
    assert (typed.gpus_per_node, typed.partition) == (4, "x")


@pytest.mark.parametrize(("given", "ranks"), [([], "1"), (["--ranks-per-node", "3"], "3")])
def test_without_gpus_none_are_asked_for(given, ranks):
    text = slurm.script(slurm.job_of(parsed("--nodes", "1", "--gpus-per-node", "0", *given, *TRAIN)), ["train"])
    assert "gpus-per-node" not in text
    assert options(text)["ntasks-per-node"] == ranks


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--", "nothing to start; name it after --"),
        ("-- os motion", "must be train or eval"),
        ("--nodes 0 -- train", "--nodes must be at least 1"),
        ("--gpus-per-node -1 -- train", "--gpus-per-node must be at least 0"),
        ("--gpus-per-node 0 --ranks-per-node 0 -- train", "--ranks-per-node must be at least 1"),
        ("--ranks-per-node 1 -- train", "leave --ranks-per-node out"),
        ("--cpus-per-rank 0 -- train", "--cpus-per-rank must be at least 1"),
        ("--signal-s 0 -- train", "--signal-s must be within"),
        ("--signal-s 65536 -- train", "--signal-s must be within"),
        ("--time 30 -- train", "--time must look like"),
        ("--time '12:00:00\n' -- train", "--time must look like"),
        ("--time 00:03:00 -- train", "is over before training begins"),
        ("--partition=-x -- train", "--partition must be letters"),
        ("--account 'a\n#SBATCH --wrap=x' -- train", "--account must be letters"),
        ("--name 'a b' -- train", "--name must be letters"),
        ("--log /tmp/a%j -- train", "holds a %"),
        ("--log '/tmp/a\nb' -- train", "a job's output cannot be"),
        ("--log '/tmp/a\"b' -- train", "a job's output cannot be"),
        ("--sbatch=-x=1 -- train", "--sbatch takes KEY=VALUE"),
        ("--sbatch N=1 -- train", "--sbatch takes KEY=VALUE"),
        ("--sbatch 'mem=1\n#SBATCH --wrap=x' -- train", "a job's mem cannot be"),
        ("--sbatch mem= -- train", "a job's mem cannot be"),
        ("--sbatch array=1-9 -- train", "would change what the script relies on"),
        ("--sbatch no-req -- train", "would change what the script relies on"),
        ("--container-mount /a:/b -- train", "are of no use without an image; add --container-image"),
        ("--container apptainer -- train", "are of no use without an image; add --container-image"),
        ("--container-image 'a;b' -- train", "cannot be one"),
        ("--container-image=-x -- train", "cannot be one"),
        ("--container-image a --container-mount x -- train", "--container-mount takes HOST:THERE"),
        ("--container-image a --container-mount '/a:/b,/c:/d' -- train", "--container-mount takes HOST:THERE"),
    ],
)
def test_impossible_options_are_refused_in_one_line(typed, said):
    typed_words = shlex.split(typed)
    before = ["--nodes", "2", "--gpus-per-node", "2"]
    with pytest.raises(UserError) as refused:
        slurm.run(parsed(*before, "--dry-run", *typed_words))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def submitting(cluster: Cluster, command, log: Path, says: str, complains: str, code: int, words=TRAIN):
    told = {"PATH": f"{cluster.bin}:{os.environ['PATH']}", "RECORD": str(cluster.record)}
    told |= {"SAYS": says, "COMPLAINS": complains, "CODE": str(code)}
    typed = ["--nodes", "2", "--gpus-per-node", "4", "--log", str(log), *words]
    return command("-m", "launch", "slurm", *typed, env=told), typed


def test_submitted_it_is_the_script_of_the_dry_run(cluster, command, tmp_path):
    """On stdin, so that no file is left behind; the job's number, its log (whose folder is made), and what to type."""
    log = tmp_path / "new" / "logs"
    done, typed = submitting(cluster, command, log, "42;here", "sbatch: be nice", 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "sbatch: be nice\n"
    assert cluster.strings("sbatch") == ["--parsable"]
    printed = command("-m", "launch", "slurm", "--dry-run", *typed)
    assert printed.stdout == (cluster.record / "script").read_text()
    assert "job 42: 2 x 4 processes\n" in done.stdout
    for line in (f"tail -F {log}/slurm-42.out", "scancel --signal=USR1 42 ", "scancel 42\n"):
        assert line in done.stdout
    assert log.is_dir()


def test_of_scoring_no_checkpoint_is_promised(cluster, command, tmp_path):
    done, _ = submitting(cluster, command, tmp_path, "42", "", 0, ["--", "eval", "motion"])
    assert done.returncode == 0, done.stderr
    assert "writes a checkpoint" not in done.stdout
    assert "USR1" not in done.stdout
    said = "stop:      scancel 42   (finished clips are kept; submit the same command to continue)\n"
    assert done.stdout.endswith(said)


@pytest.mark.parametrize(
    ("says", "complains", "code", "expected"),
    [
        (
            "",
            "sbatch: lua: hm\nsbatch: error: no such partition",
            1,
            "did not take the job: sbatch: error: no such part",
        ),
        ("", "", 3, "did not take the job: exit code 3"),
        ("", "", 0, "gave no number; look for train-motion in squeue"),
    ],
)
def test_what_sbatch_refuses_is_one_line(cluster, command, tmp_path, says, complains, code, expected):
    done, _ = submitting(cluster, command, tmp_path, says, complains, code)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_without_sbatch_it_says_where_to_go(command, tmp_path):
    typed = ["--nodes", "1", "--gpus-per-node", "1", *TRAIN]
    done = command("-m", "launch", "slurm", *typed, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "go to a login node of the cluster, or print the script with --dry-run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_an_example(command):
    shown = command("-m", "launch", "slurm", "--help")
    assert shown.returncode == 0
    assert "python -m launch slurm --nodes 2 --gpus-per-node 8" in shown.stdout
