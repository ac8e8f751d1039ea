"""The Markdown pages, which show committed results only."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.cli import main
from slipform.bench.race.measure import estimate
from slipform.bench.result.environment import stamp
from slipform.bench.result.pages import (
    BEGIN,
    END,
    results_page,
    speed_section,
    write_section,
)
from slipform.bench.result.report import page, read_results
from slipform.bench.result.result import Result, Row, write_result
from slipform.bench.suites import layouts
from slipform.pipelines.errors import ConfigError
from tests.bench.result.rows import loader_row, train_row, write_results

LAYOUTS = layouts()
ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "bench/results"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_results(tmp_path / "results")


def test_the_results_page_has_all_tables_and_figures(files: list[Path], tmp_path: Path) -> None:
    text = results_page(read_results(files, LAYOUTS), tmp_path / "README.md", LAYOUTS)
    assert "| Slipform host" in text
    assert "4,321 (4,191 to 4,451)" in text
    assert "not installed" in text
    assert "out of memory" in text
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(images) == 4
    assert all((tmp_path / image).read_text().startswith("<svg") for image in images)


def test_the_speed_table_has_the_medians_without_jitter(tmp_path: Path) -> None:
    raced = {
        ("caltech101", "streaming"): ("slipform host", "slipform dali", "ffcv_loader"),
        ("caltech101", "resident"): ("slipform resident", "ffcv_loader"),
        ("cifar10", "small"): ("slipform resident", "ffcv_loader"),
    }
    rows = [
        row.model_copy(update={"case": {**row.case, "data": data, "input": kind}})
        for number, ((data, kind), names) in enumerate(raced.items(), start=1)
        for place, name in enumerate(names, start=1)
        for row in (loader_row(name, 1000.0 * number + place, jitter=False),)
    ]
    rows += [row.model_copy(update={"case": {**row.case, "color_jitter": True}}) for row in rows]
    few = Result(environment=stamp(), command="bench few", rows=rows[:2])
    many = Result(environment=stamp(), command="bench many", rows=rows)
    results = [(tmp_path / "few.json", few), (tmp_path / "many.json", many)]
    page, readme = tmp_path / "bench/results/README.md", tmp_path / "README.md"
    text = speed_section(results, page, readme)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:6]]
    assert lines[0] == ["**Slipform**", "1,001", "2,001", "3,001"]
    assert lines[1] == ["ffcv", "1,003", "2,002", "3,002"]
    assert lines[2] == ["DALI reader", "", "", ""]
    assert "`bench many`" in text
    assert (tmp_path / "bench/results/figures/speed.svg").is_file()
    assert "(bench/results/figures/speed.svg)" in text
    train = Result(environment=stamp(), command="bench train", rows=[train_row("tiny", 8, 1.0)])
    with pytest.raises(ConfigError, match="give one of `bench loaders"):
        speed_section([(tmp_path / "train.json", train)], page, readme)


def test_only_the_text_between_the_markers_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nold\n{END}\n## After\n")
    for _ in range(2):  # a second call changes nothing
        write_section(readme, "new")
        assert readme.read_text() == f"# Title\n{BEGIN}\nnew\n{END}\n## After\n"


def test_figures_are_the_same_bytes_for_the_same_numbers(files: list[Path], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        results_page(read_results(files, LAYOUTS), tmp_path / folder / "README.md", LAYOUTS)
    first, second = (
        [file.read_bytes() for file in sorted((tmp_path / folder / "figures").iterdir())]
        for folder in ("a", "b")
    )
    assert first == second


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_readme_without_the_markers_is_not_changed(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ConfigError, match="speed:begin"):
        write_section(readme, "new")
    assert readme.read_text() == text


def test_the_committed_pages_match_the_committed_results(tmp_path: Path) -> None:
    """The committed pages are those that `bench report --readme README.md` writes now."""
    found = read_results(sorted(RESULTS.glob("*.json")), LAYOUTS)
    page, readme = tmp_path / "bench/results/README.md", tmp_path / "README.md"
    text = results_page(found, page, LAYOUTS)
    assert text == (RESULTS / "README.md").read_text(encoding="utf-8")
    section = speed_section(found, page, readme)
    assert f"{BEGIN}\n{section}\n{END}" in (ROOT / "README.md").read_text(encoding="utf-8")
    drawn, kept = (
        {file.name for file in (folder / "figures").iterdir()} for folder in (page.parent, RESULTS)
    )
    assert drawn == kept


def test_only_committed_results_reach_the_readme(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True
        )

    readme, out = tmp_path / "README.md", tmp_path / "page.html"
    readme.write_text(f"{BEGIN}\n{END}\n")
    monkeypatch.setattr("slipform.bench.commands.report.RESULTS", tmp_path / "results")
    git("init")
    run = CliRunner()
    before = readme.read_text()
    none = run.invoke(main, ["report", "--out", str(out), "--readme", str(readme)])
    assert none.exit_code == 1
    assert "none of these results is committed" in none.output
    assert readme.read_text() == before
    git("add", "results/loaders.json")
    git("commit", "-m", "one")
    one = run.invoke(main, ["report", "--out", str(out), "--readme", str(readme)])
    assert one.exit_code == 0, one.output
    assert "train.json" in one.stderr
    whole = tmp_path / "results/README.md"
    assert "| **Slipform**" in readme.read_text()
    assert "Loaders:" in whole.read_text()
    assert "Training:" not in whole.read_text()
    assert "Training:" in out.read_text()  # the HTML page shows all given results


def test_only_what_was_compared_with_slipform_is_named_beside_it(tmp_path: Path) -> None:
    """Ways of other suites, such as the parts of `bench growth`, are no peers."""
    rows = [
        Row(suite=suite, case={key: name}, figures={"sample_seconds": estimate([1.0])})
        for suite, key, name in (
            ("prep", "way", "slipform keep"),
            ("prep", "way", "ffcv jpg quality 90"),
            ("remote", "loader", "slipform"),
            ("remote", "loader", "litdata"),
            ("loaders", "loader", "slipform host"),
            ("loaders", "loader", "timm_loader"),
            ("policies", "loader", "slipform"),
            ("policies", "loader", "timm"),
            ("overhead", "loader", "host"),
            ("scale", "way", "open: all tables"),
            ("growth", "way", "order"),
        )
    ]
    path = tmp_path / "r.json"
    write_result(path, Result(environment=stamp(), command="bench growth", rows=rows))
    text = page(read_results([path], {}), {})
    assert "<p>Measured beside ffcv, LitData, timm: same images, same work." in text
