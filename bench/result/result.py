"""`Result`: one JSON file with the machine, the command and the rows of one benchmark.

In: figures. Out: frozen values, checked when read: a file with an unknown key, a missing spread or
a median outside its own interval is refused. Figures are in base units, which the ends of their
names say: images_per_second, *_seconds, *_bytes, *_cores, *_share (0..1), *_ratio and multiple_of_*
(pure numbers).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import write_whole

Value = str | int | float | bool | None
Settings = dict[str, Value]
Status = Literal["ok", "out of memory", "not installed", "not possible", "failed"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Estimate(_Strict):
    """The median of `repeats` measurements and its interval (see
    slipform.pipelines.measure.interval: 95 % from six repeats on)."""

    median: float
    low: float
    high: float
    repeats: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.median <= self.high:
            raise ValueError(
                f"low <= median <= high does not hold: {self.low}, {self.median}, {self.high}"
            )
        return self


class Row(_Strict):
    """One contestant under one condition.

    Args:
        suite: The name of a file in bench/suites.
        case: What was varied, e.g. {"input": "jpeg", "color_jitter": True, "loader": "ffcv"}; it
            identifies the row.
        settings: What was chosen for it, e.g. {"threads": 2}.
        figures: What was measured, by name (see slipform.bench.result.quantities).
        status: "ok", or why there are no figures.
        note: The reason.
    """

    suite: str = Field(min_length=1)
    case: dict[str, Value]
    settings: Settings = {}
    figures: dict[str, Estimate] = {}
    status: Status = "ok"
    note: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What rows of two files are matched by."""
        return (self.suite, *(f"{name}={self.case[name]}" for name in sorted(self.case)))


class Environment(_Strict):
    """Where and when: enough to repeat the run, or to see why it cannot be compared."""

    # One short name: "AMD EPYC, 2 cores" or "NVIDIA H200, 16 cores".
    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    gpu: str
    gpu_memory_bytes: int
    driver: str
    system: str
    python: str
    versions: dict[str, str]
    threads: dict[str, int]
    commit: str
    date: str
    # Of the minute before. Above that of the idle machine, the figures were disturbed.
    load_average: float


class Result(_Strict):
    """One run of one suite."""

    environment: Environment
    command: str
    rows: list[Row]


def write_result(path: Path, result: Result) -> None:
    """Write a result whole or not at all.

    Args:
        path: The JSON file; its folder is made.
        result: The result.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result.model_dump(), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, content + "\n")


def read_result(path: Path) -> Result:
    """Read and check one file.

    Args:
        path: A JSON file that bench wrote.

    Returns:
        The result.

    Raises:
        DatasetError: It is no result; the message says what is wrong with it.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} is no file. Give a result that bench wrote, for example one of"
            " bench/results/*.json."
        )
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DatasetError(
            f"{path} is no result of bench: {where or 'the file'}: {first['msg']}."
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no result of bench: {error}.") from error
