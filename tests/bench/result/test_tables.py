"""Quantities in their units, and tables of rows."""

import json
import re
from pathlib import Path

import pytest

from slipform.bench.race.measure import estimate
from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import QUANTITIES, quantity
from slipform.bench.result.result import Row
from slipform.bench.result.tables import markdown, stage_cells, table
from slipform.bench.suites import layouts

RESULTS = Path(__file__).resolve().parents[3] / "bench" / "results"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("images_per_second", 12345.6, "12,346"),
        ("images_per_second", 664085.3, "664,085"),
        ("step_images_per_second", 3.6213, "3.62"),
        ("images_per_second", 10.0, "10.0"),
        ("resident_bytes", 3 * 2**29, "1.50 GiB"),
        ("resident_bytes", 2**20, "1.00 MiB"),
        ("wait_share", 0.0123, "1.23 %"),
        ("accuracy", 0.9401, "94.01 %"),
        ("first_batch_seconds", 1.2345, "1.23 s"),
        ("first_batch_seconds", 0.0701, "70.1 ms"),
        ("train_seconds", 1279.7, "1,280 s"),
        ("wait_seconds_per_image", 0.0361, "36.1 ms"),
        ("decode_seconds_per_image", 0.000472, "472 µs"),
        ("plan_seconds_per_image", 2.377e-7, "238 ns"),
        ("load_seconds_per_image", 0.0, "0 s"),
        ("multiple_of_ffcv", 2.58, "2.58"),
        ("end_to_end_ratio", 0.9996, "1.00"),
        ("cpu_cores", 1.8543, "1.85"),
    ],
)
def test_numbers_in_their_units(name: str, value: float, text: str) -> None:
    assert quantity(name).number(value) == text


def test_an_estimate_has_one_unit() -> None:
    assert quantity("images_per_second").text(estimate([9.0, 10.0, 11.0])) == "10.0 (9.00 to 11.0)"
    assert quantity("first_batch_seconds").text(estimate([0.9, 0.95, 1.2])) == (
        "950 (900 to 1,200) ms"
    )
    assert quantity("images_per_second").text(estimate([10.0])) == "10.0"
    assert quantity("images_per_second").text(None) == ""


@pytest.mark.parametrize("exponent", range(-9, 7))
def test_no_number_is_written_with_an_exponent(exponent: int) -> None:
    for name in (*QUANTITIES, "x_seconds_per_image"):
        text = quantity(name).number(1.234 * 10.0**exponent)
        assert re.fullmatch(r"[\d,]+(\.\d+)?( \S+)?", text), text


def test_every_figure_of_the_committed_results_is_registered() -> None:
    names = {
        name
        for path in RESULTS.glob("*.json")
        for row in json.loads(path.read_text())["rows"]
        for name in row["figures"]
    }
    patterns = ("multiple_of_", "_seconds_per_image")
    unknown = {n for n in names - set(QUANTITIES) if not any(p in n for p in patterns)}
    assert len(names) > 20
    assert not unknown


def test_columns_of_layouts_are_registered() -> None:
    for name, layout in layouts().items():
        for column in layout.columns or ():
            assert column in QUANTITIES or column.startswith("multiple_of_"), (name, column)


def test_nothing_has_a_plain_unit() -> None:
    assert quantity("fetched_bytes").text(estimate([0.0, 0.0])) == "0 (0 to 0) bytes"
    assert quantity("fetched_bytes").text(estimate([3 * 2.0**20])) == "3.00 MiB"
    assert quantity("new_seconds").text(estimate([0.0])) == "0 s"


@pytest.mark.parametrize(
    ("name", "better", "within_run"),
    [
        ("images_per_second", "higher", False),
        ("multiple_of_anything", "higher", True),
        ("end_to_end_ratio", "higher", True),
        ("accuracy", "higher", False),
        ("seconds_to_target", "lower", False),
        ("first_batch_seconds", "lower", False),
        ("resident_bytes", "lower", False),
        ("wait_share", None, False),
        ("cpu_cores", None, False),
        ("decode_seconds_per_image", None, False),
        ("new_suite_images_per_second", "higher", False),
        ("new_seconds", "lower", False),
        ("nonsense", None, False),
    ],
)
def test_what_is_better(name: str, better: str | None, within_run: bool) -> None:
    assert (quantity(name).better, quantity(name).within_run) == (better, within_run)


def test_a_table_shows_what_varies_and_why_a_row_is_empty() -> None:
    rows = [
        Row(
            suite="loaders",
            case={"loader": "a", "batch_size": 8},
            figures={"images_per_second": estimate([1.0])},
        ),
        Row(
            suite="loaders",
            case={"loader": "b|c", "batch_size": 8},
            status="failed",
            note="it\ndied",
        ),
    ]
    assert table(rows, layouts()["loaders"]).splitlines() == [
        "| loader | images/s | settings |",
        "| ------ | -------- | -------- |",
        "| a      | 1.00     |          |",
        "| b/c    | failed   | it died  |",
    ]
    assert table(rows, Layout("a suite that is gone")) == table(rows, layouts()["loaders"])
    assert markdown(["x"], [["long"]]) == "| x    |\n| ---- |\n| long |"


def test_stages_are_a_table_of_their_own() -> None:
    row = Row(
        suite="loaders",
        case={"loader": "slipform host"},
        figures={
            "decode_seconds_per_image": estimate([4.7e-4]),
            "images_per_second": estimate([1]),
        },
    )
    assert stage_cells([row]) == (["loader", "decode, per image"], [["Slipform host", "470 µs"]])
    assert stage_cells([row.model_copy(update={"figures": {}})]) is None
