"""The sinks of trackers, offline and against the real packages: every number once, also after a
resume."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from slipform.train.records import mlflow, trackio
from slipform.train.records import wandb as wandb_sink
from slipform.train.records.sink import Place
from slipform.train.run.loop import fit
from tests.train.records.test_sinks import Small, final, recorded, train_in_parts, with_sinks

pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.timeout(900)]


def test_mlflow_has_every_number_once(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[str], None],
) -> None:  # fmt: skip
    needs("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    train_in_parts(with_sinks(small, "mlflow"), shapes, tmp_path / "run")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["train.seed"] == "0"
    steps, epochs = recorded(tmp_path / "run")
    for name, expected in (("train/loss", steps), ("epoch/val_accuracy", epochs)):
        history = client.get_metric_history(run.info.run_id, name)
        assert len(history) == len(expected), name
        assert {one.step: one.value for one in history} == expected
    values = final(tmp_path / "run")
    for name in values:  # the run has two ends: after one epoch, and after two
        history = client.get_metric_history(run.info.run_id, name)
        assert [one.step for one in history] == [6, 12], name
        assert run.data.metrics[name] == history[-1].value
    for name in ("final/test_accuracy", "final/test_loss", "final/best_epoch"):
        assert run.data.metrics[name] == values[name]


def test_a_run_of_mlflow_that_is_resumed_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    place, states = Place(tmp_path, "tests", "run", 0, print), list[str]()
    for _ in range(2):
        sink = mlflow.open_sink(place)
        client = MlflowClient()
        experiment = client.get_experiment_by_name("tests").experiment_id
        states += [run.info.status for run in client.search_runs([experiment])]
        sink.close()
        states += [run.info.status for run in client.search_runs([experiment])]
    assert states == ["RUNNING", "FINISHED"] * 2


def test_trackio_has_every_number_once_and_prints_nothing(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[str], None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    needs("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    for module in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    train_in_parts(with_sinks(small, "trackio"), shapes, tmp_path / "run")
    assert capsys.readouterr().out == ""
    (name,) = SQLiteStorage.get_runs("tests")
    assert name.startswith("run-")
    logs = SQLiteStorage.get_logs("tests", name)
    steps, epochs = recorded(tmp_path / "run")
    for key, expected in (("train/loss", steps), ("epoch/val_accuracy", epochs)):
        found = [(one["step"], one[key]) for one in logs if key in one]
        assert len(found) == len(expected), key
        assert dict(found) == expected
    for key in final(tmp_path / "run"):
        assert [one["step"] for one in logs if key in one] == [6, 12], key


class _Client:
    """A stand-in for MLflow's client, with one run."""

    runs: ClassVar[list[Any]] = []
    metrics: ClassVar[dict[str, list[Any]]] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        return self.runs

    def create_run(self, experiment: str, **_: Any) -> Any:
        self.runs.append(
            SimpleNamespace(info=SimpleNamespace(run_id="r"), data=SimpleNamespace(params={}))
        )
        return self.runs[0]

    def get_metric_history(self, run: str, name: str) -> list[Any]:
        return self.metrics.get(name, [])

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        for one in metrics:
            self.metrics.setdefault(one.key, []).append(one)

    def set_terminated(self, run: str, status: str = "FINISHED") -> None:
        pass


def _package(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    """Put a stand-in in the place of a package."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_mlflow_keeps_a_result_once_for_each_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package. The second part is the finished run again, the third one trains more."""
    metric = lambda key, value, time, step: SimpleNamespace(key=key, value=value, step=step)  # noqa: E731
    _package(monkeypatch, "mlflow")
    _package(monkeypatch, "mlflow.tracking", MlflowClient=_Client)
    _package(monkeypatch, "mlflow.entities", Metric=metric)
    monkeypatch.setattr(_Client, "runs", [])
    monkeypatch.setattr(_Client, "metrics", {})
    for step, accuracy in ((6, 0.5), (6, 0.5), (12, 0.75)):
        sink = mlflow.open_sink(Place(tmp_path, "tests", "run", step, print))
        sink.summary(step, {"final/test_accuracy": accuracy})
        sink.close()
    found = [(one.step, one.value) for one in _Client.metrics["final/test_accuracy"]]
    assert found == [(6, 0.5), (12, 0.75)]


def test_trackio_keeps_a_result_once_for_each_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package, as for MLflow."""
    logs: list[dict[str, Any]] = []
    log = lambda values, step: logs.append({**values, "step": step})  # noqa: E731
    run = SimpleNamespace(log=log, finish=lambda: None)
    _package(monkeypatch, "trackio", init=lambda **_: run)
    storage = SimpleNamespace(get_logs=lambda project, name: list(logs))
    _package(monkeypatch, "trackio.sqlite_storage", SQLiteStorage=storage)
    for step, accuracy in ((6, 0.5), (6, 0.5), (12, 0.75)):
        sink = trackio.open_sink(Place(tmp_path, "tests", "run", step, print))
        sink.summary(step, {"final/test_accuracy": accuracy})
        sink.close()
    assert [(one["step"], one["final/test_accuracy"]) for one in logs] == [(6, 0.5), (12, 0.75)]


def test_wandb_has_the_result_in_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package. Each part of a run opens the same run of W&B."""
    run = SimpleNamespace(summary={"epoch/val_accuracy": 0.25}, finish=lambda: None)
    _package(monkeypatch, "wandb", init=lambda **_: run, Settings=dict)
    for accuracy in (0.5, 0.5, 0.75):
        sink = wandb_sink.open_sink(Place(tmp_path, "tests", "run", 6, print))
        sink.summary(6, {"final/test_accuracy": accuracy, "final/best_epoch": 2})
        sink.close()
    kept = {"final/test_accuracy": 0.75, "final/best_epoch": 2}
    assert run.summary == {"epoch/val_accuracy": 0.25, **kept}


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of an offline file: W&B's header, then LevelDB's format of logs."""
    assert content[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def test_wandb_gets_every_number(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[str], None],
) -> None:  # fmt: skip
    """Offline: each part of the run is a file, which `wandb sync` sends with the same id."""
    needs("wandb")
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    fit(with_sinks(small, "wandb", "csv"), shapes, tmp_path / "run", device="cpu", quiet=True)
    assert wandb.run is None
    wandb.teardown()  # W&B's service process completes the file after run.finish() has returned
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb")
    found: dict[int, dict[str, str]] = {}
    ids, settings, kept = set[str](), set[str](), dict[str, float]()
    for data in _wandb_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {
                one.key or "/".join(one.nested_key): one.value_json for one in record.history.item
            }
            found.setdefault(int(items["_step"]), {}).update(items)
        if record.WhichOneof("record_type") == "run":
            ids.add(record.run.run_id)
        if record.WhichOneof("record_type") == "summary":
            kept |= {
                one.key or ".".join(one.nested_key): json.loads(one.value_json)
                for one in record.summary.update
            }
        if record.WhichOneof("record_type") == "config":
            settings |= {one.key or ".".join(one.nested_key) for one in record.config.update}
    steps, epochs = recorded(tmp_path / "run")
    assert {step: float(x["train/loss"]) for step, x in found.items()} == steps
    got = {s: float(x["epoch/val_accuracy"]) for s, x in found.items() if "epoch/val_accuracy" in x}
    assert got == epochs
    assert {k: v for k, v in kept.items() if k.startswith("final/")} == final(tmp_path / "run")
    assert "train.seed" in settings
    assert ids == {Place(tmp_path / "run", "", "", 0, print).key}
