"""`python -m data_pipeline plan` says what is then consumed."""

from __future__ import annotations

import json
import shutil

import pytest

from data_pipeline import plan
from data_pipeline.examples.motion import MotionExamples
from data_pipeline.sample.batch_plan import micro_batches
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage.store import Store
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.consumed import (
    GLOBAL_BATCH,
    RECIPES,
    with_column,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores


class Counting(Store):
    """Adds up what is asked of the motion column's tars."""

    asked_bytes = 0

    def each(self, ranges):
        self.asked_bytes += sum(size for name, _, size in ranges if name.startswith("motion"))
        return super().each(ranges)


def planned(*typed: str) -> dict:
    return plan.plan(plan.arguments().parse_args([str(part) for part in typed]))


SIZES = {
    "motion": ["--min-frames", "8", "--max-frames", "14", "--source-frames", "6"],
    "syncnet": ["--max-frames", "12"],
    "identity": ["--min-frames", "6", "--max-frames", "10"],
    "appearance": [],
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("world", [1, 3])
def test_the_plan_is_what_is_then_consumed(mixed, recipe, world):
    """Each rank's slots in its order, keys and windows, the bytes that it asks for; mixed, filtered and pinned."""
    typed = ["--global-batch", GLOBAL_BATCH, "--world-size", world, "--max-micro-batch", 2, "--seed", 3]
    chosen = ["--where", "frames >= 21", "--repeats", "a=2", "--repeats", "b=0.5", "--shards-until", 4]
    spread = ["--start", 24, "--stop", 48]
    made = planned(mixed, "--recipe", recipe, *typed, *chosen, *spread, *SIZES[recipe])
    made = json.loads(json.dumps(made))
    store = Counting(mixed)
    drawn = SamplingConfig("train", 3, "frames >= 21", {"a": 2.0, "b": 0.5}, 4)
    examples = RECIPES[recipe](Manifest.load(mixed, store), drawn)
    assert made["selection"] == examples.selection.digest
    for rank in range(world):
        said = [one for one in made["slots"] if one["rank"] == rank]
        asked = 0
        numbers = [n for some in micro_batches(GLOBAL_BATCH, 2, rank, world, 2, 4) for n in some]
        assert [one["slot"] for one in said] == numbers
        for one in said:
            store.asked_bytes = 0
            batch = examples([one["slot"]])
            asked += store.asked_bytes
            assert store.asked_bytes == one["bytes"]
            assert (one["key"], one["window"][0]) == (batch.keys_B[0], int(batch.starts_B[0]))
            assert one["step"] == one["slot"] // GLOBAL_BATCH
            if recipe != "appearance":
                assert one["window"][1] - one["window"][0] == int(batch.mask_BT[0].sum())
        assert made["ranks"][rank] == {"rank": rank, "slots": len(numbers), "bytes": asked}
    frames, split = examples.manifest.column("frames"), examples.manifest.column("split")
    dropped = int((frames[split == "train"] < 21).sum())
    assert made["dropped"] == {"frames >= 21": dropped}
    assert made["clips"] == {"manifest": 16, "split": 12, "selected": 12 - dropped}
    counts = examples.selection.clips
    weights = {"a": 2 * counts["a"], "b": counts["b"] / 2}
    for name, corpus in made["corpora"].items():
        assert corpus["clips"] == counts[name]
        assert corpus["share"] == pytest.approx(weights[name] / sum(weights.values()))
    epoch = sum(corpus["clips"] * {"a": 2, "b": 0.5}.get(name, 1) for name, corpus in made["corpora"].items())
    assert made["steps_per_epoch"] == pytest.approx(epoch / GLOBAL_BATCH)
    alone = planned(mixed, "--recipe", recipe, *typed, *chosen, *spread, *SIZES[recipe], "--rank", world - 1)
    assert alone["slots"] == [one for one in made["slots"] if one["rank"] == world - 1]
    assert [rank["rank"] for rank in alone["ranks"]] == [world - 1]


def test_the_plan_takes_the_settings_of_a_run(shards, command):
    """As typed by a user, whose run deals micro-batches of two: of eight examples, rank 1 holds slots 2, 3, 6, 7."""
    tiny = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
    said = command("-m", "data_pipeline", "plan", str(shards), "--config", tiny, "--world-size", "2", "--json")
    assert said.returncode == 0, said.stderr
    made = json.loads(said.stdout)
    assert (made["global_batch"], made["stop"], made["world_size"]) == (8, 8, 2)
    assert [one["slot"] for one in made["slots"] if one["rank"] == 1] == [2, 3, 6, 7]
    examples = MotionExamples(Manifest.load(shards), SamplingConfig(seed=1), WindowConfig(12, 24, 10))
    batch = examples(list(range(8)))
    by_slot = {one["slot"]: one for one in made["slots"]}
    assert [by_slot[n]["key"] for n in range(8)] == batch.keys_B
    assert [by_slot[n]["window"][0] for n in range(8)] == batch.starts_B.tolist()
    assert all(set(one) >= {"slot", "key", "window", "rank", "bytes", "source"} for one in made["slots"])


def test_the_plan_in_words(mixed, command):
    typed = [str(mixed), "--global-batch", "30", "--where", "frames >= 22 and yaw_deg < 30", "--recipe", "identity"]
    said = command("-m", "data_pipeline", "plan", *typed)
    assert said.returncode == 0, said.stderr
    made = planned(*typed)
    lines = said.stdout.splitlines()
    assert f"16 clips, 12 in the split, {made['clips']['selected']} selected" in lines[0]
    assert f"dropped   {made['dropped']['frames >= 22']} by 'frames >= 22' alone" in lines
    assert "dropped   0 by 'yaw_deg < 30' alone" in lines
    assert made["selection"] in said.stdout
    assert sum(line.startswith("corpus ") for line in lines) == 2
    assert sum(line.startswith("slot ") for line in lines) == 20
    assert lines[-1] == "and 10 slots more; --json lists all"
    first = made["slots"][0]
    assert f"{first['key']} {first['window']}" in said.stdout


WRONG = [
    (["--where", "frams > 3"], "did you mean frames"),
    (["--where", "frames > 999"], "the filter leaves nothing"),
    (["--repeats", "x=2"], "corpus 'x'"),
    (["--repeats", "a"], "not CORPUS=NUMBER"),
    (["--repeats", "a=-1"], "give a number"),
    (["--repeats", "a=0", "--repeats", "b=0"], "nothing of split 'train' is left"),
    (["--rank", "2", "--world-size", "2"], "--rank must lie between 0 and 1"),
    (["--global-batch", "7", "--world-size", "2"], "global"),
    (["--world-size", "0"], "--world-size"),
    (["--start", "9", "--stop", "3"], "--start 9"),
    (["--min-frames", "90", "--max-frames", "10"], "window.min_frames 90"),
    (["--recipe", "syncnet", "--max-frames", "0"], "window.min_frames must be 1 or more"),
    (["--recipe", "identity", "--max-frames", "3"], "window.max_frames 3"),
    (["--config", "no.yaml"], "no.yaml"),
    (["--config", "{torn}"], "not YAML"),
    (["--config", "{list}"], "holds no settings"),
    (["--config", "{unknown}"], "widht"),
    (["--config", "{text}"], "global_batch is 'ten'"),
    (["--split", "unseen"], "no clip is in split 'unseen'"),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_impossible_settings_of_a_plan_are_refused(mixed, tmp_path, typed, said):
    """With the class of errors that commands print in one line."""
    texts = {"torn": "a: [", "list": "[1, 2]", "unknown": "window: {widht: 3}", "text": "global_batch: ten"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    typed = [part.format(**{name: tmp_path / name for name in texts}) for part in typed]
    with pytest.raises((UserError, OSError)) as raised:
        planned(mixed, *typed)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_refused_plan_is_one_line(tmp_path, command):
    for typed in (["nowhere"], [str(tmp_path), "--where", "("]):
        said = command("-m", "data_pipeline", "plan", *typed)
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)


def test_a_plan_names_clips_that_cannot_be_and_goes_on(talker_shards, tmp_path, capsys):
    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    before = Manifest.load(folder)
    row = int(before.rows("train")[0])
    sizes = before.column("landmarks_size").tolist()
    other = with_column(before, "landmarks_size", [9 if i == row else size for i, size in enumerate(sizes)])
    manifest_update.save(folder, other.table, before.header)
    args = plan.arguments().parse_args([str(folder), "--global-batch", "8", "--min-frames", "12", "--max-frames", "24"])
    made = plan.plan(args)
    assert list(made["damaged"]) == [str(before.at(row, "key"))]
    assert plan.run(args) == 0
    assert f"damaged   {before.at(row, 'key')}: 9 bytes of landmarks do not fit" in capsys.readouterr().out
