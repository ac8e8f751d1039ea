"""MixUp and CutMix of a batch, compared with the formulas and with torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.mix import mix
from slipform.pipelines.plan.plan import MixPlan, draw_mix
from slipform.train.config.losses import CrossEntropy
from slipform.train.step.loss import make_loss
from tests.pipelines.epochs import ON_CPU as NAMES


def _batch(n: int = 6) -> Batch:
    images = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(
        images.contiguous(memory_format=torch.channels_last), torch.arange(n), torch.arange(n)
    )


def _targets(batch: Batch, num_classes: int) -> torch.Tensor:
    assert batch.mix is not None
    one, other = (
        torch.nn.functional.one_hot(labels, num_classes)
        for labels in (batch.labels, batch.mix.labels)
    )
    weight = batch.mix.weight[:, None]
    return weight * one + (1 - weight) * other


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_batch_of_torchvisions_transform(kind: str) -> None:
    """Images and targets equal those of torchvision for the same random numbers."""
    batch = _batch()
    transform = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[kind](num_classes=6)
    partner = np.roll(np.arange(6), 1)
    for seed in range(20):
        torch.manual_seed(seed)
        images, targets = transform(batch.images.contiguous(), batch.labels)
        torch.manual_seed(seed)
        params = transform.make_params([batch.images])
        plan = MixPlan(
            partner, params["lam"] if kind == "mixup" else params["lam_adjusted"], params.get("box")
        )
        mixed = mix(batch, plan)
        torch.testing.assert_close(mixed.images, images)
        torch.testing.assert_close(_targets(mixed, 6), targets)
        assert mixed.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [16, 33])
def test_mixup_is_the_interpolation_bit_for_bit(dtype: torch.dtype, size: int) -> None:
    """The partners are overwritten by the result. The batch itself is not."""
    images = torch.randn(7, 3, size, size).to(dtype).contiguous(memory_format=torch.channels_last)
    before, partner = images.clone(), np.roll(np.arange(7), 2)
    for weight in (0.3, 0.5, 0.71):
        mixed = mix(
            Batch(images, torch.arange(7), torch.arange(7)), MixPlan(partner, weight, None)
        ).images
        expected = torch.lerp(before[torch.from_numpy(partner)], before, weight)
        assert torch.equal(mixed, expected)
        assert mixed.stride() == before.stride()
        assert torch.equal(images, before)


def test_masked_samples_stay_masked() -> None:
    batch = _batch(3)
    masked = Batch(batch.images, torch.tensor([4, -100, 5]), batch.indices)
    mixed = mix(masked, MixPlan(np.array([2, 0, 1]), 0.3, None))
    assert mixed.labels.tolist() == [4, -100, -100]


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("spec", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_the_loader_mixes_its_ordinary_batches(
    shapes: Path, executor: str, spec: dict[str, float]
) -> None:
    plain, mixed = (
        Augmentation(image_size=24, flip="horizontal"),
        Augmentation(image_size=24, flip="horizontal", **spec),
    )  # type: ignore[arg-type]
    with Loader(shapes, augment=plain, batch_size=40, executor=executor) as a, \
            Loader(shapes, augment=mixed, batch_size=40, executor=executor) as b:  # fmt: skip
        for number, (want, got) in enumerate(zip(a, b, strict=True)):
            plan = draw_mix(b.augment, 40, 0, 0, number)
            assert plan is not None
            by_hand = want.images.clone()
            for i in range(40):
                other = want.images[i - 1]
                if plan.box is None:
                    by_hand[i] = plan.weight * want.images[i] + (1 - plan.weight) * other
                else:
                    x0, y0, x1, y1 = plan.box
                    by_hand[i, :, y0:y1, x0:x1] = other[:, y0:y1, x0:x1]
            torch.testing.assert_close(got.images, by_hand)
            assert got.mix is not None
            assert torch.equal(got.labels, want.labels)
            assert torch.equal(got.mix.labels, want.labels.roll(1))


def test_processes_mix_differently(shapes: Path) -> None:
    weights = []
    for rank in range(2):
        spec = Augmentation(image_size=8, mixup=1.0)
        with Loader(
            shapes, augment=spec, batch_size=10, rank=rank, world_size=2, executor="resident"
        ) as loader:
            weights += [float(batch.mix.weight[0]) for batch in loader if batch.mix]
    assert len(set(weights)) == 24


def _drawn(n: int, **options: float) -> list[MixPlan]:
    spec = Augmentation(image_size=32, **options)  # type: ignore[arg-type]
    plans = [draw_mix(spec, 8, 3, epoch, batch) for epoch in range(2) for batch in range(n // 2)]
    return [plan for plan in plans if plan is not None]


def test_how_often_batches_are_mixed_and_switch_as_in_timm(needs: Callable[[str], None]) -> None:
    """timm's Mixup in its mode "batch": the same shares and the same weights."""
    needs("timm")
    from timm.data.mixup import Mixup

    options = {"mixup": 0.8, "cutmix": 0.6, "mix_probability": 0.7, "switch_probability": 0.3}
    n = 4000
    plans = _drawn(n, **options)
    theirs = Mixup(0.8, 0.6, prob=0.7, switch_prob=0.3, mode="batch", num_classes=10)
    weights, cuts = zip(*(theirs._params_per_batch() for _ in range(n)), strict=True)
    plain = np.array([plan.weight == 1.0 and plan.box is None for plan in plans])
    mixed = np.array([plan.box is None for plan in plans]) & ~plain
    assert stats.binomtest(int(plain.sum()), n, 0.3).pvalue > 1e-6
    assert stats.binomtest(int(mixed.sum()), n, 0.7 * 0.7).pvalue > 1e-6
    their_mixed = ~np.array(cuts, bool) & (np.array(weights) != 1)
    assert stats.binomtest(int(their_mixed.sum()), n, 0.7 * 0.7).pvalue > 1e-6
    ours = np.array([plan.weight for plan in plans])[mixed]
    assert stats.ks_2samp(ours, np.array(weights)[their_mixed]).pvalue > 1e-6


