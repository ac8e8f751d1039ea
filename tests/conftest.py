"""Fixtures that all folders share: small generated datasets, and the real ones where this machine
has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_torch() -> None:
    """Tests compare numbers: a fixed thread count keeps sums in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real Caltech-101, CIFAR-10 and MNIST; skips where they are missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


def _prep_shapes(out: Path, *options: str) -> Path:
    from click.testing import CliRunner

    from slipform.preprocess.cli import main

    sizes = [
        "--num-train",
        "240",
        "--num-val",
        "60",
        "--num-test",
        "60",
        "--min-size",
        "40",
        "--max-size",
        "96",
    ]
    result = CliRunner().invoke(
        main, ["shapes", "--out", str(out), *sizes, *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colored shapes as JPEGs of mixed sizes, 40 to 96 px, grayscale ones among them."""
    return _prep_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def shapes_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of images as raw pixels, all 32 x 32, as CIFAR's are."""
    return _prep_shapes(
        tmp_path_factory.mktemp("data") / "shapes_raw",
        "--encoding",
        "raw",
        "--min-size",
        "32",
        "--max-size",
        "32",
        "--square",
    )
