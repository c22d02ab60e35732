"""`python -m launch ssh`: what it types, what it refuses, and real hosts, one of which dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.clusters.facts import Cluster
from launch.follow.folder import status
from launch.hosts import connection, probe, ssh
from launch.hosts.connection import Ssh
from launch.hosts.hostfile import Host
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.training import TINY, curve, logged
from tests.helpers.two_hosts import INTERFACE, Hosts, TwoHosts

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(name=TEXT.filter(lambda text: "/" not in text and text not in (".", "..")), words=st.lists(TEXT, max_size=3))
def test_the_other_hosts_shell_hands_on_every_word(tmp_path_factory, name, words):
    """Whatever is in the folder's name, in Python's and in the words: only `cd` and Python run there."""
    folder = tmp_path_factory.mktemp("there") / ("x" + name)
    folder.mkdir()
    python = folder / "a python's; $(exit)"
    python.write_text(f'#!{shutil.which("bash")}\nprintf \'%s\\0\' "$PWD" "$@"\n')
    python.chmod(0o755)
    there = Ssh(str(folder), str(python)).typed("host", words)[-1]
    done = subprocess.run(["sh", "-c", there], capture_output=True, env={"PATH": os.environ["PATH"]})
    assert done.stderr == b""
    assert [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]] == [str(folder), "-m", *words]


def typed(folder: Path, *more: str, hosts: str = "one slots=2\ntwo slots=2\n") -> list[str]:
    (folder / "hosts").write_text(hosts)
    return ["--hostfile", str(folder / "hosts"), *more]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--", "os"], "must be train or eval"),
        (["--processes", "5", "--", "train", "motion"], "are more than the 4 slots"),
        (["--processes", "3", "--", "train", "motion", "global_batch=8"], "type --processes 2"),
        (["--restarts", "-1", "--", "train"], "--restarts must be at least 0"),
        (["--restarts", "1", "--", "eval", "motion"], "--restarts is for train"),
        (["--cluster", "nowhere", "--", "train"], "no cluster file configs/clusters/nowhere.yaml; there are: "),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything(tmp_path, monkeypatch, more, said):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(connection, "program", lambda: pytest.fail("nothing is connected to"))
    with pytest.raises(UserError, match=said):
        ssh.run(ssh.arguments().parse_args(typed(tmp_path, *more)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interface: eth0; rm", "interface 'eth0; rm' cannot be one"),
        ("environment: {'a b': x}", "'a b' cannot be a variable"),
        ("partitoin: x", "did you mean 'partition'"),
        ("scratch: tmp", "scratch must be an absolute folder, not 'tmp'"),
        ("container: docker", "container must be pyxis or apptainer"),
    ],
)
def test_a_clusters_file_is_checked(tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        ssh.run(ssh.arguments().parse_args(typed(tmp_path, "--cluster", str(tmp_path / "c.yaml"), "--", "train")))


FACTS = {"code": "a", "commit": "1", "python": "3.11.2", "packages": {"torch": "2.13.0"}}


def test_hosts_that_are_not_alike_are_named_with_what_differs():
    other = {**FACTS, "code": "b", "commit": "2", "packages": {"torch": "2.12.0"}}
    words = "code a and b, torch 2.13.0 and 2.12.0, commits 1 and 2"
    assert probe.difference(FACTS, other) == words
    hosts = [Host("one", 1), Host("two", 1)]
    with pytest.raises(UserError, match=f"one and two are not alike: {words}; bring both to the same state"):
        connection.refuse_unlike(hosts, [FACTS, other])
    connection.refuse_unlike(hosts, [FACTS, {**FACTS, "commit": "2"}])


def test_the_code_is_what_is_there_not_what_is_committed(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.py").write_text("x = 1\n")
    before = probe.code_digest(tmp_path)
    (tmp_path / "train" / "a.py").write_text("x = 2\n")
    assert probe.code_digest(tmp_path) != before


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs an ssh client")
def test_the_dry_run_prints_what_is_typed_and_told(tmp_path, command):
    words = ["train", "motion", "note=$(exit 9)'"]
    done = command("-m", "launch", "ssh", "--dry-run", *typed(tmp_path, "--processes", "4"), "--", *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" -- ")[1].split()[0] for line in lines[::2]] == ["one", "two"]
    jobs = [json.loads(line) for line in lines[1::2]]
    assert all(job["words"] == words and job["nodes"] == 2 and job["processes"] == 2 for job in jobs)
    assert [job["hosts_rendezvous"] for job in jobs] == [True, False]
    assert not any("exit 9" in line for line in lines[::2]), "no word is in the shell's line"


# Real hosts


def test_a_signal_while_hosts_are_opened_reaches_them_all(monkeypatch):
    names = ("one", "two", "three")
    launch = ssh.Launch(Ssh("/x", "python"), ["train"], Cluster(), 1.0, [Host(name, 1) for name in names])
    passed = []

    class Opened:
        def __init__(self, _, host, *__):
            self.host, self.told = host, {}
            if host.name == "two":
                launch.forward(signal.SIGINT, None)

        def signal(self, name):
            passed.append((self.host.name, name))

        def kill(self):
            pass

        def ended(self):
            return True

        def code(self):
            return 75

        def order(self):
            return 4

    monkeypatch.setattr(connection, "opened", Opened)
    monkeypatch.setattr(connection, "probed", lambda *_: [{"port": 1, "code": "x"}] * 3)
    monkeypatch.setattr(connection, "refuse_unlike", lambda *_: None)
    monkeypatch.setattr(Ssh, "address", lambda _, host: host)
    ended = launch.start(3)
    assert (ended.code, ended.told) == (75, True)
    assert passed == [(name, "SIGINT") for name in names]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    with TwoHosts(folder) as made:
        (folder / "cluster.yaml").write_text(f"interface: {INTERFACE}\nenvironment: {{OMP_NUM_THREADS: '1'}}\n")
        yield made


def launching(hosts: Hosts, folder: Path, *more: str) -> list[str]:
    cluster = hosts.config.parent / "cluster.yaml"
    where = ["--cluster", str(cluster), "--hostfile", str(hosts.hostfile(folder)), "--ssh-config", str(hosts.config)]
    return ["-m", "launch", "ssh", *where, "--grace-s", "10", "--alive-s", "2", *more]


def under_way(typed_words: list[str], run: Path, steps: int) -> subprocess.Popen:
    """A launcher whose training has logged some steps."""
    process = subprocess.Popen(
        [sys.executable, *typed_words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 300
    while not logged(run, steps) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    return process


def test_a_host_that_cannot_be_reached_or_has_no_checkout_is_one_line(hosts, tmp_path, command):
    words = ["--", "train", "motion", f"run={tmp_path / 'run'}"]
    refused = [*launching(hosts, tmp_path), *words]
    file = tmp_path / "hosts"
    file.write_text(f"{hosts.one.name} slots=1\n{hosts.one.address}1 slots=1\n")
    done = command(*refused, timeout=100)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{hosts.one.address}1 cannot be reached by ssh: " in done.stderr
    (tmp_path / "away.yaml").write_text("folder: /nowhere/at all\n")
    refused[refused.index("--cluster") + 1] = str(tmp_path / "away.yaml")
    file.write_text(f"{hosts.one.name} slots=1\n")
    done = command(*refused, timeout=100)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "in /nowhere/at all: " in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_told_to_stop_all_hosts_write_a_checkpoint_and_75_comes_out(hosts, talker_shards, tmp_path):
    """Two processes on the first host; TERM reaches both."""
    run = tmp_path / "run"
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", "workers=0", "steps=9999", f"run={run}"]
    typed_words = launching(hosts, tmp_path, "--", *words, "validate_every=9999", "log_every=1")
    (tmp_path / "hosts").write_text(f"{hosts.one.name} slots=2\n")
    process = under_way(typed_words, run, 2)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 75, said
    assert status(run).state == "stopped"


@pytest.mark.full
def test_every_host_is_looked_at_before_a_training(hosts, talker_shards, tmp_path, command):
    """The all-reduce goes through the hosts' own interfaces."""
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    where = launching(hosts, tmp_path)[3:-4]
    done = command("-m", "launch", "preflight", *where, "--", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("\n\n")[2].splitlines()
    assert [row.split()[0] for row in table] == ["machine", "one", "two"]
    assert "on 2 hosts" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"], "nothing is left behind"


@pytest.mark.full
def test_the_drill_on_two_hosts(hosts, talker_shards, tmp_path, command):
    where = launching(hosts, tmp_path)[3:-4]
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}"]
    faults = ["rank", "write"]
    typed = ["--out", str(tmp_path / "drill"), "--only", ",".join(faults), "--steps", "60", "--json", "--", *words]
    done = command("-m", "launch", "drill", *where, *typed)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert [(one["fault"], one["holds"], one["starts"]) for one in results] == [(fault, True, 2) for fault in faults]


