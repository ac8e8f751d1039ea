"""The command line: mistakes, help, discovered files, and two quick suites from end to end."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench import suites
from slipform.bench.cli import main
from slipform.bench.commands import report
from slipform.bench.race.measure import estimate
from slipform.bench.result.environment import stamp
from slipform.bench.result.result import Row, read_result
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors import NAMES


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["loaders", "nowhere"], 1, "nowhere is not a folder"),
        (["loaders"], 2, "Missing argument"),
        (["loaders", "DATA", "--peers", "ffvc"], 1, 'there is no peer "ffvc"'),
        (["loaders", "DATA", "--input", "streeming"], 2, "give some of streaming, resident, small"),
        (["loaders", "DATA", "--input", "small"], 1, "nothing to measure"),
        (["loaders", "DATA", "--device", "tpu"], 1, 'no device "tpu"'),
        (["train", "--data", "DATA", "--models", "restnet18"], 1, 'Did you mean "resnet18"?'),
        (["train", "--data", "DATA", "--batch-sizes", "16,none"], 2, "whole numbers above 0"),
        (
            ["train", "--data", "DATA", "--precision", "fp8"],
            2,
            "give some of auto, fp32, bf16, fp16",
        ),
        (["train", "--data", "DATA", "--precision", "auto, fp8"], 2, '"fp8": give some of'),
        (["train", "--data", "DATA", "--models", "tiny, restnet18"], 1, 'no model "restnet18"'),
        (["auto", "--data", "DATA", "--models", "tiny, restnet18"], 1, 'no model "restnet18"'),
        (["gpu", "--data", "DATA", "--parts", "tests, steps"], 2, '"steps": give some of'),
        (["overhead", "DATA", "--executors", "host, hosst"], 2, '"hosst": give some of'),
        (["train"], 2, "--data"),
        (["accuracy", "DATA", "--recipe", "shapes/dem"], 1, "shapes/demo"),
        (["prep", "nowhere"], 1, "nowhere is not a folder"),
        (["tune", "nowhere"], 1, "nowhere is not a folder"),
        (["compare", "a.json", "b.json"], 1, "a.json is no file"),
        (["report", "none.json"], 1, "none.json is no file"),
        (["bogus"], 2, "No such command"),
    ],
)
def test_a_mistake_has_a_clear_message(
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
        [sys.executable, "-c", code + heavy], check=True, capture_output=True, timeout=280
    )


NEW_SUITE = '''"""Count to three."""
import click
from slipform.bench.result.layout import Layout
LAYOUT = Layout("Counting")
@click.command()
def command() -> None:
    click.echo("1 2 3")
'''


def test_a_suite_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(NEW_SUITE)
    monkeypatch.setattr(suites, "__path__", [*suites.__path__, str(tmp_path)])
    listed = CliRunner().invoke(main, ["--help"]).output
    assert re.search(r"counting +Count to three\.", listed)
    assert re.search(r"loaders +Compare Slipform", listed)
    assert CliRunner().invoke(main, ["counting"]).output == "1 2 3\n"
    assert suites.layouts()["counting"].title == "Counting"
    monkeypatch.delitem(sys.modules, "slipform.bench.suites.counting")


def test_every_suite_has_a_command_and_a_layout() -> None:
    order = [
        "loaders",
        "train",
        "prep",
        "accuracy",
        "auto",
        "ab",
        "remote",
        "suspects",
        "tune",
        "distill",
        "overhead",
        "policies",
        "growth",
        "scale",
        "modeled",
        "gpu",
    ]
    assert [name for name in suites.layouts() if name in order] == order
    for name in suites.suite_names():
        assert importlib.import_module(f"slipform.bench.suites.{name}").command.help


def test_the_old_name_of_the_executor_option_works(shapes: Path) -> None:
    for option in ("--executor", "--loader"):
        found = CliRunner().invoke(main, ["train", "--data", str(shapes), option, "dalli"])
        assert found.exit_code == 2
        assert f"give some of {', '.join(['auto', *NAMES])}" in found.output


def test_a_result_has_the_machine_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/bench", "prep", "my data", "--quick"])
    case: dict[str, str | int | float | bool | None] = {"data": "d", "way": "w", "workers": 2}
    row = Row(suite="prep", case=case, figures={"images_per_second": estimate([1.0, 2.0, 3.0])})
    environment, out = stamp(), tmp_path / "new" / "prep.json"
    suites.finish("prep", [row], out, environment)
    content = json.loads(out.read_text())
    assert content["command"] == "bench prep 'my data' --quick"
    assert content["environment"] == json.loads(environment.model_dump_json())
    (figures,) = [row["figures"] for row in content["rows"]]
    assert figures["images_per_second"] == {"median": 2.0, "low": 1.0, "high": 3.0, "repeats": 3}
    assert read_result(out).rows == [row]
    assert "2.00 (1.00 to 3.00)" in capsys.readouterr().out


def test_a_stopped_suite_keeps_what_it_has_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file of its own: the whole result of an earlier call stays. The newest row of a case
    counts: those of some suites grow with each seed."""
    out, environment = tmp_path / "prep.json", stamp()

    def row(way: str, value: float) -> Row:
        figures = {"images_per_second": estimate([value])}
        return Row(suite="prep", case={"data": "d", "way": way, "workers": 2}, figures=figures)

    def measured(then: BaseException | None) -> Iterator[Row]:
        yield row("a", 1.0)
        yield row("a", 2.0)
        yield row("b", 3.0)
        if then:
            raise then

    whole = suites.finish("prep", measured(None), out, environment)
    assert whole == read_result(out).rows == [row("a", 2.0), row("b", 3.0)]
    before = out.read_bytes()
    partial = tmp_path / "prep.json.partial"
    for then in (KeyboardInterrupt(), SlipformError("a disk is full")):
        capsys.readouterr()
        with pytest.raises(type(then)):
            suites.finish("prep", measured(then), out, environment)
        assert out.read_bytes() == before
        assert read_result(partial).rows == whole
        assert f"the 2 rows that were measured are in {partial}" in capsys.readouterr().err
    suites.finish("prep", measured(None), out, environment)
    assert [path.name for path in tmp_path.iterdir()] == ["prep.json"]


