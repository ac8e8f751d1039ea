"""The commands: options, messages, output, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from slipform.train import cli
from tests.command_lines import next_commands
from tests.modules import ROOT
from tests.processes import wait_for
from tests.train.machine.recorded import Script

SETS = [
    "--set",
    "model.name=tiny",
    "--set",
    "augment.image_size=32",
    "--set",
    "augment.resize=36",
    "--set",
    "augment.crop=random",
    "--set",
    "train.precision=fp32",
    "--set",
    "model.small_input=false",
    "--set",
    "data.threads=1",
]


def _run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(getattr(cli, command), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    result = _run("train", shapes, "--out", out, *SETS, "--set", "train.epochs=2")
    assert result.exit_code == 0, result.output
    assert "test accuracy 0." in result.stdout
    assert "images/s" in result.stdout
    assert str(out / "figures" / "curves.png") in result.stdout
    assert str(out / "best.safetensors") in result.stdout
    lines = next_commands(result.stdout)
    assert [line.split()[1] for line in lines] == ["validate", "predict", "export"]
    assert all(str(out) in line for line in lines)
    return out


@pytest.mark.parametrize("command", ["train", "validate", "predict", "export"])
def test_commands_have_few_options(command: str) -> None:
    assert (
        1 <= len(getattr(cli, command).params) <= 15
    )  # train has the most: fourteen, and an argument


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Missing argument 'DATA'"),
        (["nowhere"], 1, "prep shapes --out nowhere"),
        (["{shapes}", "--recipe", "shapes/deno"], 1, '"shapes/demo"'),
        (["{shapes}", "--set", "model.name=restnet18", "--out", "{tmp}/x"], 1, '"resnet18"'),
        (["{shapes}", "--set", "trian.epochs=1"], 1, '"train"'),
        (["{shapes}", "--device", "cuda:9", "--out", "{tmp}/x"], 1, "--device cuda:9"),
        (["{shapes}", "--device", "gpu", "--out", "{tmp}/x"], 1, "--device gpu"),
        (["--resume", "{tmp}/none"], 1, "not a run folder"),
        (["--resume", "{tmp}", "--out", "x"], 2, "--resume"),
        (["{shapes}", "--auto-resume"], 2, "--auto-resume needs DATA and --out"),
        (["--resume", "{tmp}", "--auto-resume", "--out", "{tmp}/x"], 2, "--auto-resume needs"),
        (["{shapes}", "--set", "train.batch_size=999", "--out", "{tmp}/x"], 1, "train.batch_size"),
    ],
)
def test_mistakes_give_one_clear_line(
    arguments: list[str], code: int, words: str, shapes: Path, tmp_path: Path
) -> None:
    result = _run("train", *[a.format(shapes=shapes, tmp=tmp_path) for a in arguments])
    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert isinstance(result.exception, SystemExit)
    assert not (tmp_path / "x").exists()


def test_validate_gives_the_numbers_of_the_summary(run: Path, shapes: Path, tmp_path: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    result = _run("validate", run, "--json", "--figures", tmp_path)
    values = json.loads(result.stdout)
    # Training and validation may round differently, which may change one prediction of 60.
    assert values["top1"] == pytest.approx(summary["test_accuracy"], abs=1.01 / 60)
    assert (values["images"], len(values["per_class"])) == (60, 6)
    names = {path.stem for path in tmp_path.glob("*.png")} - {"class_maps"}  # needs torchcam
    assert names == {
        "confused_pairs", "confusion", "curves", "first_outputs", "kernels", "per_class",
        "reliability", "top_losses",
    }  # fmt: skip
    table = _run("validate", run, shapes, "--split", "val").stdout
    (shown,) = re.findall(r"val: top-1 (\d\.\d{4})", table)
    assert float(shown) == pytest.approx(summary["val_accuracy"], abs=1.01 / 60)
    assert _run("validate", run, "--split", "tset").exit_code == 1
    assert _run("validate", tmp_path).exit_code == 1


def test_predict_gives_the_classes_of_validate(run: Path, shapes: Path, tmp_path: Path) -> None:
    """The stored test images, decoded by the loader's libjpeg and written as PNG files, get the
    same classes."""
    from slipform.pipelines.beton import Beton
    from slipform.train.inference.classifier import Classifier

    beton = Beton(shapes / "test.beton")
    for i in range(len(beton)):
        (tmp_path / f"{i:03d}.jpg").write_bytes(bytes(beton.bytes_of(i)))
    result = _run("predict", run, tmp_path, "--json", "--top", 6)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    classifier = Classifier.load(run, "cpu")
    with torch.inference_mode(), classifier.open_split() as loader:
        shares = classifier.model(next(iter(loader)).images[: len(beton)]).softmax(1)
    assert [Path(row["file"]).name for row in rows] == [f"{i:03d}.jpg" for i in range(len(beton))]
    for row, expected in zip(rows, shares, strict=True):
        given = {x["class"]: x["probability"] for x in row["classes"]}
        assert [given[name] for name in classifier.classes] == pytest.approx(
            expected.tolist(), abs=0.02
        )
        assert sum(given.values()) == pytest.approx(1.0, abs=1e-5)


def test_predict_reads_all_formats_and_names_unreadable_files(run: Path, tmp_path: Path) -> None:
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8).astype(np.uint8)
    )
    for name, mode in (
        ("a.png", "RGBA"),
        ("b.gif", "P"),
        ("c.bmp", "RGB"),
        ("d.tiff", "CMYK"),
        ("e.webp", "RGB"),
        ("f.png", "L"),
        ("g.png", "I;16"),
    ):
        (
            image.convert("L").convert("I").convert("I;16")
            if mode == "I;16"
            else image.convert(mode)
        ).save(tmp_path / name)
    result = _run("predict", run, tmp_path)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 7
    (tmp_path / "h.png").write_bytes(b"no image")
    result = _run("predict", run, tmp_path, "--json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 7
    assert "h.png: cannot be read" in result.stderr
    assert "1 of 8 files" in result.stderr


@pytest.mark.parametrize("kind", ["safetensors", "torch-export"])
def test_export_is_read_back(run: Path, kind: str, tmp_path: Path) -> None:
    result = _run("export", run, "--format", kind, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "model").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_export_onnx(run: Path) -> None:
    result = _run("export", run, "--format", "onnx")
    assert result.exit_code == 0, result.output
    import onnxruntime

    session = onnxruntime.InferenceSession(run / "model.onnx")
    assert session.run(None, {"images": np.zeros((3, 3, 32, 32), np.float32)})[0].shape == (
        3,
        6,
    )  # any batch size
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])[0] == "cross"


def _process(*arguments: object) -> subprocess.Popen[str]:
    code = "import torch; torch.set_num_threads(1); from slipform.train.cli import train; train()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments",
    [("list_names", "settings"), pytest.param(("validate", "{run}"), marks=pytest.mark.slow)],
)
def test_the_reader_of_the_output_stops_early(
    arguments: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    """`slipform validate RUN | head -1`: the command ends without a message about the broken
    pipe."""
    command, argument = arguments
    if argument == "{run}":
        argument = str(request.getfixturevalue("run"))
    reading, writing = os.pipe()
    os.close(reading)
    code = f"from slipform.train.cli import {command}; {command}()"
    process = subprocess.run(
        [sys.executable, "-c", code, argument], stdout=writing, stderr=subprocess.PIPE, timeout=300
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, b"")


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def _wait_for_steps(run: Path, num: int, process: subprocess.Popen[str]) -> None:
    metrics = run / "metrics.jsonl"
    wait_for(process, lambda: metrics.is_file() and metrics.read_text().count('"step"') >= num)


@pytest.fixture
def long_run(shapes: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """It begins its ninth step only when it is asked to stop."""
    out, more = tmp_path / "run", ["--set", "train.log_every_steps=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.train.machine.recorded", shapes, "--out", out, *SETS, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **Script(str(tmp_path), hold={"9": 0}).environment()},
    )  # fmt: skip
    yield out, process
    process.kill()
    process.communicate()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "signal_number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_signal_writes_a_checkpoint_and_exits_with_130(
    signal_number: signal.Signals, long_run: tuple[Path, subprocess.Popen[str]]
) -> None:
    """SIGHUP: the connection to the machine is lost."""
    out, process = long_run
    _wait_for_steps(out, 5, process)
    process.send_signal(signal_number)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert f"Continue with: train --resume {out}" in errors
    assert "Traceback" not in errors
    saved = sorted((out / "checkpoints").iterdir())
    steps = (out / "metrics.jsonl").read_text().count('"kind": "step"')
    assert saved[-1].name.startswith(f"step-{steps:08d}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_and_the_same_losses(shapes: Path, tmp_path: Path) -> None:
    """Killed at a random moment and resumed, five times. The records at the end are those of an
    undisturbed run."""
    settings = [
        *SETS,
        "--set",
        "train.epochs=12",
        "--set",
        "train.checkpoint_every_steps=3",
        "--set",
        "train.log_every_steps=2",
    ]
    whole, run = tmp_path / "whole", tmp_path / "run"
    _finish(_process(shapes, "--out", whole, *settings))
    arguments: list[object] = [shapes, "--out", run, *settings]
    for steps in (5, 20, 33, 50, 61):
        process = _process(*arguments)
        _wait_for_steps(run, steps, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        arguments = ["--resume", run]
    _finish(_process(*arguments))

    def losses(folder: Path) -> list[tuple[int, float]]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(x["step"], x.get("loss", x.get("val_loss"))) for x in lines]

    assert losses(run) == losses(whole)
    # The bytes of the files are not compared: the order of metadata in safetensors files varies.
    best, expected = load_file(run / "best.safetensors"), load_file(whole / "best.safetensors")
    assert all(torch.equal(best[name], tensor) for name, tensor in expected.items())
