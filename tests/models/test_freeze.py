"""Freezing by name: trainable layers, counts, BatchNorm, and parameter groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from slipform.models import freeze
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError


def tiny(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    return build(ModelConfig("tiny", **settings), num_classes=5, image_size=32)  # type: ignore[arg-type]


def resnet18(**settings: object) -> nn.Module:
    return build(ModelConfig("resnet18", **settings), num_classes=5, image_size=32)  # type: ignore[arg-type]


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def step(model: nn.Module, groups: list[dict[str, object]] | None = None) -> None:
    optimizer = torch.optim.SGD(
        groups or freeze.parameter_groups(model, lr=0.1, weight_decay=0.1), lr=0.1
    )
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("names", "trainable"),
    [
        ("none", 57_417_637),
        ("features", 54_947_941),
        ("classifier", 2_469_696),
        ("head", 57_003_840),
    ],
)
def test_alexnet_with_101_classes_has_the_counts_of_the_report(names: str, trainable: int) -> None:
    """A course report gives the first three numbers. The head has 4096 x 101 + 101 parameters."""
    counts = freeze.count(
        build(ModelConfig("alexnet", freeze=names), num_classes=101, image_size=224)
    )
    assert counts == freeze.Counts(total=57_417_637, trainable=trainable)


def test_all_but_head_and_train_layers() -> None:
    head = {"fc.weight", "fc.bias"}
    assert learning(resnet18(freeze="all_but_head")) == head
    assert learning(resnet18(train_layers=("head",))) == head
    with_mlp = resnet18(head="mlp", train_layers="layer4, head")
    assert learning(with_mlp) == {
        n for n, _ in with_mlp.named_parameters() if n.startswith(("layer4.", "fc."))
    }
    assert "fc.0.weight" in learning(with_mlp)


def test_names_come_as_lists_or_with_commas_and_go_down_to_single_parameters() -> None:
    every = learning(resnet18())
    assert learning(resnet18(freeze=("layer1, layer2", "conv1"))) == {
        name for name in every if not name.startswith(("layer1.", "layer2.", "conv1."))
    }
    assert learning(resnet18(freeze="layer1.0.bn1.weight")) == every - {"layer1.0.bn1.weight"}


def test_an_unknown_layer_gives_an_error_with_the_existing_ones() -> None:
    with pytest.raises(
        ConfigError, match=r'no layer "layer5". Did you mean "layer4"\? Allowed: .*fc.*layer1'
    ):
        resnet18(freeze="layer5")
    with pytest.raises(ConfigError, match='no layer "lay"'):
        resnet18(train_layers="lay")  # a part of a name is not a name


def test_frozen_layers_do_not_change_in_a_step_and_the_others_do() -> None:
    model = tiny(freeze="features.0,features.1")
    before = copy.deepcopy(model.state_dict())
    step(model)
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert not any(
        name.startswith(("features.0.", "features.1.")) for name in changed
    )  # running_mean and running_var do not change either
    assert {"features.3.weight", "features.4.running_mean", "classifier.0.bias"} <= changed


def test_frozen_batch_norm_computes_what_it_did_in_evaluation() -> None:
    model = tiny(freeze="features")
    images = torch.randn(4, 3, 32, 32)
    training = model(images)
    torch.testing.assert_close(training, model.eval()(images))


def test_frozen_batch_norm_may_normalize_by_the_batch() -> None:
    """The usual way: no gradients, the net in training mode."""
    model = tiny(freeze="features", frozen_norm="batch")
    plain = copy.deepcopy(model).train()
    images = torch.randn(4, 3, 32, 32) + 3
    torch.testing.assert_close(model(images), plain(images))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name])
    assert model.get_buffer("features.1.running_mean").abs().max() > 0
    step(model)
    assert torch.equal(
        model.get_parameter("features.1.weight"), plain.get_parameter("features.1.weight")
    )
    with pytest.raises(ConfigError, match=r"model\.frozen_norm"):
        tiny(frozen_norm="moving")


def test_batch_norm_with_one_learning_parameter_stays_in_training_mode() -> None:
    model = tiny(freeze="features.1.weight")
    assert model.get_submodule("features.1").training


def test_all_layers_learn_and_statistics_change_after_unfreezing() -> None:
    model = tiny(freeze="all_but_head")
    groups = freeze.parameter_groups(
        model, lr=0.1
    )  # made while layers are frozen: the optimizer is kept when they are unfrozen
    freeze.unfreeze(model)
    freeze.set_train_mode(model)
    before = copy.deepcopy(model.state_dict())
    step(model, groups)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    freeze.train_only(model, "head")
    freeze.unfreeze(model, "features.0")
    assert learning(model) == {"features.0.weight", "classifier.0.weight", "classifier.0.bias"}


def test_groups_have_their_rates_and_contain_each_parameter_once() -> None:
    model = resnet18(head="mlp")
    groups = freeze.parameter_groups(model, lr=1.0, weight_decay=0.5, head_lr=0.01, body_lr=0.0001)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("body", 0.0001, 0.5),
        ("head", 0.01, 0.5),
    ]
    assert len(groups[1]["params"]) == 4
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert len(freeze.parameter_groups(model, lr=1.0)) == 2


def test_groups_without_decay_for_biases_and_norms_and_with_a_rate_for_norm_biases() -> None:
    model = tiny()
    groups = {
        g["name"]: g
        for g in freeze.parameter_groups(
            model, lr=1.0, weight_decay=0.5, norm_bias_lr=64.0, decay_all=False
        )
    }
    assert {name: (g["lr"], g["weight_decay"], len(g["params"])) for name, g in groups.items()} == {
        "body": (1.0, 0.5, 4),
        "body_no_decay": (1.0, 0.0, 4),
        "norm_bias_no_decay": (64.0, 0.0, 4),
        "head": (1.0, 0.5, 1),
        "head_no_decay": (1.0, 0.0, 1),
    }
    groups = {
        g["name"]: g
        for g in freeze.parameter_groups(model, lr=2.0, weight_decay=0.5, norm_bias_lr=64.0)
    }
    decays = {g["lr"] * g["weight_decay"] for g in groups.values()}
    assert decays == {1.0}, "a step decays all parameters by the same factor"