def test_the_committed_results_are_read_compared_and_shown(tmp_path: Path) -> None:
    paths = sorted(report.RESULTS.glob("*.json"))
    assert len(paths) >= 7
    page = tmp_path / "page.html"
    found = CliRunner().invoke(main, ["report", "--out", str(page)])
    assert found.exit_code == 0, found.output
    text = page.read_text()
    assert not re.search(r"\de[+-]\d", text)
    assert "<h1>Slipform loads images" in text
    for path in paths:
        assert path.name in text
        alone = ("accuracy", "scale", "-ab-")  # figures that are not compared
        if not any(word in path.name for word in alone):
            found = CliRunner().invoke(main, ["compare", str(path), str(path)])
            assert found.exit_code == 0, found.output
            assert " 0 worse, 0 better" in found.output


def run(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "slipform.bench.cli", *arguments], check=True, timeout=1500
    )


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_quick_race(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "loaders.json"
    run("loaders", str(shapes), "--quick", "--batch-size", "60", "--out", str(out))
    rows = read_result(out).rows
    assert {row.case["loader"] for row in rows} == {
        *("slipform host", "slipform host, own memory", "slipform dali"),
        *("ffcv_loader", "dali_reader", "torch_dataloader"),
    }
    for row in rows:
        assert row.status == "ok", row
        assert row.figures["images_per_second"].repeats == 5
        assert row.figures["images_per_second"].low > 0
    assert json.loads(out.read_text())["environment"]["cores"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_quick_training(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    run("train", "--data", str(shapes), "--quick", "--out", str(out))
    rows = read_result(out).rows
    assert [row.case["model"] for row in rows] == ["alexnet", "resnet18"]
    for row in rows:
        assert row.status == "ok", row
        assert 0 <= row.figures["wait_share"].median < 1
        assert row.figures["end_to_end_ratio"].low > 0
        assert row.figures["torch_images_per_second"].low > 0
        assert row.figures["resident_bytes"].median > 2**27
