"""MixUp and CutMix of a batch, compared with the formulas and with torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.mix import mix
from slipform.pipelines.plan.mix_plan import MixPlan, draw_mix
from slipform.train.config.losses import CrossEntropy
from slipform.train.step.loss import make_loss
from tests.pipelines.epochs import ON_CPU as NAMES


def _batch(n: int = 6) -> Batch:
    images = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(
        images.contiguous(memory_format=torch.channels_last), torch.arange(n), torch.arange(n)
    )


def _plan(
    partner: np.ndarray, weight: float, box: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> MixPlan:
    return MixPlan(partner, np.array([weight]), np.array([box]))


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
        weight = params["lam"] if kind == "mixup" else params["lam_adjusted"]
        plan = _plan(partner, weight, params.get("box", (0, 0, 0, 0)))
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
        mixed = mix(Batch(images, torch.arange(7), torch.arange(7)), _plan(partner, weight)).images
        expected = torch.lerp(before[torch.from_numpy(partner)], before, weight)
        assert torch.equal(mixed, expected)
        assert mixed.stride() == before.stride()
        assert torch.equal(images, before)


def test_masked_samples_stay_masked() -> None:
    batch = _batch(3)
    masked = Batch(batch.images, torch.tensor([4, -100, 5]), batch.indices)
    mixed = mix(masked, _plan(np.array([2, 0, 1]), 0.3))
    assert mixed.labels.tolist() == [4, -100, -100]


def _by_hand(images: torch.Tensor, plan: MixPlan) -> torch.Tensor:
    """What a MixPlan describes, image by image."""
    mixed = images.clone()
    for i, partner in enumerate(plan.partner):
        row = i % len(plan.weight)
        weight, (x0, y0, x1, y1) = plan.weight[row], plan.box[row]
        if x0 < x1:
            mixed[i, :, y0:y1, x0:x1] = images[partner, :, y0:y1, x0:x1]
        else:
            mixed[i] = weight * images[i] + (1 - weight) * images[partner]
    return mixed


# Drawn by version 0.2.0, for the seed 3 and epoch 1.
GOLDEN = [
    (0.9937367664073775, 0, 0, 0, 0),
    (0.0019951577145710065, 0, 0, 0, 0),
    (0.9912109375, 1, 14, 4, 17),
    (0.794921875, 17, 0, 32, 14),
]
_BOTH = {"mixup": 0.5, "cutmix": 1.0}


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize(
    "spec",
    [
        {"mixup": 0.5},
        {"cutmix": 1.0},
        _BOTH,
        _BOTH | {"mix_mode": "pair", "mix_probability": 0.7},
        _BOTH | {"mix_mode": "elem", "mix_probability": 0.7},
    ],
)
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
            torch.testing.assert_close(got.images, _by_hand(want.images, plan))
            assert got.mix is not None
            assert torch.equal(got.labels, want.labels)
            weight = torch.from_numpy(plan.weight).float().expand(40)
            assert torch.equal(got.mix.weight, weight)
            partners = torch.where(weight < 1, want.labels[plan.partner], want.labels)
            assert torch.equal(got.mix.labels, partners)


def test_processes_mix_differently(shapes: Path) -> None:
    weights = []
    for rank in range(2):
        spec = Augmentation(image_size=8, mixup=1.0)
        with Loader(
            shapes, augment=spec, batch_size=10, rank=rank, world_size=2, executor="resident"
        ) as loader:
            weights += [float(batch.mix.weight[0]) for batch in loader if batch.mix]
    assert len(set(weights)) == 24


def _drawn(n: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The weights of n batches of 8, and whether a box is cut, both [n * rows]."""
    spec = Augmentation(image_size=32, **options)
    plans = [draw_mix(spec, 8, 3, epoch, batch) for epoch in range(2) for batch in range(n // 2)]
    kept = [plan for plan in plans if plan is not None]
    boxes = np.concatenate([plan.box for plan in kept])
    return np.concatenate([plan.weight for plan in kept]), boxes[:, 2] > boxes[:, 0]


@pytest.mark.parametrize(("mode", "batches"), [("batch", 4000), ("pair", 1000), ("elem", 500)])
def test_how_much_is_mixed_and_switches_as_in_timm(
    needs: Callable[[str], None], mode: str, batches: int
) -> None:
    """timm's Mixup in each mode: the same shares and the same weights."""
    needs("timm")
    from timm.data.mixup import Mixup

    options = {"mixup": 0.8, "cutmix": 0.6, "mix_probability": 0.7, "switch_probability": 0.3}
    n = 4000
    np.random.seed(0)  # noqa: NPY002, timm draws from it
    theirs = Mixup(0.8, 0.6, prob=0.7, switch_prob=0.3, mode=mode, num_classes=10)
    if mode == "batch":
        weights, cuts = zip(*(theirs._params_per_batch() for _ in range(n)), strict=True)
    else:
        weights, cuts = theirs._params_per_elem(n)
    step = 2 if mode == "pair" else 1
    drawn, is_cut = (a[::step] for a in _drawn(batches, mix_mode=mode, **options))
    assert len(drawn) == n
    alone, _ = _drawn(batches, mix_mode=mode, mixup=0.8, mix_probability=0.7)
    assert stats.binomtest(int((alone[::step] == 1.0).sum()), n, 0.3).pvalue > 1e-6
    mixed = (drawn < 1.0) & ~is_cut
    assert stats.binomtest(int(mixed.sum()), n, 0.7 * 0.7).pvalue > 1e-6
    their_mixed = ~np.array(cuts, bool) & (np.array(weights) != 1)
    assert stats.binomtest(int(their_mixed.sum()), n, 0.7 * 0.7).pvalue > 1e-6
    assert stats.ks_2samp(drawn[mixed], np.array(weights)[their_mixed]).pvalue > 1e-6


def test_a_batch_that_is_not_mixed_stays_as_it_is() -> None:
    batch = _batch()
    mixed = mix(batch, _plan(np.roll(np.arange(6), 1), 1.0))
    assert torch.equal(mixed.images, batch.images)
    assert torch.equal(_targets(mixed, 6), torch.eye(6))
    masked = Batch(batch.images, torch.tensor([4, -100, 5, 0, 1, 2]), batch.indices)
    same = mix(masked, _plan(np.roll(np.arange(6), 1), 1.0))
    assert same.mix is not None
    assert same.labels.tolist() == same.mix.labels.tolist() == [4, -100, 5, 0, 1, 2]
    for mode, rows in (("batch", 40), ("pair", 320), ("elem", 320)):
        weights, is_cut = _drawn(40, mixup=0.4, cutmix=1.0, mix_mode=mode, mix_probability=0.0)
        assert weights.tolist() == [1.0] * rows
        assert not is_cut.any()


def test_the_defaults_draw_what_they_drew() -> None:
    """Every batch is mixed, half of them are cut, and the numbers are those of earlier versions."""
    weights, is_cut = _drawn(400, mixup=0.4, cutmix=1.0)
    assert (weights < 1).sum() > 395  # a box may be empty
    assert (_drawn(400, mixup=0.4)[0] < 1).all()
    assert stats.binomtest(int(is_cut.sum()), 400, 0.5).pvalue > 1e-6
    spec = Augmentation(image_size=32, mixup=0.4, cutmix=1.0)
    plans = [draw_mix(spec, 8, 3, 1, batch) for batch in range(4)]
    assert [(float(p.weight[0]), *p.box[0].tolist()) for p in plans if p] == GOLDEN


def test_smoothed_targets_are_those_of_timm(needs: Callable[[str], None]) -> None:
    """The loss of a mixed batch with label smoothing, against timm's soft targets."""
    needs("timm")
    from timm.data.mixup import mixup_target

    batch = _batch()
    mixed = mix(batch, _plan(np.arange(6)[::-1].copy(), 0.3))
    assert mixed.mix is not None
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    soft = mixup_target(batch.labels, 6, lam=0.3, smoothing=0.1)
    want = torch.nn.functional.cross_entropy(logits, soft)
    loss = make_loss(CrossEntropy(label_smoothing=0.1))
    torch.testing.assert_close(loss(logits, mixed.labels, mixed.mix), want)
