"""The sinks of trackers, offline and against the real packages: every number once, also after a
resume."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipform.train.records import mlflow
from slipform.train.records.sink import Place
from slipform.train.run.loop import fit
from tests.train.records.test_sinks import Small, recorded, train_in_parts, with_sinks

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
    ids, settings = set[str](), set[str]()
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
        if record.WhichOneof("record_type") == "config":
            settings |= {one.key or ".".join(one.nested_key) for one in record.config.update}
    steps, epochs = recorded(tmp_path / "run")
    assert {step: float(x["train/loss"]) for step, x in found.items()} == steps
    got = {s: float(x["epoch/val_accuracy"]) for s, x in found.items() if "epoch/val_accuracy" in x}
    assert got == epochs
    assert "train.seed" in settings
    assert ids == {Place(tmp_path / "run", "", "", 0, print).key}
