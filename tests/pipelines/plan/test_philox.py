"""Philox compared with the published vectors of Random123 and with numpy's Philox. Its numbers are
uniform and independent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slipform.pipelines.plan.philox import (
    batch_uniforms,
    permutation,
    philox,
    uniforms,
    uniforms_of_many,
)

# Random123 1.14, tests/kat_vectors: philox4x32 10: counter, key, answer.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    low, high = (int(word, 16) for word in key.split())
    words = philox(
        np.uint64(high << 32 | low), *(np.uint64(int(word, 16)) for word in counter.split())
    )
    assert " ".join(f"{int(word):08x}" for word in words) == answer


def _draws(count: int, **fixed: int) -> np.ndarray:
    """float64 [count, 4]: one of seed, epoch, sample and draw varies, the others are fixed."""
    arguments = {"seed": 7, "epoch": 3, "sample": 11, "draw": 0} | fixed
    running = next(name for name in arguments if name not in fixed)
    rows = [
        uniforms(*(np.uint64(i if name == running else value) for name, value in arguments.items()))
        for i in range(count)
    ]
    return np.array(rows)


@pytest.mark.parametrize("running", ["seed", "epoch", "sample", "draw"])
def test_uniform_and_independent_along_every_counter(running: str) -> None:
    u = _draws(
        20_000, **{name: 5 for name in ("seed", "epoch", "sample", "draw") if name != running}
    )
    assert u.min() > 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    cells = np.histogram2d(u[:-1, 0], u[1:, 0], bins=8, range=[[0, 1], [0, 1]])[0]  # neighbors
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03  # 4.2 standard errors


def test_all_bits_of_each_argument_count() -> None:
    """The high words count, too: samples and seeds beyond 2**32."""
    base = uniforms(np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4))
    others = [
        (1 + 2**40, 2, 3, 4),
        (1, 2 + 2**20, 3, 4),
        (1, 2, 3 + 2**33, 4),
        (1, 2, 3, 5),
        (2, 2, 3, 4),
    ]
    rows = {base, *(uniforms(*map(np.uint64, other)) for other in others)}
    assert len(rows) == 1 + len(others)


def test_many_samples_at_once_have_the_same_numbers() -> None:
    """Beyond 2**32, too."""
    samples = np.random.default_rng(0).integers(0, 2**60, 24, np.uint64)
    samples[:3] = 0, 2**32 - 1, 2**32
    key, epoch, draw = np.uint64(2**63 + 5), np.uint64(2**31 + 3), np.uint64(11)
    found = np.empty((4, 24))
    uniforms_of_many(key, epoch, samples, draw, found)
    np.testing.assert_array_equal(
        found.T, [uniforms(key, epoch, sample, draw) for sample in samples]
    )


def test_streams_are_different() -> None:
    """The numbers of a batch and of the order differ from those of a sample with the same
    counter."""
    batch = batch_uniforms(0, 0, 0, 4)
    sample = uniforms(np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    assert not set(batch.tolist()) & set(sample)
    assert (
        stats.kstest(
            np.concatenate([batch_uniforms(1, e, b, 5) for e in range(40) for b in range(40)]),
            "uniform",
        ).pvalue
        > 1e-4
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_permutation_is_one(count: int) -> None:
    np.testing.assert_array_equal(np.sort(permutation(5, 6, count)), np.arange(count))


@pytest.mark.parametrize("count", [2, 64, 65, 66, 129, 1000])
def test_it_is_the_shuffle_of_fisher_and_yates(count: int) -> None:
    """One position after another, as in Knuth, The Art of Computer Programming, 3.4.2 P."""
    key, epoch = 2**40 + 5, 6
    expected = list(range(count))
    for i in range(count - 1, 0, -1):
        high, low, _, _ = philox(*(np.uint64(n) for n in (key, i, 0, epoch, 1 << 16)))
        j = ((int(high) << 32) | int(low)) % (i + 1)
        expected[i], expected[j] = expected[j], expected[i]
    assert permutation(key, epoch, count).tolist() == expected


def test_permutations_of_four_are_equally_likely() -> None:
    seen = [tuple(permutation(seed, epoch, 4)) for seed in range(80) for epoch in range(60)]
    _, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4
