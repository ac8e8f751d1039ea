"""The search: its ranges, its trials, and that an interrupted one goes on exactly."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, Interrupted, SlipformError
from slipform.train.cli import search
from slipform.train.config.recipe import Recipe
from slipform.train.config.resolve import resolve
from slipform.train.search import study as searching
from slipform.train.search.proposals import distributions_of
from slipform.train.search.space import Range, parse_ranges
from slipform.train.search.study import run_search
from slipform.train.sweep.jobs import Job
from tests.train.conftest import SMALL

TEXTS = ["optimizer.lr=1e-3..1e-1:log", "train.batch_size=20,40", "train.epochs=1..3"]


def test_ranges_are_parsed() -> None:
    assert parse_ranges(TEXTS) == [
        Range("optimizer.lr", 0.001, 0.1, True),
        Range("train.batch_size", choices=("20", "40")),
        Range("train.epochs", 1, 3),
    ]
    (one,) = parse_ranges(["loss.label_smoothing = 0.0..0.2"])
    assert (one.low, one.high, one.log) == (0.0, 0.2, False)
    assert [str(one) for one in parse_ranges(TEXTS)][1:] == TEXTS[1:]
    (half,) = parse_ranges(["optimizer.momentum=.5..1"])
    assert (half.low, half.high) == (0.5, 1.0)
    (paths,) = parse_ranges(["model.weights=../one.pt,../../two.pt"])
    assert paths.choices == ("../one.pt", "../../two.pt")
    (option,) = parse_ranges(["model.options.width=8,16"])
    assert option.text("8") == "model.options.width=8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss.label_smoothing=0..1", float),
        ("augment.mixup=0..1", float),
        ("optimizer.weight_decay=0..1", float),
        ("optimizer.head_lr=1..2:log", float),  # a number or nothing
        ("optimizer.lr=1..2:log", float),
        ("train.epochs=1..3", int),
        ("train.batch_size=16..64:log", int),  # a number or "auto"
        ("optimizer.newton_schulz_steps=3..6", int),  # a setting of one optimizer
        ("model.options.width=8..64", int),  # a type that is not known: as the ends are written
        ("model.options.dropout=0.0..1", float),
    ],
)
def test_the_type_of_a_setting_decides_whether_numbers_are_whole(
    text: str, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[type, Any, Any, bool]] = []

    def distribution(kind: type) -> Callable[..., None]:
        return lambda low, high, *, log: asked.append((kind, low, high, log))

    kinds = {"IntDistribution": distribution(int), "FloatDistribution": distribution(float)}
    stand_in = SimpleNamespace(distributions=SimpleNamespace(**kinds))
    monkeypatch.setitem(sys.modules, "optuna", stand_in)
    (one,) = parse_ranges([text])
    assert list(distributions_of([one])) == [one.name]
    ((kind, low, high, log),) = asked
    assert (kind, type(low), type(high), log) == (expected, *[expected] * 2, text.endswith(":log"))
    ends = text.partition("=")[2].removesuffix(":log").split("..")
    assert [low, high] == [float(end) for end in ends]


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("augment.scale=[0.08,1.0],[0.35,1.0]", ("[0.08,1.0]", "[0.35,1.0]")),
        ("augment.scale = [0.08, 1.0] , [0.35, 1.0]", ("[0.08, 1.0]", "[0.35, 1.0]")),
        ("train.image_sizes=[],[[1,32],[2,64]]", ("[]", "[[1,32],[2,64]]")),
        ('data.sampling="all",{disc=2.0,ring=3.0}', ('"all"', "{disc=2.0,ring=3.0}")),
        (r'model.weights="a,b.pt","c\",d.pt"', ('"a,b.pt"', r'"c\",d.pt"')),
        ("model.weights='a,b.pt',none,,none", ("'a,b.pt'", "none")),
        ("model.weights=o'neil.pt,[1].pt,net[1].pt", None),  # a bare word must not begin with [
        ("model.weights=o'neil.pt,net[1].pt", ("o'neil.pt", "net[1].pt")),
    ],
)
def test_choices_end_at_commas_outside_brackets_and_quotation_marks(
    text: str, choices: tuple[str, ...] | None
) -> None:
    if choices is None:
        with pytest.raises(ConfigError, match="no TOML value"):
            parse_ranges([text])
        return
    (one,) = parse_ranges([text])
    assert one.choices == choices


def test_each_choice_is_a_setting_as_a_run_takes_it() -> None:
    (one,) = parse_ranges(["augment.scale=[0.08,1.0],[0.35,1.0]"])
    scales = [resolve(sets=[one.text(value)]).augment.scale for value in one.values]
    assert scales == [(0.08, 1.0), (0.35, 1.0)]
    (one,) = parse_ranges(["augment.mixup=0..1"])
    assert [resolve(sets=[one.text(x)]).augment.mixup for x in (0.0, 0.25, 1e-7)] == [0, 0.25, 1e-7]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.lr=1e-3..1:ln", 'Give ":log"'),
        ("train.epochs=1.5..3", "train.epochs is a whole number"),
        ("augment.scale=[0.08,1.0],[0.35,1.0", r"\[0.35,1.0 is no TOML value"),
        ("augment.scale=[0.08,1.0]", r"--set augment.scale=\[0.08,1.0\]"),
        ("optimizer.lrr=0..1", '"optimizer.lr"'),
        ("optimizer.lr", "NAME=LOW..HIGH"),
        ("optimizer.lr=0..1:log", "above 0"),
        ("optimizer.lr=2..1", "smaller"),
        ("optimizer.lr=a..b", "no number"),
        ("optimizer.lr=0.1", "--set optimizer.lr=0.1"),
        ("optimizer.lr=0..inf", "no number"),
    ],
)
def test_wrong_ranges_get_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_ranges([text])
    with pytest.raises(ConfigError, match="at least one --range"):
        parse_ranges([])
    with pytest.raises(ConfigError, match="given twice"):
        parse_ranges(["train.epochs=1..2", "train.epochs=1..3"])


class Runs:
    """Trials without training: the accuracy is a function of the settings. `stops`: the number of
    the trial during which somebody presses Ctrl-C."""

    def __init__(self, stops: int = -1, fails: int = -1) -> None:
        self.stops, self.fails, self.commands = stops, fails, list[list[str]]()

    def __call__(
        self, jobs: Iterable[Job], command: Callable[[Job], Sequence[str]],
        ended: Callable[[Job, int], str], **_: Any,
    ) -> None:  # fmt: skip
        for job in jobs:
            self.commands.append(list(command(job)))
            number = int(job.folder.name.removeprefix("trial-"))
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "config.toml").touch()
            if number == self.stops:
                ended(job, Interrupted.exit_code)
                raise Interrupted("stopped")
            if number == self.fails:
                ended(job, 1)
                continue
            lr = job.config.optimizer.lr
            accuracy = 1 / (1 + abs(lr - 0.02) * 30) - job.config.train.batch_size / 1000
            summary = {
                "test_accuracy": 0.5, "val_accuracy": accuracy, "best_epoch": 1, "epochs": 1,
                "seconds": 1.0, "images_per_second": 1.0, "machine": "", "torch": "",
                "precision": "", "compiled": False, "executor": "host",
            }  # fmt: skip
            self.finished(job, summary)
            ended(job, 0)

    def finished(self, job: Job, summary: dict[str, Any]) -> None:
        (job.folder / "summary.json").write_text(json.dumps(summary))


def _search(
    shapes: Path, out: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> None:
    monkeypatch.setattr(searching, "run_jobs", runs)
    options = {"trials": 12, "num_at_once": 2, "quiet": True, **more}
    run_search(Recipe("small", SMALL), shapes, out, parse_ranges(TEXTS), **options)


def trials(out: Path) -> list[dict[str, str]]:
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_an_interrupted_search_goes_on_exactly(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    whole, parts = Runs(), Runs(stops=5)
    _search(shapes, tmp_path / "whole", whole, monkeypatch)
    with pytest.raises(Interrupted):
        _search(shapes, tmp_path / "parts", parts, monkeypatch)
    again = Runs()
    _search(shapes, tmp_path / "parts", again, monkeypatch)
    assert trials(tmp_path / "parts") == trials(tmp_path / "whole")
    assert len(trials(tmp_path / "whole")) == 12
    assert "--resume" in again.commands[0]  # the interrupted one, from its checkpoint
    assert again.commands[0][2].endswith("trial-005")
    assert "--out" in whole.commands[0]
    _search(shapes, tmp_path / "parts", nothing := Runs(), monkeypatch)
    assert not nothing.commands
    _search(shapes, tmp_path / "parts", more := Runs(), monkeypatch, trials=13)
    assert len(more.commands) == 1
    with pytest.raises(ConfigError, match="another search"):
        _search(shapes, tmp_path / "parts", Runs(), monkeypatch, seed=1)


def test_trials_lie_in_their_ranges_and_the_best_comes_first(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    _search(shapes, tmp_path / "s", Runs(fails=3), monkeypatch, trials=20, num_at_once=1)
    rows = trials(tmp_path / "s")
    for row in rows:
        assert 0.001 <= float(row["optimizer.lr"]) <= 0.1
        assert row["train.batch_size"] in ("20", "40")
        assert row["train.epochs"] in ("1", "2", "3")
    assert rows[3]["state"] == "fail"
    text = (tmp_path / "s/trials.md").read_text()
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]
    best = max((row for row in rows if row["val_accuracy"]), key=lambda r: float(r["val_accuracy"]))
    assert lines[0] == best["trial"]
    assert "3 (fail)" in text
    assert (tmp_path / "s/trials.png").stat().st_size > 1000
    # Later proposals are better than the first, random ones.
    values = [float(row["val_accuracy"]) for row in rows if row["val_accuracy"]]
    assert sum(values[10:]) / len(values[10:]) > sum(values[:10]) / 10


def test_mistakes_get_one_clear_line(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        run_search(
            Recipe("small", SMALL), shapes, tmp_path / "x",
            parse_ranges(["train.epochs=-1..3"]), quiet=True,
        )  # fmt: skip
    assert not (tmp_path / "x").exists()
    result = CliRunner().invoke(search, [str(shapes), "--range", "optimizer.lrr=0..1"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    with pytest.raises(SlipformError, match="no trial finished"):
        _search(shapes, tmp_path / "y", Runs(fails=0), monkeypatch, trials=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SlipformError, match=r"slipform\[search\]"):
        _search(shapes, tmp_path / "z", Runs(), monkeypatch)


@pytest.mark.slow
def test_two_realtrials(shapes: Path, tmp_path: Path, needs: Callable[[str], None]) -> None:
    needs("optuna")
    sets = ["model.name=tiny", "model.small_input=false", "augment.image_size=32", "train.epochs=1",
            "data.threads=1", "train.precision=fp32"]  # fmt: skip
    arguments = [str(shapes), *(f"--set={text}" for text in sets), "--out", str(tmp_path / "s")]
    arguments += ["--range", "optimizer.lr=1e-3..1e-1:log", "--trials", "2", "--device", "cpu"]
    result = CliRunner().invoke(search, arguments)
    assert result.exit_code == 0, result.output
    rows = trials(tmp_path / "s")
    assert [row["state"] for row in rows] == ["complete"] * 2
    for number, row in enumerate(rows):
        summary = json.loads((tmp_path / f"s/trial-{number:03d}/summary.json").read_text())
        assert float(row["val_accuracy"]) == summary["val_accuracy"]
        text = (tmp_path / f"s/trial-{number:03d}/config.toml").read_text()
        assert row["optimizer.lr"] in text
