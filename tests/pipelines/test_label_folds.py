"""Folds of images with several labels: iterative stratification, compared with the algorithm of its
paper written out, and with figures of the library iterative-stratification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.folds import Fold
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.pipelines.stratify import parts_by_labels
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, SampleSource
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml

SHARES = [0.6, 0.4, 0.2, 0.1, 0.05, 0.02]
Hits = npt.NDArray[np.bool_]


def hits_of(num: int, seed: int, classes: int = 6) -> Hits:
    return np.random.default_rng(seed).random((num, classes)) < SHARES[:classes]


def table_of(hits: Hits) -> LabelTable:
    return LabelTable.of_sets([np.flatnonzero(row).tolist() for row in hits])


def by_the_paper(
    hits: Hits, shares: Sequence[float], rank: Sequence[int], sizes: Sequence[int] | None
) -> list[int]:
    """Algorithm 1 of Sechidis et al. Ties go to the first part. A part of a given size that is full
    gets no more samples."""
    room = [len(hits) * share for share in shares] if sizes is None else [float(s) for s in sizes]
    wanted = [[hits[:, c].sum() * share for c in range(hits.shape[1])] for share in shares]
    parts, left = [-1] * len(hits), set(range(len(hits)))

    def place(index: int, c: int | None) -> None:
        open_parts = [p for p in range(len(shares)) if sizes is None or room[p] > 0]
        keys = [(0.0 if c is None else wanted[p][c], room[p]) for p in open_parts]
        part = open_parts[keys.index(max(keys))]
        parts[index] = part
        left.discard(index)
        room[part] -= 1
        for label in np.flatnonzero(hits[index]):
            wanted[part][label] -= 1

    while True:
        counts = [sum(hits[i, c] for i in left) for c in range(hits.shape[1])]
        if not any(counts):
            break
        rarest = min((c for c, count in enumerate(counts) if count), key=counts.__getitem__)
        for index in sorted((i for i in left if hits[i, rarest]), key=rank.__getitem__):
            place(index, rarest)
    for index in sorted(left, key=rank.__getitem__):
        place(index, None)
    return parts


@given(num=st.integers(2, 40), classes=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_the_kernel_is_the_algorithm_of_the_paper(
    num: int, classes: int, seed: int, data: st.DataObject
) -> None:
    hits, rank = hits_of(num, seed, classes), np.random.default_rng(seed).permutation(num)
    count = data.draw(st.integers(2, min(6, num)))
    sizes = data.draw(st.sampled_from([None, [len(range(p, num, count)) for p in range(count)]]))
    uneven = data.draw(st.booleans()) and sizes is None
    shares = [0.7, *[0.3 / (count - 1)] * (count - 1)] if uneven else [1 / count] * count
    got = parts_by_labels(table_of(hits), shares, rank, sizes)
    assert got.tolist() == by_the_paper(hits, shares, rank.tolist(), sizes)


@pytest.mark.parametrize("num", [7, 100, 401])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_folds_have_exact_sizes_and_cover_all_samples(num: int, count: int) -> None:
    table, every = table_of(hits_of(num, num)), []
    for number in range(1, count + 1):
        fold = Fold(number, count, seed=3)
        inside, outside = (fold.samples(table, training=training) for training in (False, True))
        assert len(inside) == fold.num_samples(num, training=False)
        assert sorted([*inside, *outside]) == list(range(num))
        every += inside.tolist()
    assert sorted(every) == list(range(num))


def deviation(hits: Hits, folds: Sequence[npt.NDArray[np.int64]]) -> float:
    """Label distribution (Sechidis et al., equation 1): how far the odds of a label in a fold are
    from those of all samples, on average."""

    def odds(part: Hits) -> npt.NDArray[np.float64]:
        return part.sum(0) / np.maximum(len(part) - part.sum(0), 1)

    return float(np.mean([np.abs(odds(hits[fold]) - odds(hits)).mean() for fold in folds]))


def folds_of(table: LabelTable, count: int, seed: int, rule: str) -> list[npt.NDArray[np.int64]]:
    return [
        Fold(n, count, seed, rule).samples(table, training=False)  # type: ignore[arg-type]
        for n in range(1, count + 1)
    ]


def test_every_label_is_spread_better_than_by_the_rarest_alone() -> None:
    found: dict[str, list[float]] = {"all_labels": [], "rarest_label": []}
    for seed in range(10):
        hits = hits_of(300, seed)
        table = table_of(hits)
        for rule, values in found.items():
            values.append(deviation(hits, folds_of(table, 5, seed, rule)))
        for c in range(6):
            counts = [hits[fold, c].sum() for fold in folds_of(table, 5, seed, "all_labels")]
            assert max(counts) - min(counts) <= 1
    assert np.mean(found["all_labels"]) < 0.4 * np.mean(found["rarest_label"])


@pytest.mark.parametrize(("num", "theirs"), [(300, 0.0138456), (3000, 0.0011978)])
def test_it_is_as_even_as_the_library(num: int, theirs: float) -> None:
    """The mean over ten seeds of iterative-stratification 0.1.9: MultilabelStratifiedKFold(5,
    shuffle=True, random_state=seed). It installs a package `tests`, which would hide this one."""
    ours = []
    for seed in range(10):
        hits = hits_of(num, seed)
        ours.append(deviation(hits, folds_of(table_of(hits), 5, seed, "all_labels")))
    assert np.mean(ours) <= 1.05 * theirs


def test_the_former_rule_keeps_its_folds() -> None:
    table = table_of(hits_of(200, 4))
    for number in (1, 2, 3):
        former = Fold(number, 3, 7, "rarest_label").samples(table, training=False)
        strata = Fold(number, 3, 7).samples(table.strata(), training=False)
        np.testing.assert_array_equal(former, strata)
    assert folds_of(table, 3, 7, "all_labels")[0].tolist() != former.tolist()
    soft = LabelTable.of_shares([{k % 3: 0.75, (k + 1) % 3: 0.25} for k in range(60)])
    for rule in ("all_labels", "rarest_label"):  # shares: by the class with the largest one
        found = Fold(1, 3, 7, rule).samples(soft, training=True)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, Fold(1, 3, 7).samples(soft.first(), training=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def part(name: str, num: int, seed: int) -> Arrays:
        table = table_of(hits_of(num, seed))
        return Arrays(np.zeros((num, 8, 8, 3), np.uint8), table.first(), name, table=table)

    splits = {"train": part("train", 80, 0), "val": part("val", 20, 1)}
    out = tmp_path_factory.mktemp("folds") / "data"
    build_dataset(SampleSource("made", list("abcdef"), splits, ""), out)
    return out


def test_a_saved_position_belongs_to_the_rule(data: Path) -> None:
    """Positions of the former rule have the name that they always had."""
    former = Fold(2, 5, 0, "rarest_label")
    with Loader(data, batch_size=4, fold=former) as loader:
        state = loader.state_dict()
        assert state["fold"] == "Fold(number=2, count=5, seed=0)"
        loader.load_state_dict(state)
    with (
        Loader(data, batch_size=4, fold="2/5") as loader,
        pytest.raises(ConfigError, match="by all labels"),
    ):
        loader.load_state_dict(state)
    manifest = read_manifest(data)
    every = [open_samples(data, manifest, "val", Fold(n, 5)).chosen for n in range(1, 6)]
    assert sorted(np.concatenate(every)) == list(range(100))


def test_runs_of_before_keep_the_former_rule() -> None:
    config = RunConfig().replace("data.fold", "2/5")
    assert config.data.chosen_fold == Fold(2, 5, 0, "all_labels")
    text = to_toml(config)
    assert parse_config(text, "config.toml") == config
    old = "".join(line for line in text.splitlines(True) if "fold_rule" not in line)
    assert parse_config(old, "config.toml").data.chosen_fold == Fold(2, 5, 0, "rarest_label")
    with pytest.raises(ConfigError, match='Did you mean "rarest_label"'):
        Fold(1, 2, 0, "rarest")  # type: ignore[arg-type]
