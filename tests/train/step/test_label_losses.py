"""Class weights, focal loss and the losses of several labels against torch, torchvision, timm, and
the equations written out in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from slipform.pipelines.batch import Mix
from slipform.pipelines.errors import ConfigError
from slipform.train.config.losses import Asymmetric, BinaryCrossEntropy, CrossEntropy, Focal
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import VARIANTS
from slipform.train.step.class_weights import Labels, class_factors, positive_factors
from slipform.train.step.loss import make_loss

N, C = 16, 5
LOSSES: dict[str, Any] = dict(VARIANTS["loss"])
COUNTS = (40, 10, 0, 5, 45)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, C, generator=generator) * 4, torch.randint(C, (N,), generator=generator)


def sets() -> Tensor:
    return (torch.rand(N, C, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def shares() -> Tensor:
    return torch.rand(N, C, generator=torch.Generator().manual_seed(2)).softmax(1)


def labels(kind: str = "single") -> Labels:
    return Labels(kind, tuple("abcde"), COUNTS, 100)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "multi_margin"])
def test_class_weights_multiply_the_loss_of_their_images(name: str) -> None:
    logits, numbers = data()
    config = LOSSES[name](class_weights={"b": 3.0, "e": 0.0})
    got = float(make_loss(config, labels())(logits, numbers, None))
    plain = make_loss(LOSSES[name](), labels())
    each = [float(plain(logits[i : i + 1], numbers[i : i + 1], None)) for i in range(N)]
    factors = np.array([1, 3, 1, 1, 0])[numbers]
    assert got == pytest.approx((np.array(each) * factors).mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torchs(smoothing: float) -> None:
    logits, numbers = data()
    config = CrossEntropy(class_weights={"a": 2.0, "d": 0.5}, label_smoothing=smoothing)
    weight = torch.tensor([2, 1, 1, 0.5, 1], dtype=torch.float64)
    theirs = torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction="none")
    got = make_loss(config, labels())(logits, numbers, None)
    assert float(got) == pytest.approx(float(theirs(logits.double(), numbers).mean()), rel=1e-6)


def test_balanced_is_that_of_scikit_learn() -> None:
    every = np.repeat(np.arange(C), COUNTS)
    present = np.unique(every)
    theirs = compute_class_weight("balanced", classes=present, y=every)
    got = class_factors("balanced", labels())
    assert got is not None
    np.testing.assert_allclose(got[present], theirs, rtol=1e-6)
    assert got[2] == 1
    assert float((got * torch.tensor(COUNTS)).sum()) == pytest.approx(100)  # a mean weight of 1
    positive = positive_factors("balanced", labels("multi"))
    assert positive is not None
    assert positive.tolist() == pytest.approx([60 / 40, 90 / 10, 1, 95 / 5, 55 / 45])
    assert class_factors("none", labels()) is None


def test_several_processes_weigh_like_one() -> None:
    """The mean over halves of a batch is that of the batch, which torch's mean over weights is
    not."""
    logits, numbers = data()
    loss = make_loss(CrossEntropy(class_weights="balanced"), labels())
    halves = [loss(logits[part], numbers[part], None) for part in (slice(8), slice(8, 16))]
    whole = float(loss(logits, numbers, None))
    assert whole == pytest.approx(float(sum(halves) / 2), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(gamma: float) -> None:
    logits, numbers = data()
    p = logits.double().softmax(1)[torch.arange(N), numbers]
    expected = ((1 - p) ** gamma * -p.log()).mean()
    got = make_loss(Focal(gamma=gamma))(logits, numbers, None)
    assert float(got) == pytest.approx(float(expected), rel=1e-5)
    soft = shares()
    terms = soft * (1 - logits.double().softmax(1)) ** gamma * -logits.double().log_softmax(1)
    got = make_loss(Focal(gamma=gamma))(logits, soft, None)
    assert float(got) == pytest.approx(float(terms.sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_binary_cross_entropy_is_torchs(smoothing: float, weights: Any) -> None:
    logits, targets = data()[0], sets()
    config = BinaryCrossEntropy(label_smoothing=smoothing, positive_weights=weights)
    factors = positive_factors(weights, labels("multi"))
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=factors)
    expected = theirs(logits, targets * (1 - smoothing) + smoothing / 2)
    got = make_loss(config, labels("multi"))(logits, targets, None)
    assert float(got) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"gamma_positive": 1.0}, {"clip": 0.2}, {"clip": 0.0}])
def test_asymmetric_is_timms(options: dict[str, float], needs: Callable[[str], None]) -> None:
    needs("timm")
    import timm.loss as losses

    logits, targets = data()[0], sets()
    config = Asymmetric(**options)
    theirs = losses.AsymmetricLossMultiLabel(
        gamma_neg=config.gamma_negative, gamma_pos=config.gamma_positive, clip=config.clip
    )
    logits.requires_grad_()
    expected = theirs(logits.double(), targets.double())
    (gradient,) = torch.autograd.grad(expected, logits)
    got = make_loss(config)(logits, targets, None)
    # timm takes the logarithm of 1 - p in float32, where ours is exact without clip.
    close = 1e-5 if config.clip else 1e-4
    assert float(got.detach()) == pytest.approx(float(expected.detach()), rel=close)
    (own,) = torch.autograd.grad(got, logits)
    torch.testing.assert_close(own, gradient, rtol=10 * close, atol=close)


@pytest.mark.parametrize("weights", ["balanced", {"a": 2.0}])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "multi_margin", "bce"])
def test_weights_of_classes_are_not_dropped_without_labels(name: str, weights: Any) -> None:
    kind = LOSSES[name]
    config = kind(**{kind.weights_setting: weights})
    with pytest.raises(ConfigError, match=f"loss.{kind.weights_setting} needs the labels"):
        make_loss(config)
    logits, numbers = data()
    plain = make_loss(config.unweighted())(logits, numbers, None)
    assert torch.equal(plain, make_loss(kind())(logits, numbers, None))
    assert config.unweighted() == kind()
    whole = RunConfig(loss=config)
    assert whole.unweighted() == RunConfig(loss=kind())


def test_a_loss_without_weights_is_its_own_unweighted_one() -> None:
    assert Asymmetric(clip=0.1).unweighted() == Asymmetric(clip=0.1)
    assert Asymmetric().weights == "none"


def test_asymmetric_with_equal_powers_is_the_focal_loss_of_torchvision() -> None:
    logits, targets = data()[0], sets()
    expected = sigmoid_focal_loss(logits.double(), targets.double(), alpha=-1, gamma=2)
    config = Asymmetric(gamma_negative=2, gamma_positive=2, clip=0)
    got = make_loss(config)(logits, targets, None)
    assert float(got) == pytest.approx(float(expected.sum(1).mean()), rel=1e-5)


def test_extreme_logits_give_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[300.0, -300.0, 0.0, 80.0, -80.0]] * 2)
    for name, kind in LOSSES.items():
        targets: Any = sets()[:2] if name in ("bce", "asymmetric") else torch.tensor([0, 1])
        for options in ({}, {"gamma_negative": 0.5, "gamma_positive": 0.5}, {"gamma": 0.5}):
            if not set(options) <= set(kind.model_fields):
                continue
            own = logits.clone().requires_grad_()
            loss = make_loss(kind(**options))(own, targets, None)
            (gradient,) = torch.autograd.grad(loss, own)
            assert torch.isfinite(gradient).all(), name
            assert torch.isfinite(loss), name


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "multi_margin"])
def test_one_label_as_a_row_of_targets_has_the_same_loss(name: str) -> None:
    """multi_margin takes no rows."""
    logits, numbers = data()
    loss = make_loss(LOSSES[name]())
    rows = F.one_hot(numbers, C).float()
    expected = float(loss(logits, numbers, None))
    assert float(loss(logits, rows, None)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "bce", "asymmetric"])
def test_rows_of_targets_that_do_not_count(name: str) -> None:
    logits, targets = data()[0], shares()
    loss = make_loss(LOSSES[name]())
    some = targets.clone()
    some[10:] = -100
    expected = float(loss(logits[:10], targets[:10], None))
    masked = loss(logits.requires_grad_(), some, None)
    assert float(masked.detach()) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(masked, logits)
    assert gradient[10:].abs().max() == 0
    assert float(loss(logits.detach(), torch.full((N, C), -100.0), None)) == 0


@pytest.mark.parametrize("name", ["cross_entropy", "bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_targets_are_the_mix_of_the_targets(name: str, smoothing: float) -> None:
    """Exact, since both losses are linear in their targets."""
    logits, targets = data()[0], shares()
    partners, weight = targets.roll(1, 0), torch.linspace(0, 1, N)
    loss = make_loss(LOSSES[name](label_smoothing=smoothing))
    mixed = weight[:, None] * targets + (1 - weight[:, None]) * partners
    got = float(loss(logits, targets, Mix(partners, weight)))
    assert got == pytest.approx(float(loss(logits, mixed, None)), rel=1e-6)


def test_a_loss_that_does_not_fit_the_labels_is_refused() -> None:
    several = 'dataset has any number of labels: give "bce" or "asymmetric"'
    for name in ("cross_entropy", "focal", "multi_margin"):
        with pytest.raises(ConfigError, match=several):
            make_loss(LOSSES[name](), labels("multi"))
    shares = 'has shares of classes: give "cross_entropy", "focal", "bce" or "asymmetric"'
    with pytest.raises(ConfigError, match=shares):
        make_loss(LOSSES["multi_margin"](), labels("soft"))


def test_wrong_weights_are_explained() -> None:
    config = RunConfig().replace("loss.class_weights", {"bb": 2.0})
    with pytest.raises(ConfigError, match=r'class "bb" in loss\.class_weights'):
        make_loss(config.loss, labels())
    with pytest.raises(ConfigError, match='Did you mean "balanced"'):
        RunConfig().replace("loss.class_weights", "balancd")
    with pytest.raises(ConfigError, match=r"class_weights\.a = -1\.0: give at least 0"):
        RunConfig().replace("loss.class_weights", {"a": -1.0})
    with pytest.raises(ConfigError, match=r'give "none" or "balanced" or a table'):
        RunConfig().replace("loss.class_weights", 3)
