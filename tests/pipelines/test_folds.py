"""k folds: scikit-learn's StratifiedKFold in class balance, a view of train and val with the same
bytes, the same pixels on every executor."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.errors import ConfigError, SampleError
from slipform.pipelines.folds import Fold
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.pcg import pcg_permutation
from slipform.pipelines.samples import open_samples
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, Generated, SampleSource
from tests.pipelines import folders


@pytest.mark.filterwarnings("ignore:The least populated class")
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_class_counts_are_those_of_scikit_learn(counts: list[int], folds: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    if folds > len(labels) or folds > max(counts):  # scikit-learn refuses it
        return
    theirs = StratifiedKFold(folds, shuffle=True, random_state=0)
    expected = [np.bincount(labels[val], minlength=6) for _, val in theirs.split(labels, labels)]
    parts = [Fold(n, folds, seed).samples(labels, training=False) for n in range(1, folds + 1)]
    got = [np.bincount(labels[part], minlength=6) for part in parts]
    for number in range(len(counts)):  # the same numbers, in another order of the folds
        assert sorted(one[number] for one in got) == sorted(one[number] for one in expected)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for number, part in enumerate(parts, start=1):
        rest = Fold(number, folds, seed).samples(labels, training=True)
        np.testing.assert_array_equal(np.sort(np.concatenate([part, rest])), range(len(labels)))
        fold = Fold(number, folds, seed)
        assert fold.num_samples(len(labels), training=False) == len(part)
        assert fold.num_samples(len(labels), training=True) == len(rest)


def test_a_seed_gives_one_division_and_another_seed_another() -> None:
    labels = np.arange(100) % 4
    first, again, other = (Fold(2, 5, s).samples(labels, training=False) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_several_labels_are_spread_by_their_rarest() -> None:
    draws = np.random.default_rng(0)
    hits = draws.random((400, 5)) < [0.6, 0.4, 0.2, 0.1, 0.05]
    table = LabelTable.of_sets([np.flatnonzero(row).tolist() for row in hits])
    strata = table.strata()
    assert (strata[~hits.any(1)] == -1).all()
    frequency = hits.sum(0)
    for row, stratum in zip(hits, strata, strict=True):
        if row.any():
            assert frequency[stratum] == frequency[row].min()
    # The rarest label is dealt out alone, so its numbers differ by one at most.
    rare = [hits[Fold(n, 5).samples(strata, training=False), 4].sum() for n in range(1, 6)]
    assert max(rare) - min(rare) <= 1


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "a/5", "1/5/2", "1-5", "-1/5", "1.0/5"])
def test_wrong_folds_are_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="NUMBER/COUNT"):
        Fold.parse(text)


@pytest.mark.parametrize(
    "values", [(0, 5), (6, 5), (1, 1), (1, 0), (-1, 5), (1.0, 5), ("1", 5), (1, 5, -1),
               (1, 5, None), (1, 5, 2**63), (None, 5), (1, 2.5)],
)  # fmt: skip
def test_a_fold_that_does_not_exist_cannot_be_made(values: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=r"NUMBER/COUNT|whole number|seed of a fold"):
        Fold(*values)


@pytest.mark.parametrize("fold", [5, None, ("1", "5"), ["1/5"], b"1/5", np.arange(2)])
def test_a_loader_takes_a_fold_or_a_text(data: Path, fold: Any) -> None:
    with pytest.raises(ConfigError, match="give NUMBER/COUNT"):
        Loader(data, batch_size=1, fold=fold)


def test_numbers_of_numpy_give_the_same_fold() -> None:
    fold = Fold(np.int64(2), np.int32(5), np.uint8(1))  # type: ignore[arg-type]
    assert fold == Fold(2, 5, 1)
    assert repr(fold) == repr(Fold(2, 5, 1))  # which a saved position has
    assert Fold.parse(fold) is fold


def test_folds_are_those_of_the_first_version() -> None:
    """They were made with numpy 2.4's default_rng(seed).permutation, which may change."""
    assert pcg_permutation(0, 12).tolist() == [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1]
    labels = np.arange(40) % 3
    part = Fold(2, 5, 7).samples(labels, training=False)
    assert part.tolist() == [4, 16, 17, 18, 20, 25, 30, 36]
    for seed, count, code in ((3, 1000, 4099913684), (2**63 - 1, 70_000, 569305602)):
        assert zlib.crc32(pcg_permutation(seed, count).astype("<i8").tobytes()) == code
    for count in (0, 1, 2):
        assert sorted(pcg_permutation(1, count)) == list(range(count))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images of train, 10 of val, 4 of test; JPEG and raw."""

    def make(first: int, count: int) -> Generated:
        def read(index: int) -> Any:
            pixels = folders.smooth(20 + index % 3, 24, first + index)
            return pixels if index % 4 == 0 else folders.jpeg(pixels)

        return Generated(read, (np.arange(count) + first) % 3, "made")

    splits = {"train": make(0, 30), "val": make(30, 10), "test": make(40, 4)}
    out = tmp_path_factory.mktemp("folds") / "data"
    build_dataset(SampleSource("made", list("abc"), splits, ""), out)
    return out


def test_a_view_has_the_bytes_of_train_and_val(data: Path) -> None:
    manifest, parts = read_manifest(data), [Beton(data / f"{s}.beton") for s in ("train", "val")]
    every = [zlib.crc32(one.bytes_of(i).data) for one in parts for i in range(len(one))]
    fold, found = Fold(2, 4, 7), {}
    for split in ("train", "val"):
        samples = open_samples(data, manifest, split, fold)
        view = samples.beton
        assert isinstance(view, Beton)
        codes = [zlib.crc32(view.bytes_of(i).data) for i in range(len(view))]
        assert codes == view.read_crc32().tolist()
        found[split] = codes
        for index in range(len(view)):
            view.check_crc32(index)
            address, size = int(view.addresses[index]), int(view.sizes[index])
            import ctypes

            assert ctypes.string_at(address, size) == view.bytes_of(index).tobytes()
        assert [len(file.labels) for file in view.files()] == [30, 10]
        view.check_length()
        view.release_pages()
        assert samples.class_counts == np.bincount(view.labels, minlength=3).tolist()
    assert len(found["val"]) == 10
    assert sorted(found["train"] + found["val"]) == sorted(every)
    test = open_samples(data, manifest, "test", fold)
    assert len(test.beton) == 4


@pytest.mark.parametrize("training", [True, False])
def test_all_executors_make_the_same_pixels_of_a_fold(data: Path, training: bool) -> None:
    spec = Augmentation(image_size=16, crop="random_resized", flip="horizontal")
    found = {}
    for executor in ("host", "resident"):
        with Loader(
            data, "train", spec, batch_size=5, executor=executor, training=training, fold="1/3",
            threads=1, seed=4,
        ) as loader:  # fmt: skip
            assert loader.num_samples == 26
            batches = [(batch.images.clone(), batch.labels, batch.indices) for batch in loader]
        found[executor] = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    host, resident = found["host"], found["resident"]
    torch.testing.assert_close(host[0], resident[0], atol=0.02, rtol=0)
    assert torch.equal(host[1], resident[1])
    samples = open_samples(data, read_manifest(data), "train", Fold(1, 3))
    known = host[2] >= 0
    assert torch.equal(host[1][known], torch.from_numpy(samples.beton.labels)[host[2][known]])


def test_dali_makes_the_pixels_of_a_fold(tmp_path: Path) -> None:
    def source(count: int, first: int) -> Generated:
        read = lambda index: folders.jpeg(folders.smooth(24, 24, first + index))  # noqa: E731
        return Generated(read, np.arange(count) % 3, "made")

    splits = {"train": source(12, 0), "val": source(6, 12)}
    build_dataset(SampleSource("made", list("abc"), splits, ""), tmp_path / "data")
    found = []
    for executor in ("host", "dali"):
        with Loader(
            tmp_path / "data", "val", Augmentation(image_size=16), batch_size=6, training=False,
            executor=executor, fold="2/3", threads=1,
        ) as loader:  # fmt: skip
            found.append(next(iter(loader)).images.clone())
    torch.testing.assert_close(*found, atol=0.02, rtol=0)


def test_a_position_belongs_to_its_fold(data: Path) -> None:
    with Loader(data, batch_size=5, fold=Fold(1, 3, seed=1)) as loader:
        state = loader.state_dict()
        loader.load_state_dict(state)
    for other in ("2/3", "1/3", ""):
        with (
            Loader(data, batch_size=5, fold=other) as loader,
            pytest.raises(ConfigError, match=r"fold|num_samples"),
        ):
            loader.load_state_dict(state)


def test_a_damaged_sample_is_found_in_its_file(data: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(data, tmp_path / "copy")
    beton = Beton(copy / "val.beton")
    content = bytearray((copy / "val.beton").read_bytes())
    content[int(beton.offsets[3]) + 40] ^= 255
    (copy / "val.beton").write_bytes(content)
    said = []
    for number in (1, 2):
        options = {"batch_size": 5, "training": False, "executor": "host"}
        with Loader(copy, "val", fold=f"{number}/2", **options) as loader:
            try:
                list(loader)
            except SampleError as error:
                said.append(error.message)
    assert len(said) == 1
    assert f"sample 3 of {copy / 'val.beton'} is damaged" in said[0]


def test_a_bad_sample_of_a_fold_is_named_by_its_file(tmp_path: Path) -> None:
    good = [folders.jpeg(folders.smooth(24, 24, seed)) for seed in range(4)]
    at = good[3].index(b"\xff\xc0") + 5
    larger = good[3][:at] + b"\x40\x00\x40\x00" + good[3][at + 4 :]  # than the beton says
    for name, images in (("train", good), ("val", [*good[:3], larger])):
        folders.write_beton(tmp_path / f"{name}.beton", images, [0] * 4, [(24, 24)] * 4)
    train, val = (tmp_path / f"{name}.beton" for name in ("train", "val"))
    view = Beton(train, val).subset(np.array([1, 7, 5]))
    assert [view.place(index) for index in range(3)] == [(train, 1), (val, 3), (val, 1)]
    first_read = FirstRead(view, "error")
    with pytest.raises(SampleError, match="declare 16384 x 16384 pixels") as declared:
        first_read.bad(np.arange(3))
    with pytest.raises(SampleError, match="cannot be decoded") as undecodable:
        first_read.undecodable(np.array([2, 1, 0]), [1])
    for caught in (declared, undecodable):
        assert caught.value.index == 3
        assert f"{tmp_path / 'val.beton'} " in caught.value.message
        assert "sample 3 " in caught.value.message
    assert FirstRead(view, "skip").bad(np.arange(3)) == [1]


def test_more_folds_than_images_and_no_val(tmp_path: Path) -> None:
    pixels = np.zeros((6, 9, 9, 3), np.uint8)
    splits = {"train": Arrays(pixels, np.arange(6) % 2, "made")}
    build_dataset(SampleSource("made", ["a", "b"], splits, ""), tmp_path / "data")
    with pytest.raises(ConfigError, match="less than 7 folds"):
        Loader(tmp_path / "data", batch_size=1, fold="1/7")
    with Loader(tmp_path / "data", "val", batch_size=1, training=False, fold="1/3") as loader:
        assert loader.num_samples == 2
