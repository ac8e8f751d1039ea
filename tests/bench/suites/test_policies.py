"""bench policies: figures for each policy and library, from decoded pixels and from JPEGs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipform.bench.result.result import Estimate
from slipform.bench.suites import policies
from slipform.bench.suites.policies import measure

Found = dict[tuple[str, str], dict[str, Estimate]]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading n, counted from 0, says n² seconds."""
    readings = itertools.count()
    clock = SimpleNamespace(process_time=lambda: float(next(readings) ** 2))
    monkeypatch.setattr(policies, "time", clock)


def _check(found: Found, images: int) -> None:
    """The first round, which compiles, reads the clock once for each work, and the second one
    twice."""
    seconds = {key: 2 * (len(found) + 2 * k) + 1 for k, key in enumerate(found)}
    for (policy, library), figures in found.items():
        taken, plain = seconds[policy, library], seconds["none", library]
        assert figures["sample_seconds"].median == pytest.approx(taken / images)
        assert figures["plain_ratio"].median == pytest.approx(taken / plain)


def test_each_library_is_measured(shapes: Path, needs: Callable[[str], None]) -> None:
    needs("timm")
    found = measure(str(shapes), "decoded", True, images=2, rounds=1)
    libraries = {name: {other for policy, other in found if policy == name} for name, _ in found}
    assert libraries.pop("trivial_augment_wide") == {"slipform", "torchvision.v2"}
    assert libraries["rand_augment"] >= {"slipform", "torchvision.v2"}
    _check(found, 2)


def test_stored_samples_are_measured(shapes: Path) -> None:
    found = measure(str(shapes), "stored", False, images=4, rounds=1)
    assert {library for _, library in found} == {"slipform"}
    _check(found, 4)
