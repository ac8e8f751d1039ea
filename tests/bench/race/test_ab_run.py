"""The runs of `bench ab`: equal batches and first weights, runs that are used again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from slipform.bench.race import ab_run
from slipform.bench.race.ab_run import train_arm
from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import SlipformError
from slipform.train.inference.classifier import Classifier
from slipform.train.run import steps
from slipform.train.run.folder import run_config
from tests.train.drawing import without_figures

Seen = list[tuple[torch.Tensor, dict[str, torch.Tensor]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The images of each step, and the weights before it."""
    kept: Seen = []
    original = steps.train_step  # type: ignore[attr-defined]

    def watched(state: Any, batches: Any, *more: Any) -> Any:
        batch = next(batches)
        weights = {name: x.clone() for name, x in state.model.state_dict().items()}
        copy = Batch(batch.images.clone(), batch.labels, batch.indices, batch.mix)
        kept.append((copy.images, weights))
        return original(state, iter([copy]), *more)

    monkeypatch.setattr(steps, "train_step", watched)
    without_figures(monkeypatch)
    return kept


FAST = ("model.name=fast", "model.options.widths=[8, 16, 16]")


@pytest.mark.parametrize(
    ("a", "b", "only_b"),
    [
        pytest.param(
            ("model.options.width=16",), ("optimizer.lr=0.02",), (), marks=pytest.mark.slow
        ),
        pytest.param(
            ("model.options.width=16",),
            ("model.options.width=16", "model.head=mlp"),
            ("classifier",),
            marks=pytest.mark.slow,
        ),
        (FAST, (*FAST, "model.options.depth=3"), ("features",)),
    ],
    ids=["the same net", "another head", "more layers"],
)
def test_both_arms_see_the_same_batches_and_begin_with_the_same_weights(
    a: tuple[str, ...], b: tuple[str, ...], only_b: tuple[str, ...],
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen,
) -> None:  # fmt: skip
    """Additional layers draw random numbers: without the copy, all later layers would differ."""
    for name, sets in (("a", a), ("b", b)):
        given = (str(shapes), recipe, sets, a, 3, "cpu", str(tmp_path / name))
        found = train_arm(*given)
        result = Classifier.load(tmp_path / name, "cpu").evaluate(split="test")
        assert found["test_accuracy"] == pytest.approx(result.top1, abs=1e-6)
    first, second = seen[:6], seen[6:]
    for (images, _), (others, _) in zip(first, second, strict=True):
        assert torch.equal(images, others)
    weights, copied = first[0][1], second[0][1]
    new = {
        name for name, x in copied.items() if name not in weights or x.shape != weights[name].shape
    }
    assert {name.partition(".")[0] for name in new} == set(only_b)
    own = copied.keys() - new
    assert len(own) > 4
    assert all(torch.equal(weights[name], copied[name]) for name in own)


def test_graphs_need_no_gpu_for_the_first_weights(
    shapes: Path, recipe: str, tmp_path: Path
) -> None:
    a, b = (*FAST, "train.compile=graphs"), (*FAST, "train.compile=graphs", "model.options.depth=3")
    config, other = (ab_run.settings_of(str(shapes), recipe, sets, 0) for sets in (b, a))
    found = ab_run._shared(config, other, str(shapes), tmp_path / "first.safetensors")
    assert found.model.weights == str(tmp_path / "first.safetensors")


Train = Callable[[str, int, tuple[str, ...], tuple[str, ...]], int]


