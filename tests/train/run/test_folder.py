"""A run folder has one writer at a time. Damaged files in it are refused or restored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import locked
from slipform.train.config.run_config import RunConfig
from slipform.train.records import METRICS, read_metrics, read_summary
from slipform.train.run import checkpoint
from slipform.train.run.folder import LOCK, new_folder, run_config
from slipform.train.run.loop import fit
from slipform.train.step.build import build_state

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("how", ["resume", "overwrite", "new"])
def test_a_folder_that_another_process_uses_is_not_changed(
    how: str, run: Path, shapes: Path, small: Small
) -> None:
    if how == "new":
        shutil.rmtree(run)
        run.mkdir()
    before = _contents(run)
    options: dict[str, Any] = {"resume": how == "resume", "overwrite": how == "overwrite"}
    with locked(run / LOCK, "a test"):
        with pytest.raises(SlipformError, match="another train, export or validate is working"):
            fit(small("train.epochs=2"), shapes, run, quiet=True, **options)
        assert {k: v for k, v in _contents(run).items() if LOCK not in k} == {
            k: v for k, v in before.items() if LOCK not in k
        }
    fit(small("train.epochs=2"), shapes, run, quiet=True, **options)


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("report.html", "epochs.csv")),
        pytest.param("figures/own.png", marks=pytest.mark.slow),
        *("checkpoints/own", "best.safetensors"),
    ],
)
def test_a_new_run_does_not_replace_what_was_in_its_folder(
    name: str, shapes: Path, small: Small, tmp_path: Path
) -> None:
    """The folder is no run, but has names of a run's files; other names do not matter."""
    out = tmp_path / "mine"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(SlipformError, match=f"{name.partition('/')[0]}, which a run would replace"):
        fit(small("train.epochs=1"), shapes, out, device="cpu", quiet=True)
    assert (out / name).read_text() == (out / "notes.txt").read_text() == "mine"
    assert not (out / "config.toml").exists()
    fit(small("train.epochs=1"), shapes, out, device="cpu", quiet=True, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "config.toml").exists()


def test_the_lock_is_free_after_a_mistake_and_after_the_end(
    run: Path, shapes: Path, small: Small
) -> None:
    with pytest.raises(SlipformError):
        fit(small("model.name=fc"), shapes, run, resume=True, quiet=True)
    with locked(run / LOCK, "the run before"):
        pass
    fit(small("train.epochs=1"), shapes, run, resume=True, quiet=True)
    with locked(run / LOCK, "the run before"):
        pass


