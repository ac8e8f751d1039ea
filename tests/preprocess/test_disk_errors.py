"""An error of the disk while a source is read names the source, not the folder that is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from slipform.preprocess.prep import prepare
from slipform.preprocess.source import Files


def fail(*_: object, **__: object) -> bytes:
    """What read() raises: it knows no name of a file."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_sample_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "in" / name / f"{number}.png")
    monkeypatch.setattr(Files, "read", fail)
    with pytest.raises(OSError, match="Input/output error") as found:
        prepare("images", source=tmp_path / "in", out=tmp_path / "out")
    assert str(found.value.filename).startswith(("cat/", "dog/"))
    assert not (tmp_path / "out").exists()


def test_a_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (source / name).write_bytes(bytes(3073))
    (source / "batches.meta.txt").write_text("a\n" * 10)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error") as found:
        prepare("cifar10", source=source, out=tmp_path / "out")
    assert found.value.filename == str(source)
    assert not (tmp_path / "out").exists()
