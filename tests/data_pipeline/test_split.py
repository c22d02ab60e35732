"""Splits: people who share anything stay together, the same answer twice, nobody moves unasked."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.annotate import command as annotate
from data_pipeline.columns import command as columns
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging
from data_pipeline.split import command as split
from data_pipeline.split import deal, groups
from mytalk.command import UserError
from tests.helpers.manifests import row, table

PEOPLE = st.integers(0, 30).map(lambda n: f"c/p{n}")
CLIPS = st.lists(st.tuples(PEOPLE, st.integers(0, 40).map(str)), min_size=1, max_size=80)


def connected(people_and_sources: list[tuple[str, str]]) -> list[set[str]]:
    """Independent closed form: grow every person's set until nothing more is shared."""
    sets = []
    left = {person for person, _ in people_and_sources}
    while left:
        group = {left.pop()}
        while True:
            held = {source for person, source in people_and_sources if person in group}
            grown = group | {person for person, source in people_and_sources if source in held}
            if grown == group:
                break
            group = grown
        sets.append(group)
        left -= group
    return sets


@settings(max_examples=200, deadline=None)
@given(clips=CLIPS, order=st.randoms(use_true_random=False))
def test_groups_are_the_connected_people(clips, order):
    group_of = groups.groups(clips)
    by_name: dict[str, set[str]] = {}
    for person, group in group_of.items():
        by_name.setdefault(group, set()).add(person)
    assert sorted(map(sorted, by_name.values())) == sorted(map(sorted, connected(clips)))
    assert all(name == min(people) for name, people in by_name.items())
    shuffled = clips[:]
    order.shuffle(shuffled)
    assert groups.groups(shuffled) == group_of


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 60),
    val=st.floats(0.01, 0.5),
    unseen=st.floats(0.01, 0.5),
    seed=st.integers(0, 5),
)
def test_every_split_has_its_share(count, val, unseen, seed):
    if val + unseen >= 1:
        return
    names = [f"p{n}" for n in range(count)]
    if count < 3:
        with pytest.raises(UserError, match="at least 3"):
            deal.assign(names, val, unseen, seed)
        return
    got = deal.assign(names, val, unseen, seed)
    assert got == deal.assign(names[::-1], val, unseen, seed)
    sizes = {name: list(got.values()).count(name) for name in deal.DEALT}
    assert min(sizes.values()) >= 1
    assert sum(sizes.values()) == count
    if count >= 20:
        assert abs(sizes["val"] - max(1, val * count)) <= 1
        assert abs(sizes["unseen"] - max(1, unseen * count)) <= 1


@pytest.mark.parametrize(("count", "parts"), [(12, 3), (13, 3), (5, 2)])
def test_every_person_is_unseen_in_one_part(count, parts):
    names = [f"p{n}" for n in range(count)]
    found = [deal.assign(names, 0.1, 0.2, 0, fold=(number, parts)) for number in range(1, parts + 1)]
    unseen = [{name for name, place in of_part.items() if place == "unseen"} for of_part in found]
    assert sorted(name for part in unseen for name in part) == sorted(names)
    assert all(set(of_part.values()) == set(deal.DEALT) for of_part in found)
    with pytest.raises(UserError, match="3 independent people are too few for 4 parts"):
        deal.assign(names[:3], 0.1, 0.2, 0, fold=(1, 4))


@settings(max_examples=100, deadline=None)
@given(clips=CLIPS, late=CLIPS, seed=st.integers(0, 3))
def test_invariant_3_no_group_is_in_two_splits_and_nobody_moves(clips, late, seed):
    group_of = groups.groups(clips)
    if len(set(group_of.values())) < 3:
        return
    first = deal.assign(group_of.values(), 0.2, 0.3, seed)
    late = [(f"late {person}", f"late {source}") for person, source in late]
    group_of_all = groups.groups(clips + late)
    held = {group: first[group] for group in group_of.values()}
    second = deal.assign(set(group_of_all.values()), 0.2, 0.3, seed, held)
    assert all(second[group_of[person]] == first[group_of[person]] for person, _ in clips)
    for people in connected(clips + late):
        assert len({second[group_of_all[person]] for person in people}) == 1


def folder_of(tmp_path, *rows):
    manifest_update.save(tmp_path, table(*rows), {"protocol": {}, "shards": []})
    return tmp_path


