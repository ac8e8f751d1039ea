"""Sizes of images over the epochs, and a size of its own for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding import preload
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import resident
from slipform.pipelines.loader import Loader
from slipform.train.config.image_sizes import (
    all_sizes,
    evaluation_augment,
    pixel_share,
    size_at,
    sizes_note,
    training_augment,
)
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.machine.distributed import Process
from slipform.train.records import read_metrics
from slipform.train.run import steps
from slipform.train.run.loop import fit
from slipform.train.step.build import build_state
from slipform.train.step.data import open_loader
from tests.train.drawing import without_figures
from tests.train.run.interrupted import Killed, assert_same, at_step, kill

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]
GROWING = ("train.epochs=3", "train.image_sizes=[[1, 16], [2, 24], [3, 32]]", "train.eval_size=48")


def test_sizes_of_epochs(small: Small) -> None:
    config = small(*GROWING)
    assert [size_at(config, epoch) for epoch in range(1, 6)] == [16, 24, 32, 32, 32]
    assert all_sizes(config) == [16, 24, 32, 48]
    assert pixel_share(config) == (16**2 + 24**2 + 32**2) / (3 * 32**2)
    assert sizes_note(config) == (
        ", 16 px, 24 px from epoch 2, 32 px from epoch 3 (60 % of the pixels of 32 px), 48 px in"
        " evaluation"
    )
    later = small("train.epochs=4", "train.image_sizes=[[3, 16]]")
    assert [size_at(later, epoch) for epoch in range(1, 5)] == [32, 32, 16, 16]


def test_the_example_of_the_note_is_right(small: Small) -> None:
    sizes = ("train.image_sizes=[[1, 128], [9, 160]]", "train.eval_size=256", "train.epochs=16")
    note = sizes_note(small("augment.image_size=224", *sizes))
    assert f'"{note}"' in (sizes_note.__doc__ or "").replace("\n", " ")


def test_one_size_is_the_default(small: Small) -> None:
    config = small()
    assert training_augment(config, 1) is config.augment
    assert evaluation_augment(config) == config.augment.evaluation()
    assert sizes_note(config) == ""


def test_ffcvs_recipe_for_resnet18(small: Small) -> None:
    """Its get_resolution for 16 epochs: 160 px to 192 px, in multiples of 32, val at 256 px."""

    def get_resolution(epoch: int, start_ramp: int = 6, end_ramp: int = 13) -> int:
        between = np.interp([epoch], [start_ramp, end_ramp], [160, 192])
        return int(np.round(between[0] / 32)) * 32

    theirs = [get_resolution(epoch) for epoch in range(16)]
    first = theirs.index(192) + 1
    config = small(
        "train.epochs=16",
        "augment.image_size=192",
        f"train.image_sizes=[[1, 160], [{first}, 192]]",
        "train.eval_size=256",
    )
    assert [size_at(config, epoch) for epoch in range(1, 17)] == theirs


def test_lengths_keep_their_share(small: Small) -> None:
    config = small("augment.padding=4", "augment.evaluation_resize=36", *GROWING)
    spec = training_augment(config, 1)
    assert spec == replace(
        config.augment, image_size=16, resize=20, padding=2, evaluation_resize=18
    )
    evaluated = evaluation_augment(config)
    assert (evaluated.image_size, evaluated.resize) == (48, 54)


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (["train.image_sizes=[[0, 16]]"], "epochs are counted from 1"),
        (["train.image_sizes=[[2, 16], [2, 32]]"], "epochs must rise"),
        (["train.image_sizes=[[1, 0]]"], "train.image_sizes: a size of 0 px"),
        (["train.image_sizes=[[1, 5000]]"], "give 1 to 4096"),
        (["train.eval_size=5000"], "train.eval_size: a size of 5000 px"),
        (["train.image_sizes=[16, 32]"], "train.image_sizes"),
        (["train.image_sizes=16"], "train.image_sizes"),
        (["train.image_size=16"], "image_sizes"),
        (["train.eval_size=20", "train.shift_test=20"], "size of images in evaluation, 20"),
    ],
)
def test_wrong_settings(small: Small, sets: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        small(*sets)
    assert text in error.value.message


def test_a_net_of_one_size_says_so(small: Small) -> None:
    config = small("model.name=mlp_sigmoid", "model.options={hidden=8}", *GROWING)
    with pytest.raises(ConfigError, match=r"cannot take images of 16 px, as train\.image_sizes"):
        build_state(config, num_classes=6, process=Process(torch.device("cpu")))


def test_the_order_does_not_depend_on_the_size(small: Small, shapes: Path) -> None:
    """The size changes at the same position: images are those of a loader of that size."""
    config = small(*GROWING).replace("data.folder", str(shapes))
    process = Process(torch.device("cpu"))
    for epoch in (1, 2):
        with (
            open_loader(config, "train", process, training=True, epoch=epoch) as ours,
            Loader(
                shapes,
                "train",
                training_augment(config, epoch),
                batch_size=40,
                seed=config.train.seed,
                executor="host",
                threads=1,
            ) as whole,
        ):
            ours.set_epoch(epoch - 1)
            whole.set_epoch(epoch - 1)
            for mine, other in zip(ours, whole, strict=True):
                assert mine.images.shape[2] == size_at(config, epoch)
                assert torch.equal(mine.images, other.images)
                assert torch.equal(mine.indices, other.indices)


def shapes_of_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(step, side of its images) of all steps from now on."""
    seen: list[tuple[int, int]] = []
    original = steps.train_step  # type: ignore[attr-defined]

    def wrapped(state: Any, *args: Any) -> Any:
        result = original(state, *args)
        seen.append((state.step, result.images.shape[2]))
        return result

    monkeypatch.setattr(steps, "train_step", wrapped)
    return seen


