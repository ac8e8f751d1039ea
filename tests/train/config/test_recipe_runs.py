"""Each of the 142 runs of the reports builds its net and trains for two steps. By default
those that are the first of their study, and some more."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slipform.models import freeze, registry
from slipform.models.spec import ModelConfig
from slipform.models.weights import LoadReport
from slipform.pipelines.loader import Loader
from slipform.preprocess.cli import main as prep
from slipform.train.config.resolve import resolve
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.step import set_train_mode, train_step
from tests.train.config.reported import NUM_CLASSES, RUNS, Reported

# The runs that train in the default tests: each kind of net, with and without weights and frozen
# layers. -m slow trains all runs.
FEW = ("B4.3", "D1.1", "D2.3", "E1.5", "E2.4", "E3.5", "E4.3", "E5.4")


Built = tuple[freeze.Counts, bool]
_BUILT: dict[str, Built] = {}


def _built(model: ModelConfig, num_classes: int, image_size: int) -> Built:
    """The parameters of a net, and whether norms of it are frozen. Many runs have the same net."""
    key = repr((model, num_classes, image_size))
    if key not in _BUILT:
        with torch.device("meta"):
            net = registry.build(model, num_classes=num_classes, image_size=image_size)
        _BUILT[key] = freeze.count(net), bool(_frozen_norms(net))
    return _BUILT[key]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, id=run.name, marks=() if run.name.endswith(".1") else pytest.mark.slow)
        for run in RUNS
    ],
)
def test_a_run_builds_its_net(run: Reported) -> None:
    recipe, ours = run.recipe()
    config = resolve(recipe, run=ours)
    model = replace(config.model, weights="none")
    classes = NUM_CLASSES[recipe.prep["dataset"]]
    counts, frozen_norms = _built(model, classes, config.augment.image_size)
    assert 0 < counts.trainable <= counts.total
    assert (counts.trainable < counts.total) == bool(set(_frozen(config.model)) - {"none"})
    assert run.printed.get("trainable_parameters", counts.trainable) == counts.trainable
    if counts.trainable < counts.total and frozen_norms:
        # No report sets frozen layers to evaluation mode.
        assert config.model.frozen_norm == "batch"


def _frozen_norms(net: nn.Module) -> list[nn.Module]:
    return [
        module
        for module in net.modules()
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters())
    ]


def _frozen(model: ModelConfig) -> tuple[str, ...]:
    names = model.freeze or model.train_layers
    return (names,) if isinstance(names, str) else names


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A file with random weights in the format of torchvision's file for a net."""
    folder = tmp_path_factory.mktemp("imagenet")

    def make(name: str) -> str:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(
                registry.build(ModelConfig(name), num_classes=1000, image_size=224).state_dict(),
                path,
            )
        return str(path)

    yield make
    shutil.rmtree(folder)  # AlexNet's takes 0.2 GB, VGG's 0.6


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("few") / "shapes"
    sizes = ["--num-train", "4", "--num-val", "2", "--num-test", "2", "--classes", "2"]
    result = CliRunner().invoke(prep, ["shapes", "--out", str(out), *sizes], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, marks=() if run.name in FEW else pytest.mark.slow, id=run.name)
        for run in RUNS
    ],
)
def test_a_run_trains_two_steps(
    run: Reported, imagenet: Callable[[str], str], few_images: Path
) -> None:
    """The settings are those of the recipe, except for a batch of two images. Trainable weights
    change, and frozen ones do not."""
    recipe, ours = run.recipe()
    config = resolve(recipe, ["train.batch_size=2", "train.precision=fp32"], run=ours)
    if config.model.weights != "none":
        config = config.replace("model.weights", imagenet(config.model.name))
    reports: list[LoadReport] = []
    state = build_state(
        config, num_classes=2, process=Process(torch.device("cpu")), on_load=reports.append
    )
    if (
        config.model.weights != "none"
    ):  # all tensors fit, except for the last layer and a stem for small images
        assert all(name.startswith(("fc.", "classifier.")) for name, *_ in reports[0].mismatched)
    before = {
        name: parameter.detach().clone() for name, parameter in state.model.named_parameters()
    }
    set_train_mode(state)
    with Loader(
        few_images, "train", config.augment, batch_size=2, threads=1, executor="host"
    ) as loader:
        batches = iter(loader)
        losses = [train_step(state, batches).loss for _ in range(len(loader))]
    assert state.step == len(losses) == 2
    assert torch.stack(losses).isfinite().all()
    changed = {
        name
        for name, parameter in state.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    learning = {
        name for name, parameter in state.model.named_parameters() if parameter.requires_grad
    }
    assert changed
    assert changed <= learning
