"""MixUp and CutMix of a batch, compared with the formulas and with torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.mix import mix
from slipform.pipelines.plan.plan import MixPlan, draw_mix
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
