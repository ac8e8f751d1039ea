"""A contestant: a measured process that may die, and the search for its settings."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipform.bench.race import contestant
from slipform.bench.race.contestant import Contestant, Opening, chosen_settings
from slipform.bench.race.race import QUICK
from slipform.bench.race.worker import CallFailed, Worker
from slipform.bench.work import Work, usual_work


def work_on(folder: Path) -> Work:
    return usual_work(folder, batch_size=60, cores=2, device="cpu", dtype="float32")


def test_the_search_keeps_the_usual_setting_unless_another_is_faster() -> None:
    """`fastest` has the rule. This tests the margin of 3 % for drift, and the text."""
    two, four, eight = ({"prefetch": n} for n in (2, 4, 8))
    usual = [5800.0 + n for n in range(9)]
    rates = [usual, [1.02 * rate for rate in usual], [0.9 * rate for rate in usual]]
    assert chosen_settings([two, four, eight], rates) == (
        two,
        "tried (images/s): prefetch=2: 5804; prefetch=4: 5920; prefetch=8: 5224",
    )
    rates[1] = [1.05 * rate for rate in usual]
    assert chosen_settings([two, four, eight], rates)[0] == four
    assert chosen_settings([two], [usual])[0] == two


def test_a_contestant_is_measured_and_its_death_is_reported(shapes_raw: Path) -> None:
    effort = replace(QUICK, search=True, search_seconds=0.05)
    began = time.perf_counter()
    with Contestant(
        "slipform_loader", work_on(shapes_raw), effort, {"executor": "resident"}
    ) as one:
        assert one.opening.status == "ok", one.opening.note
        assert one.opening.note.startswith("tried (images/s): executor=resident threads=")
        assert one.opening.note.count("executor=resident") == 2
        assert one.opening.settings["executor"] == "resident"
        (first,) = one.opening.first_batch_seconds
        opened = time.perf_counter()
        assert 0 < first < opened - began  # any speed: a part of the same time
        rate = one.measure()["images_per_second"]
        passed = time.perf_counter() - opened
        assert rate * passed > 4 * 60  # any speed: at least 4 batches are measured in this time
        memory = one.memory()
        assert memory["resident_bytes"] > 50 * 2**20
        assert 0 < memory["above_imports_bytes"] < memory["resident_bytes"]
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(CallFailed, match="was killed"):
            one.measure()


def test_the_time_to_the_first_batch_is_that_of_each_opening(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([0.0, 1.0, 10.0, 12.5, 20.0, 24.0])
    clock = SimpleNamespace(perf_counter=lambda: next(readings))
    work = work_on(shapes_raw)
    (settings, *_) = contestant._candidates_of("slipform_loader", work, {"executor": "resident"})
    monkeypatch.setattr(contestant, "time", clock)
    with contestant._open_peer("slipform_loader", work, settings, openings=3) as opened:
        assert opened.first_batches() == (1.0, 2.5, 4.0)


def test_a_missing_package_is_reported(shapes_raw: Path) -> None:
    with Contestant("no_such_peer", work_on(shapes_raw), QUICK) as one:
        assert one.opening == Opening(
            status="not installed", note="No module named 'slipform.bench.peers.no_such_peer'"
        )


def test_ctrl_c_while_it_starts_ends_its_process(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Worker] = []

    class Interrupted(Worker):
        def call(self, *_: Any, **__: Any) -> Any:
            made.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(contestant, "Worker", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Contestant("slipform_loader", work_on(shapes_raw), QUICK)
    (worker,) = made
    try:
        assert not worker._process.is_alive()
    finally:
        worker.__exit__()
