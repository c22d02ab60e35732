"""The protocol's texts and digests."""

from __future__ import annotations

import pytest

from data_pipeline.shards.manifest import Manifest
from eval import benchmark, protocol
from eval import motion as eval_motion
from eval.tasks import Settings
from mytalk.dub.commands import dub
from mytalk.dub.commands import motion as mytalk_motion
from mytalk.networks import weights


def test_the_evaluator_that_conditioned_the_motion_model_is_named_as_such(films, models, stand_ins) -> None:
    same = protocol.digests(
        Manifest.load(films),
        Settings(),
        {
            "motion_": ("motion", models["motion"]),
            "identity_": ("identity", models["motion"] / weights.EXTRACTOR),
        },
    )
    assert same["identity_weights"] == same["motion_extractor_weights"]
    definition = protocol.videos(same).metrics["identity_cosine"].definition
    assert "the same network that conditioned the motion model" in definition


def test_the_name_of_the_identity_encoder_is_that_of_exported_models() -> None:
    assert weights.EXTRACTOR == "identity"


def test_what_is_usual_is_not_named() -> None:
    assert not {"frames", "guidance", "person_guidance", "precision"} & Settings().stated().keys()
    assert Settings(precision="bf16").stated()["precision"] == "bf16"


@pytest.mark.parametrize("module", [dub, mytalk_motion, eval_motion, benchmark])
@pytest.mark.parametrize("option", ["--guidance", "--person-guidance"])
def test_every_command_refuses_a_guidance_that_cannot_be_before_it_loads_anything(module, option, capsys) -> None:
    for weight in ("-0.5", "nan", "inf"):
        with pytest.raises(SystemExit):
            module.arguments().parse_args([option, weight])
        assert f"argument {option}: must be 0 or more, not {weight}" in capsys.readouterr().err
