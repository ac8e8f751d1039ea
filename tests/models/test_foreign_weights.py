"""Weights of other programs are loaded, or refused with the reason. Nothing is ignored silently."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from slipform.models.imagenet import cached_imagenet
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.models.state_files import read_state
from slipform.models.weight_file import write_weights
from slipform.models.weights import LoadReport, load_weights
from slipform.pipelines.errors import ConfigError, SlipformError


def tiny(seed: int, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    config = ModelConfig("tiny", options={"width": 4})
    return build(config, num_classes=num_classes, image_size=32)


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def load(content: object, folder: Path) -> tuple[nn.Module, LoadReport]:
    torch.save(content, folder / "weights.pth")
    model = tiny(1)
    return model, load_weights(model, str(folder / "weights.pth"), "tiny")


def assert_same(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


GOOD, OTHER = tiny(2).state_dict(), tiny(3).state_dict()
AVERAGED = {**prefixed(GOOD, "module."), "n_averaged": torch.tensor(7)}
FILES: dict[str, tuple[object, str]] = {
    "lightning": (
        {"epoch": 3, "state_dict": prefixed(GOOD, "model."), "hyper_parameters": {"lr": 0.1}},
        "model.",
    ),
    "lightning, compiled": ({"state_dict": prefixed(GOOD, "net._orig_mod.")}, "net._orig_mod."),
    "torchvision's references": (
        {
            "model": OTHER,
            "model_ema": AVERAGED,
            "optimizer": {"state": {}},
            "epoch": 9,
            "args": argparse.Namespace(lr=0.1, device="cuda"),
        },
        "module.",
    ),
    "torchvision's references without averages": ({"model": GOOD, "args": None}, ""),
    "timm": ({"arch": "tiny", "state_dict": OTHER, "state_dict_ema": GOOD}, ""),
    "fastai": ({"model": GOOD, "opt": {"state": [], "hypers": [{"lr": 0.1}]}}, ""),
    "another average": ({"params": OTHER, "params_ema": GOOD, "best": np.float32(0.5)}, ""),
    "averages of torch_ema, which have no names": (
        {"model": GOOD, "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": [torch.ones(2)]}},
        "",
    ),
    "averages that are not there yet": ({"state_dict": GOOD, "state_dict_ema": {}}, ""),
    "DeepSpeed": ({"module": prefixed(GOOD, "module."), "dp_world_size": 2}, "module."),
    "a wrapper's attribute": (prefixed(GOOD, "resnet."), "resnet."),
    "a wrapper with a loss of its own": (
        {**prefixed(GOOD, "backbone.body."), "loss.weight": torch.ones(3)},
        "backbone.body.",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_checkpoints_of_other_programs_are_loaded(name: str, tmp_path: Path) -> None:
    content, prefix = FILES[name]
    model, report = load(content, tmp_path)
    assert_same(model, GOOD)
    assert report.complete
    assert report.prefix == prefix


def test_unused_parts_are_reported(tmp_path: Path) -> None:
    _, report = load(FILES["torchvision's references"][0], tmp_path)
    assert '("model_ema"): 26 of 26 tensors loaded (their names begin with "module.")' in str(
        report
    )
    assert "not in the net, not used: n_averaged" in str(report)
    assert "other parts of the file, not used: model" in str(report)
    _, report = load(FILES["averages of torch_ema, which have no names"][0], tmp_path)
    assert '("model"): 26 of 26 tensors loaded; other parts of the file, not used: ema' in str(
        report
    )
    both = prefixed(GOOD, "student.") | prefixed(OTHER, "teacher.")
    model, report = load(both, tmp_path)
    assert_same(model, GOOD)
    assert "not in the net, not used: teacher." in str(report)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "googlenet",
        "mobilenet_v3_small",
        pytest.param("vgg11_bn", marks=pytest.mark.slow),  # 500 MB, and nothing else is special
    ],
)
def test_torchvision_opens_what_we_write(name: str, tmp_path: Path) -> None:
    model = build(ModelConfig(name), num_classes=5, image_size=224)
    write_weights(tmp_path / "x.safetensors", model.state_dict(), {})
    aux = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    theirs = torchvision.models.get_model(name, num_classes=5, **aux)
    theirs.load_state_dict(load_file(tmp_path / "x.safetensors"))
    assert_same(theirs, model.state_dict())


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """Arguments beside the weights are plain values; nothing else is built."""

    class Opens:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for content in ({"model": GOOD, "args": Opens()}, argparse.Namespace(x=Opens())):
        with pytest.raises(ConfigError, match="could run code"):
            load(content, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_the_net_stays(
    value: float, tmp_path: Path
) -> None:
    broken = {name: tensor.clone() for name, tensor in GOOD.items()}
    broken["features.3.weight"][0, 0, 0, 0] = value
    torch.save(broken, tmp_path / "weights.pth")
    model = tiny(1)
    with pytest.raises(ConfigError, match=r"infinite or not a number, in features\.3\.weight"):
        load_weights(model, str(tmp_path / "weights.pth"), "tiny")
    assert_same(model, tiny(1).state_dict())


def _unnamed() -> dict[str, torch.Tensor]:
    """The tensors of GOOD in the net's order, with names that no net has."""
    return {f"t{i}.{name.rpartition('.')[2]}": GOOD[name] for i, name in enumerate(GOOD)}


