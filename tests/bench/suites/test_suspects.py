"""`bench suspects`: its average precision, and one small run of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score

from slipform.bench.race import suspect_run, worker
from slipform.bench.race.flipped import flip_labels
from slipform.bench.race.suspect_run import average_precision, find_flipped, train_seconds
from slipform.bench.result.result import read_result
from slipform.bench.suites.suspects import command, rows_of
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.verify import find_faults
from slipform.train.inference import suspects
from tests.pipelines.sharded import write_shards

SETS = (
    "train.epochs=1", "augment.image_size=32", "augment.resize=36", "data.threads=1",
    "model.options.width=8",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    positive, scores = draws.random(200) < 0.1, draws.permutation(200).astype(float)
    expected = average_precision_score(positive, scores)
    assert average_precision(positive, scores) == pytest.approx(expected)


def test_the_copy_is_a_whole_dataset_with_wrong_labels(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "flipped"
    wrong = flip_labels(shapes, out, 0.05, 1)
    assert list(find_faults(out, read_manifest(out), threads=1)) == []
    before, after = (open_dataset(folder).beton("train").labels for folder in (shapes, out))
    assert np.flatnonzero(before != after).tolist() == wrong.tolist()
    assert len(wrong) == 12


def test_datasets_that_cannot_be_flipped_are_refused(shapes: Path, tmp_path: Path) -> None:
    shards = write_shards(shapes, tmp_path / "shards", [9])
    for data, share, says in (
        (shards, 0.05, "has 2 shards of train"),
        (shapes, 0.001, "0.001 of 240 images is less than one"),
    ):
        with pytest.raises(ConfigError, match=says):
            flip_labels(data, tmp_path / "out", share)
        assert not (tmp_path / "out").exists()


def test_a_small_run(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipform.train.run.finish._draw", lambda *_: None)
    ranked: list[suspects.Found] = []
    original = suspects.suspects_of

    def kept(*arguments: Any) -> suspects.Found:
        ranked.append(original(*arguments))
        return ranked[-1]

    monkeypatch.setattr(suspects, "suspects_of", kept)
    found = find_flipped(str(shapes), "shapes/demo", SETS, "cpu", str(tmp_path), 0.05, 1)
    wrong = set(flip_labels(shapes, tmp_path / "again", 0.05, 1).tolist())
    told, losses = ranked[0].suspects.mislabeled.tolist(), ranked[0].suspects.losses
    right = len(wrong & set(told))
    # Samples that were not seen come last, in their order.
    scores = np.where(np.isnan(losses), -1.0 - np.arange(240), losses)
    assert found["slipform"] == pytest.approx(
        {
            "average_precision_share": average_precision_score(
                np.isin(np.arange(240), list(wrong)), scores
            ),
            "precision_share": right / max(1, len(told)),
            "recall_share": right / 12,
        }
    )
    for figures in found.values():
        assert figures.keys() == found["slipform"].keys()
        assert all(0 <= value <= 1 for value in figures.values())
    assert not list(tmp_path.glob("data-*"))
    assert (tmp_path / "run-1" / "samples" / "epoch-0001.safetensors").exists()
    readings = iter([10.0, 12.5])
    monkeypatch.setattr(suspect_run, "time", SimpleNamespace(process_time=lambda: next(readings)))
    seconds = train_seconds(str(shapes), "shapes/demo", SETS, "cpu", str(tmp_path), False)
    assert seconds == 2.5
    assert not (tmp_path / "cost" / "samples").exists()


def test_the_cost_alone(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 11.0])
    monkeypatch.setattr(worker, "isolated", lambda *_, **__: next(seconds))
    out = tmp_path / "suspects.json"
    arguments = [str(shapes), "--seeds", "0", "--out", str(out)]
    refused = CliRunner().invoke(command, [*arguments, "--cost", "0"])
    assert refused.exit_code == 1
    assert "give --seeds or --cost above 0" in refused.output
    done = CliRunner().invoke(command, [*arguments, "--cost", "1"])
    assert done.exit_code == 0, done.output
    rows = read_result(out).rows
    assert [row.case["method"] for row in rows] == [
        "training, records.samples off", "training, records.samples on",
    ]  # fmt: skip
    assert rows[1].figures["cost_ratio"].median == 1.1


def test_a_stopped_suite_has_the_rows_of_what_was_measured() -> None:
    """The last training has no counterpart yet: its ratio is not formed."""
    found = {"slipform": [{"recall_share": 0.5}, {"recall_share": 0.7}]}
    rows = rows_of({}, {}, found, {False: [10.0, 20.0], True: [11.0]})
    medians = {
        (str(row.case["method"]), name): figure.median
        for row in rows
        for name, figure in row.figures.items()
    }
    on, off = (f"training, records.samples {word}" for word in ("on", "off"))
    assert medians == pytest.approx(
        {
            ("slipform", "recall_share"): 0.6,
            (off, "process_seconds"): 15.0,
            (on, "process_seconds"): 11.0,
            (on, "cost_ratio"): 1.1,
        }
    )
    assert rows_of({}, {}, {}, {False: [], True: []}) == []