def run(folder, *options: str) -> int:
    return split.run(split.arguments().parse_args([str(folder), *options]))


def people(count: int, first: int = 0) -> list[dict]:
    return [row(f"c/p{n:02d}", "", key=f"clip-{n}") for n in range(first, first + count)]


def test_the_command_splits_once(tmp_path, capsys):
    folder = folder_of(tmp_path, *people(10))
    assert run(folder) == 0
    made = Manifest.load(folder)
    assert [len(made.rows(name)) for name in deal.DEALT] == [7, 1, 2]
    assert made.header["split"] == {"val": 0.1, "unseen": 0.2, "seed": 0}
    assert made.header["protocol"] == {}
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(folder) == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with pytest.raises(UserError, match="--force"):
        run(folder, "--seed", "1")
    assert run(folder, "--seed", "1", "--force") == 0
    moved = Manifest.load(folder)
    assert moved.column("split").tolist() != made.column("split").tolist()
    assert run(folder, "--force") == 0
    assert Manifest.load(folder).digest == made.digest
    assert "train" in capsys.readouterr().out


def test_the_parts_of_a_split_are_typed_one_by_one(tmp_path, capsys):
    folder, unseen = folder_of(tmp_path, *people(10)), []
    for number in (1, 2, 3):
        assert run(folder, "--fold", f"{number}/3", "--force") == 0
        made = Manifest.load(folder)
        assert made.header["split"] == {"val": 0.1, "fold": f"{number}/3", "seed": 0}
        unseen += made.rows("unseen").tolist()
    assert sorted(unseen) == list(range(10))
    with pytest.raises(UserError, match=r"already split by --val 0\.1 --fold 3/3"):
        run(folder, "--fold", "1/3")
    for wrong in ("0/3", "4/3", "1/1", "3"):
        with pytest.raises(SystemExit):
            run(folder, "--fold", wrong)
    assert "write K/N" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["has_audio", "speaks"])
def test_people_without_speech_change_no_split_of_those_who_speak(tmp_path, column):
    """They are dealt apart: no split is left with nobody who can be heard."""
    silent = [row(f"c/s{n:02d}", "", key=f"silent-{n}") | {column: False} for n in range(10)]
    run(folder_of(tmp_path / "all", *people(10), *silent))
    run(folder_of(tmp_path / "speaking", *people(10)))
    dealt = Manifest.load(tmp_path / "all").column("split").tolist()
    assert dealt[:10] == Manifest.load(tmp_path / "speaking").column("split").tolist()
    assert sorted(dealt[10:]) == ["train"] * 7 + ["unseen"] * 2 + ["val"]
    one = folder_of(tmp_path / "one", *people(10), silent[0])
    assert run(one) == 0
    assert Manifest.load(one).column("split").tolist() == [*dealt[:10], "train"]


def test_people_who_share_a_video_stay_together(tmp_path):
    rows = people(9)
    for n in (2, 5, 7):
        rows[n]["source_sha256"] = "one video"
    for seed in range(5):
        assert run(folder_of(tmp_path, *rows), "--seed", str(seed), "--force") == 0
        where = Manifest.load(tmp_path).column("split")
        assert where[2] == where[5] == where[7]


def test_people_who_come_later_are_added(tmp_path):
    run(folder_of(tmp_path, *people(10)))
    first = Manifest.load(tmp_path)
    grown = merging.carry_over(table(*people(20)), first.header, first.table, first.header)
    manifest_update.save(tmp_path, *grown)
    assert run(tmp_path) == 0
    second = Manifest.load(tmp_path)
    assert second.column("split")[:10].tolist() == first.column("split").tolist()
    assert [len(second.rows(name)) for name in deal.DEALT] == [14, 2, 4]
    bridge = people(21)
    where = second.column("split").tolist()
    bridge[20]["source_sha256"] = bridge[where.index("train")]["source_sha256"]
    bridge.append(row("c/p20", "", source=bridge[where.index("val")]["source_sha256"], key="bridge"))
    bridged = merging.carry_over(table(*bridge), second.header, second.table, second.header)
    manifest_update.save(tmp_path, *bridged)
    with pytest.raises(UserError, match="one group"):
        run(tmp_path)
    assert run(tmp_path, "--force") == 0
    Manifest.load(tmp_path)


