"""The rankings of suspicious samples, against plain loops."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from slipform.train.scores.answers import Answers
from slipform.train.scores.observations import UNSEEN, Codes
from slipform.train.scores.suspects import find_suspects, sample_scores
from slipform.train.step.observe import encode

CLASSES = 4


def _codes(epochs: int = 7, num: int = 300, seed: int = 0) -> Codes:
    """Observations of random logits. The true class wins on most samples. Some samples are not seen
    in some epochs, one in none."""
    draws = np.random.default_rng(seed)
    labels = torch.from_numpy(draws.integers(0, CLASSES, num))
    lift = np.where(draws.random(num) < 0.6, 4.0, 0.0)
    rows = []
    for _ in range(epochs):
        drawn = draws.normal(0, 3, (num, CLASSES))
        drawn[np.arange(num), labels.numpy()] += lift
        logits = torch.from_numpy(drawn)
        row = encode(logits, labels).numpy()
        row[draws.random(num) < 0.2] = UNSEEN
        rows.append(row)
    values: npt.NDArray[np.int16] = np.stack(rows)
    values[:, 5] = UNSEEN
    return Codes(values)


def _answers(num: int, seed: int = 1) -> Answers:
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 3, (num, CLASSES)).astype(np.float32)
    return Answers(logits, draws.integers(0, CLASSES, num), np.arange(num))


def test_means_and_counts_over_the_epochs_in_which_a_sample_was_seen() -> None:
    codes = _codes()
    found = sample_scores(codes)
    for i in range(codes.values.shape[1]):
        seen = codes.seen[:, i]
        right = [bool(x) for x in codes.correct[seen, i]]
        assert found.seen[i] == len(right)
        assert found.right[i] == sum(right)
        assert found.forgotten[i] == sum(a and not b for a, b in pairwise(right))
        if right:
            assert np.isclose(found.margins[i], codes.margins[seen, i].mean(dtype=np.float64))
            assert np.isclose(found.losses[i], codes.losses[seen, i].mean(dtype=np.float64))
    assert np.isnan(found.margins[5])
    assert np.isnan(found.losses[5])


def test_a_sample_is_mislabeled_where_another_class_wins_by_as_much_as_on_its_own() -> None:
    codes, answers = _codes(), _answers(300)
    found, scores = find_suspects(codes, answers), sample_scores(codes)
    shares = np.exp(answers.log_probability(slice(None)))
    np.testing.assert_allclose(found.probability, shares[np.arange(300), found.suggested])
    expected = []
    logits, labels = answers.logits, answers.labels
    model = [logits[i, y] - np.delete(logits[i], y).max() for i, y in enumerate(labels)]
    margins = (scores.margins + model) / 2
    losses = (scores.losses - np.log(shares[np.arange(300), labels])) / 2
    np.testing.assert_allclose(found.margins, margins, rtol=1e-6)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-6)
    for i in range(300):
        others = [c for c in range(CLASSES) if c != labels[i]]
        other = max(others, key=lambda c: logits[i, c])
        assert found.suggested[i] == other
        own = [m for m, y in zip(margins, labels, strict=True) if y == other]
        if -margins[i] >= np.mean([m for m in own if m > 0]):
            expected.append(i)
    assert 10 < len(expected) < 200
    assert found.mislabeled.tolist() == sorted(expected, key=lambda i: -losses[i])


def test_never_learned_and_forgotten_samples_are_ranked() -> None:
    codes = _codes()
    found, scores = find_suspects(codes, _answers(300)), sample_scores(codes)
    never = [i for i in range(300) if scores.seen[i] and not scores.right[i]]
    assert len(never) > 5
    assert found.never_learned.tolist() == sorted(never, key=lambda i: -scores.losses[i])
    forgotten = [i for i in range(300) if scores.forgotten[i]]
    keys = {i: (-scores.forgotten[i], -scores.losses[i]) for i in forgotten}
    assert found.forgotten.tolist() == sorted(forgotten, key=lambda i: keys[i])


def test_samples_that_cannot_be_read_are_not_mislabeled() -> None:
    codes, answers = _codes(), _answers(300)
    worst = find_suspects(codes, answers).mislabeled[0]
    kept = np.flatnonzero(np.arange(300) != worst)
    found = find_suspects(
        codes, Answers(answers.logits[kept], answers.labels[kept], answers.indices[kept])
    )
    assert found.suggested[worst] == -1
    assert np.flatnonzero(np.isnan(found.probability)).tolist() == [worst]
    assert worst not in found.mislabeled
    assert len(found.mislabeled) > 5


def test_two_classes_are_ranked_as_by_cleanlab(needs: Callable[[str], None]) -> None:
    """The margin of two logits rises with the difference of the two probabilities."""
    needs("cleanlab")
    from cleanlab.rank import get_label_quality_scores

    draws = np.random.default_rng(0)
    logits = torch.from_numpy(draws.normal(0, 2, (300, 2)))
    labels = draws.integers(0, 2, 300)
    codes = Codes(encode(logits, torch.from_numpy(labels)).numpy()[None])
    theirs = get_label_quality_scores(labels, logits.softmax(1).numpy(), method="normalized_margin")
    margins = sample_scores(codes).margins
    order = np.lexsort((theirs, margins))  # margins of two bytes may be equal
    assert (np.diff(theirs[order]) >= 0).all()
    assert len(np.unique(margins)) > 100


def test_nothing_is_mislabeled_where_no_class_ever_wins() -> None:
    labels = torch.zeros(6, dtype=torch.int64)
    logits = torch.tensor([[-3.0, 0.0, 0.0, 0.0]]).expand(6, CLASSES)
    answers = Answers(logits.numpy().copy(), labels.numpy(), np.arange(6))
    found = find_suspects(Codes(encode(logits, labels).numpy()[None]), answers)
    assert not len(found.mislabeled)
    assert len(found.never_learned) == 6
