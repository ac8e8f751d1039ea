"""The commands: help, wrong usage, verify, show, and the generated shapes."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess import show
from slipform.preprocess.cli import main
from slipform.preprocess.prep import prepare
from slipform.preprocess.registry import discover
from tests.command_lines import next_commands

SMALL = ["--num-train", "60", "--num-val", "0", "--num-test", "20"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_help_lists_every_dataset_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from slipform.preprocess.cli import main\nmain(['--help'],"
        " standalone_mode=False)\nprint([name for name in ('torch', 'cv2', 'numpy', 'PIL',"
        " 'matplotlib', 'rich', 'pydantic') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in [*discover(), "verify", "show"])


@pytest.mark.parametrize("name", discover())
def test_every_dataset_has_help_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert discover()[name].example in result.output
    assert all(option.help for option in discover()[name].options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["shapes"],
        ["shapes", "--out", "x", "--encoding", "tiff"],
        ["shapes", "--out", "x", "--quality", "101"],
        ["shapes", "--out", "x", "--min-size", "90", "--max-size", "40"],
        ["images", "--out", "x"],
        ["images", "--out", "x", "--source", ".", "--seed", "-1"],
        ["mnist", "--out", "x", "--source", ".", "--download", "."],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_verify_finds_nothing_in_a_sound_dataset(shapes: Path) -> None:
    result = run("verify", str(shapes), "--duplicates", "exact")
    assert result.exit_code == 0, result.output
    first, last = result.output.splitlines()[0], result.output.splitlines()[-1]
    assert first.endswith("360 samples, no fault")
    assert last == "no image is in two splits"


def test_verify_names_every_damaged_sample(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "data")
    beton = Beton(tmp_path / "data/train.beton")
    content = bytearray((tmp_path / "data/train.beton").read_bytes())
    for index in (7, 100):
        content[beton.offsets[index] + beton.sizes[index] // 2] ^= 1
    (tmp_path / "data/train.beton").write_bytes(content)
    (tmp_path / "data/val.crc32.npy").unlink()
    result = run("verify", str(tmp_path / "data"))
    assert result.exit_code == 1
    classes = read_manifest(shapes).classes
    for index in (7, 100):
        label = int(beton.labels[index])
        assert f"train sample {index} (class {label}, {classes[label]})" in result.output
    assert "val.crc32.npy is missing" in result.output
    assert "SHA-256" in result.output
    assert "4 faults" in result.output


@pytest.mark.parametrize("cut", [1, 24, 500, 100_000])
def test_verify_reports_a_truncated_file(shapes: Path, tmp_path: Path, cut: int) -> None:
    shutil.copytree(shapes, tmp_path / "data")
    content = (tmp_path / "data/test.beton").read_bytes()
    (tmp_path / "data/test.beton").write_bytes(content[:-cut])
    result = run("verify", str(tmp_path / "data"))
    assert result.exit_code == 1
    assert "test: " in result.output


def test_verify_finds_what_was_wrong_from_the_start(shapes: Path, tmp_path: Path) -> None:
    """A sample that cannot be decoded although all checksums are right: only --no-check stores
    it."""
    raw = tmp_path / "raw" / "a"
    raw.mkdir(parents=True)
    beton = Beton(shapes / "train.beton")
    for index in range(600):
        data = beton.bytes_of(index % 7).tobytes()
        (raw / f"{index:03}.jpg").write_bytes(data[:-40] if index == 2 else data)
    fractions = ["--val-fraction", "0", "--test-fraction", "0"]
    arguments = [
        "images",
        "--source",
        str(tmp_path / "raw"),
        *fractions,
        "--layout",
        "classes",
        "--out",
        str(tmp_path / "data"),
    ]
    assert "002.jpg: undecodable JPEG" in run(*arguments).output
    result = run(*arguments, "--no-check")  # decodes every fifth, for mean and std
    assert result.exit_code == 0, result.output
    result = run("verify", str(tmp_path / "data"))
    assert result.exit_code == 1
    assert "undecodable JPEG" in result.output
    assert "1 fault. Run" in result.output


def test_show_prints_the_tables_and_writes_a_figure(
    shapes: Path, shapes_raw: Path, tmp_path: Path
) -> None:
    for folder, mode, words in (
        (shapes, "jpg", ["--figure", str(tmp_path / "jpg.png")]),
        (shapes_raw, "raw", []),
    ):
        result = run("show", str(folder), *words)
        assert result.exit_code == 0, result.output
        assert f"240 {mode}" in result.output
        assert "triangle" in result.output
    with Image.open(tmp_path / "jpg.png") as image:
        assert len(set(image.convert("L").tobytes())) > 100
    result = run("show", str(shapes), "--figure", str(tmp_path / "x.docx"))
    assert result.exit_code == 1
    assert "png" in result.output
    assert "prep images --source" in run("show", str(tmp_path)).output


def test_show_writes_its_figure_if_the_reader_stops_early(shapes: Path, tmp_path: Path) -> None:
    """`prep show DATA --figure F | head -1`."""
    figure = tmp_path / "f.png"
    command = [sys.executable, "-m", "slipform.preprocess.cli", "show", str(shapes)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*command, "--figure", str(figure), "--no-samples"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=280,
    )
    os.close(writing)
    assert figure.stat().st_size > 1000
    assert "Traceback" not in done.stderr


def test_prep_prints_paths_and_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands also work for a folder with a space in its name."""
    monkeypatch.setattr(show, "draw_figure", lambda *given, **_: given[2].touch())
    result = run("shapes", "--out", str(tmp_path / "my data"), *SMALL)
    assert result.exit_code == 0, result.output
    assert f"report: {tmp_path / 'my data' / 'report.txt'}" in result.output
    assert (tmp_path / "my data" / "report.txt").is_file()
    shows, trains = map(shlex.split, next_commands(result.output))
    assert [shows[:3], trains[:2]] == [["slipform", "prep", "show"], ["slipform", "train"]]
    assert shows[3] == trains[2] == str(tmp_path / "my data")
    assert run(*shows[2:]).exit_code == 0
    assert (tmp_path / "my data.png").is_file()


