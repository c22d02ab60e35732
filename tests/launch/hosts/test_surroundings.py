"""What each launcher's environment says of a host's place, and the table of the page."""

from __future__ import annotations

import pytest

from launch.hosts.surroundings import NAMES, Place, place
from mytalk.command import UserError
from tests.helpers.checkout import ROOT

TOLD = {
    "PET": {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "4", "PET_MASTER_ADDR": "a"},
    "SKYPILOT": {
        **{"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "4"},
        "SKYPILOT_NODE_IPS": "a\nb",
    },
    "DSTACK": {
        **{"DSTACK_NODES_NUM": "2", "DSTACK_NODE_RANK": "1", "DSTACK_GPUS_PER_NODE": "4"},
        "DSTACK_MASTER_NODE_IP": "a",
    },
    "MPI": {
        **{"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PET_NPROC_PER_NODE": "4"},
        "MASTER_ADDR": "a",
    },
    "SLURM": {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_GPUS_ON_NODE": "4", "MASTER_ADDR": "a"},
}


@pytest.mark.parametrize("told", TOLD)
def test_each_launcher_is_understood(told):
    assert place({**TOLD[told], "HOME": "/"}, {}) == Place(2, 1, 4, "a:29500")


@pytest.mark.parametrize("told", TOLD)
def test_what_is_typed_wins(told):
    typed = {"nodes": 3, "node_rank": 2, "processes": 8, "endpoint": "other:1234"}
    assert place(TOLD[told], typed) == Place(3, 2, 8, "other:1234")


def test_alone_it_needs_nothing():
    assert place({}, {}) == Place(1, 0, 1, "127.0.0.1:29500")


@pytest.mark.parametrize("told", TOLD)
def test_half_a_description_is_refused_by_the_name_that_lacks(told):
    half = {name: value for name, value in TOLD[told].items() if not value.startswith("a")}
    (host,) = {*TOLD[told]} - {*half}
    with pytest.raises(UserError, match=f"this is one of 2 hosts, but {host} is not set"):
        place(half, {})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"PET_NNODES": "two"}, "PET_NNODES must be a number"),
        ({"PET_NODE_RANK": "2"}, "host 2 of 2 is none"),
        ({"PET_NPROC_PER_NODE": "0"}, "PET_NPROC_PER_NODE must be a number of at least 1"),
        ({"PET_MASTER_PORT": "http"}, "PET_MASTER_PORT must be a number"),
    ],
)
def test_what_is_no_place_is_refused(more, said):
    with pytest.raises(UserError, match=said):
        place({**TOLD["PET"], **more}, {})


def test_the_page_has_every_name():
    page = (ROOT / "docs" / "launch.md").read_text()
    for names in NAMES.values():
        for name in names.values():
            assert f"`{name}`" in page, name
