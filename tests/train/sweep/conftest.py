"""A recipe with three runs: one that learns, one that diverges, one without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.sweep.commands import settings

RECIPE = f"""
study = "T1"
description = "Learning rates"
prep = {{ dataset = "shapes", seed = 7 }}
{settings(epochs=2)}[[runs]]
name = "lr-0.05"
[runs.reported]
val_accuracy = 0.5
test_accuracy = 0.4
loss = 1.5
seconds = 1000
trainable_parameters = 24814
[[runs]]
name = "lr-huge"
optimizer.lr = 1e30
reported = {{ outcome = "diverged" }}
[[runs]]
name = "imagenet"
model.name = "squeezenet1_1"
model.weights = "imagenet"
reported = {{ test_accuracy = 0.9 }}
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "rates.toml"
    path.write_text(RECIPE)
    return path