def test_old_values_of_options_are_accepted(shapes: Path, tmp_path: Path) -> None:
    old = ["--on-bad", "fail", "--workers", "1"]
    assert run("shapes", "--out", str(tmp_path / "a"), *SMALL, *old).exit_code == 0
    assert run("verify", str(tmp_path / "a"), "--workers", "1").exit_code == 0


def test_prepare_is_the_command_as_a_function(tmp_path: Path) -> None:
    sizes = {"num_train": 60, "num_val": 0, "num_test": 20}
    manifest = prepare("shapes", out=tmp_path / "a", **sizes, encoding="raw", threads=1)
    assert run("shapes", "--out", str(tmp_path / "b"), *SMALL, "--encoding", "raw").exit_code == 0
    assert manifest == read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")
    for options, words in (
        ({"num_trian": 5}, "num_train"),
        ({"num_train": 0}, "num_train"),
        ({"encoding": "tiff"}, "keep"),
        ({"quality": 101}, "quality"),
        ({"bits": 7}, "bits"),
        ({"on_bad": "fial"}, "error"),
        ({"shorter_side": 0}, "shorter_side"),
        ({"min_size": 90, "max_size": 40}, "--min-size 90 is larger"),
    ):
        with pytest.raises(ConfigError, match=words):
            prepare("shapes", out=tmp_path / "c", **options)
    with pytest.raises(ConfigError, match="shapes"):
        prepare("shape", out=tmp_path / "c")
    with pytest.raises(ConfigError, match="--source"):
        prepare("mnist", out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_shapes_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run("shapes", "--out", str(tmp_path / name), *SMALL, "--seed", seed).exit_code == 0
    a, b, c = ((tmp_path / name / "train.beton").read_bytes() for name in "abc")
    assert a == b != c
    assert set(read_manifest(tmp_path / "a").splits) == {"train", "test"}


def test_shapes_have_the_properties_that_tests_need(shapes: Path, shapes_raw: Path) -> None:
    beton = Beton(shapes / "train.beton")
    images = [Image.open(io.BytesIO(beton.bytes_of(i).tobytes())) for i in range(len(beton))]
    assert all(image.format == "JPEG" for image in images)
    assert 3 <= sum(image.mode == "L" for image in images) <= 30
    assert len({image.size for image in images}) > 150
    assert min(min(image.size) for image in images) >= 40
    assert max(max(image.size) for image in images) <= 96
    assert np.bincount(beton.labels).tolist() == [40] * 6
    raw = Beton(shapes_raw / "train.beton")
    assert set(zip(raw.widths.tolist(), raw.heights.tolist(), strict=True)) == {(32, 32)}


def test_color_alone_does_not_reveal_the_class(shapes: Path) -> None:
    """The nearest class mean of color histograms, fitted on train, is far less accurate than shapes
    allow."""

    def histograms(split: str) -> tuple[np.ndarray, np.ndarray]:
        beton = Beton(shapes / f"{split}.beton")
        rows = []
        for index in range(len(beton)):
            pixels = np.asarray(
                Image.open(io.BytesIO(beton.bytes_of(index).tobytes())).convert("RGB")
            ).reshape(-1, 3)
            rows.append(
                np.bincount(pixels // 64 @ np.array([16, 4, 1]), minlength=64) / len(pixels)
            )
        return np.array(rows), beton.labels

    (train, labels), (test, expected) = histograms("train"), histograms("test")
    means = np.stack([train[labels == label].mean(0) for label in range(6)])
    guessed = np.linalg.norm(test[:, None] - means, axis=2).argmin(1)
    assert (guessed == expected).mean() < 0.6


def test_the_figure_has_the_classes_of_all_splits_and_of_each(shapes: Path) -> None:
    manifest = read_manifest(shapes)
    titles = show._distributions(manifest)
    assert list(titles) == [
        "all splits: 360 images", "train: 240 images", "val: 60 images", "test: 60 images",
    ]  # fmt: skip
    together, *each = titles.values()
    assert together == [sum(counts) for counts in zip(*each, strict=True)]
    assert sum(together) == 360
    one = manifest.model_copy(update={"splits": {"train": manifest.split("train")}})
    assert list(show._distributions(one)) == ["train: 240 images"]
    assert run("show", str(shapes), "--no-samples").exit_code == 2


@pytest.mark.slow
def test_the_panels_of_the_figure(shapes: Path, tmp_path: Path) -> None:
    manifest, heights = read_manifest(shapes), list[int]()
    for options in ([], ["--no-samples"]):
        result = run("show", str(shapes), "--figure", str(tmp_path / "f.png"), *options)
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "f.png") as image:
            heights.append(image.height)
    assert heights == [1632, 864]  # four panels of 216 pixels, and four rows of 192 with samples
    # The font lacks these characters: matplotlib's warnings are errors in tests.
    named = manifest.model_copy(update={"classes": [f"猫 {c}" for c in manifest.classes]})
    show.draw_figure(shapes, named, tmp_path / "f.png", samples=False)
