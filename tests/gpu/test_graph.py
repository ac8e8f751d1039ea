"""Whole steps in a model of CUDA graphs: the same bits as eager steps, with all values that change
between steps; several steps in a launch; operations that need the host are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import ConfigError
from slipform.train.config.resolve import resolve
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.graph import check
from slipform.train.step.muon import ConvMuon
from slipform.train.step.newton_schulz import buckets, orthogonalize
from tests.warm import Warm

TINY = ["model.name=tiny", "train.precision=fp32", "optimizer.lr=0.05", "train.batch_size=4"]
CASES: dict[str, dict[str, Any]] = {
    "sgd": {
        "sets": [*TINY, "optimizer.name=sgd", "optimizer.momentum=0.9", "train.ema=0.99"],
        "augment": {"crop": "random_resized", "flip": "both", "mixup": 0.3},
        "launches": [[1, 1, 1], [1, 1, 1], [1, 1], [1]],
    },
    "adam": {
        "sets": [*TINY, "optimizer.name=adamw", "optimizer.lr=0.0003", "train.clip_norm=0.5"],
        "augment": {"rotation": 20.0},
    },
    "muon": {
        "sets": [
            *TINY,
            "optimizer.name=muon",
            "optimizer.lr=0.002",
            "optimizer.rest=sgd",
            "optimizer.rest_lr=0.01",
        ],
        "launches": [[1, 1, 1], [1, 1, 1], [1, 1], [1]],
    },
    # A policy and a blur: nine kernels more, and memory between them.
    "policy": {"sets": [*TINY, "optimizer.name=sgd"], "spec": "blurred"},
    # The last step of an epoch has one batch, so it has another graph.
    "accumulated": {
        "sets": [*TINY, "optimizer.name=sgd", "train.accumulate=2"],
        "launches": [[2, 1], [2, 1], [2, 1], [2, 1]],
    },
}


QUICK = ("sgd",)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_steps_in_graphs_equal_eager_steps(case: str, tmp_path: Path, interpreter: Warm) -> None:
    script = Path(__file__).with_name("graph_steps.py")
    done = interpreter.run_file(script, tmp_path, json.dumps({case: CASES[case]}))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_runs_with_several_steps_in_a_launch_resume_bit_for_bit(
    tmp_path: Path, interpreter: Warm
) -> None:
    """The whole command: with MixUp, averages, a layer that stops learning, another size of images,
    checkpoints and observations of samples."""
    done = interpreter.run_file(Path(__file__).with_name("whole_runs.py"), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_layers_that_learn_later_are_in_the_recorded_steps(
    tmp_path: Path, interpreter: Warm
) -> None:
    script = Path(__file__).with_name("whole_runs.py")
    done = interpreter.run_file(script, tmp_path, "unfrozen")
    assert done.returncode == 0, done.stderr


def test_the_model_of_graphs_freezes_numbers_and_refuses_reading() -> None:
    """The model finds errors: a number of the host does not change in a replay, the value of a
    tensor does."""
    from tests.gpu.recorded import RecordedGraphs

    graphs, total = RecordedGraphs(), torch.zeros(1)
    device_rate, host_rate = torch.ones(1), [1.0]

    def work() -> None:
        total.add_(device_rate * 2).add_(host_rate[0])

    replay = graphs.capture(work)
    assert total.item() == 0  # recording changes no memory
    replay()
    device_rate.fill_(10)
    host_rate[0] = 1000.0
    replay()
    assert total.item() == (2 + 1) + (20 + 1)
    with pytest.raises(AssertionError, match="waits for the device"):
        graphs.capture(lambda: print(total.item()))  # noqa: T201


def test_newton_schulz_of_several_matrices_equals_one_at_a_time() -> None:
    """In float32, compared with torch's formula for one matrix: tall, wide, padded."""
    torch.manual_seed(0)
    shapes = [(64, 216), (64, 576), (256, 576), (256, 2304), (256, 2304), (300, 20), (7, 7)]
    matrices = [torch.randn(shape) for shape in shapes]
    found = orthogonalize(matrices, (3.4445, -4.7750, 2.0315), 3, 1e-7, torch.float32)
    for matrix, got in zip(matrices, found, strict=True):
        wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
        want = wide / wide.norm()
        for _ in range(3):
            gram = want @ want.T
            want = 3.4445 * want + (-4.7750 * gram + 2.0315 * gram @ gram) @ want
        want = want.T if wide is not matrix else want
        assert got.shape == matrix.shape
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_padding_at_most_doubles_the_work() -> None:
    fast = [(64, 216), (64, 576), (256, 576), *[(256, 2304)] * 3]
    assert [sorted(bucket) for bucket in buckets(fast)] == [[0, 1, 2, 3, 4, 5]]
    apart = buckets([(64, 147), (512, 4608), (64, 147), (64, 147), (64, 147)])
    assert [sorted(bucket) for bucket in apart] == [[1], [0, 2, 3, 4]] or len(apart) == 2


@pytest.mark.parametrize("options", [{}, {"unit_filters": True, "adjust_lr_fn": "original"}])
def test_muon_with_its_rate_on_the_device_equals_muon(options: dict[str, Any]) -> None:
    """The products are rounded to bfloat16. The rest is equal."""
    moved = []
    for rate in (0.1, torch.tensor(0.1)):
        torch.manual_seed(0)
        shapes = ((8, 4, 3, 3), (8, 8, 3, 3), (5, 8))
        weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        group = {"params": weights, "lr": 0.1, "weight_decay": 0.05}
        muon = ConvMuon([group], momentum=0.6, nesterov=True, ns_steps=3, **options)
        muon.param_groups[0]["lr"] = rate
        for _ in range(2):
            for weight in weights:
                weight.grad = torch.randn(weight.shape)
            muon.step()
        moved.append([weight.detach().clone() for weight in weights])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=4e-3)


@pytest.mark.parametrize("name", ["asgd", "rmsprop"])
def test_an_optimizer_that_reads_its_rate_on_the_host_is_refused(name: str) -> None:
    config = resolve(None, [*TINY, f"optimizer.name={name}", "augment.image_size=8"])
    state = build_state(config, num_classes=4, process=Process(torch.device("cpu")))
    with pytest.raises(ConfigError, match="steps_per_launch"):
        check(state)
    state.scaler = torch.amp.GradScaler("cpu", enabled=True)
    with pytest.raises(ConfigError, match="fp16"):
        check(state)
