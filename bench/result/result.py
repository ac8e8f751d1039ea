"""`Result`: a JSON file with the environment, the command and the rows of a benchmark.

In: figures. Out: frozen values. They are checked when a file is read: a file with an unknown key, a
missing interval or a median outside its interval is refused. Figures are in base units; their names
end in the unit: images_per_second, *_seconds, *_bytes, *_cores, *_share (0..1), *_ratio and
multiple_of_* (pure numbers).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import write_whole

__all__ = [
    "Environment",
    "Estimate",
    "Result",
    "Row",
    "Settings",
    "Status",
    "Value",
    "read_result",
    "write_result",
]

Value = str | int | float | bool | None
Settings = dict[str, Value]
Status = Literal["ok", "out of memory", "not installed", "not possible", "failed"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Estimate(_Strict):
    """The median of repeated measurements, with its interval.

    Attributes:
        median: The median.
        low: The lower end of the interval; see slipform.pipelines.fastest.interval.
        high: The upper end. The confidence is 95 % for six or more repeats.
        repeats: The number of measurements.
    """

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

    Attributes:
        suite: The name of a file in bench/suites.
        case: The condition and the contestant, such as {"input": "streaming", "loader": "ffcv"}; it
            identifies the row.
        settings: The chosen settings, such as {"threads": 2}.
        figures: Name of a quantity -> its estimate; see slipform.bench.result.quantities.
        status: "ok", or why there are no figures.
        note: The reason as text.
    """

    suite: str = Field(min_length=1)
    case: dict[str, Value]
    settings: Settings = {}
    figures: dict[str, Estimate] = {}
    status: Status = "ok"
    note: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The suite and the case, to match the rows of two files."""
        return (self.suite, *(f"{name}={self.case[name]}" for name in sorted(self.case)))


class Environment(_Strict):
    """The machine, the versions and the time of a benchmark.

    Attributes:
        machine: A short name: "AMD EPYC, 2 cores" or "NVIDIA H200, 16 cores".
        cpu: The name of the processor.
        cores: The number of cores that the process may use.
        memory_bytes: The memory of the machine, in bytes.
        gpu: The name of the first GPU; "" without a GPU.
        gpu_memory_bytes: The memory of the first GPU, in bytes; 0 without a GPU.
        driver: The version of NVIDIA's driver; "" without a GPU.
        system: The operating system, its release and the architecture.
        python: The version of Python.
        versions: Package -> installed version.
        threads: The number of cores, and environment variables that set numbers of threads.
        commit: The commit of Slipform; "-dirty" at its end: with changes or further modules.
        date: The start of the benchmark, UTC, ISO 8601.
        load_average: The load of the minute before. Other programs disturbed the figures if it is
            above that of an idle machine.
    """

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
    load_average: float


class Result(_Strict):
    """One run of one suite.

    Attributes:
        environment: The environment before the measurements.
        command: The command line.
        rows: The measured rows.
    """

    environment: Environment
    command: str
    rows: list[Row]


def write_result(path: Path, result: Result) -> None:
    """Write a result, completely or not at all.

    Args:
        path: The JSON file; its folder is created if it does not exist.
        result: The result.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result.model_dump(), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, content + "\n")


def read_result(path: Path) -> Result:
    """Read and check a result.

    Args:
        path: A JSON file that bench wrote.

    Raises:
        DatasetError: The file is missing, or it is no result.
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
