"""best.safetensors: its checksum, errors for damaged files, and how it is restored."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError
from slipform.preprocess.prep import prepare
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_metrics
from slipform.train.run.best import BEST, load_best
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


def test_any_program_for_safetensors_reads_the_file(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last),
        "half": torch.randn(7).bfloat16(),
        "count": torch.tensor(3),
        "empty": torch.empty(0, 2),
    }
    path = tmp_path / "w.safetensors"
    write_weights(path, tensors, {"classes": '["ä", "b"]'})
    for found in (load_file(path), read_weights(path)[0]):
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
        assert all(found[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert read_weights(path)[1] == {"classes": '["ä", "b"]'}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(tmp_path) == [path.name]


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(path, {"a": torch.arange(6.0), "b": torch.ones(3)}, {"classes": '["x", "y"]'})
    data = path.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    silent = 0
    for position in range(len(data)):
        for bit in (0, 5):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                tensors, _ = read_weights(path)
            except SlipformError:
                continue
            # A changed space in the header, or another name than "crc32": the weights are still
            # correct.
            assert position < header_end
            assert torch.equal(tensors["a"], torch.arange(6.0))
            silent += 1
    assert silent < 30
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(SlipformError):
            read_weights(path)


@pytest.fixture(scope="module")
def finished(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("best") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=2"), shapes, run, device="cpu", quiet=True)
    return run


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-9]), "empty": b""}[how])


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "missing"])
def test_damage_is_refused_everywhere_and_resume_repairs_it(
    how: str, finished: Path, shapes: Path, small: Small, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    summary = json.loads((run / "summary.json").read_text())
    epochs = read_metrics(run, "epoch")
    expected = load_best(run)
    _damage(run / BEST, how)
    with pytest.raises(SlipformError, match=rf"{BEST}.*train --resume {run}"):
        Classifier.load(run, "cpu")
    if how != "missing":
        with pytest.raises(SlipformError, match="damaged"):
            fit(small(f"model.weights={run}"), shapes, tmp_path / "next", quiet=True)
        with pytest.raises(SlipformError, match="damaged"):
            fit(small(f"model.weights={run / BEST}"), shapes, tmp_path / "next", quiet=True)
    again = fit(small("train.epochs=2"), shapes, run, device="cpu", resume=True, quiet=True)
    found = load_best(run)
    assert again["test_accuracy"] == summary["test_accuracy"]
    assert again["best_epoch"] == summary["best_epoch"]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert read_metrics(run, "epoch") == epochs


def test_the_newest_checkpoint_is_used_without_one_of_the_best_epoch(
    finished: Path, shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest, *older = sorted((run / "checkpoints").iterdir(), reverse=True)
    saved = torch.load(newest, weights_only=True)
    for path in older:
        path.unlink()
    saved["state"]["best"] = {"accuracy": 0.99, "epoch": 1}  # as if the first epoch was better
    from slipform.train.run import checkpoint

    newest.unlink()
    checkpoint.save(run, saved["state"]["step"], saved, keep=1)
    (run / BEST).unlink()
    summary = fit(small("train.epochs=2"), shapes, run, device="cpu", resume=True)
    assert "no checkpoint has the weights of epoch 1" in capsys.readouterr().err
    assert summary["best_epoch"] == 2
    assert summary["val_accuracy"] == read_metrics(run, "epoch")[-1]["val_accuracy"]
    found = load_best(run)
    assert all(torch.equal(found[n], tensor) for n, tensor in saved["state"]["model"].items())


def test_an_intact_file_of_another_epoch_is_written_again(
    finished: Path, shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state after a kill between the writes of the best weights and of the checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    summary = json.loads((run / "summary.json").read_text())
    expected, metadata = read_weights(run / BEST)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    write_weights(run / BEST, zeros, {**metadata, "epoch": "3"})
    again = fit(small("train.epochs=2"), shapes, run, device="cpu", resume=True)
    assert "has epoch 3" in capsys.readouterr().err
    found, metadata = read_weights(run / BEST)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert metadata["epoch"] == str(summary["best_epoch"])
    assert again["test_accuracy"] == summary["test_accuracy"]


def test_the_file_has_an_accuracy_only_if_there_is_a_val_split(
    finished: Path, small: Small, tmp_path: Path
) -> None:
    assert 0 <= float(read_weights(finished / BEST)[1]["val_accuracy"]) <= 1
    prepare("shapes", out=tmp_path / "data", num_train=60, num_val=0, num_test=12)
    fit(small("train.epochs=1"), tmp_path / "data", tmp_path / "run", device="cpu", quiet=True)
    metadata = read_weights(tmp_path / "run" / BEST)[1]
    assert metadata["epoch"] == "1"
    assert "val_accuracy" not in metadata
    assert Classifier.load(tmp_path / "run", "cpu").classes[0] == "cross"


def test_files_without_a_checksum_still_load(finished: Path, tmp_path: Path) -> None:
    """Files of version 0.1."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    weights = load_best(run)
    save_file(weights, run / BEST, {"epoch": "1"})
    assert Classifier.load(run, "cpu").classes[0] == "cross"


def test_weights_for_other_classes_get_no_wrong_names(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    manifest = (run / "dataset.json").read_text()
    (run / "dataset.json").write_text(manifest.replace('"cross"', '"cat"', 1))
    with pytest.raises(SlipformError, match=r"is for the classes 'cross'.*has 'cat'"):
        Classifier.load(run, "cpu")
