"""The sinks of [records], offline and against the real packages: every number once, also after a
resume. A sink that fails never ends a run."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.train import records
from slipform.train.config.records import RecordsConfig
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics, sink
from slipform.train.records.sink import Guarded, Place, Rows, Sink, check_packages, open_sinks
from slipform.train.run import folder, loop, record
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.record import Recorder

pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.timeout(900)]

Small = Callable[..., RunConfig]
SINKS = get_args(get_args(RecordsConfig.model_fields["sinks"].annotation)[0])


def with_sinks(small: Small, *sinks: str, epochs: int = 2) -> RunConfig:
    names = ", ".join(f'"{name}"' for name in sinks)
    return small(f"train.epochs={epochs}", f"records.sinks=[{names}]", 'records.project="tests"')


def train_in_parts(config: RunConfig, shapes: Path, out: Path) -> None:
    """Two epochs, the second one after a resume. The first epoch is resumed from the beginning, as
    after a kill before its checkpoint; the second one from the checkpoint before it."""
    first = config.replace("train.epochs", 1)
    fit(first, shapes, out, device="cpu", quiet=True)
    for path in (*(out / "checkpoints").iterdir(), out / "summary.json"):
        path.unlink()
    fit(first, shapes, out, device="cpu", resume=True, quiet=True)
    saved = {path: path.read_bytes() for path in (out / "checkpoints").iterdir()}
    fit(config, shapes, out, device="cpu", resume=True, quiet=True)
    for path in (out / "checkpoints").iterdir():
        path.unlink()
    for path, content in saved.items():
        path.write_bytes(content)
    fit(config, shapes, out, device="cpu", resume=True, quiet=True)


def recorded(out: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Step -> loss, and step -> val accuracy of the epochs."""
    steps = {one["step"]: one["loss"] for one in read_metrics(out, "step")}
    epochs = {one["step"]: one["val_accuracy"] for one in read_metrics(out, "epoch")}
    assert (len(steps), len(epochs)) == (12, 2)
    return steps, epochs


def final(out: Path) -> dict[str, float]:
    """The result as sinks get it, from summary.json."""
    values = json.loads((out / "summary.json").read_text())
    assert 0 <= values["test_accuracy"] <= 1
    assert values["best_epoch"] in (1, 2)
    plain = {k: v for k, v in values.items() if not isinstance(v, bool)}
    numbers = {k: v for k, v in plain.items() if isinstance(v, int | float)}
    return {f"final/{name}": value for name, value in numbers.items()}


