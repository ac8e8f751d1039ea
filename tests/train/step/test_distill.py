"""The loss of a student against torch's formulas on whole distributions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.train.step.distill import Answers, Distillation, divergence, shortened

CPU = torch.device("cpu")


def _logits(rows: int, classes: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def _stored(logits: Tensor, top: int) -> Answers:
    answers = Answers.empty(len(logits), logits.shape[1], top, CPU)
    answers.put(torch.arange(len(logits)), logits)
    return answers


def _whole(teacher: Tensor, top: int) -> Tensor:
    """The teacher's probabilities; all but the largest `top` are replaced by their mean."""
    found = teacher.double().softmax(1)
    for row in found:
        order = row.argsort(descending=True)
        row[order[top:]] = row[order[top:]].mean()
    return found


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
@pytest.mark.parametrize(("classes", "top"), [(10, 10), (10, 1), (10, 9), (300, 10), (1000, 5)])
def test_the_divergence_is_that_of_whole_distributions(
    classes: int, top: int, temperature: float
) -> None:
    teacher, student = _logits(64, classes), _logits(64, classes, 1).requires_grad_()
    losses = divergence(student, _stored(teacher, top), temperature)
    (ours,) = torch.autograd.grad(losses.sum(), student)

    target = (_whole(teacher, top).log() / temperature).softmax(1)
    logs = (student.double() / temperature).log_softmax(1)
    right = temperature**2 * F.kl_div(logs, target, reduction="none").sum(1)
    (gradient,) = torch.autograd.grad(right.sum(), student)

    # float16 keeps logarithms of up to 32 to 1/64: probabilities to 0.8 % in the worst case, where
    # they are tiny; 0.1 % above exp(-4). The divergence is of the order of temperature ** 2.
    torch.testing.assert_close(losses.double(), right, rtol=5e-3, atol=5e-3 * temperature)
    torch.testing.assert_close(ours, gradient, rtol=5e-3, atol=5e-3 * temperature)


def test_with_all_classes_it_is_the_loss_of_hinton() -> None:
    """Beside the entropy of the teacher, it is T ** 2 times the cross entropy at temperature T."""
    teacher, student = _logits(32, 10), _logits(32, 10, 1)
    target = (teacher / 4).softmax(1)
    entropy = -(target * target.log()).sum(1)
    right = 16 * (F.cross_entropy(student / 4, target, reduction="none") - entropy)
    torch.testing.assert_close(
        divergence(student, _stored(teacher, 10), 4.0), right, rtol=5e-3, atol=5e-3
    )


def test_a_student_with_the_teachers_answers_has_no_loss_and_no_gradient() -> None:
    logits = _logits(16, 10).requires_grad_()
    loss = divergence(logits, _stored(logits.detach(), 10), 1.0).sum()
    loss.backward()
    assert logits.grad is not None
    assert abs(float(loss.detach())) < 1e-3
    assert float(logits.grad.abs().max()) < 5e-3


def test_a_teacher_without_doubt_gives_finite_losses_and_gradients() -> None:
    teacher = torch.zeros(4, 20)
    teacher[:, 3] = 1e6
    student = torch.zeros(4, 20, requires_grad=True)
    losses = divergence(student, _stored(teacher, 5), 1.0)
    losses.sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(losses, torch.full((4,), 20.0).log())
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(256, torch.uint8), (257, torch.int16), (32_768, torch.int16), (32_769, torch.int32)],
)
def test_classes_fit_into_their_type(classes: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, classes)
    logits[0, -1] = 5
    answers = _stored(logits, 2)
    assert answers.classes.dtype is dtype
    assert answers.classes[0, 0] == classes - 1
    assert answers.num_bytes == 3 * 2 + 2 * dtype.itemsize


def test_no_more_classes_are_stored_than_there_are() -> None:
    answers = Answers.empty(5, 3, 10, CPU)
    assert answers.values.shape == answers.classes.shape == (5, 3)
    assert shortened(torch.zeros(2, 3), 3)[0].shape == (2, 3)


def test_the_loss_is_shared_and_ignored_samples_do_not_count() -> None:
    teacher, student = _logits(6, 10), _logits(4, 10, 1)
    answers = _stored(teacher, 10)
    labels = torch.tensor([1, -100, 2, 3])
    batch = Batch(torch.zeros(4, 3, 1, 1), labels, torch.tensor([5, 0, 2, 4]))
    loss = torch.tensor(1.5)
    mixed = Distillation(answers, 0.25, 2.0).mixed(loss, student, batch)
    rows = torch.tensor([5, 2, 4])
    own = divergence(
        student[[0, 2, 3]], Answers(answers.values[rows], answers.classes[rows]), 2.0
    ).mean()
    torch.testing.assert_close(mixed, 0.75 * loss + 0.25 * own)
    assert float(Distillation(answers, 0.0, 2.0).mixed(loss, student, batch)) == 1.5
