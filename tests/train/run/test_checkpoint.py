"""Checkpoints: complete or absent, the newest K kept, damage found, full disk, no code executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import SlipformError
from slipform.train.run import checkpoint
from slipform.train.run.best import BEST, load_best, save_best


def _content(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "weights": torch.full((1000,), float(step)),
        "config": "x = 1",
        "best": None,
        "list": [1, 2.5],
    }


def test_the_newest_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    for step in (1, 5, 12, 7):
        checkpoint.save(tmp_path, step, _content(step), keep=2)
    assert [path.name[:13] for path in checkpoint.checkpoints(tmp_path)] == [
        "step-00000012",
        "step-00000007",
    ]
    loaded = checkpoint.load_newest(tmp_path, pytest.fail)
    assert loaded is not None
    assert loaded["step"] == 12
    assert torch.equal(loaded["weights"], torch.full((1000,), 12.0))
    assert {key: loaded[key] for key in ("config", "best", "list")} == {
        "config": "x = 1",
        "best": None,
        "list": [1, 2.5],
    }


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_one_falls_back_with_a_message(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        path = checkpoint.save(tmp_path, step, _content(step), keep=2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": bytes(data[:-100]), "flip": bytes(data), "empty": b""}[damage])
    said: list[str] = []
    loaded = checkpoint.load_newest(tmp_path, said.append)
    assert loaded is not None
    assert loaded["step"] == 1
    assert len(said) == 1
    assert path.name in said[0]
    path.unlink()
    checkpoint.checkpoints(tmp_path)[0].write_bytes(b"no")
    with pytest.raises(SlipformError, match="--overwrite"):
        checkpoint.load_newest(tmp_path, said.append)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path, pytest.fail) is None


@pytest.mark.parametrize("free_bytes", [0, 500, 2000])
def test_a_full_disk_keeps_the_old_ones(
    free_bytes: int, full_disk: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    old = checkpoint.save(tmp_path, 1, _content(1), keep=1)
    save_best(tmp_path, {"w": torch.ones(10)}, {})
    with full_disk(free_bytes):
        with pytest.raises(SlipformError, match=r"File too large"):
            checkpoint.save(tmp_path, 2, _content(2), keep=1)
        with pytest.raises(SlipformError, match=r"File too large"):
            save_best(tmp_path, {"w": torch.ones(1000)}, {})
    assert checkpoint.checkpoints(tmp_path) == [old]
    assert torch.equal(load_best(tmp_path)["w"], torch.ones(10))
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "checkpoints"]
    assert os.listdir(tmp_path / "checkpoints") == [old.name]
    loaded = checkpoint.load_newest(tmp_path, pytest.fail)
    assert loaded is not None


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint.save(tmp_path, 1, {"x": 1}, keep=1)
    with open(path, "wb") as file:
        pickle.dump(_Evil(), file, protocol=2)
    path.rename(path.with_name(f"step-00000001-{checkpoint.crc32(path):08x}.pt"))
    with pytest.raises(SlipformError, match="damaged"):
        checkpoint.load_newest(tmp_path, lambda _: None)
    assert not Path("executed").exists()


def test_the_best_weights_keep_values_and_metadata(tmp_path: Path) -> None:
    from safetensors import safe_open

    weights = {
        "conv": torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last),
        "n": torch.tensor(3),
    }
    save_best(tmp_path, weights, {"epoch": "3"})
    loaded = load_best(tmp_path)
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    with safe_open(tmp_path / BEST, "pt") as file:
        assert file.metadata().keys() == {"epoch", "crc32"}
    (tmp_path / BEST).write_bytes(b"damaged")
    with pytest.raises(SlipformError, match="damaged"):
        load_best(tmp_path)
    with pytest.raises(SlipformError, match="no best"):
        load_best(tmp_path / "elsewhere")
