"""Observations of single images: two bytes tell loss, margin and correctness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from slipform.pipelines.batch import IGNORED_LABEL, Batch, Mix
from slipform.train.scores.observations import MAX_LOSS, MAX_MARGIN, UNSEEN, Codes
from slipform.train.step.observe import Observations, encode

CPU = torch.device("cpu")


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    rows = [
        row[label] - torch.cat([row[:label], row[label + 1 :]]).max()
        for row, label in zip(logits, labels.tolist(), strict=True)
    ]
    return torch.stack(rows)


def _batch(logits: Tensor, labels: Tensor, indices: list[int], mix: Mix | None = None) -> Batch:
    return Batch(logits, labels, torch.tensor(indices), mix)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("scale", [0.01, 1.0, 12.0])
def test_loss_and_margin_survive_two_bytes(num_classes: int, scale: float) -> None:
    logits = torch.randn(2000, num_classes) * scale
    labels = torch.randint(num_classes, (2000,))
    codes = Codes(encode(logits, labels).numpy())
    loss = functional.cross_entropy(logits.double(), labels, reduction="none").numpy()
    margin = _margins(logits, labels).numpy()
    assert codes.seen.all()
    # Half a step of the scale: asinh(64 * 64) / 254 / 2 and asinh(4 * 64) / 127 / 2.
    kept = loss < MAX_LOSS
    assert (np.abs(codes.losses - loss) <= 0.018 * np.hypot(loss, 1 / 64) + 1e-6)[kept].all()
    kept = np.abs(margin) < MAX_MARGIN
    # Around 0 a whole step, so that the sign stays right.
    assert (np.abs(codes.margins - margin) <= 0.025 * np.hypot(margin, 1 / 4) + 0.007)[kept].all()
    assert (codes.correct == (logits.argmax(1) == labels).numpy()).all()


def test_the_sign_of_the_margin_agrees_with_the_accuracy_where_logits_are_equal() -> None:
    logits = torch.zeros(4, 4)
    codes = Codes(encode(logits, torch.arange(4)).numpy())
    assert codes.correct.tolist() == [True, False, False, False]  # argmax takes the first
    assert (codes.margins[1:] < 0).all()


def test_values_at_the_ends_of_the_scale() -> None:
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4], [float("nan"), 0.0], [float("inf"), 0.0]])
    codes = Codes(encode(logits, torch.zeros(4, dtype=torch.int64)).numpy())
    assert codes.losses[:3] == pytest.approx([0, MAX_LOSS, MAX_LOSS], rel=1e-5)
    assert codes.margins[:2] == pytest.approx([MAX_MARGIN, -MAX_MARGIN], rel=1e-5)
    assert codes.seen.all()
    assert np.isfinite(codes.margins).all()


def test_what_was_not_seen_has_no_values() -> None:
    codes = Codes(np.array([[UNSEEN]], np.int16))
    assert not codes.seen.any()
    assert not codes.correct.any()
    assert np.isnan(codes.losses).all()
    assert np.isnan(codes.margins).all()


def test_shares_of_classes_take_the_largest() -> None:
    logits = torch.randn(5, 3)
    shares = torch.tensor([[0.2, 0.5, 0.3]]).expand(5, 3)
    assert torch.equal(encode(logits, shares), encode(logits, torch.ones(5, dtype=torch.int64)))


def test_padding_and_unreadable_images_do_not_count() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, IGNORED_LABEL, 2, IGNORED_LABEL])
    observed = Observations(6, CPU)
    observed.keep(logits, _batch(logits, labels, [4, 1, 0, -1]))
    state = observed.state()
    assert np.flatnonzero(state != UNSEEN).tolist() == [0, 4]
    assert state[[4, 0]].tolist() == encode(logits, labels)[[0, 2]].tolist()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_a_sample_that_is_drawn_again_keeps_the_highest_loss(order: list[int]) -> None:
    logits, labels = torch.tensor([[3.0, 0.0], [-2.0, 0.0], [0.5, 0.0]]), torch.zeros(3).long()
    observed = Observations(1, CPU)
    for i in order:
        observed.add(logits[i : i + 1], _batch(logits[i : i + 1], labels[i : i + 1], [0]))
    assert observed.state().tolist() == [int(encode(logits, labels)[1])]
    together = Observations(1, CPU)
    together.add(logits[order], _batch(logits, labels, [0, 0, 0]))
    assert together.state().tolist() == observed.state().tolist()


def test_a_mixed_image_counts_where_its_own_label_has_more_weight() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    mix = Mix(labels.roll(1), torch.tensor([0.9, 0.4, 0.6, 0.5]))
    now, later = Observations(5, CPU), Observations(5, CPU)
    now.add(logits, _batch(logits, labels, [0, 1, 2, 3], mix))
    later.keep(logits, _batch(logits, labels, [0, 1, 2, 3], mix))
    later.keep(logits[:1], _batch(logits[:1], labels[:1], [4]))  # without a mix
    assert np.flatnonzero(now.state() != UNSEEN).tolist() == [0, 2]
    assert np.flatnonzero(later.state() != UNSEEN).tolist() == [0, 2, 4]
    assert later.state()[:4].tolist() == now.state()[:4].tolist()


def test_batches_that_wait_give_the_same_as_batches_that_do_not() -> None:
    now, later = Observations(9000, CPU), Observations(9000, CPU)
    places = torch.randperm(9000)
    for part in places.split(700):  # 2048 images are encoded together
        logits, labels = torch.randn(len(part), 5), torch.randint(5, (len(part),))
        batch = _batch(logits, labels, part.tolist())
        now.add(logits, batch)
        later.keep(logits, batch)
    assert (now.state() == later.state()).all()
    assert (now.state() != UNSEEN).all()
    now.clear()
    later.clear()
    assert (later.state() == UNSEEN).all()
    assert (now.state() == UNSEEN).all()


def test_the_codes_stay_in_the_same_memory() -> None:
    """A CUDA graph writes to it."""
    observed = Observations(3, CPU)
    before = observed.codes.data_ptr()
    observed.load(np.array([5, UNSEEN, 7], np.int16))
    assert observed.state().tolist() == [5, UNSEEN, 7]
    observed.clear()
    assert observed.codes.data_ptr() == before