def test_a_batch_that_is_not_mixed_stays_as_it_is() -> None:
    batch = _batch()
    mixed = mix(batch, MixPlan(np.roll(np.arange(6), 1), 1.0, None))
    assert torch.equal(mixed.images, batch.images)
    assert torch.equal(_targets(mixed, 6), torch.eye(6))
    masked = Batch(batch.images, torch.tensor([4, -100, 5, 0, 1, 2]), batch.indices)
    same = mix(masked, MixPlan(np.roll(np.arange(6), 1), 1.0, None))
    assert same.mix is not None
    assert same.labels.tolist() == same.mix.labels.tolist() == [4, -100, 5, 0, 1, 2]
    assert [plan.weight for plan in _drawn(40, mixup=0.4, mix_probability=0.0)] == [1.0] * 40


def test_the_defaults_draw_what_they_drew() -> None:
    """Every batch is mixed, and half of them are cut."""
    plans = _drawn(400, mixup=0.4, cutmix=1.0)
    assert all(plan.weight < 1 or plan.box for plan in plans)
    assert stats.binomtest(sum(plan.box is not None for plan in plans), 400, 0.5).pvalue > 1e-6


def test_smoothed_targets_are_those_of_timm(needs: Callable[[str], None]) -> None:
    """The loss of a mixed batch with label smoothing, against timm's soft targets."""
    needs("timm")
    from timm.data.mixup import mixup_target

    batch = _batch()
    mixed = mix(batch, MixPlan(np.arange(6)[::-1].copy(), 0.3, None))
    assert mixed.mix is not None
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    soft = mixup_target(batch.labels, 6, lam=0.3, smoothing=0.1)
    want = torch.nn.functional.cross_entropy(logits, soft)
    loss = make_loss(CrossEntropy(label_smoothing=0.1))
    torch.testing.assert_close(loss(logits, mixed.labels, mixed.mix), want)