def test_a_split_torn_by_a_kill_is_mended_by_the_same_command(tmp_path):
    folder = folder_of(tmp_path, *people(10))
    header = (folder / "manifest.json").read_bytes()
    run(folder)
    digest = Manifest.load(folder).digest
    (folder / "manifest.json").write_bytes(header)  # killed between the two files
    with pytest.raises(UserError, match="not of one write"):
        Manifest.load(folder)
    assert run(folder) == 0
    assert Manifest.load(folder).digest == digest


def test_split_refuses_missing_shards_and_too_few_people(command, tmp_path):
    with pytest.raises(UserError, match="python -m data_pipeline extract"):
        run(tmp_path)
    folder = folder_of(tmp_path, *people(2))
    with pytest.raises(UserError, match="at least 3"):
        run(folder)
    for options in (["--val", "0"], ["--unseen", "1"], ["--val", "0.6", "--unseen", "0.5"]):
        with pytest.raises(UserError, match="shares"):
            run(folder, *options)
    done = command("-m", "data_pipeline", "split", str(folder))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_process_exits_without_an_abort(command, tmp_path):
    """Threads of the Parquet reader once aborted every second process at its exit."""
    folder = folder_of(tmp_path, *people(3))
    for _ in range(6):
        done = command("-m", "data_pipeline", "split", str(folder))
        assert done.returncode == 0, done.stderr


def test_everyone_goes_into_one_split_where_a_corpus_is_held_out(tmp_path, command):
    """And the shares of another split are not needed."""
    from tests.helpers import talkers

    shards = talkers.write(tmp_path, {"train": 2, "unseen": 1})
    done = command("-m", "data_pipeline", "split", str(shards), "--everyone", "unseen", "--force")
    assert done.returncode == 0, done.stderr
    assert set(Manifest.load(shards).column("split").tolist()) == {"unseen"}


# Shares by hours, strata, wishes, joined columns


GROUPS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["a", "b", "c"]), st.integers(1, 300)),
    min_size=3,
    max_size=80,
    unique_by=lambda one: one[0],
)


@settings(max_examples=100, deadline=None)
@given(made=GROUPS, order=st.randoms(use_true_random=False), seed=st.integers(0, 3))
def test_hours_are_dealt_near_their_shares_in_every_stratum(made, order, seed):
    """Within the largest group of each share, of all and of every stretch; in any order of rows."""
    dealt_groups = [deal.Group(f"p{n}", float(weight), (stratum,)) for n, stratum, weight in made]
    got = deal.dealt(dealt_groups, 0.2, 0.3, seed)
    shuffled = dealt_groups[:]
    order.shuffle(shuffled)
    assert deal.dealt(shuffled, 0.2, 0.3, seed) == got
    assert set(got.values()) == set(deal.DEALT)
    heaviest = max(group.weight for group in dealt_groups)
    for strata in (["a", "b", "c"], ["a"], ["b"], ["c"]):
        chosen = [group for group in dealt_groups if group.stratum[0] in strata]
        total = sum(group.weight for group in chosen)
        for split_name, share in (("train", 0.5), ("val", 0.2), ("unseen", 0.3)):
            held = sum(group.weight for group in chosen if got[group.name] == split_name)
            assert abs(held - share * total) <= 4 * heaviest


def labelled(count: int = 24) -> list[dict]:
    rows = people(count)
    for n, made in enumerate(rows):
        made.update(corpus="ab"[n % 2], frames=25 + 10 * n, source=f"s{n}.mp4")
    return rows


def test_hours_strata_and_the_same_answer_twice(tmp_path):
    folder = folder_of(tmp_path, *labelled())
    options = ("--by", "hours", "--stratify", "corpus", "--val", "0.2", "--unseen", "0.3")
    assert run(folder, *options) == 0
    made = Manifest.load(folder)
    stamp = (folder / "manifest.parquet").stat().st_mtime_ns
    assert run(folder, *options) == 0
    assert (folder / "manifest.parquet").stat().st_mtime_ns == stamp
    frames, splits, corpora = (made.column(name) for name in ("frames", "split", "corpus"))
    for corpus in "ab":
        of_corpus = corpora == corpus
        for name, share in (("train", 0.5), ("val", 0.2), ("unseen", 0.3)):
            held = frames[of_corpus & (splits == name)].sum() / frames[of_corpus].sum()
            assert abs(held - share) < 0.2, (corpus, name)
    with pytest.raises(UserError, match=r"by --val 0\.2 --unseen 0\.3 --seed 0 --by hours --stratify corpus;"):
        run(folder)


