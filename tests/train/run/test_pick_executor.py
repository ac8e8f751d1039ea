"""The executor for "auto": measured in turns within a budget if data stream, and kept in the
profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines import profile
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import budget
from slipform.train.run import pick_executor as picking
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.pick_executor import pick_executor

Small = Callable[..., RunConfig]
CPU = Process(torch.device("cpu"))


class _Clock:
    """A clock that only the simulated loaders advance."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class _Scripted:
    """A loader whose batches take a given number of seconds."""

    def __init__(self, clock: _Clock, seconds: Iterator[float], log: list[str], name: str) -> None:
        self._clock, self._seconds, self._log, self._name = clock, seconds, log, name
        self.batch_size, self.epoch, self.length = 40, 7, 100

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self._log.append(self._name)

    def __iter__(self) -> _Scripted:
        return self

    def __next__(self) -> None:
        self._clock.now += next(self._seconds)

    def __enter__(self) -> _Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.append(f"{self._name} closed")


def _always(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def scripted(
    shapes: Path, small: Small, tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[tuple[str, str], list[str]]]:
    """pick_executor() with the seconds of a batch of each executor. None: it cannot do the work."""

    def pick(
        *sets: str, spent: float = 0.0, **seconds: float | None
    ) -> tuple[tuple[str, str], list[str]]:
        log: list[str] = []

        def opened(config: RunConfig, *_: Any, executor: str, **__: Any) -> _Scripted:
            assert config.data.prefetch > 0, "with 0, several small batches come at a time"
            if seconds[executor] is None:
                raise ConfigError("it cannot")
            return _Scripted(clock, _always(seconds[executor] or 0.0), log, executor)

        monkeypatch.setattr(picking, "open_loader", opened)
        monkeypatch.setattr(picking, "time", clock)
        settings = ("data.executor=auto", "train.epochs=240", f"data.folder={shapes}", *sets)
        found = pick_executor(small(*settings), read_manifest(shapes), CPU, spent)
        return found, log

    for module in (profile, budget):
        monkeypatch.setattr(module, "profile_path", lambda: tmp_path / "cache" / "tune.json")
    monkeypatch.setattr("slipform.pipelines.executors.free_memory_bytes", lambda device: 0)
    return pick


def test_the_fastest_is_chosen_and_kept_in_the_profile(scripted: Any) -> None:
    (name, why), log = scripted("train.epochs=5000", host=0.2, dali=0.1)
    assert name == "dali"
    assert "host 200; dali 400" in why
    assert log[:4] == ["host", "dali", "host", "dali"], "in turns"
    assert log[-2:] == ["dali closed", "host closed"]
    (again, why), log = scripted("train.epochs=5000", host=0.1, dali=0.2)
    assert (again, log) == ("dali", [])
    assert "measured here on 20" in why
    assert why.endswith(", in images/s: host 200; dali 400")


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_a_turn_of_a_short_epoch(length: int) -> None:
    """The first batch, which takes longer, counts only if it is the only one."""
    seconds = [4.0] * max(1, length - 3) + [0.5] * min(3, length - 1)
    clock = _Clock()
    loader = _Scripted(clock, iter(seconds), [], "host")
    loader.length = length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picking, "time", clock)
        rate, ended = picking._turn(loader, 1000.0)  # type: ignore[arg-type]
    assert (rate, ended) == (10.0 if length == 1 else 80.0, True)


def test_the_usual_one_stays_without_a_clear_difference(scripted: Any) -> None:
    for _ in range(2):  # measured, then read from the profile
        assert scripted("train.epochs=5000", host=0.1, dali=0.1)[0][0] == "host"


def test_another_size_of_images_is_another_choice(scripted: Any) -> None:
    """The size of the batches that are measured, which is that of the first epoch."""
    small, long = "train.image_sizes=[[1, 16], [90, 32]]", "train.epochs=5000"
    assert scripted(long, small, host=0.2, dali=0.1)[0][0] == "dali"
    (name, _), log = scripted(long, host=0.1, dali=0.2)
    assert (name, bool(log)) == ("host", True), "measured at 32 px"
    same = ("augment.image_size=16", "augment.resize=20")
    assert scripted(long, *same, host=0.1, dali=0.2) == scripted(long, small, host=0.1, dali=0.2)


def test_a_run_of_a_fold_has_the_steps_of_the_fold(scripted: Any) -> None:
    """Of 300 images in two folds 150 are trained on: 3 batches of 40, where train alone has 6."""
    assert scripted("train.epochs=234", host=0.1, dali=0.1)[1]
    assert not scripted("train.epochs=466", "data.fold=1/2", host=0.1, dali=0.1)[1]