@pytest.fixture(scope="module")
def growing(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("sizes") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        seen = shapes_of_steps(patch)
        fit(small(*GROWING), shapes, run, quiet=True)
        assert [size for _, size in seen] == [16] * 6 + [24] * 6 + [32] * 6
    return run


def test_a_run_grows(growing: Path) -> None:
    assert len(read_metrics(growing, "epoch")) == 3
    classifier = Classifier.load(growing, device="cpu")
    assert classifier.spec.image_size == 48
    assert classifier.evaluate(split="test").top1 == pytest.approx(
        float(_summary(growing)["test_accuracy"])
    )


def _summary(run: Path) -> dict[str, Any]:
    from slipform.train.records import read_summary

    found = read_summary(run)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "step", [pytest.param(n, marks=() if n == 7 else pytest.mark.slow) for n in (3, 6, 7, 14)]
)
def test_a_killed_run_goes_on_exactly(
    step: int,
    growing: Path,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within an epoch, at the end of one, and just after the size changed."""
    config, run = small("train.checkpoint_every_steps=2", *GROWING), tmp_path / "run"
    at_step(monkeypatch, step, kill)
    with pytest.raises(Killed):
        fit(config, shapes, run, quiet=True)
    fit(config, shapes, run, resume=True, quiet=True)
    assert_same(growing, run)


@pytest.mark.parametrize("executor", [pytest.param("resident", marks=pytest.mark.slow), "dali"])
def test_every_executor_changes_its_size(
    executor: str, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if executor == "dali":
        pytest.importorskip("nvidia.dali")
    config = small(f"data.executor={executor}", "train.epochs=2", "train.image_sizes=[[2, 24]]")
    seen = shapes_of_steps(monkeypatch)
    fit(config, shapes, tmp_path / "run", quiet=True)
    assert [size for _, size in seen] == [32] * 6 + [24] * 6


def test_each_size_is_compiled_once(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes that come again are not compiled again, and no limit ends the compilation."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.append(next(x.shape[2] for x in inputs if x.dim() == 4 and len(x) == 40))
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **_: original(model, dynamic=False, backend=backend)
    )
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    sizes = [16, 24, 16]
    pairs = [[epoch, size] for epoch, size in enumerate(sizes, 1)]
    config = small("train.compile=on", f"train.epochs={len(sizes)}", f"train.image_sizes={pairs}")
    fit(config, shapes, tmp_path / "run", quiet=True)
    training, evaluation = sorted({*sizes}), [32]
    assert sorted(compiled) == sorted([*training, *evaluation])


def test_resident_pixels_of_one_size_are_in_memory_at_a_time(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ref[Any]] = []

    def decode_all(beton: Beton, *arguments: Any, **options: Any) -> Any:
        decoded = preload.decode_all(beton, *arguments, **options)
        if len(beton) == 240:  # the training images
            assert all(one() is None for one in made), "the pixels before are still there"
            made.append(ref(decoded))
        return decoded

    monkeypatch.setattr(resident, "decode_all", decode_all)
    config = small(*GROWING, "data.executor=resident")
    fit(config, shapes, tmp_path / "run", device="cpu", quiet=True)
    assert len(made) == 3