@pytest.fixture
def batch_size(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """batch_size("a", seed, settings of a, settings of b): the batch size of a run in a folder
    `a`. "auto" becomes 24, then 48."""
    sizes = iter([24, 48])
    monkeypatch.setattr(
        "slipform.train.run.auto.find_batch_size",
        lambda *_: SimpleNamespace(images=next(sizes), reason="a test"),
    )
    reference = str(tmp_path / "a/seed-0")

    def train(arm: str, seed: int, a: tuple[str, ...], b: tuple[str, ...]) -> int:
        folder = str(tmp_path / arm / f"seed-{seed}")
        sets = a if arm == "a" else b
        first = "" if folder == reference else reference
        train_arm(str(shapes), recipe, sets, a, seed, "cpu", folder, first)
        return int(run_config(Path(folder)).train.batch_size)

    return train


AUTO = ("train.batch_size=auto",)


def test_auto_becomes_the_same_in_all_runs(batch_size: Train, seen: Seen) -> None:
    """The choice of the first run if both arms have "auto"."""
    both = (AUTO, (*AUTO, "optimizer.lr=0.1"))
    runs = [("a", 0), ("b", 0), ("b", 1)]
    assert [batch_size(*run, *both) for run in runs] == [24] * 3
    assert [batch_size(*run, *both) for run in runs] == [24] * 3  # used again
    assert len(seen) == 3 * 10


@pytest.mark.slow
def test_auto_of_one_arm_becomes_the_same_in_its_runs(batch_size: Train, tmp_path: Path) -> None:
    """The choice of the arm's first run."""
    one = ((), AUTO)  # the recipe has 40
    assert [batch_size(*run, *one) for run in (("a", 0), ("b", 0), ("b", 1))] == [40, 24, 24]
    shutil.rmtree(tmp_path / "b")
    assert [batch_size(*run, *one) for run in (("b", 0), ("b", 1))] == [48, 48]


def test_a_run_on_another_device_is_refused(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    given = (str(shapes), recipe, (), (), 0, "cpu", str(tmp_path / "run"))
    train_arm(*given)
    summary = tmp_path / "run/summary.json"
    summary.write_text(summary.read_text().replace('"device": "cpu"', '"device": "cuda:0"'))
    with pytest.raises(SlipformError, match="has a run on cuda, not on cpu"):
        train_arm(*given)


def test_runs_are_used_again_and_others_are_refused(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    def train(*sets: str) -> dict[str, float]:
        return train_arm(str(shapes), recipe, sets, (), 0, "cpu", str(tmp_path / "run"))

    found = train()
    assert len(seen) == 6
    assert train() == found
    assert len(seen) == 6
    with pytest.raises(
        SlipformError, match=r"was run with optimizer\.lr = 0\.01, not 0\.1: give another --runs"
    ):
        train("optimizer.lr=0.1")


def test_weights_of_one_arm_alone_are_not_copied(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    """A comparison of pretrained weights with none would compare them with themselves."""
    none = ("model.options.width=16",)
    train_arm(str(shapes), recipe, none, none, 1, "cpu", str(tmp_path / "pretrained"))
    given = (*none, f"model.weights={tmp_path / 'pretrained'}")
    train_arm(str(shapes), recipe, none, given, 3, "cpu", str(tmp_path / "run"))
    train_arm(str(shapes), recipe, none, none, 3, "cpu", str(tmp_path / "alone"))
    with_other, alone = seen[6][1], seen[12][1]
    assert all(torch.equal(with_other[name], alone[name]) for name in alone)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(0, marks=pytest.mark.slow, id="before a checkpoint"),
        pytest.param(3, id="after a checkpoint"),
    ],
)
def test_an_unfinished_run_is_continued(
    after: int, shapes: Path, recipe: str, tmp_path: Path, seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also one whose first weights were copied. It ends like an undisturbed one."""
    often = ("train.checkpoint_every_steps=3", "train.keep_checkpoints=9", "model.options.width=16")
    sets = (*often, "model.head=mlp")

    def train(name: str) -> dict[str, float]:
        return train_arm(str(shapes), recipe, sets, often, 0, "cpu", str(tmp_path / name))

    whole = train("whole")
    train("run")
    (tmp_path / "run/summary.json").unlink()
    for path in (tmp_path / "run/checkpoints").iterdir():
        if int(path.name.split("-")[1]) != after:
            path.unlink()
    found = train("run")
    assert found["test_loss"] == whole["test_loss"]
    assert len(seen) == 18 - after


def test_runs_on_other_data_are_refused(
    shapes: Path, shapes_raw: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    given = (recipe, (), (), 0, "cpu", str(tmp_path / "run"))
    train_arm(str(shapes), *given)
    with pytest.raises(SlipformError, match="was trained on another dataset"):
        train_arm(str(shapes_raw), *given)
