"""Intervals of several labels: each resample is judged like a split of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn import metrics

from slipform.train.scores import label_bootstrap
from slipform.train.scores.bootstrap import drawn, interval
from slipform.train.scores.label_answers import LabelAnswers
from slipform.train.scores.label_bootstrap import label_memory_bytes, resampled_labels
from slipform.train.scores.label_judgment import judge_labels
from slipform.train.scores.ranking import average_precision


def answers_of(num: int, seed: int, classes: int = 3, ties: bool = False) -> LabelAnswers:
    draws = np.random.default_rng(seed)
    positive = draws.random((num, classes)) < 0.4
    logits = (draws.normal(size=(num, classes)) + positive).astype(np.float32)
    logits = np.round(logits) if ties else logits
    return LabelAnswers(logits, positive, np.arange(num))


@given(num=st.integers(1, 30), seed=st.integers(0, 50), ties=st.booleans(), kind=st.integers(0, 2))
def test_every_resample_has_the_figures_of_scikit_learn(
    num: int, seed: int, ties: bool, kind: int
) -> None:
    answers = answers_of(num, seed, 1, ties)
    positive = answers.positive[:, 0] & (kind != 1) | (kind == 2)
    weights = drawn(num, 6, seed)
    shares = answers.probabilities[:, 0]
    precision, areas = label_bootstrap._ranked(weights, shares, positive)
    for row, counts in enumerate(weights):
        own, right = np.repeat(shares, counts), np.repeat(positive, counts)
        if not right.any():
            assert np.isnan([precision[row], areas[row]]).all()
            continue
        assert precision[row] == pytest.approx(metrics.average_precision_score(right, own))
        if right.all():
            assert np.isnan(areas[row])
        else:
            assert areas[row] == pytest.approx(metrics.roc_auc_score(right, own))


@pytest.mark.parametrize("ties", [False, True])
def test_the_intervals_are_those_of_resamples_made_one_by_one(
    ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_bootstrap, "_resamples", lambda *_: 60)
    answers, limits = answers_of(80, 0, ties=ties), np.array([0.3, 0.5, 0.7])
    found = resampled_labels(answers, limits, seed=5)
    weights = drawn(80, 60, 5)
    columns: dict[str, list[float]] = {name: [] for name in found.figures}
    for counts in weights:
        own = np.repeat(answers.probabilities, counts, axis=0)
        right = np.repeat(answers.positive, counts, axis=0)
        chosen = own >= limits
        options = {"average": "macro", "zero_division": 0}
        columns["map"].append(metrics.average_precision_score(right, own))
        columns["f1"].append(metrics.f1_score(right, chosen, **options))
        columns["precision"].append(metrics.precision_score(right, chosen, **options))
        columns["recall"].append(metrics.recall_score(right, chosen, **options))
        columns["auroc"].append(metrics.roc_auc_score(right, own))
        columns["loss"].append(metrics.log_loss(right.ravel(), own.ravel()))
        place = np.ceil(own.ravel() * 15).clip(1) - 1
        gaps = [
            abs(own.ravel()[place == b].sum() - right.ravel()[place == b].sum()) for b in range(15)
        ]
        columns["ece"].append(sum(gaps) / own.size)
    for name, values in columns.items():
        most = np.inf if name == "loss" else 1.0
        expected = interval(values[0], np.array(values[1:]), most)
        got = found.figures[name]
        assert (got.value, got.low, got.high) == pytest.approx(
            (expected.value, expected.low, expected.high), abs=1e-5
        )


def test_95_percent_intervals_cover_the_truth_about_so_often() -> None:
    """Splits of 150 images, from given seeds, of a population whose mAP is known."""
    every = answers_of(20_000, 999)
    truth = float(average_precision(every.probabilities, every.positive).mean())
    limits = np.full(3, 0.5)
    found = [resampled_labels(answers_of(150, seed), limits).figures["map"] for seed in range(60)]
    covered = sum(one.low <= truth <= one.high for one in found)
    assert covered >= 43
    half = sum(abs(one.value - truth) <= (one.high - one.low) / 4 for one in found)
    assert half < covered


def test_splits_without_images_and_classes_without_labels() -> None:
    empty = LabelAnswers(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), bool), np.zeros(0, np.int64)
    )
    judged = judge_labels("test", list("abc"), empty, [0.5] * 3)
    assert all(np.isnan(one.value) for one in judged.figures.values())
    assert (judged.worst_classes, judged.top_losses) == ([], [])
    some = answers_of(40, 1)
    some.positive[:, 1] = False
    some.positive[:, 2] = True
    judged = judge_labels("test", list("abc"), some, [0.5] * 3)
    assert np.isnan([judged.average_precision[1].value, judged.auroc[1], judged.auroc[2]]).all()
    assert judged.average_precision[2].value == 1
    assert set(judged.worst_classes) == {0, 2}
    assert not np.isnan(judged.figures["map"].value)


def test_memory_that_is_promised_is_enough() -> None:
    import tracemalloc

    answers = answers_of(3000, 2, 12)
    answers.probabilities, answers.losses  # noqa: B018  (their memory is that of the answers)
    tracemalloc.start()
    resampled_labels(answers, np.full(12, 0.5))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used <= label_memory_bytes(3000, 12)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_scipy(factor: float) -> None:
    val, test = answers_of(300, 3), answers_of(200, 4)
    val, test = (
        LabelAnswers(one.logits * np.float32(factor), one.positive, one.indices)
        for one in (val, test)
    )

    def loss(log_temperature: float) -> float:
        shares = special.expit(val.logits / np.exp(log_temperature))
        return float(metrics.log_loss(val.positive.ravel(), shares.ravel()))

    best = np.exp(optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = judge_labels("test", list("abc"), test, [0.5] * 3, val).calibration
    assert found.temperature == pytest.approx(best, rel=1e-3)
    shares = special.expit(test.logits / found.temperature)
    expected = metrics.log_loss(test.positive.ravel(), shares.ravel())
    assert found.loss_after == pytest.approx(expected, rel=1e-5)
    assert found.after is not None
    assert found.after.images.sum() == 600
    own = judge_labels("val", list("abc"), val, [0.5] * 3, val).calibration
    assert (own.temperature, own.after) == (found.temperature, None)
    none = judge_labels("test", list("abc"), test, [0.5] * 3).calibration
    assert np.isnan(none.temperature)
    wild = LabelAnswers(val.logits * np.float32(np.inf), val.positive, val.indices)
    assert np.isnan(
        judge_labels("test", list("abc"), test, [0.5] * 3, wild).calibration.temperature
    )
