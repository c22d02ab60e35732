"""The identity encoder's recipe: its examples, CosFace, verification against counts, and what is said of chance."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_pipeline.examples.identity import people_digest
from data_pipeline.shards.manifest import Manifest
from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.face import pose
from mytalk.networks import identity, weights
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes import identity as recipes
from train.recipes.identity import (
    IdentityRecipe,
    IdentityTrainConfig,
    auc,
    cosface,
    equal_error_rate,
    evenly,
    verification,
    verified_rows,
)

ALONE = Ranks(0, 1, torch.device("cpu"))
TINY = ROOT / "tests" / "helpers" / "tiny_identity.yaml"


@pytest.fixture(scope="module")
def recipe(talker_shards) -> IdentityRecipe:
    return IdentityRecipe(config.load(IdentityTrainConfig, TINY, [f"shards={talker_shards}"]))


# Examples


def test_what_a_slot_holds_does_not_depend_on_its_batch(recipe):
    """Alone, in pairs or all at once, in any order: the same windows of the same people."""
    make = recipe.examples
    whole = make(list(range(12)))
    for numbers in ([5], [11, 2], [7, 0, 3]):
        made = make(numbers)
        for name in ("landmarks_BTN3", "mask_BT", "person_B", "starts_B"):
            assert torch.equal(getattr(made, name), getattr(whole, name)[numbers]), name
        assert made.keys_B == [whole.keys_B[n] for n in numbers]
    lengths = set(whole.mask_BT.sum(1).int().tolist())
    assert lengths <= set(range(8, 17))
    assert len(lengths) > 3
    assert len(set(whole.starts_B.tolist())) > 3


def test_labels_are_places_in_the_sorted_list_of_the_splits_people(recipe):
    batch = recipe.examples(list(range(16)))
    people = [f"test/train{i}" for i in range(4)]
    assert recipe.examples.people == people
    assert [people[n] for n in batch.person_B.tolist()] == [f"test/{key.partition('-')[0]}" for key in batch.keys_B]
    assert recipe.fixed()["people"] == people_digest(people)
    assert (
        len(
            {
                people_digest(other)
                for other in (people, people[::-1], people[:3], [*people[:2], "test/train2test/train3"])
            }
        )
        == 4
    )


def test_one_clip_a_person_is_enough(tmp_path):
    """Training goes on windows of that clip; validation has no two clips to compare, and says that."""
    shards = talkers.write(tmp_path / "shards", {"train": 3, "val": 2}, clips_each=1)
    made = IdentityRecipe(config.load(IdentityTrainConfig, TINY, [f"shards={shards}"]))
    batch = made.examples([0, 3, 6, 9])
    assert len(set(zip(batch.keys_B, batch.starts_B.tolist()))) > len(set(batch.keys_B))
    folder = tmp_path / "model"
    network = modules_of(made)["identity"].eval()
    validated = made.validate({"identity": network}, ALONE)
    assert validated.scores == {}
    made.export({"identity": network.state_dict()}, folder, validated)
    facts = json.loads((folder / "config.json").read_text())["facts"]["validation"]
    assert recipes.MEASURED not in facts
    assert intervals.proven(facts.get(recipes.MEASURED)) == (
        False,
        "NOT MEASURED: nothing says that it is above chance; do not score with it",
    )


# The loss


def test_cosface_is_the_textbooks_formula():
    """-log( e^{s (cos_y - m)} / (e^{s (cos_y - m)} + sum_{j != y} e^{s cos_j}) ), one number an example."""
    random = np.random.default_rng(0)
    cosine, person, s, m = random.uniform(-1, 1, (5, 7)), random.integers(0, 7, 5), 16.0, 0.2
    expected = []
    for row, y in zip(cosine, person):
        won = np.exp(s * (row[y] - m))
        expected.append(-np.log(won / (won + sum(np.exp(s * row[j]) for j in range(7) if j != y))))
    made = cosface(torch.from_numpy(cosine), torch.from_numpy(person), s, m)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-12)


def test_the_network_begins_at_the_mean_face(recipe):
    """The mean face enters as zero: a step of the first weights moves no common part of all faces."""
    encoder = modules_of(recipe)["identity"].encoder
    entered = recipe.mean_face_N2.flatten() / identity.UNIT_PX - encoder.mean_face_F
    torch.testing.assert_close(entered, torch.zeros_like(entered))
    assert recipe.mean_face_N2.abs().max() > 50, "px, in the head's frame"


# Verification


def test_auc_is_the_share_of_comparisons_ranked_right():
    """Against counting them all, ties included."""
    random = np.random.default_rng(1)
    same, different = random.integers(2, 9, 23) / 8, random.integers(0, 7, 31) / 8
    counted = np.mean([(s > d) + 0.5 * (s == d) for s in same for d in different])
    assert auc(same, different) == pytest.approx(counted)
    assert auc(np.array([0.9, 0.8]), np.array([0.1])) == 1.0
    assert auc(np.array([0.1]), np.array([0.9, 0.8])) == 0.0


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.0
    assert equal_error_rate(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1.0
    assert equal_error_rate(np.array([0.2, 0.7, 0.8, 0.9]), np.array([0.1, 0.15, 0.18, 0.75])) == 0.25


@given(*[arrays(float, st.integers(1, 40), elements=st.integers(-6, 6).map(lambda n: n / 6))] * 2)
def test_equal_error_rate_is_that_of_all_comparisons(same, different):
    """Against counting every score at every threshold, ties included."""
    thresholds = np.concatenate([same, different])
    refused = (same[:, None] < thresholds).mean(0)
    accepted = (different[:, None] >= thresholds).mean(0)
    nearest = np.abs(refused - accepted).argmin()
    assert equal_error_rate(same, different) == (refused[nearest] + accepted[nearest]) / 2


def test_verification_of_thousands_of_clips_takes_little_memory():
    """2000 clips of 400 people are two million pairs, and more people and clips are never compared."""
    embedding = np.random.default_rng(5).standard_normal((2000, 16))
    tracemalloc.start()
    found = verification(embedding, [str(i % 400) for i in range(2000)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[recipes.MEASURED]["people"] == 400
    assert peak < 200e6
    most = IdentityTrainConfig()
    assert most.verification_people * most.verification_clips <= 2000


def test_the_clips_that_are_compared_are_few_and_even():
    """At most so many people, and of each so many clips, whatever the order of the shards."""
    who = [f"p{i % 7}" for i in range(70)]
    splits = ["val"] * 69 + ["train"]
    made = Manifest(Path("nowhere"), {}, pa.table({"identity": who, "split": splits}))
    rows = verified_rows(made, "val", 4, 3)
    assert rows == sorted(rows)
    assert Counter(who[row] for row in rows) == {f"p{i}": 3 for i in (0, 2, 4, 6)}
    assert [row for row in rows if who[row] == "p2"] == [2, 30, 65]
    assert verified_rows(made, "val", 100, 100) == list(range(69)), "all, where they are few"
    assert evenly([3, 1, 2], 2) == [3, 2]


def test_verification_counts_pairs_of_clips_person_by_person():
    """A person's AUC: pairs of their clips against pairs of one of theirs and one of another's."""
    random = np.random.default_rng(2)
    embedding = random.standard_normal((9, 4))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    people = list("aabbbccdd")
    values = []
    for person in "abcd":
        own = [i for i in range(9) if people[i] == person]
        others = [i for i in range(9) if people[i] != person]
        same = [embedding[i] @ embedding[j] for i in own for j in own if i < j]
        different = [embedding[i] @ embedding[j] for i in own for j in others]
        values.append(np.mean([s > d for s in same for d in different]))
    found = verification(embedding, people)
    assert found[recipes.MEASURED]["mean"] == pytest.approx(np.mean(values))
    assert found[recipes.MEASURED]["people"] == 4
    assert verification(embedding[:2], ["a", "a"]) == {} == verification(embedding[:2], ["a", "b"])


def test_random_embeddings_are_reported_as_at_chance():
    random = np.random.default_rng(3)
    embedding = random.standard_normal((60, 8))
    found = verification(embedding / np.linalg.norm(embedding, axis=1, keepdims=True), [str(i % 12) for i in range(60)])
    above, words = intervals.proven(found[recipes.MEASURED])
    assert not above
    assert words.startswith("AT CHANCE: 0.")
    assert words.endswith("over 12 people, chance is 0.50; do not score with it")
    assert found["equal_error_rate"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("values", "above", "said"),
    [
        ([0.8, 0.9, 0.91], True, "above chance: 0.87 [0.72, 1.02] over 3 people, chance is 0.50"),
        ([0.4, 0.6, 0.8], False, "AT CHANCE: 0.60 [0.10, 1.10] over 3 people, chance is 0.50; do not score with it"),
        (
            [1.0],
            False,
            "NOT SHOWN TO BE ABOVE CHANCE: 1.00 no interval over 1 person, chance is 0.50; do not score with it",
        ),
    ],
)
def test_above_chance_means_the_intervals_low_end(values, above, said):
    facts = json.loads(json.dumps(intervals.against_chance(values, 0.5)))
    assert intervals.proven(facts) == (above, said)


@pytest.mark.parametrize("facts", [None, {}, [], "high", {"mean": 1.0, "people": 3, "chance": 0.5}])
@pytest.mark.parametrize("more", [{}, {"ci95": 3}, {"ci95": [0.9]}, {"ci95": ["a", "b"]}])
def test_facts_of_another_form_say_nothing(facts, more):
    broken = {**facts, **more} if isinstance(facts, dict) else facts
    assert intervals.proven(broken)[1].startswith("NOT MEASURED")


# The model's folder


def test_what_is_exported_is_the_extractor_and_its_facts(recipe, tmp_path, capsys):
    """Without the classifier; it embeds as it did in training, and the sentence is said."""
    classifier = modules_of(recipe)["identity"].eval()
    validated = recipe.validate({"identity": classifier}, ALONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "measure", None)  # what was measured is not measured again
        recipe.export({"identity": classifier.state_dict()}, tmp_path, validated)
    loaded = identity.load_model(tmp_path)
    assert loaded.config == recipe.settings.model
    batch = recipe.examples([0, 1])
    with torch.no_grad():
        cosine_BP = classifier(batch.landmarks_BTN3, batch.mask_BT)
        embedding_BE = loaded(pose.to_own_head(batch.landmarks_BTN3, batch.mask_BT), batch.mask_BT)
    expected = embedding_BE @ torch.nn.functional.normalize(classifier.people_PE.detach(), dim=-1).T
    torch.testing.assert_close(cosine_BP, expected)
    facts = json.loads((tmp_path / "config.json").read_text())["facts"]["validation"]
    assert facts["split"] == "val"
    assert facts["clips"] == 4
    assert facts[recipes.MEASURED]["mean"] == validated.scores[recipes.MEASURED]
    assert weights.above_chance(tmp_path, "identity", identity.MEASURED) == intervals.proven(facts[recipes.MEASURED])
    assert facts["manifest"] == recipe.manifest.digest
    assert intervals.proven(facts[recipes.MEASURED])[1] in capsys.readouterr().out


def test_the_picture_is_a_matrix_of_cosines(recipe):
    (made,) = recipe.pictures(modules_of(recipe)).values()
    side = 4 * recipes.CELL_PX  # 2 people of 2 clips
    assert made.shape == (side, side, 3)
    assert made.dtype == np.uint8
    assert (made[:: recipes.CELL_PX, :: recipes.CELL_PX, 0].diagonal() == 255).all()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("verification_clips=1", "verification_clips must be 2"),
        ("verification_people=1", "verification_people must be 2"),
        ("min_frames=17", "min_frames 17 must lie"),
        ("margin=1", "margin must lie"),
        ("scale=0", "scale must be above"),
    ],
)
def test_impossible_settings_are_refused(setting, said):
    with pytest.raises(UserError, match=said):
        config.load(IdentityTrainConfig, TINY, [setting])


def test_a_torn_clip_of_validation_is_told_in_one_line(tmp_path, command):
    """It is read by the training process itself, in validation, and by no worker."""
    shards = talkers.write(tmp_path / "shards", {"train": 3, "val": 1})
    os.truncate(shards / "motion-000002.tar", 9)
    done = command("-m", "train", "identity", "--config", str(TINY), f"shards={shards}", f"run={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "validation: left out: clip val0-0: its shard ends" in done.stderr
    assert "error: no clip of the validation split can be read; mend its shards" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_encoder_of_motion_alone_sees_no_face():
    """Another mean face that moves alike, of another size, at another place, padded or not: the same embedding."""
    torch.manual_seed(0)
    sizes = identity.IdentityConfig(width=16, heads=2, layers=1, hidden=24, kernel=3, embedding=8, sees=identity.MOTION)
    encoder = identity.IdentityEncoder(sizes).double()
    face_N2, other_N2 = torch.randn(2, 478, 2, dtype=torch.float64) * 30
    other_N2 = other_N2 - other_N2.mean(0)
    other_N2 = other_N2 * (face_N2 - face_N2.mean(0)).norm() / other_N2.norm()  # as large
    movement_TN2 = torch.randn(1, 12, 478, 2, dtype=torch.float64)
    movement_TN2 = movement_TN2 - movement_TN2.mean(1, keepdim=True)
    mask_BT = torch.ones(1, 12, dtype=torch.float64)
    own = encoder(face_N2 + movement_TN2, mask_BT)
    torch.testing.assert_close(encoder(other_N2 + 5 + movement_TN2, mask_BT), own)
    torch.testing.assert_close(encoder(1.7 * (face_N2 + movement_TN2), mask_BT), own)
    longer = torch.cat([face_N2 + movement_TN2, 99 * torch.ones(1, 4, 478, 2)], dim=1)
    torch.testing.assert_close(encoder(longer, torch.nn.functional.pad(mask_BT, (0, 4))), own)
    assert not torch.allclose(encoder(face_N2 + 2 * movement_TN2, mask_BT), own, atol=1e-3)
