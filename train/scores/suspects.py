"""Which training samples look wrong: `sample_scores` from observations, and three rankings.

In: the observations of all epochs. Out: mean margins and losses, how often each sample was learned
and forgotten; the samples that are probably mislabeled, never learned, or forgotten.

- The mean margin over the epochs is the area under the margin of Pleiss et al., 2020, "Identifying
  Mislabeled Data using the Area Under the Margin Ranking".
- A sample is probably mislabeled if another class wins on it by as much as that class usually wins
  on its own samples. Margins and losses of the epochs and of the trained model count half each: the
  model sees the sample without augmentation, the epochs saw it before it was learned by heart.
- A sample is forgotten where it was classified rightly in one epoch and wrongly in the next one
  (Toneva et al., 2019, "An Empirical Study of Example Forgetting").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.train.scores.answers import Answers
from slipform.train.scores.calibration import cross_entropy
from slipform.train.scores.observations import Codes

__all__ = ["SampleScores", "Suspects", "find_suspects", "sample_scores"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleScores:
    """What a run has seen of each training sample.

    Attributes:
        margins: The mean margin over the epochs, float64 [N]; nan for a sample that was never seen.
        losses: The mean loss over the epochs, float64 [N]; nan for a sample that was never seen.
        seen: In how many epochs it was seen, int64 [N].
        right: In how many epochs it was classified rightly, int64 [N].
        forgotten: How often it was classified wrongly after it was classified rightly, int64 [N].
    """

    margins: _Floats
    losses: _Floats
    seen: _Ints
    right: _Ints
    forgotten: _Ints


def sample_scores(codes: Codes) -> SampleScores:
    """Summarize the observations of a run.

    Args:
        codes: Of shape [epochs, N].
    """
    num = codes.values.shape[1]
    margins, losses = np.zeros(num), np.zeros(num)
    seen, right, forgotten = (np.zeros(num, np.int64) for _ in range(3))
    before = np.zeros(num, np.bool_)  # whether it was right when it was seen last
    for row in codes.values:  # one epoch at a time: all of them may be a gigabyte
        epoch = Codes(row)
        there, correct = epoch.seen, epoch.correct
        margins += np.where(there, epoch.margins, 0)
        losses += np.where(there, epoch.losses, 0)
        seen += there
        right += correct
        forgotten += there & before & ~correct
        before = np.where(there, correct, before)
    with np.errstate(invalid="ignore"):
        return SampleScores(margins / seen, losses / seen, seen, right, forgotten)


def _mislabeled(margins: _Floats, losses: _Floats, labels: _Ints, suggested: _Ints) -> _Ints:
    """The samples on which another class wins by as much as that class wins on its own samples.

    That is confident learning (Northcutt et al., 2021) with margins in place of probabilities.

    Args:
        margins: float64 [N]; nan where a sample cannot be read.
        losses: float64 [N], for the order.
        labels: int64 [N]; -1 where a sample cannot be read.
        suggested: int64 [N]; -1 where a sample cannot be read.
    """
    wins = margins > 0
    num_classes = int(max(labels.max(initial=0), suggested.max(initial=0))) + 1
    sums = np.bincount(labels[wins], margins[wins], num_classes)
    counts = np.bincount(labels[wins], minlength=num_classes)
    # A class that never wins on its own samples wins on no other one.
    usual = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    found = np.flatnonzero(-margins >= usual[suggested])
    return found[np.argsort(-losses[found], kind="stable")]


@dataclass(frozen=True)
class Suspects:
    """Training samples that look wrong. The rankings begin with the most suspicious sample.

    Attributes:
        scores: What the run has seen of all samples.
        answers: What the model says of the samples that can be read.
        margins: The mean of scores.margins and the margins of the answers, float64 [N]; nan where
            one of them is unknown.
        losses: The mean of scores.losses and the losses of the answers, float64 [N]; nan where one
            of them is unknown.
        suggested: The most probable class besides the label, int64 [N]; -1 where it is unknown.
        probability: The probability of the suggested class, float64 [N]; nan where it is unknown.
        mislabeled: The samples that are probably mislabeled, the highest of `losses` first.
        never_learned: The samples that were right in no epoch, the highest mean loss first.
        forgotten: The samples that were forgotten, the most often forgotten first.
    """

    scores: SampleScores
    answers: Answers
    margins: _Floats
    losses: _Floats
    suggested: _Ints
    probability: _Floats
    mislabeled: _Ints
    never_learned: _Ints
    forgotten: _Ints


def find_suspects(codes: Codes, answers: Answers) -> Suspects:
    """Rank the samples of a run.

    Args:
        codes: The observations, of shape [epochs, N].
        answers: The logits of the model for the training samples. Samples without an answer, since
            they cannot be read, are not mislabeled.
    """
    scores = sample_scores(codes)
    num, there = codes.values.shape[1], answers.indices
    labels, suggested = (np.full(num, -1, np.int64) for _ in range(2))
    margins, losses, probability = (np.full(num, np.nan) for _ in range(3))
    rows, others = np.arange(len(answers)), answers.logits.copy()
    others[rows, answers.labels] = -np.inf
    best = others.argmax(1)
    labels[there], suggested[there] = answers.labels, best
    model_margins = answers.logits[rows, answers.labels] - others[rows, best]
    model_margins[~np.isfinite(model_margins)] = np.nan
    margins[there] = (scores.margins[there] + model_margins) / 2
    losses[there] = (scores.losses[there] + answers.losses) / 2
    probability[there] = np.exp(-cross_entropy(answers.logits, best))
    never = np.flatnonzero((scores.right == 0) & (scores.seen > 0))
    forgotten = np.flatnonzero(scores.forgotten > 0)
    by_loss = np.argsort(-scores.losses[forgotten], kind="stable")
    forgotten = forgotten[by_loss]
    return Suspects(
        scores,
        answers,
        margins,
        losses,
        suggested,
        probability,
        _mislabeled(margins, losses, labels, suggested),
        never[np.argsort(-scores.losses[never], kind="stable")],
        forgotten[np.argsort(-scores.forgotten[forgotten], kind="stable")],
    )
