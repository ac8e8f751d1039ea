"""On an NVIDIA GPU (pytest -m gpu): compiled training and CUDA graphs give the results of eager
training; exact resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import Interrupted, SlipformError
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import loop, steps
from slipform.train.run.best import load_best
from slipform.train.run.loop import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.usefixtures("no_figures"),
    # torch 2.11 warns about float32 without TF32, which these tests use.
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
]
Small = Callable[..., RunConfig]


def _losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run, "step")]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("mode", ["on", "graphs"])
def test_compiled_steps_equal_eager_steps(
    mode: str, precision: str, shapes: Path, small: Small, tmp_path: Path
) -> None:
    sets = [
        f"train.precision={precision}",
        "train.tf32=false",
        "data.executor=resident",
        "train.epochs=3",
    ]
    for name in ("off", mode):
        fit(
            small(*sets, f"train.compile={name}"),
            shapes,
            tmp_path / name,
            device="cuda",
            quiet=True,
        )
    tolerance = 1e-3 if precision == "fp32" else 5e-2
    assert _losses(tmp_path / mode)[:6] == pytest.approx(
        _losses(tmp_path / "off")[:6], abs=tolerance
    )
    assert _losses(tmp_path / mode)[-1] < _losses(tmp_path / mode)[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_steps_in_one_graph_equal_eager_steps(
    optimizer: str, shapes: Path, small: Small, tmp_path: Path
) -> None:
    sets = [
        "train.precision=fp32",
        "train.tf32=false",
        "data.executor=resident",
        "train.epochs=3",
        "train.ema=0.9",
        f"optimizer.name={optimizer}",
        "optimizer.lr=0.001",
    ]
    for count in (1, 4):
        fit(
            small(*sets, f"train.steps_per_launch={count}"),
            shapes,
            tmp_path / str(count),
            device="cuda",
            quiet=True,
        )
    tolerance = 5e-2 if optimizer == "muon" else 2e-3
    assert _losses(tmp_path / "4") == pytest.approx(_losses(tmp_path / "1"), abs=tolerance)


@pytest.mark.parametrize("loader", ["dali", "host", "resident"])
@pytest.mark.parametrize("step", [1, 5, 6, 11])
def test_stopped_and_resumed_bit_for_bit(
    step: int,
    loader: str,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets = (
        "train.deterministic=true",
        f"data.executor={loader}",
        "train.ema=0.9",
        "augment.color_jitter.hue=0.1",
    )
    config = small(*sets)
    fit(config, shapes, tmp_path / "whole", device="cuda", quiet=True)
    original = loop._after_steps

    def after(run: Any, *arguments: Any) -> None:
        if run.state.step == step:
            run.stop_requested.set()
        original(run, *arguments)

    monkeypatch.setattr(loop, "_after_steps", after)
    with pytest.raises(Interrupted):
        fit(config, shapes, tmp_path / "parts", device="cuda", quiet=True)
    monkeypatch.setattr(loop, "_after_steps", original)
    fit(config, shapes, tmp_path / "parts", device="cuda", resume=True, quiet=True)
    assert _losses(tmp_path / "parts") == _losses(tmp_path / "whole")
    a, b = (load_best(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_step_does_not_wait_for_the_device(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host does not wait for the device between two log lines."""
    original = steps.train_step  # type: ignore[attr-defined]

    def step(*arguments: Any, **options: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return original(*arguments, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(steps, "train_step", step)
    fit(
        small("train.precision=bf16", "data.executor=resident"),
        shapes,
        tmp_path / "run",
        device="cuda",
        quiet=True,
    )
    assert len(_losses(tmp_path / "run")) == 12


def test_too_large_a_batch_is_an_error_with_advice(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    config = small(
        "train.batch_size=240",
        "model.name=vgg16",
        "augment.image_size=2048",
        "train.precision=fp32",
    )
    with pytest.raises(SlipformError, match=r"out of memory with train\.batch_size = 240"):
        fit(config, shapes, tmp_path / "run", device="cuda", quiet=True)
