"""`batch_size = "auto"`: the size and the message about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import autosize
from slipform.train.run.autosize import BatchSize, find_batch_size, largest_power_of_two
from slipform.train.run.loop import fit

Small = Callable[..., RunConfig]


def test_the_largest_batch_that_fits() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 100

    assert largest_power_of_two(fits, 10_000) == 64
    assert tried == [1, 2, 4, 8, 16, 32, 64, 128]
    assert largest_power_of_two(fits, 50) == 32
    assert largest_power_of_two(lambda _: False, 50) == 0


@pytest.mark.usefixtures("no_figures")
def test_batch_size_auto_is_recorded_and_printed(
    shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from slipform.train.run.folder import run_config

    fit(small("train.batch_size=auto", "train.epochs=1"), shapes, tmp_path)
    assert run_config(tmp_path).train.batch_size == 24  # ten steps in an epoch
    said = capsys.readouterr().err
    assert "train.batch_size = auto: 24 images (there are 240 training images" in said


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_keeps_the_batch_size_that_auto_became(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep gives its --set again when it continues a run. Less memory may be free then."""
    from slipform.train.run import auto
    from slipform.train.run.folder import run_config

    fit(small("train.batch_size=auto", "train.epochs=1"), shapes, tmp_path, quiet=True)
    monkeypatch.setattr(auto, "find_batch_size", lambda *_: BatchSize(8, "less memory"))
    fit(small("train.batch_size=auto"), shapes, tmp_path, resume=True, quiet=True)
    assert run_config(tmp_path).train.batch_size == 24


@pytest.mark.usefixtures("no_figures")
def test_the_share_of_the_decoder_is_recorded_and_used_again(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run keeps its share, because its pixels depend on it."""
    from slipform.pipelines.loader import Loader
    from slipform.train.run.folder import run_config

    asked: list[object] = []
    init = Loader.__init__

    def watched(self: Loader, *arguments: Any, **options: Any) -> None:
        asked.append(options["decoder_share"])
        init(self, *arguments, **options)

    monkeypatch.setattr(Loader, "__init__", watched)
    monkeypatch.setattr(Loader, "decoder_share", 0.25)  # as on a GPU
    config = small("train.epochs=1")
    fit(config, shapes, tmp_path, quiet=True)
    assert run_config(tmp_path).data.decoder_share == 0.25
    assert asked[:2] == ["auto", 0.25]  # train, val
    asked.clear()
    longer = run_config(tmp_path).replace("train.epochs", 2)
    fit(longer, shapes, tmp_path, resume=True, quiet=True)
    assert set(asked) == {0.25}


@pytest.mark.parametrize(("images", "expected"), [(3, 3), (20, 8), (100, 10), (10**6, 64)])
def test_small_datasets_have_small_batches_on_a_cpu_but_not_of_one(
    images: int, expected: int, shapes: Path, small: Small
) -> None:
    manifest = read_manifest(shapes)
    split = manifest.splits["train"].model_copy(update={"num_samples": images})
    manifest = manifest.model_copy(update={"splits": {"train": split}})
    found = find_batch_size(small(), manifest, Process(torch.device("cpu")))
    assert found.images == expected


def test_the_size_follows_the_images_of_the_fold(shapes: Path, small: Small) -> None:
    """Of 300 images in two folds, 150 are trained on."""
    found = find_batch_size(
        small("data.fold=1/2"), read_manifest(shapes), Process(torch.device("cpu"))
    )
    assert (found.images, "there are 150 training images" in found.reason) == (15, True)


def test_sizes_are_tried_without_compiling(
    shapes: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling the net would take a minute for each size."""
    compiled: list[str] = []

    def build_state(config: RunConfig, **_: object) -> None:
        compiled.append(config.train.compile)
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(autosize, "build_state", build_state)
    for name in ("reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, 1))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    gpu = Process(torch.device("cuda", 0))
    with pytest.raises(ConfigError, match="two images do not fit"):
        find_batch_size(small("train.compile=on"), read_manifest(shapes), gpu)
    assert compiled == ["off"]