def test_a_run_that_began_and_ended_meanwhile_is_not_replaced(
    run: Path, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run ends between the check of a missing folder and the first write to it."""
    out = tmp_path / "new"

    def other_run_first(*arguments: Any, **options: Any) -> Any:
        shutil.copytree(run, out)
        return build_state(*arguments, **options)

    monkeypatch.setattr("slipform.train.run.open.build_state", other_run_first)
    before = (run / METRICS).read_bytes()
    with pytest.raises(SlipformError, match="contains a run already"):
        fit(small("train.epochs=1"), shapes, out, device="cpu", quiet=True)
    assert (out / METRICS).read_bytes() == before


def test_temporary_files_of_killed_processes_are_removed(
    run: Path, shapes: Path, small: Small
) -> None:
    orphans = [
        run / ".best.safetensors.0011aabb.slipform-tmp",
        run / "checkpoints" / ".whole.pt.0011aabb.slipform-tmp",
    ]
    for path in orphans:
        path.write_bytes(b"x")
    fit(small("train.epochs=1"), shapes, run, resume=True, quiet=True)
    assert not [path for path in orphans if path.exists()]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "noise": lambda data: bytes(range(256)),
    "nested": lambda data: b"[" * 100_000,
    "list": lambda data: b"[1, 2]\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_settings_are_never_the_defaults(
    damage: str, run: Path, shapes: Path, small: Small
) -> None:
    path = run / "config.toml"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(SlipformError, match=r"config\.toml.*--overwrite"):
        run_config(run)


@pytest.mark.parametrize(
    "damage", [pytest.param(x, marks=() if x == "half" else pytest.mark.slow) for x in DAMAGES]
)
def test_damaged_records_are_left_out(damage: str, run: Path, shapes: Path, small: Small) -> None:
    for name in ("metrics.jsonl", "summary.json"):
        path = run / name
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert read_summary(run) is None
    assert len(read_metrics(run, "step")) < 6
    summary = fit(small("train.epochs=2"), shapes, run, resume=True, device="cpu", quiet=True)
    assert read_summary(run) == json.loads(json.dumps(summary))
    assert [x["step"] for x in read_metrics(run, "step")][-6:] == list(range(7, 13))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"3",
        b'{"kind": "step"}',
        b'{"kind": ["step"], "step": 1}',
        b'{"kind": "step", "step": "1", "epoch": 1, "loss": 1.0, "lr": 1.0}',
        b'{"kind": "epoch", "step": 1, "epoch": 1, "train_loss": {}}',
        b'{"kind": "step", "step": 1' + b"0" * 400 + b', "epoch": 1, "loss": 1.0, "lr": 1.0}',
        b"\xff\xfe",
        b'{"kind": "st',
    ],
)
def test_only_damaged_lines_are_left_out(line: bytes, tmp_path: Path) -> None:
    good = [
        json.dumps({"kind": "step", "step": n, "epoch": 1, "loss": 1.0, "lr": 0.1}).encode()
        for n in (1, 2)
    ]
    (tmp_path / METRICS).write_bytes(b"\n".join([good[0], line, good[1]]))
    assert [x["step"] for x in read_metrics(tmp_path, "step")] == [1, 2]


def _foreign(saved: dict[str, Any], what: str) -> dict[str, Any]:
    state = saved["state"]
    match what:
        case "no version":
            del saved["version"]
        case "no state":
            del saved["state"]
        case "state of another type":
            saved["state"] = [1, 2]
        case "no model":
            del state["model"]
        case "other shapes":
            state["model"] = {
                name: tensor.reshape(-1)[:1] for name, tensor in state["model"].items()
            }
        case "other names":
            state["model"] = {"x" + name: tensor for name, tensor in state["model"].items()}
        case "other optimizers":
            state["optimizers"] = state["optimizers"] * 3
        case "no position":
            saved["loader"] = {}
        case "position of another type":
            saved["loader"]["seen"] = "many"
        case "no random numbers":
            saved["random"] = None
        case "settings that are none":
            saved["config"] = "= 3"
        case "best of another type":
            state["best"] = 7
    return saved


@pytest.mark.parametrize(
    "what",
    [
        "no version",
        "no state",
        "state of another type",
        "no model",
        "other shapes",
        "other names",
        "other optimizers",
        "no position",
        "position of another type",
        "no random numbers",
        "settings that are none",
        "best of another type",
    ],
)
def test_an_intact_checkpoint_of_something_else_is_refused(
    what: str, run: Path, shapes: Path, small: Small
) -> None:
    (path,) = checkpoint.checkpoints(run)
    saved = _foreign(torch.load(path, weights_only=True), what)
    path.unlink()
    checkpoint.save(run, 6, saved, keep=1)
    with pytest.raises(SlipformError, match=r"checkpoint|position"):
        fit(small("train.epochs=2"), shapes, run, resume=True, quiet=True)


@contextmanager
def _failing_writes(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """The disk is full at the third record of TensorBoard's writer."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    original, count = RecordWriter.write, iter(range(10**9))

    def write(self: Any, data: bytes) -> None:
        if next(count) >= 2:
            raise OSError(28, os.strerror(28), name)
        original(self, data)

    monkeypatch.setattr(RecordWriter, "write", write)
    yield


def test_an_error_of_tensorboard_s_file_does_not_end_a_run(
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _failing_writes(monkeypatch, "events"):
        summary = fit(small("train.epochs=2"), shapes, tmp_path / "run", device="cpu")
    said = capsys.readouterr().err
    assert summary["epochs"] == 2
    assert said.count("No space left on device") == 1
    assert "training continues without it" in said


def test_an_error_of_a_figure_does_not_end_a_run(
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "curves.png")

    monkeypatch.setattr("slipform.train.figures.result.draw_result", full)
    summary = fit(small("train.epochs=1"), shapes, tmp_path / "run", device="cpu")
    assert read_summary(tmp_path / "run") == json.loads(json.dumps(summary))
    assert capsys.readouterr().err.count("figures could not be drawn") == 1


@pytest.mark.parametrize("name", ["..", ".", "/", "../..", "a/../b", "x"])
def test_no_name_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    with new_folder(tmp_path, name) as folder:
        assert folder.resolve().parent == tmp_path.resolve()


def test_a_new_folder_belongs_to_one_run_and_is_removed_without_one(tmp_path: Path) -> None:
    with new_folder(tmp_path / "runs", "x") as first, new_folder(tmp_path / "runs", "x") as second:
        assert [first.name, second.name] == ["x", "x-2"]
        (first / "config.toml").touch()
        (second / LOCK).touch()
    assert os.listdir(tmp_path / "runs") == ["x"]