@pytest.mark.full
def test_of_two_hosts_one_dies_and_the_other_goes_on_as_if_nothing_had_been(hosts, talker_shards, tmp_path, command):
    """Gate: one process on each; a host vanishes; shrunk to one, keys and losses are those of the undisturbed run.

    The last of this file: the host stays away.
    """
    run, alone = tmp_path / "run", tmp_path / "alone"
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", "workers=0", "steps=30"]
    words += ["checkpoint_every=2", "validate_every=30", "log_every=1"]
    more = ["--restarts", "1", "--min-processes", "1", "--", *words, f"run={run}"]
    process = under_way(launching(hosts, tmp_path, *more), run, 4)
    hosts.two.vanish()
    said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, said
    assert "two: the host is gone; starting again" in said
    assert "at 1 processes instead of 2" in said
    command("-m", *words, f"run={alone}", check=True)
    np.testing.assert_array_equal(curve(run, "keys"), curve(alone, "keys"))
    np.testing.assert_allclose(curve(run), curve(alone), rtol=1e-4)
    found = status(run)
    assert (found.state, found.world_size) == ("finished", 1)
    assert [restart["why"] for restart in found.restarts] == ["two: the host is gone"]
    assert not [pid for pid in hosts.one.processes() if "train" in Path(f"/proc/{pid}/cmdline").read_text()]
