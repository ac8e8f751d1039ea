"""Calibration and intervals against scipy, torchmetrics' definition and the plain bootstrap."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn import metrics

from slipform.train.scores import bootstrap
from slipform.train.scores.answers import Answers
from slipform.train.scores.bootstrap import (
    Interval,
    figures_of,
    interval,
    memory_bytes,
    of_share,
    resampled,
)
from slipform.train.scores.calibration import bins, cross_entropy, fit_temperature
from slipform.train.scores.judgment import Judgment, confused_pairs, judge
from slipform.train.scores.ranking import placements


def answers(num: int = 500, classes: int = 8, sharp: float = 3.0, seed: int = 0) -> Answers:
    """A model that is right in most cases and too sure of it. The last class has no image."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, num)
    logits = rng.normal(size=(num, classes)) + 1.5 * np.eye(classes)[labels]
    return Answers((sharp * logits).astype(np.float32), labels, np.arange(num))


def test_losses_and_confidences_are_those_of_scipy() -> None:
    found = answers()
    shares = special.softmax(found.logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(found.confidence(), shares.max(1))
    own = shares[np.arange(500), found.labels]
    np.testing.assert_allclose(found.losses, -np.log(own), rtol=1e-6, atol=1e-12)
    expected = metrics.confusion_matrix(found.labels, found.predicted, labels=range(8))
    assert (found.confusion == expected).all()


def test_the_temperature_is_that_of_scipy() -> None:
    found = answers()
    best = optimize.minimize_scalar(
        lambda log: cross_entropy(found.logits, found.labels, np.exp(log)).mean(),
        bounds=(-3, 3),
        method="bounded",
        options={"xatol": 1e-10},
    )
    temperature = fit_temperature(found.logits, found.labels)
    assert temperature == pytest.approx(float(np.exp(best.x)), rel=1e-5)
    assert temperature > 1.5  # the model is too sure
    again = fit_temperature(found.logits / temperature, found.labels)
    assert again == pytest.approx(1.0, abs=1e-6)


def test_the_temperature_of_a_model_without_errors_and_of_noise_is_bounded() -> None:
    eye = np.eye(4, dtype=np.float32)
    assert fit_temperature(eye, np.arange(4)) == 0.02
    assert fit_temperature(-eye, np.arange(4)) == 50.0
    assert np.isnan(fit_temperature(eye[:0], np.arange(0)))


def test_the_calibration_error_is_the_mean_gap_over_fifteen_bins() -> None:
    found = answers()
    confidence, right = found.confidence(), found.predicted == found.labels
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += gap * inside.mean()
    judged = judge("test", list("abcdefgh"), found)
    assert judged.figures["ece"].value == pytest.approx(expected)
    assert float(judged.calibration.before.error) == pytest.approx(expected)
    assert bins(np.array([0.0, 1 / 15, 0.07, 1.0])).tolist() == [0, 0, 1, 14]


def test_values_are_those_of_scikit_learn() -> None:
    found = answers()
    there, options = range(7), {"labels": range(7), "zero_division": 0.0}
    got = {name: one.value for name, one in figures_of(found).items()}
    labels, predicted = found.labels, found.predicted
    shares = special.softmax(found.logits.astype(np.float64), axis=1)
    areas = [metrics.roc_auc_score(labels == c, shares[:, c]) for c in there]
    np.testing.assert_allclose(resampled(found)[1], [*areas, np.nan])
    expected = {
        "top1": metrics.accuracy_score(labels, predicted),
        "top5": metrics.top_k_accuracy_score(labels, found.logits, k=5, labels=range(8)),
        "precision": metrics.precision_score(labels, predicted, average="macro", **options),
        "recall": metrics.recall_score(labels, predicted, average="macro", **options),
        "f1": metrics.f1_score(labels, predicted, average="macro", **options),
        "f1_weighted": metrics.f1_score(labels, predicted, average="weighted", **options),
        "auroc": np.mean(areas),
        "loss": metrics.log_loss(labels, shares, labels=range(8)),
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_intervals_of_means_are_those_of_scipy() -> None:
    found = answers()
    got = figures_of(found)
    for name, values in (
        ("top1", (found.predicted == found.labels).astype(float)),
        ("loss", found.losses),
    ):
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        width = theirs.high - theirs.low
        assert got[name].low == pytest.approx(theirs.low, abs=0.12 * width)
        assert got[name].high == pytest.approx(theirs.high, abs=0.12 * width)


@pytest.mark.parametrize(("value", "low", "high"), [(0.5, 0.215, 0.785), (0.45, 0.165, 0.735)])
def test_an_interval_has_the_middle_95_percent(value: float, low: float, high: float) -> None:
    """Of resamples between 0.2 and 0.8, whose mean is 0.5."""
    found = interval(value, np.append(np.linspace(0.8, 0.2, 1001), np.nan))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


@pytest.mark.parametrize(("share", "number"), [(0.9, 7), (0.25, 1000), (0.9987, 50_000)])
def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(
    share: float, number: int
) -> None:
    found = of_share(share, number)
    expected = stats.binom.ppf([0.025, 0.975], number, share) / number
    assert (found.value, found.low, found.high) == (share, *expected)


def test_a_share_of_none_or_all_does_not_vary() -> None:
    assert of_share(0.0, 9) == Interval(0.0, 0.0, 0.0)
    assert of_share(1.0, 9) == Interval(1.0, 1.0, 1.0)


def test_the_interval_of_auroc_is_that_of_the_plain_bootstrap() -> None:
    """Ours is resampled by placements; here the area of every resample is computed, by the ranks
    of the positive images."""
    found, rng, areas = answers(200), np.random.default_rng(2), []
    all_shares = special.softmax(found.logits.astype(np.float64), axis=1)
    for _ in range(400):
        drawn = rng.integers(0, 200, 200)
        labels, shares = found.labels[drawn], all_shares[drawn]
        classes, counts = np.unique(labels, return_counts=True)
        ranks = stats.rankdata(shares, axis=0)
        sums = np.array([ranks[labels == c, c].sum() for c in classes])
        areas.append(
            np.mean((sums - counts * (counts + 1) / 2) / (counts * (200 - counts)), dtype=float)
        )
    own = [metrics.roc_auc_score(labels == c, shares[:, c]) for c in classes]
    assert areas[-1] == pytest.approx(np.mean(own))
    got = figures_of(found)["auroc"]
    theirs = interval(got.value, np.array(areas))
    width = theirs.high - theirs.low
    assert got.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert got.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_areas_of_resamples_follow_their_definition() -> None:
    """DeLong's first-order change: the mean placements of the positive and the negative images."""
    found, rng = answers(40, 4), np.random.default_rng(3)
    weights = np.concatenate([np.ones((1, 40)), rng.integers(0, 4, (5, 40))]).astype(np.uint8)
    actual = np.array([[row[found.labels == c].sum() for c in range(4)] for row in weights], float)
    own, others = bootstrap._placed(found, weights)
    sums = np.array([np.bincount(found.labels, row * own, 4) for row in weights])
    areas = bootstrap._areas(actual, sums, others)
    for c in range(3):
        positive = found.labels == c
        placed = placements(found.log_probability(c), positive)
        area = placed[positive].mean()
        for row, got in zip(weights, areas[:, c], strict=True):
            up = np.average(placed[positive], weights=row[positive])
            down = np.average(placed[~positive], weights=row[~positive])
            assert got == pytest.approx(min(up + down - area, 1.0), abs=1e-6)
    assert np.isnan(areas[:, 3]).all()


def test_intervals_have_a_seed_contain_the_value_and_narrow_with_images() -> None:
    found = answers()
    first, again, other = figures_of(found), figures_of(found), figures_of(found, seed=1)
    assert first == again
    assert first["top1"] != other["top1"]
    assert all(one.low <= one.value <= one.high for one in first.values())
    many = figures_of(answers(2000))
    for name, one in first.items():
        assert many[name].high - many[name].low < one.high - one.low


def test_intervals_of_figures_whose_resamples_are_biased_keep_their_width() -> None:
    """F1 of 300 classes with few images each: a resample lacks a third of the images."""
    found = figures_of(answers(3000, classes=300))
    assert found["f1"].low < found["f1"].value < found["f1"].high
    width = {name: one.high - one.low for name, one in found.items()}
    assert width["f1"] > 0.5 * width["top1"]
    biased = interval(0.5, np.linspace(0.6, 0.8, 1001))
    assert (biased.low, biased.high) == pytest.approx((0.405, 0.595))
    assert interval(0.99, np.linspace(0.9, 1.0, 101)).high == 1.0


@pytest.mark.parametrize(("num", "classes"), [(2000, 3), (300, 300), (40_000, 3)])
def test_the_memory_of_the_intervals_is_known_before(
    num: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of so many images that fewer rows are in memory at a time."""
    monkeypatch.setattr(bootstrap, "_BLOCK", 2**20)
    found = answers(num, classes)
    tracemalloc.start()
    try:
        resampled(found)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    needed = memory_bytes(num, classes)
    assert 0.4 * needed < peak < needed


def test_no_images_one_image_and_a_perfect_model() -> None:
    nothing = figures_of(answers(0))
    assert all(np.isnan([one.value, one.low, one.high]).all() for one in nothing.values())
    one = figures_of(answers(1))
    assert one["loss"].low == pytest.approx(one["loss"].high)
    assert np.isnan(one["auroc"].value)
    perfect = answers(60, sharp=1.0)
    perfect = Answers(
        20 * np.eye(8, dtype=np.float32)[perfect.labels], perfect.labels, perfect.indices
    )
    for name in ("top1", "f1", "auroc"):
        got = figures_of(perfect)[name]
        assert (got.value, got.low, got.high) == (1.0, 1.0, 1.0)


def test_a_judgment_names_the_worst() -> None:
    found = answers()
    val = answers(seed=1)
    judged: Judgment = judge("test", list("abcdefgh"), found, val)
    f1 = judged.scores.f1[judged.worst_classes]
    assert len(f1) == 7
    assert (np.diff(f1) >= 0).all()
    losses = found.losses[judged.top_losses]
    assert (np.diff(losses) <= 0).all()
    assert judged.calibration.temperature == fit_temperature(val.logits, val.labels)
    assert judged.calibration.after.error < judged.calibration.before.error
    assert judged.calibration.loss_after < judged.figures["loss"].value
    assert judge("val", list("abcdefgh"), val, val).calibration.after is None
    assert np.isnan(judge("test", list("abcdefgh"), found).calibration.temperature)


def test_pairs_with_most_images_come_first() -> None:
    confusion = np.array([[5, 3, 0], [2, 96, 3], [0, 1, 0]])
    found = [(p.actual, p.predicted, p.images) for p in confused_pairs(confusion)]
    assert found == [(0, 1, 3), (1, 2, 3), (1, 0, 2), (2, 1, 1)]
    assert confused_pairs(confusion)[0].share == 3 / 8
    assert len(confused_pairs(confusion, most=1)) == 1
    assert confused_pairs(np.eye(3, dtype=np.int64)) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_not_finite_give_no_figure_of_probabilities(wrong: float) -> None:
    """The figures of predicted classes stay."""
    found = answers()
    logits = found.logits.copy()
    logits[7, 2] = wrong
    judged = judge("test", list("abcdefgh"), Answers(logits, found.labels, found.indices), found)
    values = {name: one.value for name, one in judged.figures.items()}
    assert {name for name, value in values.items() if np.isnan(value)} == {"auroc", "ece", "loss"}
    assert np.isnan(judged.auroc).all()
    assert judged.calibration.temperature == fit_temperature(found.logits, found.labels)
    assert np.isnan(fit_temperature(logits, found.labels))
    val = Answers(logits, found.labels, found.indices)
    assert judge("test", list("abcdefgh"), found, val).calibration.after is None
