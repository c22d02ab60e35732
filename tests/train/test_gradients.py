"""Invariant 8: how a global batch is split changes no gradient, of any player of any recipe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mytalk import config, intervals
from mytalk.networks import identity
from mytalk.networks.identity import IdentityConfig, IdentityEncoder
from tests.helpers.appearance_models import pixel_syncnet
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import RECIPES, modules_of
from train.engine.train_state import TrainState

GLOBAL_BATCH = 8


def randomised(module: torch.nn.Module, gain: float, random: torch.Generator) -> torch.nn.Module:
    """In float64, every weight drawn anew, so that no gradient is zero by its start."""
    module.double()
    with torch.no_grad():
        for weight in module.parameters():
            drawn = torch.randn(weight.shape, dtype=torch.float64, generator=random)
            weight.copy_(gain * drawn / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.7 + 0.3 * drawn)
    return module


def gradients(recipe, modules: dict[str, torch.nn.Module], parts: int) -> dict[str, torch.Tensor]:
    """Of the mean loss of slots 32 to 39, summed over `parts` equal micro-batches, in float64, as the loop does."""
    make, size = recipe.examples, GLOBAL_BATCH // parts
    engines = {name: SimpleNamespace(module=module) for name, module in modules.items()}
    cpu = SimpleNamespace(device=torch.device("cpu"))
    state = SimpleNamespace(engines=engines, config=SimpleNamespace(precision="fp32"), ranks=cpu)
    for module in modules.values():
        module.zero_grad()
    for first in range(32, 32 + GLOBAL_BATCH, size):
        batch = make(list(range(first, first + size))).to(torch.device("cpu"), torch.float64)
        outputs = {}
        for name, player in recipe.players().items():
            with TrainState.turn(state, name):
                loss = player.loss_of(modules, batch, outputs)
            outputs[name] = loss.output
            (loss.total_B.mean() / parts).backward()
    return {f"{p} {name}": w.grad.clone() for p, module in modules.items() for name, w in module.named_parameters()}


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """A small identity encoder, which the motion recipe freezes."""
    folder = tmp_path_factory.mktemp("identity")
    sizes = IdentityConfig(width=16, heads=2, layers=1, hidden=24, kernel=3, embedding=8)
    torch.manual_seed(0)
    facts = {"validation": {identity.MEASURED: intervals.against_chance([0.9, 0.92, 0.97], 0.5)}}
    identity.save_model(IdentityEncoder(sizes).state_dict(), sizes, folder, facts)
    return folder


CASES = [
    ("motion", []),
    ("motion", ["model.upper_face=landmarks"]),
    ("motion", ["identity=EXTRACTOR"]),
    ("motion", ["dropout=0.2"]),
    (
        "motion",
        [
            *("recorded=0.5", "source_sound_dropout=0.3", "source_dropout=0.3", "speech_dropout=0.3"),
            *("even_times=true", "model.whiten=true", "model.times=log_snr"),
            *("model.speech_level=true", "model.speech_mean=true"),
        ],
    ),
    ("identity", []),
    ("syncnet", []),
    ("syncnet", ["model.sees=pixels", "model.side=16", "model.channels=[4, 4, 8, 8]", "frames=12"]),
    ("reader", []),
    ("appearance", []),
    ("appearance", ["model.fusion=concat"]),
    ("appearance", ["model.fusion=add"]),
    (
        "appearance",
        [
            *("model.discriminator_landmarks=true", "losses.wrong_landmarks=true"),
            *("losses.pyramid=0.7", "losses.feature_matching=2.5"),
            *("losses.sync=0.5", "losses.sync_share=0.5", "losses.syncnet=SYNCNET"),
        ],
    ),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_invariant_8_gradients_do_not_depend_on_the_split(filmed_shards, extractor, tmp_path, name, settings):
    """Whole, in halves and in quarters."""
    schema, recipe_class = RECIPES[name]
    if any("SYNCNET" in setting for setting in settings):
        settings = [setting.replace("SYNCNET", str(pixel_syncnet(tmp_path))) for setting in settings]
    chosen = [f"shards={filmed_shards}", *(setting.replace("EXTRACTOR", str(extractor)) for setting in settings)]
    recipe = recipe_class(config.load(schema, ROOT / "tests" / "helpers" / f"tiny_{name}.yaml", chosen))
    random = torch.Generator().manual_seed(0)
    gain = {"discriminator": 3.0}  # past the hinge's margin for some patches: within it, true and painted ones cancel
    modules = {p: randomised(module, gain.get(p, 1.0), random) for p, module in modules_of(recipe).items()}
    whole = gradients(recipe, modules, 1)
    for weight, gradient in whole.items():
        assert gradient.norm() > 1e-8, f"{weight} learns"
    for parts in (2, 4):
        for weight, gradient in gradients(recipe, modules, parts).items():
            distance = (gradient - whole[weight]).norm() / whole[weight].norm()
            assert distance < 1e-9, f"{weight} in {parts} parts: {distance:.1e}"