def test_tensors_of_the_same_net_with_other_names_are_matched_by_order(tmp_path: Path) -> None:
    model, report = load(_unnamed(), tmp_path)
    assert_same(model, GOOD)
    assert "(other names, matched by order and shape): 26 of 26" in str(report)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_sorted_names_are_not_matched_by_order(suffix: str, tmp_path: Path) -> None:
    """Thirteen equal layers: "layer10" is before "layer2", and every shape fits."""
    wanted = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(13)))
    state = {f"layer{i}.weight": torch.full((3, 3), float(i)) for i in range(13)}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({name: state[name] for name in sorted(state)}, path)
    else:
        save_file(state, path)
    with pytest.raises(ConfigError, match='does not fit "equal": only 0 of the 12 tensors'):
        load_weights(wanted, str(path), "equal")
    torch.save(state, tmp_path / "created.pth")
    load_weights(wanted, str(tmp_path / "created.pth"), "equal")
    assert [float(tensor[0, 0]) for tensor in wanted.state_dict().values()] == list(range(13))


def test_names_that_match_have_priority_over_the_order(tmp_path: Path) -> None:
    """One name differs, and two layers of the same shape are in another order."""
    torch.manual_seed(0)
    wanted, given = (nn.Sequential(*(nn.Linear(3, 3) for _ in range(4))) for _ in range(2))
    state = given.state_dict()
    names = ["stem.weight", "0.bias", "2.weight", "2.bias", "1.weight", "1.bias"]
    names += ["3.weight", "3.bias"]
    torch.save({name: state[name.replace("stem", "0")] for name in names}, tmp_path / "x.pth")
    kept = wanted[0].weight.clone()
    report = load_weights(wanted, str(tmp_path / "x.pth"), "four")
    assert report.missing == ("0.weight",)
    assert report.unexpected == ("stem.weight",)
    assert_same(wanted, {**state, "0.weight": kept})


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_file_with_few_fitting_tensors_is_refused(share: float, tmp_path: Path) -> None:
    names = list(GOOD)
    kept = {name: GOOD[name] for name in names[: int(share * len(names))]}
    foreign = {f"stem.{i}.weight": torch.ones(2) for i in range(30)}
    with pytest.raises(ConfigError, match=r'does not fit "tiny": only \d+ of the 24 tensors'):
        load(kept | foreign, tmp_path)
    wrong_shapes = {name: torch.zeros(7, 7, 7) for name in names}
    with pytest.raises(ConfigError, match="only 0 of the 24 tensors"):
        load(wrong_shapes, tmp_path)


def test_a_body_without_its_head_is_enough(tmp_path: Path) -> None:
    body = {name: tensor for name, tensor in GOOD.items() if name.startswith("features.")}
    _, report = load(body, tmp_path)
    assert report.missing == ("classifier.0.weight", "classifier.0.bias")


def test_paths_that_are_no_regular_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    (tmp_path / "dead.pth").symlink_to(tmp_path / "gone.pth")
    for name, word in {
        "pipe.pth": "FIFO",
        "pipe.safetensors": "FIFO",
        "zero.pth": "device",
        "dead.pth": "does not exist",
    }.items():
        with pytest.raises(ConfigError, match=word):
            load_weights(tiny(1), str(tmp_path / name), "tiny")


def test_values_that_are_no_dense_tensors_are_refused(tmp_path: Path) -> None:
    itself: dict[str, Any] = {}
    itself["model"] = itself
    for number, content in enumerate(
        [
            {"a": torch.eye(3).to_sparse()},
            {"a": torch.ones(3, dtype=torch.complex64)},
            {"a": torch.ones(3).to(torch.float8_e4m3fn)},
            {"a": [1, 2]},
            {3: torch.ones(2)},
            {},
            [torch.ones(2)],
            {"state_dict": {"model": {"state_dict": {}}}},
            itself,
        ]
    ):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(ConfigError):
            read_state(tmp_path / f"{number}.pth")


def test_data_types_that_weights_do_not_have(tmp_path: Path) -> None:
    """8-bit floats need a scale that is stored elsewhere."""
    eight_bits = {"a": torch.ones(4).to(torch.float8_e4m3fn)}
    save_file(eight_bits, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="a is F8_E4M3: weights may be F64, F32"):
        read_state(tmp_path / "x.safetensors")
    for tensors in (eight_bits, {"a": torch.ones(2, dtype=torch.complex64)}):
        with pytest.raises(SlipformError, match="weights may be"):
            write_weights(tmp_path / "y.safetensors", tensors, {})
    assert not (tmp_path / "y.safetensors").exists()


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
@pytest.mark.parametrize("how", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_gives_tensors_or_a_slipform_error(
    how: str, position: float, value: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / ("x.safetensors" if how == "safetensors" else "x.pth")
    state = {"a": torch.ones(3, 2), "b": torch.zeros(2)}
    if how == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
    data = bytearray(path.read_bytes())
    place = int(position * len(data))
    data[place] = value
    path.write_bytes(data[:place] if cut else data)
    with contextlib.suppress(SlipformError):
        read_state(path)


def test_cached_imagenet_looks_only_at_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not cached_imagenet("resnet18")
    assert not cached_imagenet("tiny")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert cached_imagenet("resnet18")
