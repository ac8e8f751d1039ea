"""The page in a real browser, the Markdown pages, and that only committed results reach those."""

import re
import shutil
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
from slipform.bench.result.result import Estimate, Result, Row, write_result
from slipform.bench.suites import layouts
from slipform.pipelines.errors import ConfigError

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
QUIET = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync", "--virtual-time-budget=5000"),
]


LAYOUTS = layouts()
ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "bench/results"


def spread(value: float) -> Estimate:
    return estimate([value * factor for factor in (0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03)])


def loader_row(name: str, rate: float, *, jitter: bool) -> Row:
    case = {
        "data": "caltech101",
        "input": "streaming",
        "color_jitter": jitter,
        "loader": name,
        "batch_size": 128,
    }
    figures = {"images_per_second": spread(rate), "multiple_of_ffcv": spread(rate / 2000)}
    return Row(suite="loaders", case=case, settings={"threads": 2}, figures=figures)


def train_row(model: str, batch_size: int, rate: float) -> Row:
    figures = {
        "step_images_per_second": spread(rate),
        "loader_images_per_second": spread(9 * rate),
        "end_to_end_images_per_second": spread(0.9 * rate),
        "end_to_end_ratio": spread(0.9),
        "wait_share": spread(0.05),
        "resident_bytes": estimate([2.0**30 + 2.0**23 * batch_size]),
    }
    case = {
        "data": "caltech101",
        "model": model,
        "batch_size": batch_size,
        "precision": "auto",
        "compile": "auto",
        "loader": "auto",
    }
    return Row(suite="train", case=case, figures=figures)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    loaders = [
        loader_row(n, r, jitter=j)
        for n, r in (("slipform host", 4321.0), ("ffcv <loader>", 2000.0))
        for j in (False, True)
    ]
    loaders.append(
        Row(
            suite="loaders",
            case=loaders[0].case | {"loader": "spdl_loader"},
            status="not installed",
            note="No module",
        )
    )
    train = [
        train_row(m, b, r) for m, r in (("alexnet", 90.0), ("resnet18", 30.0)) for b in (16, 64)
    ]
    train.append(
        Row(
            suite="train",
            case=train[0].case | {"batch_size": 4096},
            status="out of memory",
            note="killed",
        )
    )
    paths = []
    for name, rows in (("loaders", loaders), ("train", train)):
        paths.append(tmp_path / "results" / f"{name}.json")
        write_result(paths[-1], Result(environment=stamp(), command=f"bench {name}", rows=rows))
    return paths


def test_the_page_renders_in_a_browser_without_missing_images(
    files: list[Path], tmp_path: Path
) -> None:
    if BROWSER is None:
        pytest.skip("no Chromium here")
    html = page(read_results(files, LAYOUTS), LAYOUTS)
    assert not re.search(r'(src|href)="(?!data:)', html)  # nothing is fetched
    probe = """<script>addEventListener("load", () => {
        const large = i => i.complete && i.naturalWidth > 100 && i.naturalHeight > 50 && i.alt;
        const images = [...document.images].map(i => large(i) ? "shown" : "MISSING");
        const tables = [...document.querySelectorAll("table")];
        const sizes = tables.map(t => t.rows.length + "x" + t.rows[0].cells.length);
        document.title = images.join(" ") + " " + sizes.join(" "); });</script>"""
    file = tmp_path / "report.html"
    file.write_text(html.replace("</body>", probe + "</body>"))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shot = tmp_path / "shot.png"
    command = [
        BROWSER,
        *QUIET,
        profile,
        "--window-size=1200,2400",
        f"--screenshot={shot}",
        "--dump-dom",
        file.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    words = title[1].split()
    assert words[:3] == ["shown", "shown", "shown"]
    assert [word.split("x")[0] for word in words[3:]] == [
        "6",
        "6",
    ]  # two tables: a header and five rows each
    assert shot.stat().st_size > 20_000  # a blank page takes less
    assert "ffcv &lt;loader&gt;" in dom
    assert "4,321 (4,191 to 4,451)" in dom


def test_the_results_page_has_all_tables_and_figures(files: list[Path], tmp_path: Path) -> None:
    text = results_page(read_results(files, LAYOUTS), tmp_path / "README.md", LAYOUTS)
    assert "| slipform host" in text
    assert "4,321 (4,191 to 4,451)" in text
    assert "not installed" in text
    assert "out of memory" in text
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(images) == 3
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


def test_the_section_stands_between_the_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nold\n{END}\n## After\n")
    for _ in range(2):  # a second time changes nothing
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
def test_a_readme_without_the_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ConfigError, match="speed:begin"):
        write_section(readme, "new")
    assert readme.read_text() == text


def test_the_pages_are_as_the_results_beside_them(tmp_path: Path) -> None:
    """`bench report --readme README.md` has been run since the results, or the code that writes
    the pages, changed."""
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
    assert "Training:" in out.read_text()  # the page shows what was given
