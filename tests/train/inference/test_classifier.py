"""A trained model, used as a library."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train import cli
from slipform.train.config.run_config import RunConfig
from slipform.train.inference import predict
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.evaluate import evaluate
from slipform.train.run.loop import fit
from slipform.train.step.metrics import Evaluation
from tests.train.drawing import without_figures

Small = Callable[..., RunConfig]
COLORS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (210, 30, 20)}


def prep_colors(root: Path, **names: str) -> Path:
    """A dataset with ten noisy images of one color per class. green="leaf" renames a class."""
    from slipform.preprocess.cli import main

    for color, name in names.items():
        (root / "source" / name).mkdir(parents=True)
        for number in range(10):
            random = np.random.default_rng(number)
            pixels = np.clip(random.normal(0, 40, (40, 48, 3)) + COLORS[color], 0, 255)
            image = PIL.Image.fromarray(pixels.astype(np.uint8))
            image.save(root / "source" / name / f"{number}.png")
    arguments = ["images", "--source", str(root / "source"), "--out", str(root / "data")]
    arguments += ["--val-fraction", "0.2", "--test-fraction", "0.2", "--seed", "0"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return root / "data"


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prep_colors(tmp_path_factory.mktemp("colors"), blue="blue", green="green", red="red")


@pytest.fixture(scope="module")
def run(colors: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=3", "train.batch_size=4"), colors, out, device="cpu", quiet=True)
    return out


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return Classifier.load(run, "cpu")


def test_has_no_optimizer_and_no_gradients(run: Path) -> None:
    def num_optimizers() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.optim.Optimizer) for thing in gc.get_objects())

    before = num_optimizers()
    classifier = Classifier.load(run, "cpu")
    assert num_optimizers() == before
    assert not any(parameter.requires_grad for parameter in classifier.model.parameters())
    assert not classifier.model.training


def test_paths_images_and_arrays_give_the_same_result(
    classifier: Classifier, colors: Path, tmp_path: Path
) -> None:
    files = sorted((colors.parent / "source").rglob("*.png"))
    arrays = [np.asarray(PIL.Image.open(file)) for file in files]
    by_path = classifier.logits(files)
    assert by_path.shape == (30, 3)
    assert by_path.dtype == torch.float32
    torch.testing.assert_close(classifier.logits([str(file) for file in files]), by_path)
    torch.testing.assert_close(classifier.logits([PIL.Image.open(f) for f in files]), by_path)
    torch.testing.assert_close(classifier.logits(arrays), by_path)
    torch.testing.assert_close(classifier.logits(np.stack(arrays)), by_path)
    one = classifier.predict(files[7])
    shares = by_path[7].softmax(0)
    assert [name for name, _ in one[0].classes] == [
        classifier.classes[i] for i in shares.argsort(descending=True)
    ]
    assert [share for _, share in one[0].classes] == pytest.approx(
        sorted(shares.tolist(), reverse=True), abs=1e-6
    )
    assert one[0].path == files[7]


def test_a_batch_of_large_images_is_split_and_nothing_else_changes(
    classifier: Classifier, colors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[predict.Image] = [*sorted((colors.parent / "source").rglob("*.png"))]
    files.insert(4, colors / "dataset.json")  # no image
    expected = classifier.predict(files)
    assert expected[4].error
    assert not expected[4].classes
    sizes = []
    render = predict._Renderer.images
    monkeypatch.setattr(predict, "_BATCH_BYTES", 3 * 40 * 48 * 3)

    def noted(self: Any, pictures: list[Any]) -> torch.Tensor:
        sizes.append(len(pictures))
        return render(self, pictures)

    monkeypatch.setattr(predict._Renderer, "images", noted)
    found = classifier.predict(files)
    assert sizes == [3] * 10
    for one, other in zip(found, expected, strict=True):
        assert (one.index, one.path, one.error) == (other.index, other.path, other.error)
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-5)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_an_array_that_is_no_image(classifier: Classifier, image: np.ndarray) -> None:
    assert "uint8 [H, W, 3]" in classifier.predict([image])[0].error
    with pytest.raises(SlipformError, match="image 0: "):
        classifier.logits([image])
    with pytest.raises(ConfigError, match="top = 0"):
        classifier.predict([image], top=0)


def test_evaluates_some_of_its_classes_by_name(
    classifier: Classifier, colors: Path, tmp_path: Path
) -> None:
    """With green and red only: their rows of the confusion matrix equal those of the whole
    dataset."""
    some = prep_colors(tmp_path, green="green", red="red")
    files = {name: sorted((some.parent / "source" / name).iterdir()) for name in ("green", "red")}
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for name, paths in files.items():
        for place in classifier.logits(paths).argmax(1).tolist():
            expected[classifier.classes.index(name), place] += 1
    found = [classifier.evaluate(some, split) for split in ("train", "val", "test")]
    parts = [part.confusion for part in found if isinstance(part, Evaluation)]
    assert torch.equal(sum(parts), expected)
    assert found[0].num_images == 12


def test_reports_differences_from_the_dataset_of_the_run(
    classifier: Classifier, colors: Path, tmp_path: Path
) -> None:
    assert classifier.data_notes() == classifier.data_notes(colors, "val") == []
    some = prep_colors(tmp_path, green="green", red="red")
    assert classifier.data_notes(some, "train") == [
        f"{some} has 2 of the 3 classes of the run; it has no 'blue'",
        f"{some} is not the dataset that the run was trained on: train had 18 images, now 12",
    ]
    shutil.copytree(colors, tmp_path / "other")
    manifest = read_manifest(colors)
    test = manifest.split("test").model_copy(update={"sha256": "0" * 64, "index_sha256": ""})
    splits = {**manifest.splits, "test": test}
    write_manifest(tmp_path / "other", manifest.model_copy(update={"splits": splits}))
    assert classifier.data_notes(tmp_path / "other", "val") == []
    (note,) = classifier.data_notes(tmp_path / "other", "test")
    assert note.endswith("test has other images (another SHA-256)")


def test_validate_prints_the_differences(run: Path, tmp_path: Path) -> None:
    some = prep_colors(tmp_path, green="green", red="red")
    result = CliRunner().invoke(cli.validate, [str(run), str(some), "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 4
    assert len(result.stderr.splitlines()) == 2
    assert "2 of the 3 classes" in result.stderr
    own = CliRunner().invoke(cli.validate, [str(run), "--json", "--device", "cpu"])
    assert (own.exit_code, own.stderr) == (0, "")


def test_refuses_unknown_classes(classifier: Classifier, tmp_path: Path) -> None:
    other = prep_colors(tmp_path, green="leaf", red="red")
    with pytest.raises(ConfigError, match=r"1 of 2 classes that the run .* does not have: 'leaf'"):
        classifier.evaluate(other)


def test_evaluate_equals_that_of_the_classifier(run: Path, classifier: Classifier) -> None:
    one, other = evaluate(run, split="val", device="cpu"), classifier.evaluate(split="val")
    assert (one.top1, one.loss) == (other.top1, other.loss)


def test_export_does_not_change_the_model(classifier: Classifier, tmp_path: Path) -> None:
    before = {name: tensor.stride() for name, tensor in classifier.model.state_dict().items()}
    path = classifier.export("safetensors", tmp_path)
    assert path == tmp_path / "model.safetensors"
    assert {n: t.stride() for n, t in classifier.model.state_dict().items()} == before
    with pytest.raises(ConfigError, match='"onnx"'):
        classifier.export("onxx", tmp_path)
