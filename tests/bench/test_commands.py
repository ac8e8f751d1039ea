"""The command line: mistakes, help, and the two quick looks that must end in three minutes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.cli import main
from slipform.bench.result.result import read_result


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["loaders", "nowhere"], 1, "nowhere is no folder"),
        (["loaders"], 2, "Missing argument"),
        (["loaders", "DATA", "--peers", "ffvc"], 1, 'there is no peer "ffvc"'),
        (["loaders", "DATA", "--input", "streeming"], 2, "give some of streaming, resident, small"),
        (["loaders", "DATA", "--input", "small"], 1, "nothing to race"),
        (["loaders", "DATA", "--device", "tpu"], 1, 'device "tpu" is not here'),
        (["train", "--data", "DATA", "--models", "restnet18"], 1, 'Did you mean "resnet18"?'),
        (["train", "--data", "DATA", "--batch-sizes", "16,none"], 2, "whole numbers above 0"),
        (
            ["train", "--data", "DATA", "--precision", "fp8"],
            2,
            "give some of auto, fp32, bf16, fp16",
        ),
        (["train"], 2, "--data"),
        (["accuracy", "DATA", "--recipe", "shapes/dem"], 1, "shapes/demo"),
        (["prep", "nowhere"], 1, "nowhere is no folder"),
        (["tune", "nowhere"], 1, "nowhere is no folder"),
        (["compare", "a.json", "b.json"], 1, "a.json is no file"),
        (["report", "none.json"], 1, "none.json is no file"),
        (["bogus"], 2, "No such command"),
    ],
)
def test_a_mistake_is_told_in_words(
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(
        main, [str(shapes) if word == "DATA" else word for word in arguments]
    )
    assert found.exit_code == status, found.output
    assert says in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    "command", ["", "prep", "loaders", "train", "accuracy", "tune", "compare", "report"]
)
def test_help_has_an_example_and_needs_nothing_heavy(command: str) -> None:
    found = CliRunner().invoke(main, [*command.split(), "--help"])
    assert found.exit_code == 0
    assert f"bench {command or 'loaders'}" in found.output
    arguments = [*command.split(), "--help"]
    code = (
        f"import sys\nfrom slipform.bench.cli import main\nmain({arguments!r},"
        " standalone_mode=False)\n"
    )
    heavy = (
        "heavy = {'torch', 'numba', 'cv2', 'nvidia.dali', 'matplotlib'} & set(sys.modules)\nassert"
        " not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code + heavy], check=True, capture_output=True, timeout=20
    )


def run(*arguments: str) -> float:
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "slipform.bench.cli", *arguments], check=True, timeout=600
    )
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_quick_race_ends_in_three_minutes(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "loaders.json"
    assert run("loaders", str(shapes), "--quick", "--batch-size", "60", "--out", str(out)) < 180
    rows = read_result(out).rows
    assert {row.case["loader"] for row in rows} == {
        *("slipform host", "slipform dali", "ffcv_loader", "dali_reader", "torch_dataloader"),
    }
    for row in rows:
        assert row.status == "ok", row
        assert row.figures["images_per_second"].repeats == 5
        assert row.figures["images_per_second"].low > 0
    assert json.loads(out.read_text())["environment"]["cores"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_quick_training_ends_in_three_minutes(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    assert run("train", "--data", str(shapes), "--quick", "--out", str(out)) < 180
    rows = read_result(out).rows
    assert [row.case["model"] for row in rows] == ["alexnet", "resnet18"]
    for row in rows:
        assert row.status == "ok", row
        assert 0 <= row.figures["wait_share"].median < 1
        assert row.figures["end_to_end_ratio"].median > 0.2
        assert row.figures["torch_images_per_second"].low > 0
        assert row.figures["resident_bytes"].median > 2**27
