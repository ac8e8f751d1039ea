"""Files with several state dicts: averaged weights are preferred, the report names the others."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slipform.models.matching import is_averaged
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.models.state_files import read_state
from slipform.models.weights import LoadReport, load_weights
from slipform.pipelines.errors import ConfigError

State = dict[str, Any]


def tiny(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(ModelConfig("tiny", options={"width": 4}), num_classes=5, image_size=32)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def load(content: object, folder: Path) -> tuple[State, LoadReport]:
    """The net's tensors afterwards, and the report."""
    torch.save(content, folder / "x.pth")
    model = tiny(1)
    report = load_weights(model, str(folder / "x.pth"), "tiny")
    return model.state_dict(), report


def is_same(one: State, other: State) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


RAW, AVERAGED = tiny(2).state_dict(), tiny(3).state_dict()
PREFIXED = {
    "model_ema.": ("model.", "model_ema."),
    "ema_pytorch": ("online_model.", "ema_model."),
    "ema_model.module.": ("model.", "ema_model.module."),
    "no prefix for the others": ("", "ema."),
}


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("name", PREFIXED)
def test_prefixes_of_averaged_weights(
    name: str, is_first: bool, is_nested: bool, tmp_path: Path
) -> None:
    raw, averaged = PREFIXED[name]
    parts = [prefixed(RAW, raw), prefixed(AVERAGED, averaged)]
    flat = {k: t for part in (parts[::-1] if is_first else parts) for k, t in part.items()}
    flat["step"] = torch.tensor(7)
    state, report = load({"state_dict": flat, "epoch": 3} if is_nested else flat, tmp_path)
    assert is_same(state, AVERAGED)
    assert f'26 of 26 tensors loaded (their names begin with "{averaged}")' in str(report)
    assert set(report.unexpected) == {"step", *prefixed(RAW, raw)}


KEYS: dict[str, tuple[State, str, str]] = {
    "a key with three words": (
        {"model_state_dict": RAW, "model_ema_state_dict": AVERAGED},
        "model_ema_state_dict",
        "model_state_dict",
    ),
    "ema_model": ({"ema_model": AVERAGED, "model": RAW}, "ema_model", "model"),
    "a callback of Lightning": (
        {
            "state_dict": prefixed(RAW, "model."),
            "callbacks": {"EMA": {"ema_state_dict": prefixed(AVERAGED, "model.")}, "Timer": {}},
        },
        "callbacks.EMA.ema_state_dict",
        "state_dict",
    ),
    "the key of a callback alone": (
        {"state_dict": RAW, "callbacks": {"EMACallback{'decay': 0.9}": {"weights": AVERAGED}}},
        "callbacks.EMACallback{'decay': 0.9}.weights",
        "state_dict",
    ),
    "unusual keys": ({"network": RAW, "swa_network": AVERAGED}, "swa_network", "network"),
    "foreign names, matched by order": (
        {
            "state_dict": prefixed(RAW, "x"),
            "callbacks": {"ema_counts": {"a": torch.ones(1)}, "ema": prefixed(AVERAGED, "x")},
        },
        'callbacks.ema") (other names, matched by order and shape',
        "callbacks.ema_counts, state_dict",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_averaged_weights(name: str, tmp_path: Path) -> None:
    content, used, unused = KEYS[name]
    state, report = load(content, tmp_path)
    assert is_same(state, AVERAGED)
    assert used in report.source
    assert "26 of 26 tensors loaded" in str(report)
    assert str(report).endswith(f"other parts of the file, not used: {unused}")


def test_averaged_weights_that_fit_less_are_not_used(tmp_path: Path) -> None:
    """An average of parameters has no running statistics; an average of another net fits less."""
    parameters = {name: AVERAGED[name] for name, _ in tiny(1).named_parameters()}
    assert len(parameters) < len(RAW)
    for averaged in (parameters, {name: t.new_zeros(7, 7) for name, t in AVERAGED.items()}):
        state, report = load({"model": RAW, "model_ema": averaged}, tmp_path)
        assert is_same(state, RAW)
        assert '("model"): 26 of 26 tensors loaded' in str(report)
        assert report.unused == ("model_ema",)
    state, report = load(prefixed(RAW, "model.") | prefixed(parameters, "model_ema."), tmp_path)
    assert is_same(state, RAW)
    assert report.prefix == "model."
    assert set(report.unexpected) == set(prefixed(parameters, "model_ema."))


@pytest.mark.parametrize("key", ["weights", "model_state", "network", "backbone", "x y"])
def test_a_single_state_dict_is_taken_whatever_its_key(key: str, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 3, key: OrderedDict(RAW), "optimizer": optimizer}
    content["callbacks"] = {"best_k_models": {"a.ckpt": torch.tensor(0.5)}}
    state, report = load(content, tmp_path)
    assert is_same(state, RAW)
    assert str(report) == f'{tmp_path}/x.pth ("{key}"): 26 of 26 tensors loaded'


def test_other_state_dicts_are_reported(tmp_path: Path) -> None:
    """The one that fits is taken, also if it is the last one and the others have usual keys."""
    other = {f"layer{i}.weight": torch.ones(3) for i in range(40)}
    content = {"model": other, "nets": {"discriminator": other.copy(), "generator": RAW}}
    state, report = load(content, tmp_path)
    assert is_same(state, RAW)
    assert report.source.endswith('("nets.generator")')
    assert report.unused == ("model", "nets.discriminator")


def test_an_error_names_the_keys_that_were_found(tmp_path: Path) -> None:
    contents: list[tuple[object, str]] = [
        (
            {"scale": torch.ones(2), "model_state": [torch.ones(2)], 3: 4},
            "but it has 'model_state' (list), 3 (int), 'scale' (Tensor). Save",
        ),
        (
            {**{f"a{i}": torch.ones(1) for i in range(20)}, "step": 4},
            "but it has 'step' (int), 'a0' (Tensor), 'a1' (Tensor), ",
        ),
        ({f"a{i}": i for i in range(20)}, "'a7' (int) and 12 more. Save"),
        ({"state_dict": {"a": [1]}, "lr": {"b": 1}}, "but its 'state_dict' has 'a' (list). Save"),
        ({"best": {"a": torch.tensor(0.5)}}, "but it has 'best' (dict). Save"),
        ([torch.ones(2)], "but it is list. Save"),
        ({}, "but it has no keys. Save"),
    ]
    for content, words in contents:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match="no state dict: .*" + re.escape(words)):
            read_state(tmp_path / "x.pth")


def test_words_of_averaged_weights() -> None:
    yes = ["ema", "model_ema", "state_dict_ema", "ema_model.module.", "callbacks.EMA", "EMAWeights"]
    yes += ["swa_model", "averaged", "average_model", "params-ema", "Ema1"]
    no = ["model", "schema", "SCHEMA", "emacs", "swag", "mean", "cinema.", "teacher", ""]
    assert [name for name in yes + no if is_averaged(name)] == yes
