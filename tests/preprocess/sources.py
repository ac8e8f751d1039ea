"""Small images and sources for the tests of layouts, and what prep made of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.cli import main


def jpeg(number: int) -> bytes:
    """A JPEG of 8 x 9 px whose bytes differ from those of other numbers."""
    file = io.BytesIO()
    Image.fromarray(np.full((9, 8, 3), number, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def prep(source: Path, *options: str, code: int = 0) -> str:
    """What `prep images` prints; without random splits, to SOURCE-out."""
    out = source.parent / f"{source.name}-out"
    whole = ["--val-fraction", "0", "--test-fraction", "0"]
    words = ["images", "--source", str(source), "--out", str(out), *whole, *options]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def stored(source: Path) -> dict[str, list[tuple[str, str, bytes]]]:
    """By split: name, class and bytes of each sample that prep wrote."""
    folder = source.parent / f"{source.name}-out"
    dataset = open_dataset(folder)
    found = {}
    for split, info in dataset.manifest.splits.items():
        beton, names = dataset.beton(split), read_names(folder, info)
        assert names is not None
        found[split] = [
            (name, dataset.manifest.classes[beton.labels[k]], beton.bytes_of(k).tobytes())
            for k, name in enumerate(names)
        ]
    return found
