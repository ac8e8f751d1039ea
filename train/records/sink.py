"""`Sink`: a destination for the numbers of a run besides metrics.jsonl. Each kind is one file.

In: numbers that are on the host already. Out: a file, or a run of a tracker. A sink that fails is
closed, and one message says so: it never ends a run.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from slipform.pipelines.errors import ConfigError, SlipformError, printable
from slipform.pipelines.files import open_regular, write_whole
from slipform.train import records

__all__ = [
    "KEY",
    "Guarded",
    "Place",
    "Rows",
    "Sink",
    "check_packages",
    "open_sinks",
    "required",
    "written_names",
]

KEY = "records.json"  # in a run folder: the key of the run in the trackers
Rows = Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Place:
    """The run whose numbers a sink keeps.

    Attributes:
        folder: The run folder.
        project: The project or experiment of the trackers.
        name: The name of the run there.
        after_step: The last step of the run before it was resumed; 0 for a new run.
        say: Prints a message for the user.
    """

    folder: Path
    project: str
    name: str
    after_step: int
    say: Callable[[str], None]

    @property
    def key(self) -> str:
        """A unique text for the run, which a resumed run keeps. It is in records.json."""
        return _key(self.folder)


class Sink:
    """The base of all sinks; each method does nothing.

    A module of this room has `open_sink(place)`, which returns one, and `NAMES`: the names of its
    files in a run folder. `PACKAGE` is the import name of the package that it needs. The methods
    are called on one thread, and may raise any Exception.
    """

    def settings(self, values: Mapping[str, Any]) -> None:
        """Keep the settings of the run.

        Args:
            values: Name -> value, such as "train.seed".
        """

    def numbers(self, rows: Rows) -> None:
        """Keep numbers.

        Args:
            rows: For each step its number, counted from 1, and name -> number: "train/loss",
                "train/learning_rate", and "epoch/..." at the end of an epoch.
        """

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Keep an image.

        Args:
            name: Such as "train/first_batch".
            image: float [3, H, W] in 0..1, on the CPU.
            step: Steps of the run so far.
        """

    def histogram(self, name: str, values: npt.NDArray[Any], step: int) -> None:
        """Keep a histogram.

        Args:
            name: Such as "weights/conv1.weight".
            values: Floats of any shape.
            step: Steps of the run so far.
        """

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the result of the run, once. A finished run that is resumed gives it again.

        Args:
            step: Steps of the run.
            values: Name -> number, such as "final/test_accuracy".
        """

    def flush(self) -> None:
        """Write what is buffered."""

    def close(self) -> None:
        """Finish."""


class Guarded(Sink):
    """A sink whose errors end the sink and not the run.

    Args:
        name: The name of the sink.
        make: Opens it.
        say: Called once with a message if it fails.
    """

    def __init__(self, name: str, make: Callable[[], Sink], say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._sink: Sink | None = None
        self._sink = self._try(make)

    def settings(self, values: Mapping[str, Any]) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.settings(values))

    def numbers(self, rows: Rows) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.numbers(rows))

    def image(self, name: str, image: Tensor, step: int) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.image(name, image, step))

    def histogram(self, name: str, values: npt.NDArray[Any], step: int) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.histogram(name, values, step))

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.summary(step, values))

    def flush(self) -> None:
        """See `Sink`."""
        self._do(lambda sink: sink.flush())

    def close(self) -> None:
        """See `Sink`."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._try(lambda: sink.close())

    def _do(self, action: Callable[[Sink], object]) -> None:
        sink = self._sink
        if sink is not None:
            self._try(lambda: action(sink))

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (Exception, SystemExit) as error:  # a tracker may raise any exception
            failed, self._sink = self._sink, None
            text = error.message if isinstance(error, SlipformError) else _first_line(error)
            self._say(f'records: "{self._name}" failed ({text}): training continues without it')
            if failed is not None:
                try:
                    failed.close()
                except (Exception, SystemExit):
                    return None
            return None


def open_sinks(names: Sequence[str], place: Place) -> list[Sink]:
    """Open sinks by their names.

    Args:
        names: Names of modules of this room that have `open_sink`.
        place: The run.

    Returns:
        The sinks. One that cannot be opened does nothing.
    """

    def opened(name: str) -> Sink:
        module = importlib.import_module(f"slipform.train.records.{name}")
        sink: Sink = module.open_sink(place)
        return sink

    return [Guarded(name, lambda name=name: opened(name), place.say) for name in names]  # type: ignore[misc]


def written_names() -> tuple[str, ...]:
    """The names of the files and folders of all sinks in a run folder, with wildcards."""
    found = [KEY]
    for module in pkgutil.iter_modules(records.__path__, f"{records.__name__}."):
        found += getattr(importlib.import_module(module.name), "NAMES", ())
    return tuple(found)


def check_packages(names: Sequence[str]) -> None:
    """Check that the packages of sinks are installed, before a run begins.

    Args:
        names: The names of sinks.

    Raises:
        ConfigError: One is missing; the text says how to install it.
    """
    for name in names:
        module = importlib.import_module(f"slipform.train.records.{name}")
        try:
            if package := getattr(module, "PACKAGE", ""):
                required(package)
        except SlipformError as error:
            raise ConfigError(
                f'records.sinks has "{name}": {error.message}, or leave it out'
            ) from None


def required(package: str) -> None:
    """Check that the package of a tracker is installed.

    Args:
        package: Its import name.

    Raises:
        SlipformError: It is missing; the text says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise SlipformError(f'{package} is not installed: pip install "slipform[records]"')


def _key(run: Path) -> str:
    """The key in the run folder; the first call writes it."""
    try:
        with open_regular(run / KEY) as file:
            key = json.loads(file.read())["key"]
        if isinstance(key, str) and key.isalnum() and len(key) <= 64:
            return key
    except (OSError, SlipformError, ValueError, KeyError, TypeError, RecursionError):
        pass  # it is missing, or damaged
    key = uuid.uuid4().hex[:16]
    write_whole(run / KEY, json.dumps({"key": key}) + "\n")
    return key


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__)
