"""Result files: written files are read back, and wrong files are refused with the wrong key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipform.bench.result.environment import stamp
from slipform.bench.result.measured import command_text
from slipform.bench.result.result import Estimate, Result, Row, read_result, write_result
from slipform.pipelines.errors import DatasetError


@pytest.fixture
def result() -> Result:
    rate = Estimate(median=100.0, low=90.0, high=110.0, repeats=11)
    row = Row(
        suite="loaders",
        case={"loader": "ffcv", "color_jitter": True},
        settings={"workers": 2},
        figures={"images_per_second": rate},
    )
    return Result(environment=stamp(), command="bench loaders data", rows=[row])


def test_a_file_is_read_as_it_was_written(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_result(path, result)
    assert read_result(path) == result
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]  # no temporary file is left
    content = json.loads(path.read_text())
    assert set(content) == {"environment", "command", "rows"}
    assert content["rows"][0]["figures"]["images_per_second"] == {
        "median": 100.0,
        "low": 90.0,
        "high": 110.0,
        "repeats": 11,
    }


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    content["rows"][0]["figures"]["images_per_second"][key] = value


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: _set(content, "low", 120.0), "low <= median <= high"),
        (lambda content: _set(content, "mean", 1.0), "Extra inputs"),
        (lambda content: _set(content, "median", "fast"), "valid number"),
        (lambda content: _set(content, "repeats", 0), "greater than or equal to 1"),
        (
            lambda content: content["rows"][0]["figures"]["images_per_second"].pop("high"),
            "required",
        ),
        (lambda content: content.pop("environment"), "environment"),
        (lambda content: content["rows"][0].update(status="fine"), "rows.0.status"),
    ],
)
def test_a_wrong_file_is_refused(
    result: Result, tmp_path: Path, damage: Callable[[Any], None], says: str
) -> None:
    content = result.model_dump()
    damage(content)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=says):
        read_result(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match="no result of bench"):
        read_result(path)
    with pytest.raises(DatasetError, match="no file"):
        read_result(tmp_path / "none.json")


def test_figures_cannot_be_changed_or_infinite() -> None:
    figure = Estimate(median=1.0, low=1.0, high=1.0, repeats=1)
    with pytest.raises(ValidationError):
        figure.median = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Estimate(median=1.0, low=1.0, high=float("inf"), repeats=1)


def test_the_stamp_describes_this_machine() -> None:
    import os
    from importlib.metadata import version

    import psutil

    found = stamp()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.versions["torch"] == version("torch")
    assert str(found.cores) in found.machine


def test_the_numbers_of_threads_are_read_as_openmp_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    monkeypatch.setenv("MKL_NUM_THREADS", "")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    threads = stamp().threads
    assert threads.pop("cores") > 0
    assert threads == {"OMP_NUM_THREADS": 4, "NUMBA_NUM_THREADS": 3}


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("bench loaders data --out 'a file.json'", "bench loaders data"),
        ("bench ab 'a b' --out x.json --seeds 4", "bench ab 'a b' --seeds 4"),
        ("bench ab 'a b' --out=x.json --seeds 4", "bench ab 'a b' --seeds 4"),
        ("bench growth --out", "bench growth"),
        ("bench growth", "bench growth"),
    ],
)
def test_the_command_is_shown_without_its_file(result: Result, command: str, shown: str) -> None:
    assert command_text(result.model_copy(update={"command": command})) == shown