def test_csv_is_what_metrics_jsonl_has(shapes: Path, small: Small, tmp_path: Path) -> None:
    train_in_parts(with_sinks(small, "csv"), shapes, tmp_path / "run")
    with open(tmp_path / "run/epochs.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert [int(line["epoch"]) for line in lines] == [1, 2]
    for line, expected in zip(lines, epochs, strict=True):
        assert float(line["val_accuracy"]) == expected["val_accuracy"]
        assert float(line["train_loss"]) == expected["train_loss"]
    with open(tmp_path / "run/final.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert {name: float(text) for name, text in line.items()} == final(tmp_path / "run")
    assert not list((tmp_path / "run").glob("events.*"))  # only what was asked for
    assert not (tmp_path / "run" / sink.KEY).exists()


def test_tensorboard_has_every_number_once(shapes: Path, small: Small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_in_parts(with_sinks(small, "tensorboard"), shapes, out)
    shown = EventAccumulator(str(out), {"scalars": 0, "images": 0, "histograms": 0})
    shown.Reload()
    for name, expected in zip(("train/loss", "epoch/val_accuracy"), recorded(out), strict=True):
        found = {one.step: one.value for one in shown.Scalars(name)}
        assert len(shown.Scalars(name)) == len(expected), name
        assert found == pytest.approx(expected, rel=1e-6)
    assert len(shown.Images("train/first_batch")) == 1
    for _ in range(2):  # then the finished run is resumed: nothing is left to train
        assert [tag for tag in shown.Tags()["scalars"] if tag.startswith("final/")] == [*final(out)]
        for name, value in final(out).items():
            (one,) = shown.Scalars(name)
            assert one.value == pytest.approx(value, rel=1e-6), name
        fit(with_sinks(small, "tensorboard"), shapes, out, device="cpu", resume=True, quiet=True)
        shown.Reload()
    assert len(shown.Scalars("train/loss")) == 12
    histograms = [shown.Histograms(name) for name in shown.Tags()["histograms"]]
    assert {tuple(one.step for one in each) for each in histograms} == {(6, 12)}


METHODS = ["settings", "numbers", "image", "histogram", "summary", "flush", "close"]


class _Broken(Sink):
    """Fails with each kind of error, at each method."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.method, self.error, self.closed = method, error, 0

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS:
            if name == "close":
                self.closed += 1
            if name == self.method:
                raise self.error
        return super().__getattribute__(name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error", [OSError(28, "disk"), SystemExit(3), ValueError("a\nb"), SlipformError("no package")]
)
def test_a_sink_that_fails_is_closed_with_one_message(method: str, error: BaseException) -> None:
    said: list[str] = []
    broken = _Broken(method, error)
    guarded = Guarded("broken", lambda: broken, said.append)
    for _ in range(2):
        guarded.settings({})
        guarded.numbers([(1, {"a": math.nan})])
        guarded.image("a", None, 1)
        guarded.histogram("a", None, 1)
        guarded.summary(1, {"final/a": 1.0})
        guarded.flush()
    guarded.close()
    assert len(said) == 1
    assert said[0].startswith('records: "broken" failed (')
    assert "\n" not in said[0]
    assert broken.closed == 1


class _Kept(Sink):
    """Keeps the names of the methods that were called, and the result. It fails afterwards."""

    def __init__(self) -> None:
        self.called, self.results = list[str](), list[tuple[int, dict[str, float]]]()

    def numbers(self, rows: Rows) -> None:
        self.called.append("numbers")

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        self.called.append("summary")
        self.results.append((step, dict(values)))
        raise ConnectionError("no answer")

    def close(self) -> None:
        self.called.append("close")


def test_a_sink_gets_the_result_once_and_its_error_does_not_end_the_run(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    kept = _Kept()
    opened = lambda names, place: [Guarded("kept", lambda: kept, place.say)]  # noqa: E731
    monkeypatch.setattr(record, "open_sinks", opened)
    summary = fit(with_sinks(small, "csv", epochs=1), shapes, tmp_path / "run", device="cpu")
    assert kept.called[-3:] == ["numbers", "summary", "close"]
    ((step, values),) = kept.results
    assert step == summary["steps"] == 6
    assert values == final(tmp_path / "run")
    assert {"final/test_accuracy", "final/test_loss", "final/val_accuracy"} <= set(values)
    assert capsys.readouterr().err.count('"kept" failed (ConnectionError: no answer)') == 1


def test_a_process_that_does_not_write_gives_no_result(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, writes=False, quiet=True, step=0, epoch=0)
    recorder.summary(6, {"test_accuracy": 0.5})
    recorder.close()
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_cannot_be_opened_does_not_end_a_run(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A new run needs the package. A resumed run goes on without it, and so do the other sinks."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name)
    )
    config = with_sinks(small, "wandb", "csv", epochs=2)
    install = r'records\.sinks has "wandb": .* pip install "slipform\[records\]", or leave it out'
    with pytest.raises(ConfigError, match=install):
        fit(config, shapes, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    fit(with_sinks(small, "csv", epochs=1), shapes, tmp_path / "run", device="cpu", quiet=True)
    summary = fit(config, shapes, tmp_path / "run", device="cpu", resume=True)
    assert summary["epochs"] == 2
    said = capsys.readouterr().err
    assert said.count('pip install "slipform[records]"') == 1
    assert len((tmp_path / "run/epochs.csv").read_text().splitlines()) == 3


def test_every_tracker_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_packages(["tensorboard", "csv"])
    for name in set(SINKS) - {"tensorboard", "csv"}:
        with pytest.raises(ConfigError, match=f"{name} is not installed"):
            check_packages([name])


def test_sinks_have_no_influence_on_training_and_may_change_on_resume(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    fit(with_sinks(small, "csv"), shapes, tmp_path / "one", device="cpu", quiet=True)
    out = tmp_path / "two"
    fit(small("train.epochs=1"), shapes, out, device="cpu", quiet=True)
    loop.fit(with_sinks(small, "csv"), shapes, out, device="cpu", resume=True, quiet=True)
    losses = [[x["loss"] for x in read_metrics(tmp_path / run, "step")] for run in ("one", "two")]
    assert losses[0] == losses[1]
    assert len((out / "epochs.csv").read_text().splitlines()) == 3


def test_old_run_folders_have_no_section(shapes: Path, small: Small, tmp_path: Path) -> None:
    fit(small("train.epochs=1"), shapes, tmp_path / "run", device="cpu", quiet=True)
    path = tmp_path / "run/config.toml"
    text = path.read_text()
    start = text.index("[records]")
    end = text.find("\n[", start)
    path.write_text(text[:start] + (text[end + 1 :] if end > 0 else ""))
    assert run_config(tmp_path / "run").records.sinks == ("tensorboard",)


def test_a_wrong_sink_names_the_right_ones(small: Small) -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        small('records.sinks=["wandbb"]')
    with pytest.raises(ConfigError, match="project"):
        small('records.project="a/b"')


def test_the_sinks_of_the_settings_are_the_modules_that_open_one(tmp_path: Path) -> None:
    found = {
        path.stem
        for path in Path(records.__file__).parent.glob("*.py")
        if "\ndef open_sink(" in path.read_text()
    }
    assert set(SINKS) == found
    said: list[str] = []
    for one in open_sinks(["csv", "nothing"], Place(tmp_path, "p", "n", 0, said.append)):
        one.close()
    assert (tmp_path / "epochs.csv").read_text() == "step,epoch\n"
    assert [text for text in said if '"nothing" failed' in text] == said != []


def test_every_file_of_a_run_is_known_to_its_folder(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    """Links are refused for these names, and --overwrite removes the files. The folder of a tracker
    stays."""
    for name in SINKS:
        names = importlib.import_module(f"slipform.train.records.{name}").NAMES
        assert set(names) <= set(folder._FILES)
    run = tmp_path / "run"
    fit(with_sinks(small, "tensorboard", "csv"), shapes, run, device="cpu", quiet=True)
    for path in run.iterdir():
        assert any(fnmatch(path.name, one) for one in folder._FILES), path
    (run / "wandb").mkdir()
    (run / "wandb" / "unsent").touch()
    (run / "notes.txt").touch()
    fit(with_sinks(small), shapes, run, device="cpu", quiet=True, overwrite=True)
    assert {"wandb", "notes.txt"} <= {path.name for path in run.iterdir()}
    assert not {"epochs.csv", "records.json"} & {path.name for path in run.iterdir()}
    assert (run / "wandb" / "unsent").exists()
    assert not list(run.glob("events.out.tfevents.*"))
