"""Planning a run stays cheap however many clips there are: in time and memory, to any slot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline import plan
from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards.manifest import Manifest
from tests.helpers import drawn_index
from tests.helpers.checkout import ROOT

FAR = 10**9
REPEATS = {"corpus0": 3.0, "corpus2": 0.5}
PROGRAM = """
import json, sys, time
from data_pipeline.shards.manifest import Manifest
from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.windows import SamplingConfig, WindowConfig

def peak_mb():  # ru_maxrss would begin with the peak of the process that started this one
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6

imported_mb, began = peak_mb(), time.perf_counter()
windows = SourcedWindows(Manifest.load(sys.argv[1]), SamplingConfig(seed=1), WindowConfig())
windows.requests(windows.example(0))
ready = time.perf_counter()
far = windows.example(int(sys.argv[2]))
said = {"first_s": ready - began, "far_s": time.perf_counter() - ready, "far": far, "rows": len(windows.manifest)}
said |= {"imported_mb": imported_mb, "peak_mb": peak_mb(), "torch": "torch" in sys.modules}
print(json.dumps(said))
"""


def seeking(folder: Path) -> dict:
    """What a fresh process takes to plan with an index, and then for a slot far away."""
    typed = [sys.executable, "-c", PROGRAM, str(folder), str(FAR)]
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """400 shards of 50 clips."""
    return drawn_index.write(tmp_path_factory.mktemp("small"), 400, 50)


def test_an_index_is_as_extraction_writes_it(small):
    """Members inside their tars, one after another, as long as the frames make them; nobody in two splits."""
    made = Manifest.load(small)
    assert (len(made), made.shards_until) == (20_000, 400)
    frames, columns = made.column("frames"), made.table.to_pydict()
    for row in (0, 49, 50, 777, 19_999):
        held = [(columns[f"{name}_offset"][row], columns[f"{name}_size"][row]) for name in ("landmarks", "audio")]
        assert [size for _, size in held] == [128 + frames[row] * 2868, 44 + frames[row] * 1280]
        assert held[0][0] + held[0][1] < held[1][0]
        assert (columns["landmarks_offset"][row] == 512) == (row % 50 == 0)
        if row % 50 == 49:
            end = columns["facts_offset"][row] + columns["facts_size"][row]
            assert end < made.shard_file("motion", row // 50).bytes < end + 3000
    assert len(made.codes("identity")[1]) == 200
    assert sorted(made.codes("corpus")[1]) == ["corpus0", "corpus1", "corpus2"]


def test_a_slot_far_away_costs_no_more_than_the_first(small):
    windows = SourcedWindows(Manifest.load(small), SamplingConfig(seed=1, repeats=REPEATS), WindowConfig())
    typed = [str(small), "--seed", "1", "--start", str(FAR), "--stop", str(FAR + 64)]
    made = plan.plan(plan.arguments().parse_args([*typed, "--repeats", "corpus0=3", "--repeats", "corpus2=0.5"]))
    assert {name: one["clips"] for name, one in made["corpora"].items()} == windows.selection.clips
    for one in made["slots"]:
        place, source = windows.example(one["slot"])
        assert source is not None
        assert one["key"] == windows.manifest.at(place.row, "key")
        assert one["source"]["key"] == windows.manifest.at(source.row, "key")
        assert windows.manifest.at(place.row, "identity") == windows.manifest.at(source.row, "identity")
    said = seeking(small)
    assert said["far_s"] < 1
    assert not said["torch"]


def test_memory_grows_by_what_is_planned_with_and_not_by_the_table(small, tmp_path):
    """Some 40 bytes a clip; all columns of a row are several hundred."""
    large = drawn_index.write(tmp_path, 8000, 50)
    before, after = seeking(small), seeking(large)
    assert after["rows"] - before["rows"] == 380_000
    assert (after["peak_mb"] - before["peak_mb"]) * 1e6 / 380_000 < 200
    assert after["first_s"] < 5


@pytest.mark.full
def test_ten_million_clips_in_twenty_thousand_shards(tmp_path):
    """Ready in seconds, in less than 500 MB, without torch."""
    said = seeking(drawn_index.write(tmp_path, 20_000, 500))
    assert said["rows"] == 10_000_000
    assert said["first_s"] < 10
    assert said["far_s"] < 1
    assert said["peak_mb"] < 500
    assert not said["torch"]
