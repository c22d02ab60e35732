"""What describes and what joins a process group is checked, or it waits without end."""

from __future__ import annotations

import socket
import time

import pytest

from mytalk.command import UserError
from mytalk.machine import joining
from tests.helpers.training import tiny

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("described", [{}, {"WORLD_SIZE": "1"}, {"RANK": "0"}, {"MASTER_PORT": "29500"}, WHOLE])
def test_a_whole_description_of_ranks_is_taken(described, monkeypatch):
    for name, value in described.items():
        monkeypatch.setenv(name, value)
    with joining():
        pass


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"WORLD_SIZE": "2"}, "without RANK and MASTER_ADDR and MASTER_PORT; unset WORLD_SIZE"),
        ({**WHOLE, "RANK": ""}, "without RANK;"),
        ({**WHOLE, "MASTER_PORT": ""}, "without MASTER_PORT;"),
        ({"RANK": "1"}, "RANK=1 of WORLD_SIZE=None is no rank"),
        ({**WHOLE, "RANK": "2"}, "RANK=2 of WORLD_SIZE=2 is no rank"),
        ({**WHOLE, "WORLD_SIZE": "two"}, "is no rank"),
    ],
)
def test_an_incomplete_description_of_ranks_is_refused(described, message, monkeypatch):
    for name, value in described.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), joining():
        pytest.fail("it is refused before anything waits")


def test_a_training_with_half_an_environment_ends_at_once_in_one_line(command, talker_shards, tmp_path):
    typed = ["syncnet", "--config", tiny("syncnet"), f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    begun = time.monotonic()
    done = command("-m", "train", *typed, env={"WORLD_SIZE": "2"}, timeout=100)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("python -m train syncnet: error: WORLD_SIZE=2 without RANK")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 60


def test_a_port_that_is_taken_is_one_line(command, talker_shards, tmp_path):
    typed = ["syncnet", "--config", tiny("syncnet"), f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("-m", "train", *typed, env={"MASTER_PORT": port}, timeout=100)
    assert done.returncode == 1
    assert f"MASTER_PORT={port}: that port is taken" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