def test_a_profile_that_cannot_be_written_does_not_end_the_run(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "tune.json")

    monkeypatch.setattr(budget, "write_profile", full)
    (name, why), _ = scripted("train.epochs=5000", host=0.2, dali=0.1)
    assert name == "dali"
    assert why.endswith("; not kept for the next run (tune.json: No space left on device)")


def test_executors_that_cannot_do_the_work_are_left_out(scripted: Any) -> None:
    assert scripted(host=0.1, dali=None)[0] == ("", "")


def test_other_work_is_another_choice(scripted: Any) -> None:
    """Own images all have the dataset name "images". DALI cannot do the second work, and would end
    the run; another precision may be faster elsewhere."""
    long = "train.epochs=5000"
    assert scripted(long, host=0.2, dali=0.1)[0][0] == "dali"
    other = ("augment.rotation=10.0", "augment.border=reflect")
    assert scripted(long, *other, host=0.1, dali=None) == (("", ""), ["host closed"])
    assert scripted(long, "train.precision=bf16", host=0.1, dali=0.2)[0][0] == "host"


def test_an_executor_that_cannot_do_the_work_is_not_taken_from_the_profile(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "train.epochs=5000"
    assert scripted(long, host=0.2, dali=0.1)[0][0] == "dali"
    monkeypatch.setattr(picking, "streaming", lambda *_: ["host"])
    assert scripted(long, host=0.2, dali=0.1)[0] == ("", "")


def test_a_run_of_less_than_a_minute_has_the_usual_one(scripted: Any) -> None:
    """1,440 steps of 0.04 s, after the first turn."""
    found, log = scripted(host=0.04, dali=0.01)
    assert found == ("", "")
    assert log == ["host", "dali closed", "host closed"]


@pytest.mark.parametrize(("epochs", "most"), [(240, 0.02), (5000, 0.0025)])
def test_a_slow_one_is_stopped(scripted: Any, clock: _Clock, epochs: int, most: float) -> None:
    """Its first turn alone would take 140 s. It is stopped after its share of the budget, or after
    four times the seconds of the usual one, and after the batch that was begun. The usual one,
    which is the only one left, is kept for the next run in the second case only."""
    batch, slow = 0.2, 20.0
    (name, why), log = scripted(f"train.epochs={epochs}", host=batch, dali=slow)
    assert name == "host"
    assert "dali 2" in why
    assert [one for one in log if "closed" not in one] == ["host", "dali"]
    assert clock.now <= most * 6 * epochs * batch + slow
    again = scripted(f"train.epochs={epochs}", host=batch, dali=slow)[1]
    assert bool(again) == (epochs == 240)


def test_time_that_was_spent_on_the_steps_counts(scripted: Any) -> None:
    (name, _), log = scripted("train.epochs=5000", spent=30.0, host=0.2, dali=0.1)
    assert (name, log.count("host")) == ("host", 1)


@pytest.mark.parametrize(
    "sets",
    [
        ("data.executor=host",),
        ("train.epochs=2",),  # a short run
        ("train.auto_seconds=0",),
    ],
)
def test_nothing_is_measured_without_a_choice(scripted: Any, sets: tuple[str, ...]) -> None:
    assert scripted(*sets, host=0.1, dali=0.1) == (("", ""), [])


def test_nothing_is_measured_if_images_fit_into_memory(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipform.pipelines.executors.free_memory_bytes", lambda device: 1 << 40)
    assert scripted(host=0.1, dali=0.1) == (("", ""), [])


def test_a_choice_within_a_short_budget_is_not_kept_in_the_profile(scripted: Any) -> None:
    """1,440 steps of 0.1 s take 144 s. 2 % of that are three rounds after the first turns."""
    (name, _), log = scripted(host=0.1, dali=0.01)
    assert name == "host", "three rounds are not enough to replace the usual one"
    assert log.count("host") < 6
    assert scripted(host=0.1, dali=0.01)[1], "measured again: it was not written to the profile"


@pytest.mark.usefixtures("no_figures")
def test_a_run_records_the_choice(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "slipform.train.run.auto.pick_executor", lambda *_: ("dali", "executor dali: measured")
    )
    config = small("data.executor=auto", "train.epochs=1")
    summary = fit(config, shapes, tmp_path, device="cpu", quiet=True)
    assert summary["executor"] == "dali"
    assert run_config(tmp_path).data.executor == "dali"
    assert "executor dali: measured" in (tmp_path / "config.toml").read_text().splitlines()[0]
