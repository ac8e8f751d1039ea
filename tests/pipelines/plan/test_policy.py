"""What a policy draws, against what torchvision's transform of the same name draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.operations import OPERATIONS
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.policy_space import space_of

SIZE, NUM = 64, 2000
UNLIKELY = 1e-6  # a false alarm of one comparison
AUTO = {
    "auto_augment_imagenet": v2.AutoAugmentPolicy.IMAGENET,
    "auto_augment_cifar10": v2.AutoAugmentPolicy.CIFAR10,
    "auto_augment_svhn": v2.AutoAugmentPolicy.SVHN,
}
FAMILIES: dict[str, tuple[Policy, v2.Transform]] = {
    "rand": (Policy("rand_augment"), v2.RandAugment()),
    "rand, strong": (
        Policy("rand_augment", num_ops=3, magnitude=14, num_magnitude_bins=15),
        v2.RandAugment(num_ops=3, magnitude=14, num_magnitude_bins=15),
    ),
    "trivial": (Policy("trivial_augment_wide"), v2.TrivialAugmentWide()),
    "augmix": (Policy("augmix"), v2.AugMix()),
    "augmix, other": (
        Policy("augmix", severity=7, mixture_width=2, chain_depth=2, alpha=0.4, all_ops=False),
        v2.AugMix(severity=7, mixture_width=2, chain_depth=2, alpha=0.4, all_ops=False),
    ),
    **{name: (Policy(name), v2.AutoAugment(policy)) for name, policy in AUTO.items()},  # type: ignore[arg-type]
}


def _drawn(policy: Policy, n: int = NUM, seed: int = 3, epoch: int = 0) -> Plan:
    spec = Augmentation(image_size=SIZE, crop="none", policy=policy).resolved([], [])
    sides = np.full(n, SIZE, np.int32)
    return draw(spec, np.arange(n), sides, sides, seed, epoch)


def _theirs(transform: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, float]]:
    """(image, operation, magnitude) of all that a transform applies to NUM images."""
    found: list[tuple[int, str, float]] = []
    number = 0

    def apply(image: Any, name: str, magnitude: float, **_: object) -> Any:
        found.append((number, name, magnitude))
        return image

    monkeypatch.setattr(transform, "_apply_image_or_video_transform", apply)
    torch.manual_seed(0)
    image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    for number in range(NUM):  # noqa: B007 - read by `apply`
        transform(image)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_and_magnitudes(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, transform = FAMILIES[family]
    theirs = _theirs(transform, monkeypatch)
    chains = _drawn(policy).chains
    assert chains is not None
    codes, amounts = chains.codes, chains.amounts
    for code, name in enumerate(OPERATIONS):
        ours = amounts[codes == code]
        their = np.array([amount for _, op, amount in theirs if op == name], np.float32)
        if name == "Identity":  # code 0 is also "no operation"
            continue
        total = max(1, NUM * codes.shape[1] * codes.shape[2])
        table = [[len(ours), total - len(ours)], [len(their), total - len(their)]]
        assert stats.fisher_exact(table).pvalue > UNLIKELY, name
        if len(their):
            values = np.unique([*ours, *their])
            if len(values) > 1:
                counts = [[(side == value).sum() for value in values] for side in (ours, their)]
                kept = np.array(counts)[:, np.sum(counts, 0) > 20]
                assert kept.shape[1] < 2 or stats.chi2_contingency(kept).pvalue > UNLIKELY, name
    # How many operations an image has.
    per_image = (codes > 0).sum((1, 2))
    of_theirs = np.bincount([at for at, op, _ in theirs if op != "Identity"], minlength=NUM)
    assert abs(per_image.mean() - of_theirs.mean()) < 6 * of_theirs.std() * np.sqrt(2 / NUM) + 1e-9


def test_pairs_of_auto_augment_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, transform = FAMILIES["auto_augment_svhn"]
    theirs: dict[int, tuple[str, ...]] = dict.fromkeys(range(NUM), ())
    for at, name, _ in _theirs(transform, monkeypatch):
        theirs[at] = (*theirs[at], name)
    chains = _drawn(policy).chains
    assert chains is not None
    ours = [tuple(OPERATIONS[code] for code in row if code) for row in chains.codes[:, 0]]
    pairs = sorted({*ours, *theirs.values()})
    counts = np.array([[ours.count(p), [*theirs.values()].count(p)] for p in pairs]).T
    kept = counts[:, counts.sum(0) > 20]
    assert kept.sum() > 1.9 * NUM * 0.9
    assert stats.chi2_contingency(kept).pvalue > UNLIKELY


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_weights_of_augmix(alpha: float) -> None:
    """Those of the image follow Beta(alpha, alpha), and the chains share the rest evenly."""
    chains = _drawn(Policy("augmix", alpha=alpha)).chains
    assert chains is not None
    weights = chains.weights.astype(np.float64)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert stats.kstest(weights[:, 0], stats.beta(alpha, alpha).cdf).pvalue > UNLIKELY
    share = weights[:, 1:] / weights[:, 1:].sum(1, keepdims=True)
    for column in share.T:  # a margin of Dirichlet(alpha, alpha, alpha)
        assert stats.kstest(column, stats.beta(alpha, 2 * alpha).cdf).pvalue > UNLIKELY
    assert (chains.codes[:, 0] == 0).all()  # the image itself


@pytest.mark.parametrize("chains", [1, 3])
def test_weights_of_augmix_with_a_small_alpha(chains: int) -> None:
    """Most draws of the Gamma distribution are then 0 in float32. One chain has nearly all of the
    share of the chains."""
    drawn = _drawn(Policy("augmix", alpha=0.01, mixture_width=chains)).chains
    assert drawn is not None
    weights = drawn.weights.astype(np.float64)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    mixed = weights[weights[:, 0] < 0.5, 1:]
    share = mixed / mixed.sum(1, keepdims=True)
    assert share.max(1).mean() > 0.95
    bound = 6 * np.sqrt(chains - 1) / chains / np.sqrt(len(share))  # deviations of a mean
    assert (np.abs(share.mean(0) - 1 / chains) <= bound + 1e-6).all()


@pytest.mark.parametrize(
    ("policy", "transform"),
    [
        (Policy("rand_augment"), v2.RandAugment()),
        (Policy("trivial_augment_wide"), v2.TrivialAugmentWide()),
        (Policy("auto_augment_svhn"), v2.AutoAugment()),
        (Policy("augmix"), v2.AugMix()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("size", [32, 224])
def test_spaces(policy: Policy, transform: Any, size: int) -> None:
    space = space_of(policy, size)
    theirs: dict[str, tuple[Callable[..., Any], bool]] = transform._AUGMENTATION_SPACE
    assert sorted(OPERATIONS[code] for code in space.codes) == sorted(theirs)
    for code, amounts, signed in zip(space.codes, space.amounts, space.signed, strict=True):
        magnitudes, theirs_signed = theirs[OPERATIONS[code]]
        assert bool(signed) == theirs_signed
        want = magnitudes(space.amounts.shape[1], size, size)
        np.testing.assert_array_equal(amounts, 0 if want is None else want.double().numpy())


def test_magnitudes_do_not_depend_on_the_defaults_of_torch() -> None:
    want = space_of(Policy("rand_augment"), 77).amounts
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = space_of.__wrapped__(Policy("rand_augment"), 77).amounts
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(found, want)


def test_a_sample_depends_on_nothing_else() -> None:
    """Neither on the batch nor on its place in it; another epoch draws again."""
    spec = Augmentation(image_size=SIZE, policy=Policy("augmix")).resolved([], [])
    sides = np.full(40, 90, np.int32)
    whole = draw(spec, np.arange(40), sides, sides, 1, 2).chains
    part = draw(spec, np.array([31, 7]), sides[:2], sides[:2], 1, 2).chains
    other = draw(spec, np.arange(40), sides, sides, 1, 3).chains
    assert whole
    assert part
    assert other
    for name in ("geometry", "codes", "amounts", "weights"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[31, 7]])
        assert (getattr(other, name) != getattr(whole, name)).any()


def test_crop_and_color_stay_those_without_a_policy() -> None:
    """A policy takes draws of its own."""
    options = {"image_size": 24, "crop": "random_resized", "flip": "both", "erase": 0.5}
    sides = np.full(50, 90, np.int32)
    plain, drawn = (
        draw(
            Augmentation(**options, policy=policy).resolved([], []),
            np.arange(50),
            sides,
            sides,
            1,
            2,
        )  # type: ignore[arg-type]
        for policy in (Policy(), Policy("rand_augment"))
    )
    for name in ("geometry", "color", "clip", "erase"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(drawn, name))
    assert plain.chains is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "rand_augmnt"}, 'Did you mean "rand_augment"'),
        ({"num_ops": 11}, "policy.num_ops = 11: give 0 to 10"),
        ({"name": "rand_augment", "magnitude": 31}, "policy.magnitude = 31: give 0 to 30"),
        ({"name": "rand_augment", "magnitude": -1}, "policy.magnitude"),
        ({"num_magnitude_bins": 1}, "policy.num_magnitude_bins"),
        ({"severity": 0}, "policy.severity"),
        ({"mixture_width": 0}, "policy.mixture_width"),
        ({"chain_depth": 0}, "policy.chain_depth"),
        ({"alpha": 0.0}, "policy.alpha"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Policy(**options)


def test_a_policy_makes_black_corners() -> None:
    with pytest.raises(ConfigError, match='border = "reflect": give "zero" with'):
        Augmentation(border="reflect", policy=Policy("augmix"))
    with pytest.raises(ConfigError, match="padding = 32: give less than image_size"):
        Augmentation(image_size=32, crop="random", padding=32, policy=Policy("augmix"))
