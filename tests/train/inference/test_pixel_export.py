"""Files with preprocessing inside: pixels of any size in, probabilities and class names out."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import load_sample_images

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.train import cli
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.export import export
from slipform.train.inference.predict import read_pixels
from slipform.train.run.loop import fit
from tests.page_blocks import blocks
from tests.train.drawing import without_figures

Small = Callable[..., RunConfig]
CALTECH = Path(__file__).parents[4] / "shared/data/caltech101/101_ObjectCategories"
PAGE = Path(__file__).parents[3] / "train/inference/README.md"
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime"
)


@pytest.fixture(scope="module")
def run(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pixels") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=1", "train.flip_test=true"), shapes, out, quiet=True)
    return out


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return Classifier.load(run, "cpu")


def _photos() -> list[np.ndarray]:
    """Noise of unusual sizes, the photos of scikit-learn, and some of Caltech-101 if it is here."""
    real = [photo.copy() for photo in load_sample_images().images]
    assert [photo.shape for photo in real] == [(427, 640, 3)] * 2
    random = np.random.default_rng(0)
    sizes = [(40, 60), (333, 250), (1, 7), (32, 32)]
    made = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    found = sorted(CALTECH.glob("*/image_0003.jpg"))[::9]
    return [*made, *real, *(read_pixels(file, {}) for file in found)]


def test_torch_export(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Handler, "handle", lambda _, record: said.append(record))
    path = classifier.export("torch-export", tmp_path / "x.pt2", input="pixels")
    warned = [record for record in said if record.levelno >= logging.WARNING]
    assert not [record.msg for record in warned if record.name.startswith("torch.export")]
    texts = {"metadata.json": ""}
    program = torch.export.load(str(path), extra_files=texts).module()
    assert json.loads(json.loads(texts["metadata.json"])["classes"]) == classifier.classes
    for pixels in _photos():
        found = program(torch.from_numpy(pixels)[None])[0]
        expected = classifier.logits(pixels).softmax(1)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_an_image_of_several_classes_has_independent_probabilities(
    classifier: Classifier, tmp_path: Path
) -> None:
    metadata = {"classes": json.dumps(classifier.classes), "labels": "multi"}
    parts = (classifier.model, classifier.spec, classifier.functions, metadata)
    path, _ = export(*parts, "torch-export", tmp_path, "pixels")
    program = torch.export.load(str(path)).module()
    pixels = _photos()[1]
    expected = classifier.logits(pixels).sigmoid()
    found = program(torch.from_numpy(pixels)[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def in_onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    arguments = [str(run), "--format", "onnx", "--input", "pixels", "--out", str(path)]
    result = CliRunner().invoke(cli.export, arguments, catch_exceptions=False)
    assert "its probabilities differ from the model's by at most" in result.output
    return path


@needs_onnx
def test_onnx(in_onnx: Path, classifier: Classifier) -> None:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(in_onnx), full_check=True)
    session = onnxruntime.InferenceSession(str(in_onnx), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert given.shape == ["batch", "height", "width", 3]
    for pixels in _photos():
        shares, names = session.run(["probabilities", "classes"], {"images": pixels[None]})
        assert names.tolist() == classifier.classes
        expected = classifier.logits(pixels).softmax(1)
        torch.testing.assert_close(torch.from_numpy(shares), expected, rtol=0, atol=1e-4)
        best = dict(classifier.predict(pixels)[0].classes)
        assert names[shares[0].argmax()] == max(best, key=lambda name: best[name])
    assert len(session.run(["probabilities"], {"images": np.zeros((5, 9, 8, 3), np.uint8)})[0]) == 5


@needs_onnx
def test_the_program_of_the_page(in_onnx: Path, classifier: Classifier, tmp_path: Path) -> None:
    """It reads files by Pillow, turned by their EXIF orientation, and agrees with predict."""
    (program,) = [block for block in blocks(PAGE) if block.file == "predict_onnx.py"]
    (tmp_path / program.file).write_text(program.text)
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    random = np.random.default_rng(0)
    for name, exif in (("a.png", PIL.Image.Exif()), ("b.jpg", turned)):
        pixels = random.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    faded = np.zeros((60, 90, 4), np.uint8)  # black, from left to right less transparent
    faded[..., 3] = np.linspace(0, 255, 90)
    PIL.Image.fromarray(faded).save(tmp_path / "c.png")
    PIL.Image.fromarray(faded[..., 3] // 128 * 90).save(tmp_path / "d.png", transparency=0)
    for name in ("c.png", "d.png"):  # without white below, the answers are others
        opaque = np.asarray(PIL.Image.open(tmp_path / name).convert("RGB"))
        moved = classifier.logits(opaque).softmax(1) - classifier.logits(tmp_path / name).softmax(1)
        assert moved.abs().max() > 1e-3
    photos = sorted(CALTECH.glob("*/image_0003.jpg"))[::20]
    files = [tmp_path / name for name in ("a.png", "b.jpg", "c.png", "d.png")] + photos
    command = [sys.executable, "-P", program.file, *map(str, (in_onnx, *files))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(files)
    for number, file in enumerate(files):
        best = classifier.predict(file)[0].classes
        limit = 2e-4 if file.suffix == ".png" else 2e-3  # Pillow's JPEG decoder is another one
        for line, (_, share) in zip(lines[3 * number :], best, strict=False):
            assert line.startswith(f"{file}: ")
            assert float(line.rpartition(" ")[2]) == pytest.approx(share, abs=limit)


def test_what_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(SlipformError, match="safetensors holds weights only"):
        classifier.export("safetensors", tmp_path / "x", input="pixels")
    with pytest.raises(ConfigError, match=r'no input "pixel".*Did you mean "pixels"'):
        classifier.export("onnx", tmp_path / "x", input="pixel")
    assert not list(tmp_path.iterdir())


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_b_32", "swin_t", "timm/test_vit", "timm/convnext_atto", "timm/pit_ti_224"],
)
@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_nets_with_attention_and_of_timm(
    name: str, format: str, run: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """The export itself compares three sizes of images."""
    from slipform.models.registry import build
    from slipform.models.spec import ModelConfig

    net = build(ModelConfig(name), num_classes=len(classifier.classes), image_size=64)
    config = classifier.config.replace("augment.image_size", 64).replace("train.flip_test", False)
    other = Classifier(net, config, classifier.manifest, run, "cpu")
    other.export(format, tmp_path / "x", input="pixels")
