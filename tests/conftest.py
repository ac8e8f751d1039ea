"""Fixtures that all folders share: small generated datasets, and the real ones where this machine
has them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

REAL_DATA = "SLIPFORM_TEST_DATA"


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_torch() -> None:
    """Tests compare numbers: a fixed thread count keeps sums in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real Caltech-101, CIFAR-10 and MNIST; skips where none is named."""
    folder = os.environ.get(REAL_DATA)
    if not folder:
        pytest.skip(f"needs real data: set {REAL_DATA} to a folder with caltech101, cifar10, mnist")
    path = Path(folder)
    assert path.is_dir(), f"{REAL_DATA}={folder} is no folder"
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per reason: how many tests were skipped, so that none vanishes unseen."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if deselected := len(terminalreporter.stats.get("deselected", [])):
        reasons["not chosen by -m or -k"] = deselected
    if reasons:
        terminalreporter.section("not run")
        for reason, number in reasons.most_common():
            terminalreporter.write_line(f"{number:5} {reason}")


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
