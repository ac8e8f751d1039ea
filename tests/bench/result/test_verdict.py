"""The verdicts of the report. A lead is claimed only if the interval excludes 1."""

from __future__ import annotations

import pytest

from slipform.bench.race.measure import estimate
from slipform.bench.result.result import Estimate, Row
from slipform.bench.result.verdict import lead, of_leads
from slipform.bench.suites import layouts
from tests.bench.result.rows import loader_row, train_row

LAYOUTS = layouts()


def _multiple(low: float, median: float, high: float) -> Estimate:
    return Estimate(median=median, low=low, high=high, repeats=11)


def _race(data: str, multiple: Estimate) -> list[Row]:
    """Slipform, ffcv and a slower torch DataLoader on one dataset."""
    rows = [loader_row(n, r, jitter=False) for n, r in (
        ("slipform host", 1000.0 * multiple.median), ("slipform dali", 10.0),
        ("ffcv_loader", 1000.0), ("torch_dataloader", 300.0),
    )]  # fmt: skip
    rows[0].figures["multiple_of_ffcv"] = multiple
    return [row.model_copy(update={"case": {**row.case, "data": data}}) for row in rows]


@pytest.mark.parametrize(
    ("multiples", "sentence"),
    [
        (
            [_multiple(2.1, 2.5, 2.9)],
            "Slipform loads images 2.5 times as fast as ffcv, the fastest other loader.",
        ),
        (
            [_multiple(2.1, 2.5, 2.9), _multiple(19, 21.2, 25)],
            "Slipform loads images 2.5 to 21 times as fast as ffcv, the fastest other loader.",
        ),
        (
            [_multiple(2.1, 2.5, 2.9), _multiple(0.9, 1.2, 1.5)],
            "Slipform loads images faster than the fastest other loader in 1 of 2 races; no"
            " difference shows in 1.",
        ),
        (
            [_multiple(0.4, 0.44, 0.5), _multiple(0.9, 1.2, 1.5), _multiple(3, 4, 5)],
            "Slipform loads images faster than the fastest other loader in 1 of 3 races; slower in"
            " 1; no difference shows in 1.",
        ),
    ],
)
def test_the_verdict_about_loaders(multiples: list[Estimate], sentence: str) -> None:
    results = [_race(f"data{n}", multiple) for n, multiple in enumerate(multiples)]
    for parts in (results, [[row for rows in results for row in rows]]):  # in one file or several
        found = LAYOUTS["loaders"].verdict(parts)
        assert found is not None
        assert found.sentence == sentence


def test_the_number_is_that_of_the_closest_race() -> None:
    found = LAYOUTS["loaders"].verdict(
        [_race("near", _multiple(2.1, 2.5, 2.9)), _race("far", _multiple(19, 21.2, 25))]
    )
    assert found is not None
    assert found.value == "2.5 ×"
    assert "near, streaming: Slipform host 2,500 images/s, ffcv 1,000" in found.meaning
    assert "95 % interval 2.10 to 2.90" in found.meaning


def test_without_a_multiple_the_widest_interval_is_used() -> None:
    ours, peer = (loader_row(n, r, jitter=False) for n, r in (("slipform host", 1e3), ("new", 99)))
    ours.figures["images_per_second"] = estimate([90.0, 100.0, 110.0])
    peer.figures["images_per_second"] = estimate([80.0, 90.0, 95.0])
    found = lead("here", ours, peer).multiple
    assert (found.low, found.median, found.high) == (90 / 95, 100 / 90, 110 / 80)
    verdict = of_leads([lead("here", ours, peer)], "loads images", "the fastest other loader")
    assert verdict is not None
    assert verdict.sentence.endswith("in 0 of 1 races; no difference shows in 1.")


def test_nothing_is_claimed_without_a_peer() -> None:
    alone = [loader_row("slipform host", 5.0, jitter=False)]
    assert LAYOUTS["loaders"].verdict([alone]) is None
    assert LAYOUTS["loaders"].verdict([]) is None
    assert LAYOUTS["train"].verdict([]) is None
    assert LAYOUTS["prep"].verdict([]) is None
    assert LAYOUTS["accuracy"].verdict([]) is None


def test_the_verdict_about_training() -> None:
    rows = [train_row(model, 16, 10.0) for model in ("alexnet", "resnet18", "tiny")]
    for row, ratio, wait in zip(rows, (0.97, 1.0, 0.8), (0.01, 0.002, 0.11), strict=True):
        row.figures["end_to_end_ratio"] = estimate([ratio])
        row.figures["wait_share"] = estimate([wait])
    found = LAYOUTS["train"].verdict([rows[:1], rows[1:]])
    assert found is not None
    assert found.sentence == (
        "Training with the loader runs at 80 % to 100 % of the speed of the step alone. It waits"
        " for data 1.00 % of its time (median; 11.0 % at most)."
    )
    assert found.value == "1.00 %"
    assert "at most 11.0 % (tiny on caltech101, batch 16)" in found.meaning
