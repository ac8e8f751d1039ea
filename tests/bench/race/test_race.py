"""The race: order of the turns, warm-up, ratios within each round, failing contestants, and spans
of time on a simulated clock."""

from collections.abc import Iterator

import pytest
import torch

from slipform.bench.race import race as racing
from slipform.bench.race.race import Effort, await_idle, cpu_seconds, race, timed
from slipform.bench.race.worker import CallFailed


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """These contestants do nothing after their turns. Looking at that would take the most time."""
    monkeypatch.setattr(racing, "await_idle", lambda: True)


def test_contestants_take_turns_in_changing_order() -> None:
    calls: list[str] = []

    def turn(name: str) -> dict[str, float]:
        calls.append(name)
        return {"x": float(len(calls))}

    found = race({"A": lambda: turn("A"), "B": lambda: turn("B")}, rounds=3)
    assert calls == ["A", "B", "B", "A", "A", "B"]
    assert found.values == {"A": {"x": [1, 4, 5]}, "B": {"x": [2, 3, 6]}}


def test_warm_up_rounds_do_not_count() -> None:
    numbers = iter(range(10))
    found = race({"A": lambda: {"x": float(next(numbers))}}, rounds=2, warmup_rounds=3)
    assert found.values == {"A": {"x": [3, 4]}}


def test_ratios_are_computed_within_each_round() -> None:
    """A machine whose speed is halved each round: the ratio of the medians would be far from 3."""
    speed = {"ours": 3000.0, "theirs": 1000.0}
    turns = {"ours": 0, "theirs": 0}

    def turn(name: str) -> dict[str, float]:
        turns[name] += 1
        return {"images_per_second": speed[name] * 0.5 ** turns[name]}

    found = race({name: (lambda name=name: turn(name)) for name in speed}, rounds=7)  # type: ignore[misc]
    estimate = found.ratio("ours", "theirs")
    assert (estimate.low, estimate.median, estimate.high, estimate.repeats) == (3.0, 3.0, 3.0, 7)


def test_a_failing_contestant_is_removed_and_the_others_continue() -> None:
    calls = []

    def fails() -> dict[str, float]:
        calls.append("fails")
        if len(calls) == 2:
            raise CallFailed("it died", "out of memory")
        return {"x": 1.0}

    found = race({"fails": fails, "runs": lambda: {"x": 2.0}}, rounds=4)
    assert found.values == {"runs": {"x": [2.0] * 4}}
    assert found.failures["fails"].status == "out of memory"
    assert len(calls) == 2


class Clock:
    """A simulated clock instead of the module's `time`. The test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(racing, "time", found)
    return found


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (0.0, 0.1),  # one look
        (1.0, 0.6),  # two threads work for half a second
        (0.02, 0.1),  # counting takes some time
        (1e9, 30.0),  # a thread that computes while it waits
    ],
)
def test_a_turn_begins_when_all_are_idle(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, work: float, seconds: float
) -> None:
    monkeypatch.setattr(racing, "cpu_seconds", lambda: min(work, 2 * clock.now))
    assert await_idle() == (seconds < 30)  # any speed: by the clock of the test
    assert clock.now == pytest.approx(seconds)


def test_a_race_waits_before_each_turn_until_it_was_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, answers = [], iter([True, True, False])

    def wait() -> bool:
        events.append("wait")
        return next(answers)

    def turn(name: str) -> dict[str, float]:
        events.append(name)
        return {"x": 1.0}

    monkeypatch.setattr(racing, "await_idle", wait)
    race({"A": lambda: turn("A"), "B": lambda: turn("B")}, rounds=2)
    assert events == ["wait", "A", "wait", "B", "wait", "B", "A"]
    events.clear()
    race({"A": lambda: turn("A")}, rounds=2)
    assert events == ["A", "A"]


def test_a_long_race_says_once_a_minute_how_long_it_will_take(clock: Clock) -> None:
    """A round of the warm-up and five others, of 25 seconds each; the last one says nothing."""
    heard: list[tuple[float, str]] = []

    def turn() -> dict[str, float]:
        clock.sleep(25.0)
        return {"x": 1.0}

    def say(text: str) -> None:
        heard.append((clock.now, text))

    race({"A": turn}, rounds=5, warmup_rounds=1, say=say)
    assert heard == [(75.0, "  round 3 of 6; about 2 min left")]
    heard.clear()
    race({"A": turn, "B": turn}, rounds=4, say=say)
    assert [text for _, text in heard] == ["  round 2 of 4; about 2 min left"]


def batches_of(
    size: int, clock: Clock, seconds: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        clock.now += seconds
        yield torch.zeros(size), torch.zeros(size)


def test_a_span_counts_images_for_seconds(clock: Clock) -> None:
    effort = Effort(seconds=8.0, warmup_seconds=1.0, min_batches=2)
    found = timed(batches_of(5, clock, 0.5), "cpu", effort)
    assert found["images_per_second"] == 10.0
    assert "wait_share" not in found
    assert clock.now == 9.0  # 2 batches of warm-up, 16 of the span


def test_a_slow_loader_still_gives_the_minimum_number_of_batches(clock: Clock) -> None:
    effort = Effort(seconds=1.0, warmup_seconds=0.0, min_batches=3)
    assert timed(batches_of(4, clock, 16.0), "cpu", effort)["images_per_second"] == 0.25
    assert clock.now == 6 * 16.0


@pytest.mark.parametrize(("wait", "work", "share"), [(0.75, 0.25, 0.75), (0.0, 1.0, 0.0)])
def test_waiting_is_the_time_in_next(clock: Clock, wait: float, work: float, share: float) -> None:
    def step(batch: object) -> None:
        clock.now += work

    effort = Effort(seconds=32.0, warmup_seconds=0.0, min_batches=1)
    found = timed(batches_of(8, clock, wait), "cpu", effort, step)
    assert found["wait_share"] == share
    assert found["images_per_second"] == 8.0


def test_stages_are_those_of_the_span(clock: Clock) -> None:
    class WithStages:
        def __init__(self) -> None:
            self.taken = 0

        def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
            clock.now += 1.0
            self.taken += 1
            return torch.zeros(4), torch.zeros(4)

        def __iter__(self) -> "WithStages":
            return self

        def stats(self) -> dict[str, float]:
            return {"decode_seconds": 2.0 * self.taken, "images": 4.0 * self.taken}

    effort = Effort(seconds=8.0, warmup_seconds=2.0, min_batches=1)
    found = timed(WithStages(), "cpu", effort)
    assert found["decode_seconds_per_image"] == 0.5
    assert "images_per_image" not in found


def test_processor_time_of_ended_children_counts() -> None:
    """The children report their own processor time, so the load of the machine has no effect."""
    import subprocess
    import sys

    before = cpu_seconds()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(time.process_time())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The kernel counts in ticks of 10 ms, user and system each.
    assert cpu_seconds() - before >= float(out.stdout) - 0.02


def test_a_full_effort_reaches_95_percent() -> None:
    """Six repeats are the fewest that do (see slipform.pipelines.fastest.interval)."""
    assert Effort().rounds >= 6
