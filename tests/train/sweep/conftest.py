"""A recipe with three runs: one that learns, one that diverges, one without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = """
study = "T1"
description = "Learning rates"
prep = { dataset = "shapes", seed = 7 }
augment = { image_size = 32, resize = 40, crop = "random" }
model = { name = "tiny", options = { width = 8 } }
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9 }
train = { epochs = 2, batch_size = 40, precision = "fp32", log_every_steps = 4 }
data = { threads = 1, executor = "host" }
[[runs]]
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
reported = { outcome = "diverged" }
[[runs]]
name = "imagenet"
model.name = "squeezenet1_1"
model.weights = "imagenet"
reported = { test_accuracy = 0.9 }
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "rates.toml"
    path.write_text(RECIPE)
    return path
