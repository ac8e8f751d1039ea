"""Every net by its name: published parameter counts, shapes of logits, wrong sizes and options."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
import torchvision

from slipform.models import torchvision_nets as backbones
from slipform.models.freeze import count
from slipform.models.heads import head_names
from slipform.models.registry import build, find, names
from slipform.models.spec import REGISTERED, ModelConfig, register_model
from slipform.pipelines.errors import ConfigError
from tests.models.own_nets import OWN


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "mobilenet_v3_small", "densenet121", "squeezenet1_1"]
)
def test_parameter_counts_are_those_that_torchvision_publishes(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert count(build(ModelConfig(name), num_classes=1000, image_size=224)).total == published


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.names())
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_all_torchvision_nets_build_and_have_a_head(name: str, head: str) -> None:
    """`build` itself checks the shape of the logits, on the meta device."""
    size = 299 if name == "inception_v3" else 224
    model = build(ModelConfig(name, head=head), num_classes=17, image_size=size)
    found = model.get_submodule(head_names(model)[0])
    last = found[-1] if isinstance(found, torch.nn.Sequential) else found
    assert 17 in (getattr(last, "out_features", 0), getattr(last, "out_channels", 0))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_own_nets_learn_at_every_usual_size(name: str, image_size: int) -> None:
    options = {
        "mlp_sigmoid": {"hidden": 64},
        "conv": {"width": 8, "final_width": 16, "hidden": 32},
    }.get(name, {})
    model = build(ModelConfig(name, options=options), num_classes=5, image_size=image_size)
    logits = model(torch.randn(4, 3, image_size, image_size))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_names_lists_all_nets() -> None:
    torchvisions = torchvision.models.list_models(module=torchvision.models)
    assert names() == sorted({*OWN, *torchvisions})
    recorded = {"cnn", "conv", "conv_blocks", "fast", "fc", "fc10", "mlp_sigmoid", "tiny"}
    assert recorded <= set(OWN)  # recipes and run folders have these names


def test_conv_is_the_net_of_the_report() -> None:
    """Without padding, 32 px become 4x4, so the first linear layer has final_width x 16 inputs."""
    config = ModelConfig(
        "conv", options={"width": 128, "final_width": 256, "batch_norm": True, "dropout": 0.5}
    )
    model = build(config, num_classes=100, image_size=32)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (256 * 4 * 4, 4096),
        (4096, 100),
    ]
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [
        (c.kernel_size[0], c.stride[0], c.padding[0], c.out_channels) for c in convolutions
    ] == [
        (5, 2, 0, 128),
        (3, 1, 0, 128),
        (3, 1, 0, 128),
        (3, 1, 0, 256),
    ]
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()) == 4


def test_mlp_sigmoid_is_the_net_of_the_report() -> None:
    sizes = (3072, 4096, 4096, 100)
    expected = sum(a * b + b for a, b in itertools.pairwise(sizes))
    assert (
        count(build(ModelConfig("mlp_sigmoid"), num_classes=100, image_size=32)).total == expected
    )


def test_fc_deeper_has_the_same_neurons_in_more_layers() -> None:
    def hidden(**options: str) -> list[int]:
        model = build(ModelConfig("fc", options=options), num_classes=10, image_size=28)
        return [m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)][:-1]

    assert len(hidden()) == 2
    assert sum(hidden()) == sum(hidden(depth="deeper"))
    assert len(hidden(depth="deeper")) == 4
    assert sum(hidden(size="larger")) > sum(hidden())


def test_fc10_has_ten_linear_layers_with_batch_norm_between() -> None:
    kinds = [
        type(module).__name__
        for module in build(ModelConfig("fc10"), num_classes=10, image_size=32).modules()
    ]
    assert (kinds.count("Linear"), kinds.count("BatchNorm1d")) == (10, 9)


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ({}, 5),
        ({"kernel_sizes": [5, 5]}, 4),
        ({"kernel_sizes": [3, 9]}, 2),
        ({"pool": "avg"}, 5),
        ({"pool": "stride"}, 6),
        ({"dilation": 2}, 4),
    ],
)
def test_cnn_options_of_the_report_at_28_px(options: dict[str, object], inputs: int) -> None:
    model = build(ModelConfig("cnn", options=options), num_classes=10, image_size=28)
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert first.in_features == 16 * inputs**2


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "alexnet"])
def test_small_input_stems_take_32_px(name: str) -> None:
    model = build(ModelConfig(name, small_input=True), num_classes=10, image_size=32)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_small_input_keeps_the_resolution() -> None:
    resnet = build(ModelConfig("resnet18", small_input=True), num_classes=10, image_size=32)
    assert resnet.conv1.weight.shape == (64, 3, 3, 3)
    seen: list[torch.Size] = []
    resnet.layer1.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    resnet(torch.randn(2, 3, 32, 32))
    assert seen == [(2, 64, 32, 32)]
    alexnet = build(ModelConfig("alexnet", small_input=True), num_classes=10, image_size=32)
    assert alexnet.features(torch.randn(2, 3, 32, 32)).shape == (2, 256, 3, 3)
    assert alexnet.features[0].weight.shape == (64, 3, 11, 11)  # the ImageNet weights fit


def test_vgg_small_input_is_the_same_function_with_fewer_weights() -> None:
    """At 32 px the 7x7 pool repeats one vector 49 times. The sum of the first layer's weights over
    the positions gives the same outputs."""
    large = build(ModelConfig("vgg11"), num_classes=10, image_size=32).eval()
    small = build(ModelConfig("vgg11", small_input=True), num_classes=10, image_size=32).eval()
    state = large.state_dict()
    state["classifier.0.weight"] = state["classifier.0.weight"].unflatten(1, (512, 49)).sum(2)
    small.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(small(images), large(images))


@pytest.mark.parametrize(
    ("config", "image_size", "message"),
    [
        (ModelConfig("resnt18"), 224, 'no model "resnt18". Did you mean "resnet18"'),
        (
            ModelConfig("alexnet"),
            32,
            r"cannot take images of 32 px. Sizes that fit: 64, .*small_input = true",
        ),
        (
            ModelConfig("alexnet", small_input=True),
            8,
            r"cannot take images of 8 px. Sizes that fit: 28, .*512\.$",
        ),
        (ModelConfig("conv"), 12, "cannot take images of 12 px. Sizes that fit: 28, 32"),
        (ModelConfig("densenet121", small_input=True), 32, "has no stem for small images"),
        (ModelConfig("tiny", small_input=True), 32, 'remove it for "tiny"'),
        (ModelConfig("tiny", options={"widht": 8}), 32, 'Did you mean "width"'),
        (ModelConfig("tiny", options={"width": "wide"}), 32, 'model.options.width = "wide"'),
        (ModelConfig("cnn", options={"pool": "min"}), 32, '"max", "avg" or "stride"'),
        (ModelConfig("alexnet", options={"dropuot": 0.1}), 224, 'Did you mean "dropout"'),
        (
            ModelConfig("resnet18", options={"dropout": 0.1}),
            224,
            'no resnet18 option "dropout"',
        ),
        (ModelConfig("shufflenet_v2_x0_5", options={"dropout": 0.1}), 224, "has no options"),
        (ModelConfig("fast", options={"depth": 7}), 32, "depth = 7"),
        (ModelConfig("tiny", weights="imagenet"), 32, "no ImageNet weights"),
    ],
)
def test_mistakes_get_an_error_with_the_allowed_values(
    config: ModelConfig, image_size: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config, num_classes=10, image_size=image_size)


def test_configuration_mistakes() -> None:
    with pytest.raises(ConfigError, match=r'"lineer". Did you mean "linear"'):
        ModelConfig(head="lineer")
    with pytest.raises(ConfigError, match="give one of them"):
        ModelConfig(freeze="features", train_layers=("head",))


def test_options_reach_the_net() -> None:
    model = build(
        ModelConfig("alexnet", options={"dropout": "0.25"}), num_classes=10, image_size=224
    )
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.25, 0.25]
    assert find(ModelConfig("resnet18")).options == {"zero_init_residual": bool}


def test_settings_are_checked_without_torch() -> None:
    code = (
        "import sys, slipform.models.spec as s; s.ModelConfig(name='resnet18');"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_old_names_of_nets_are_accepted() -> None:
    assert ModelConfig("custom") == ModelConfig("conv_blocks")


def test_a_registered_net_is_built_by_name_with_checked_options() -> None:
    def mine(*, num_classes: int, image_size: int, width: int = 4, note="") -> torch.nn.Module:  # type: ignore[no-untyped-def]
        return torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(3 * image_size**2, width),
            torch.nn.Linear(width, num_classes),
        )

    try:
        assert register_model(mine) is mine
        register_model(mine)  # a notebook cell may run twice
        config = ModelConfig("mine", options={"width": "7", "note": 3})
        assert count(build(config, num_classes=2, image_size=8)).total == 192 * 7 + 7 + 7 * 2 + 2
        with pytest.raises(ConfigError, match=r'model\.options\.width = "x"'):
            build(ModelConfig("mine", options={"width": "x"}), num_classes=2, image_size=8)
    finally:
        del REGISTERED["mine"]


def test_builders_that_do_not_fit_are_refused() -> None:
    def tiny(*, num_classes: int, image_size: int) -> torch.nn.Module:
        raise NotImplementedError

    def other(*, num_classes: int) -> torch.nn.Module:
        raise NotImplementedError

    def unreadable(*, num_classes: int, image_size: int, x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigError, match=r'slipform.models.tiny has registered a net "tiny"'):
        register_model(tiny)
    with pytest.raises(ConfigError, match="must take num_classes and image_size"):
        register_model(other)
    with pytest.raises(ConfigError, match="'Missing' is not defined"):
        register_model(unreadable)


def test_the_same_seed_gives_the_same_net_and_no_options_are_shared() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(build(ModelConfig("tiny"), num_classes=4, image_size=32).state_dict())
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])
