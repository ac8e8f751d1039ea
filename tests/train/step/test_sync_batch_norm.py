"""Two processes with a part of a batch each: BatchNorm and its gradients equal those of one process
with the whole batch, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from slipform.models.fast import BatchNorm
from slipform.train.machine.distributed import Process, Requests
from slipform.train.step.sync_batch_norm import SyncBatchNorm, synchronize
from tests.warm import Warm

WORLD = 2
MAKE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.BatchNorm1d(5), (12, 5)),
    "2d": (lambda: nn.BatchNorm2d(6, momentum=0.3), (8, 6, 7, 5)),
    "cumulative": (lambda: nn.BatchNorm2d(3, momentum=None), (4, 3, 6, 6)),
    "fast": (lambda: BatchNorm(4), (10, 4, 5, 5)),
    "bare": (lambda: nn.BatchNorm2d(4, affine=False), (8, 4, 3, 5)),
    "plain": (lambda: nn.BatchNorm2d(4, affine=True, track_running_stats=False), (6, 4, 3, 3)),
}


def _case(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer with unusual weights, two batches with a large mean and different halves, and their
    gradients."""
    make, shape = MAKE[name]
    torch.manual_seed(len(name))
    norm = make()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn_like(parameter))
    inputs = torch.randn(2, *shape) * 3 + 50
    inputs[:, shape[0] // WORLD :] *= 1.5
    return norm, inputs, torch.randn(2, *shape)


def _train(norm: nn.Module, inputs: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    """Forward and backward for both batches, then forward in evaluation mode."""
    outputs = []
    leaf = inputs.clone().requires_grad_()
    for x, gradient in zip(leaf, gradients, strict=True):
        outputs.append(norm(x))
        outputs[-1].backward(gradient, retain_graph=True)
    assert leaf.grad is not None
    found = {"output": torch.stack(outputs).detach(), "input_gradient": leaf.grad}
    if norm.track_running_stats:
        found["evaluated"] = norm.eval()(inputs[0]).detach()
    for name, parameter in norm.named_parameters():
        assert parameter.grad is not None
        found[f"{name}_gradient"] = parameter.grad
    return found | {name: buffer.detach() for name, buffer in norm.named_buffers()}


def _sizes(name: str, even: bool) -> list[int]:
    """The images of each process; of 8 images 4 and 4, or 3 and 5."""
    half = MAKE[name][1][0] // WORLD
    return [half, half] if even else [half - 1, half + 1]


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD
    )
    found: dict[str, Any] = {}
    for name in MAKE:
        for even in (True, False):
            norm, inputs, gradients = _case(name)
            sizes = _sizes(name, even)
            synchronize(norm, sizes)
            assert type(norm) is SyncBatchNorm
            found[f"{name}, {even}"] = _train(
                norm, inputs.split(sizes, 1)[rank], gradients.split(sizes, 1)[rank]
            )
    norm, inputs, _ = _case("2d")
    mine = inputs.chunk(WORLD, 1)[rank][0]
    synchronize(norm, _sizes("2d", True))
    found["bfloat16"] = norm(mine.bfloat16().to(memory_format=torch.channels_last))
    found["copied"] = copy.deepcopy(norm).eval()(mine), norm.eval()(mine)

    agreement = Process(torch.device("cpu"), rank, WORLD).agreement()
    asked = [Requests(rank == 1 and step == 3, rank == 0 and step == 1) for step in range(6)]
    found["agreed"] = [tuple(agreement.any(requests)) for requests in asked]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


PROGRAM = f"""
import sys
from {__name__} import _work
_work(int(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, warm_process: Warm) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    warm = warm_process
    started = [warm.start(PROGRAM, rank, folder) for rank in range(WORLD)]
    for one in started:
        ended = warm.wait(one)
        assert ended.returncode == 0, ended.stderr
    return [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("name", MAKE)
def test_two_processes_equal_one_with_the_whole_batch(
    name: str, even: bool, found: list[dict[str, Any]]
) -> None:
    norm, inputs, gradients = _case(name)
    expected = _train(norm.double(), inputs.double(), gradients.double())
    parts = [part[f"{name}, {even}"] for part in found]
    assert parts[0].keys() == expected.keys()
    for key, reference in expected.items():
        if key in {"output", "input_gradient"}:
            ours = torch.cat([part[key] for part in parts], 1)
        elif key == "evaluated":
            ours = torch.cat([part[key] for part in parts], 0)
        elif key.endswith("_gradient"):
            ours = sum(
                part[key] for part in parts
            )  # DDP averages the gradients, and the loss is also an average
        else:
            assert torch.equal(parts[0][key], parts[1][key]), key
            ours = parts[0][key]
        torch.testing.assert_close(
            ours.double(),
            reference.double(),
            rtol=2e-5,
            atol=2e-5,
            msg=partial("{}: {}".format, key),
        )


def test_bfloat16_and_channels_last_are_kept(found: list[dict[str, Any]]) -> None:
    norm, inputs, _ = _case("2d")
    ours = torch.cat([part["bfloat16"] for part in found])
    assert ours.dtype == torch.bfloat16
    assert all(part["bfloat16"].is_contiguous(memory_format=torch.channels_last) for part in found)
    torch.testing.assert_close(
        ours.double(), norm.double()(inputs[0].bfloat16().double()), rtol=0.01, atol=0.02
    )


def test_a_copy_for_averaged_weights_evaluates_as_the_layer_does(
    found: list[dict[str, Any]],
) -> None:
    assert all(torch.equal(*part["copied"]) for part in found)


def test_a_request_of_one_process_reaches_all_one_step_later(found: list[dict[str, Any]]) -> None:
    answers = [Requests(stop=step == 4, save=step == 2) for step in range(6)]
    assert [part["agreed"] for part in found] == [[tuple(one) for one in answers]] * WORLD
    alone = Process(torch.device("cpu")).agreement()
    for requests in (Requests(), Requests(stop=True), Requests(save=True)):
        assert alone.any(requests) == requests
