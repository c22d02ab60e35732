"""Hostfiles: DeepSpeed's own reader reads the same; what is none is refused with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.hosts import hostfile
from launch.hosts.hostfile import Host
from mytalk.command import UserError

NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,12}", fullmatch=True)


@given(
    hosts=st.dictionaries(NAMES, st.integers(1, 16), min_size=1, max_size=6), noise=st.sampled_from(["", "# x", " "])
)
def test_it_reads_what_deepspeed_reads(tmp_path_factory, hosts, noise):
    from deepspeed.launcher.runner import fetch_hostfile

    file = tmp_path_factory.mktemp("hosts") / "hostfile"
    file.write_text("".join(f"{noise}\n{name} slots={slots}\n" for name, slots in hosts.items()))
    assert {host.name: host.slots for host in hostfile.read(file)} == dict(fetch_hostfile(str(file)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        ("# nobody\n", "names no host"),
        ("one\n", "line 1: a host is written NAME slots=N, not 'one'"),
        ("one slots=2\ntwo slots=\n", "line 2: a host is written"),
        ("one slots=0\n", "line 1: one has no slots"),
        ("one slots=1\none slots=1\n", "line 2: one comes a second time"),
        ("-oProxyCommand=touch slots=1\n", "line 1: a host is written"),
        ("a;b slots=1\n", "line 1: a host is written"),
        ("$(x) slots=1\n", "line 1: a host is written"),
    ],
)
def test_what_is_no_hostfile_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UserError) as refused:
        hostfile.read(tmp_path / "hosts")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_hostfile_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read as a hostfile"):
        hostfile.read(tmp_path / "hosts")


@given(slots=st.lists(st.integers(1, 8), min_size=1, max_size=6), share=st.floats(0, 1))
def test_the_first_hosts_are_filled(slots, share):
    hosts = [Host(f"h{i}", count) for i, count in enumerate(slots)]
    processes = max(1, round(share * sum(slots)))
    chosen = hostfile.shared(hosts, processes)
    assert sum(host.slots for host in chosen) == processes
    assert [host.name for host in chosen] == [host.name for host in hosts[: len(chosen)]]
    assert [host.slots for host in chosen[:-1]] == slots[: len(chosen) - 1]
    assert 0 < chosen[-1].slots <= slots[len(chosen) - 1]
