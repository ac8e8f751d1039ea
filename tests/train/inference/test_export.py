"""Exported files: read back, complete or not written, and never written into a folder that another
process uses."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.models.weight_file import read_weights
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import locked
from slipform.train.inference.export import NAMES, export_program
from slipform.train.inference.program import net_program
from slipform.train.run.folder import CONFIG, LOCK, locked_if_run

FullDisk = Callable[[int], AbstractContextManager[None]]
METADATA = {"model": "tiny", "classes": '["a", "b"]'}
FORMATS = [
    pytest.param(
        name,
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(
                importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime"
            ),
        ]
        if name == "onnx"
        else [],
    )
    for name in NAMES
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return registry.build(ModelConfig("tiny"), num_classes=2, image_size=32).eval()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_keeps_the_old_file_and_names_the_new_one(
    format: str, existed: bool, model: nn.Module, full_disk: FullDisk, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    if existed:
        path.write_bytes(b"before")

    def export() -> None:
        with full_disk(1000):
            export_program(net_program(model, 32), METADATA, format, path)

    result = CliRunner().invoke(Command("export", callback=export))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert str(path) in result.output
    assert [file.name for file in tmp_path.iterdir()] == (["m"] if existed else [])
    assert not existed or path.read_bytes() == b"before"


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_gives_the_error_of_the_system(
    format: str, model: nn.Module, full_disk: FullDisk, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="m") as caught, full_disk(1000):
        export_program(net_program(model, 32), METADATA, format, tmp_path / "m")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "m"))


def test_safetensors_contain_the_weights(model: nn.Module, tmp_path: Path) -> None:
    path, difference = export_program(net_program(model, 32), METADATA, "safetensors", tmp_path)
    weights, metadata = read_weights(path)
    assert difference == 0
    assert metadata == METADATA
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("below", [".", "figures"])
def test_a_run_is_locked_while_others_write_to_it(below: str, tmp_path: Path) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    with locked_if_run(folder, "*"):
        assert not (tmp_path / LOCK).exists()  # no run yet
    (tmp_path / CONFIG).touch()
    refused = pytest.raises(SlipformError, match=f"is working in {tmp_path}")
    with locked_if_run(folder, "*"), refused, locked(tmp_path / LOCK, "another train"):
        pytest.fail("two hold it")
    refused = pytest.raises(SlipformError, match=f"is working in {tmp_path}")
    with locked(tmp_path / LOCK, "another train"), refused, locked_if_run(folder, "*"):
        pytest.fail("two hold it")


@pytest.mark.parametrize("format", [name for name in NAMES if name != "safetensors"])
def test_a_net_that_a_format_cannot_express(
    format: str, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("no decomposition for aten::strange\nmore")

    monkeypatch.setattr(torch.export, "export", fails)
    monkeypatch.setattr(torch.onnx, "export", fails)
    words = f"cannot be exported as {format}.*strange|ONNX needs"
    with pytest.raises(SlipformError, match=words):
        export_program(net_program(model, 32), METADATA, format, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_net_that_is_too_large_for_onnx(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipform.train.inference.export._MAX_ONNX_BYTES", 1000)
    with pytest.raises(SlipformError, match=r"one ONNX file holds 1,000|ONNX needs"):
        export_program(net_program(model, 32), METADATA, "onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
