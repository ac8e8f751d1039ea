"""Drawn samples: torch's WeightedRandomSampler in distribution, a pure function of (seed, epoch),
the same for any number of processes and batch size, and each draw augmented on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import WeightedRandomSampler

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.loader import Loader
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.sampling import Draws, make_draws

WEIGHTS = np.array([0.0, 3.0, 1.0, 0.0, 0.5, 0.25, 0.0])
FALSE_ALARM = 1e-7


def test_frequencies_are_the_weights_as_in_torch() -> None:
    """Both counts fit the multinomial distribution: a chi-squared test with a fixed seed."""
    draws, epochs = Draws(WEIGHTS, ""), 6000
    ours = np.concatenate([draws.samples(5, epoch) for epoch in range(epochs)])
    torch.manual_seed(0)
    theirs = list(WeightedRandomSampler(WEIGHTS.tolist(), epochs * len(WEIGHTS)))
    some = WEIGHTS > 0
    for found in (ours, np.array(theirs)):
        counts = np.bincount(found, minlength=len(WEIGHTS))
        assert not counts[~some].any()
        expected = WEIGHTS[some] / WEIGHTS.sum() * len(found)
        assert stats.chisquare(counts[some], expected).pvalue > FALSE_ALARM
    # The draws of an epoch are independent: pairs of neighbors have the product distribution.
    pairs = np.bincount(ours.reshape(-1, 7)[:, 0] * 7 + ours.reshape(-1, 7)[:, 1], minlength=49)
    shares = np.outer(WEIGHTS, WEIGHTS).ravel() / WEIGHTS.sum() ** 2
    there = shares > 0
    assert stats.chisquare(pairs[there], shares[there] * epochs).pvalue > FALSE_ALARM


def test_epochs_and_seeds_differ_and_come_back() -> None:
    draws = Draws(np.ones(500), "")
    found = [tuple(draws.samples(seed, epoch)) for seed in (0, 1) for epoch in range(4)]
    assert len(set(found)) == 8
    assert tuple(Draws(np.ones(500), "").samples(1, 2)) == found[6]


@given(
    num=st.integers(2, 200),
    size=st.integers(1, 8),
    world_size=st.integers(1, 4),
    before=st.integers(1, 9),
    seed=st.integers(0, 2**40),
)
def test_any_batch_size_and_number_of_processes_read_one_order(  # type: ignore[no-untyped-def]
    num, size, world_size, before, seed
) -> None:
    if size * world_size > num:
        return
    draws = Draws(np.arange(1.0, num + 1), "")
    whole = EpochOrder(num, 1, seed, draws=draws).samples(3)
    assert len(whole) == num
    ranks = [
        EpochOrder(num, size, seed, rank=rank, world_size=world_size, draws=draws)
        for rank in range(world_size)
    ]
    seen = min(before, num - size * world_size)  # resumed anywhere, with another batch size
    batch = np.concatenate([one.batch(3, seen) for one in ranks])
    np.testing.assert_array_equal(batch, whole[seen : seen + size * world_size])
    positions = np.concatenate([one.draw_positions(seen) for one in ranks])
    np.testing.assert_array_equal(positions, np.arange(seen, seen + size * world_size))


def test_balanced_draws_every_class_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    draws = make_draws("balanced", labels, None, ["a", "b", "c"])
    assert draws is not None
    found = np.concatenate([draws.samples(0, epoch) for epoch in range(300)])
    counts = np.bincount(labels[found])
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    within = np.bincount(found, minlength=100)[:80]  # and each image of a class alike
    assert stats.chisquare(within).pvalue > FALSE_ALARM


def _shares(sampling: Any, labels: Any, table: LabelTable | None = None) -> list[float]:
    """The probabilities of the samples, from the ends of their intervals."""
    draws = make_draws(sampling, np.array(labels), table, ["a", "b", "c"])
    assert draws is not None
    return np.diff(draws._ends, prepend=0).tolist()


def test_weights_of_samples() -> None:
    assert _shares({"b": 3.0}, [0, 1, 2, 1]) == [1, 3, 1, 3]
    assert _shares(np.array([1, 0, 2]), [0, 1, 2]) == [1, 0, 2]
    assert _shares("balanced", [0, 0, 2]) == [0.5, 0.5, 1]
    table = LabelTable.of_sets([[0, 1], [0], [0], []])
    assert _shares("balanced", table.first(), table) == pytest.approx([1, 1 / 3, 1 / 3, 1])
    assert _shares({"a": 2.0, "b": 0.5}, table.first(), table) == [2, 2, 2, 1]
    soft = LabelTable.of_shares([{0: 0.6, 1: 0.4}, {1: 1.0}, {1: 1.0}])
    assert _shares("balanced", soft.first(), soft) == [1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ("balance", 'Did you mean "balanced"'),
        ({"dog": 1.0}, 'class "dog" in sampling'),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, "all weights are 0"),
        (np.array([1.0, -1.0, 1.0]), "0 or more"),
        (np.array([1.0, np.nan, 1.0]), "finite"),
        (np.ones(4), "a weight for each of the 3 samples"),
        (np.array(["a", "b", "c"]), "a weight for each of the 3 samples"),
        (None, "a weight for each of the 3 samples"),
        ([[1.0], [1.0, 2.0], []], "a weight for each of the 3 samples"),
        (np.full(3, 1e308), "sum of the weights is too large"),
        ({"a": 1e308, "b": 1e308, "c": 1e308}, "sum of the weights is too large"),
        ({"a": "much"}, 'sampling.a = "much": give a number'),
        ({"b": None}, "sampling.b = None: give a number"),
        ({"c": [1.0]}, "give a number"),
        ({"a": np.inf}, "finite"),
        ({"d": -1.0, "a": 1.0}, 'class "d" in sampling'),
        ({5: 1.0}, 'class "5" in sampling'),
    ],
)
def test_wrong_sampling_is_explained(sampling: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_draws(sampling, np.array([0, 1, 2]), None, ["a", "b", "c"])


def test_names_of_classes_do_nothing_to_a_terminal() -> None:
    with pytest.raises(ConfigError) as error:
        make_draws({"b\n": 1.0}, np.array([0, 1]), None, ["a\x1b[2J", "b"])
    assert 'no class "b\\n"' in error.value.message
    assert "a\\x1b[2J, b" in error.value.message


def test_a_wrong_weight_is_refused_also_for_a_class_without_images() -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        make_draws({"b": -1.0}, np.array([0, 0, 2]), None, ["a", "b", "c"])


def test_alternating_flips_need_each_image_once_an_epoch(folder: Path) -> None:
    augment = Augmentation(image_size=8, flip="alternating")
    with pytest.raises(ConfigError, match='flip = "horizontal", or sampling = "all"'):
        Loader(folder, "train", augment, batch_size=2, sampling="balanced")
    with Loader(folder, "train", augment, batch_size=2) as loader:
        assert len(list(loader)) == 6


def test_the_draws_of_an_epoch_are_kept_no_longer_than_the_loader(folder: Path) -> None:
    import gc
    import weakref

    with Loader(folder, batch_size=2, sampling="balanced", executor="host") as loader:
        draws = loader.sequence.order.draws
        assert draws is not None
        first = draws.samples(0, 0)
        assert draws.samples(0, 0) is first  # computed once, also beside the next epoch
        second = draws.samples(0, 1)
        assert draws.samples(0, 0) is first
        assert draws.samples(0, 1) is second
        list(loader)
    left = weakref.ref(draws)
    del draws, loader
    gc.collect()
    assert left() is None


def test_draws_need_training_and_no_blocks(folder: Path) -> None:
    for options in ({"training": False}, {"block": 4}):
        with pytest.raises(ConfigError, match="sampling draws single samples"):
            Loader(folder, batch_size=2, sampling="balanced", **options)


SPEC = Augmentation(image_size=16, crop="random_resized", flip="horizontal", erase=0.5)


def _batches(folder: Path, executor: str, **more: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and indices of the rest of an epoch."""
    state = more.pop("state", None)
    options = {"batch_size": 3, "seed": 2, "sampling": {"a": 5.0}, "threads": 1, **more}
    with Loader(folder, "train", SPEC, executor=executor, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        return [(batch.images.clone(), batch.indices) for batch in loader]


@pytest.mark.parametrize("executor", ["host", "resident", "dali"])
def test_every_draw_of_a_sample_is_augmented_in_its_own_way(folder: Path, executor: str) -> None:
    found = _batches(folder, executor)
    images, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    reference = torch.cat([part for part, _ in _batches(folder, "host")])
    torch.testing.assert_close(images, reference, atol=0.02, rtol=0)
    assert len(set(indices.tolist())) < len(indices)  # some samples were drawn twice
    for one in set(indices.tolist()):
        same = images[indices == one]
        assert len({image.numpy().tobytes() for image in same}) == len(same)


def test_pixels_are_the_same_for_any_batch_size_and_after_resuming(folder: Path) -> None:
    images, indices = (torch.cat(part) for part in zip(*_batches(folder, "host"), strict=True))
    ranks = [_batches(folder, "host", batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    for step, parts in enumerate(zip(*ranks, strict=True)):
        at = slice(6 * step, 6 * step + 6)
        assert torch.equal(torch.cat([part[0] for part in parts]), images[at])
        assert torch.equal(torch.cat([part[1] for part in parts]), indices[at])
    with Loader(folder, "train", SPEC, batch_size=3, seed=2, sampling={"a": 5.0}) as loader:
        next(iter(loader))
        state = loader.state_dict()
    rest = _batches(folder, "host", batch_size=1, state=state)
    assert torch.equal(torch.cat([part for part, _ in rest]), images[3:])
    with pytest.raises(ConfigError, match="sampling = "):
        _batches(folder, "host", sampling="balanced", state=state)


def test_states_of_versions_without_sampling_load(folder: Path) -> None:
    with Loader(folder, batch_size=2) as loader:
        old = {k: v for k, v in loader.state_dict().items() if k not in ("sampling", "fold")}
        loader.load_state_dict({**old, "seen": 4})
        assert loader.seen == 4


def test_several_labels_come_as_rows_of_targets(folder: Path) -> None:
    """Also for padding, samples that cannot be read, and MixUp."""
    from slipform.pipelines.label_table import write_label_table
    from slipform.pipelines.manifest import read_manifest, write_manifest

    sets = [[k % 3] if k % 4 else [0, 2] for k in range(12)]
    table, manifest = LabelTable.of_sets(sets), read_manifest(folder)
    info = manifest.splits["train"].model_copy(
        update={
            "labels_sha256": write_label_table(folder / "train.beton", table),
            "label_counts": table.class_counts(3),
        }
    )
    write_manifest(
        folder, manifest.model_copy(update={"labels": "multi", "splits": {"train": info}})
    )
    want = torch.from_numpy(table.targets(range(12), 3))
    beton = (folder / "train.beton").read_bytes()
    with Loader(folder, batch_size=5, training=False, on_bad="skip") as loader:
        assert loader.class_counts == want.sum(0).int().tolist()
        batches = list(loader)
    labels = torch.cat([batch.labels for batch in batches])
    assert labels.dtype == torch.float32
    assert torch.equal(labels[:12], want)
    assert bool((labels[12:] == -100).all())
    start = beton.index(b"\xff\xd8", 4000)
    (folder / "train.beton").write_bytes(beton[: start + 300] + b"\x00" * 8 + beton[start + 308 :])
    mixed = Augmentation(image_size=16, mixup=0.5)
    with Loader(folder, "train", mixed, batch_size=12, on_bad="skip", seed=1) as loader:
        (batch,) = list(loader)
        assert loader.num_bad == 1
    assert batch.mix is not None
    own, order = want[batch.indices], batch.indices
    lost = int(np.flatnonzero((batch.mix.labels == -100).all(1))[0])  # its partner is the bad one
    good = [k for k in range(12) if k not in (lost, (lost - 1) % 12)]
    assert bool((batch.labels[[lost, (lost - 1) % 12]] == -100).all())
    assert torch.equal(batch.labels[good], own[good])
    assert torch.equal(batch.mix.labels[good], want[order.roll(1)][good])