def test_a_corpus_is_held_out_with_who_is_in_it_elsewhere(tmp_path):
    rows = labelled()
    rows[0]["source_sha256"] = rows[1]["source_sha256"]  # of corpora a and b
    assert run(folder_of(tmp_path, *rows), "--hold-out", "corpus=b") == 0
    splits = Manifest.load(tmp_path).column("split").tolist()
    assert splits[1::2] == ["held_out"] * 12
    assert splits[0] == "held_out"
    assert {*splits[2::2]} == {*deal.DEALT}
    with pytest.raises(UserError, match="no clip has it; there are: a, b"):
        run(tmp_path, "--hold-out", "corpus=c", "--force")


def test_lists_and_official_splits_are_kept_to(tmp_path):
    rows = labelled()
    table_ = table(*rows)
    official = pa.array(["test" if n in (3, 8) else "train" if n % 2 else None for n in range(len(rows))])
    manifest_update.save(tmp_path / "s", table_.append_column("official_split", official), {"shards": []})
    (tmp_path / "list.txt").write_text("p04\ns6.mp4\n\nof nobody\n")
    listed = f"unseen={tmp_path / 'list.txt'}"
    assert run(tmp_path / "s", "--official", "--list", listed) == 0
    splits = Manifest.load(tmp_path / "s").column("split").tolist()
    assert [splits[n] for n in (3, 8, 4, 6)] == ["unseen"] * 4
    assert {splits[n] for n in range(1, 24, 2) if n != 3} == {"train", "val"}
    header = Manifest.load(tmp_path / "s").header["split"]
    assert header["official"] is True
    assert header["list"][0].startswith(f"{listed}@")
    (tmp_path / "list.txt").write_text("p05\n")
    with pytest.raises(UserError, match="already split by"):
        run(tmp_path / "s", "--official", "--list", listed)
    with pytest.raises(UserError, match="there is no split 'test'"):
        run(tmp_path / "s", "--list", f"test={tmp_path / 'list.txt'}", "--force")


@pytest.mark.parametrize("column", ["copy_group", "person_cluster"])
def test_copies_and_faces_join_people_and_a_table_that_parts_them_is_refused(tmp_path, column):
    rows = people(12)
    values = pa.array(["x" if n in (2, 5, 9) else None if n % 2 else f"own {n}" for n in range(12)])
    for seed in range(4):
        made = table(*rows).append_column(column, values)
        manifest_update.save(tmp_path, made, {"protocol": {}, "shards": []})
        assert run(tmp_path, "--seed", str(seed)) == 0
        manifest = Manifest.load(tmp_path)
        where = manifest.column("split")
        assert where[2] == where[5] == where[9]
        assert manifest.header["split"]["joined"] == [column]
    moved = "val" if where[2] == "train" else "train"
    parted = merging.set_column(manifest.table, "split", pa.array([*where[:2], moved, *where[3:]]))
    parted = merging.set_column(parted, "duplicate_group", pa.array([f"g{n}" for n in range(12)]))
    with pytest.raises(UserError, match=f"{column} 'x' is in splits"):
        manifest_update.save(tmp_path, parted, manifest.header)
    labels_only = {name: value for name, value in manifest.header["split"].items() if name != "joined"}
    manifest_update.save(tmp_path, parted, {**manifest.header, "split": labels_only})
    with pytest.raises(UserError, match="--force"):
        run(tmp_path, "--seed", "3")
    assert run(tmp_path, "--seed", "3", "--labels-only") == 0


def test_a_folder_without_a_manifest_is_refused_and_not_made(tmp_path):
    with pytest.raises(UserError, match=r"gone/manifest\.json is missing; make it with"):
        run(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(("added", "words"), [(split, []), (annotate, ["speech"]), (columns, ["mel"])])
def test_remote_shards_are_not_written_into(added, words, capsys):
    """They are indexed first; the words to type are told."""
    with pytest.raises(SystemExit):
        added.arguments().parse_args(["s3://bucket/shards", *words])
    assert "data_pipeline index data/mine s3://bucket/shards" in capsys.readouterr().err
