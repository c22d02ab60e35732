"""What holds for every recipe."""

from __future__ import annotations

import shutil

import pytest
import torch

from data_pipeline.sample import trained_on
from data_pipeline.shards import manifest, manifest_update
from mytalk import config
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import RECIPES
from train.run_folder import resume


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_crops_of_another_size_are_refused(filmed_shards, tmp_path, name, split):
    """A single clip of 128 px among those that are trained or measured on, for every recipe."""
    shards = tmp_path / "shards"
    shutil.copytree(filmed_shards, shards)
    made = manifest.Manifest.load(shards)
    crop_px, row = made.column("crop_px").copy(), made.rows(split)[1]
    crop_px[row] = 128
    place = made.table.column_names.index("crop_px")
    manifest_update.save(shards, made.table.set_column(place, "crop_px", manifest.pa.array(crop_px)), made.header)
    schema, recipe = RECIPES[name]
    tiny = ROOT / "tests" / "helpers" / f"tiny_{name}.yaml"
    with pytest.raises(
        UserError, match=r"is a crop of 128 px and training needs 256; extract its videos again"
    ) as told:
        recipe(config.load(schema, tiny, [f"shards={shards}"]))
    assert made.column("key")[row] in str(told.value)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_says_whom_it_is_trained_on_and_selected_by(name, filmed_shards, tmp_path):
    """From the manifest alone; what the run folder says of earlier settings stays, and what nobody knows is named."""
    made = manifest.Manifest.load(filmed_shards)
    schema, recipe = RECIPES[name]
    tiny = ROOT / "tests" / "helpers" / f"tiny_{name}.yaml"
    settings = config.load(schema, tiny, [f"shards={filmed_shards}", f"run={tmp_path}", f"init_from={tmp_path / 'x'}"])
    earlier = trained_on.TrainedOn(trained=trained_on.Shown(people=frozenset(["ab"])))
    trained_on.write(tmp_path, earlier)
    known = resume.whom(recipe(settings), settings)
    people = {split: trained_on.shown(made, made.rows(split)).people for split in ("train", "val", "unseen")}
    assert known.trained.people == people["train"] | {"ab"}
    assert known.selected.people == people["val"]
    assert not known.trained.people & people["unseen"]
    assert known.corpora == {"test"}
    assert known.unknown == {"init_from"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_player_has_dropout(recipe, filmed_shards):
    """It would be drawn by torch's generator, and a curve would depend on how a batch is divided."""
    schema, made = RECIPES[recipe]
    settings = config.load(schema, str(ROOT / "tests" / "helpers" / f"tiny_{recipe}.yaml"), [f"shards={filmed_shards}"])
    for player in made(settings).players().values():
        for module in player.module.modules():
            assert not isinstance(module, torch.nn.modules.dropout._DropoutNd) or module.p == 0
            assert not getattr(module, "dropout", 0)
