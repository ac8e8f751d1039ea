"""One step: accumulation, clipping, averaging and precision, compared with explicit formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import ConfigError
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state, freeze_late
from slipform.train.step.metrics import Totals
from slipform.train.step.state import TrainState
from slipform.train.step.step import eval_step, predict_logits, train_step

ALONE = Process(torch.device("cpu"))
Small = Callable[..., RunConfig]
NO_NORM = ("model.name=fc",)  # BatchNorm uses the statistics of each batch, also with accumulation


def _state(config: RunConfig) -> TrainState:
    return build_state(config, num_classes=6, process=ALONE)


def _batch(num: int = 24, seed: int = 0, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num, 3, size, size, generator=generator).contiguous(
        memory_format=torch.channels_last
    )
    return Batch(images, torch.randint(6, (num,), generator=generator), torch.arange(num))


def _parameters(state: TrainState) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])


def test_accumulated_batches_are_one_large_batch(small: Small) -> None:
    whole, parts = _state(small(*NO_NORM)), _state(small(*NO_NORM))
    batch = _batch(24)
    for _ in range(3):
        one = train_step(whole, iter([batch]))
        thirds = (slice(8 * i, 8 * i + 8) for i in range(4))  # one more than the step uses
        pulled = (Batch(batch.images[t], batch.labels[t], batch.indices[t]) for t in thirds)
        many = train_step(parts, pulled, 3)
        torch.testing.assert_close(many.loss, one.loss)
        assert int(many.correct) == int(one.correct)
        assert many.num_images == one.num_images == 24
        assert len(next(pulled)) == 0  # the fourth is still there
    assert whole.step == parts.step == 3
    torch.testing.assert_close(_parameters(parts), _parameters(whole), rtol=1e-5, atol=1e-6)
    assert (_parameters(whole) - _parameters(_state(small(*NO_NORM)))).abs().max() > 1e-3


def test_clipping_limits_the_gradient_to_its_norm(small: Small) -> None:
    state = _state(small("train.clip_norm=0.01", "optimizer.momentum=0.0", "optimizer.lr=1.0"))
    before = _parameters(state).clone()
    train_step(state, iter([_batch()]))
    assert float((_parameters(state) - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_averaged_weights_follow_their_formula(small: Small) -> None:
    state = _state(small("train.ema=0.5"))
    assert state.ema is not None
    assert state.evaluated is state.ema
    expected = copy.deepcopy(state.model.state_dict())
    for step in range(1, 7):
        train_step(state, iter([_batch(seed=step)]))
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in state.model.state_dict().items():
            old = expected[name]
            expected[name] = (
                decay * old + (1 - decay) * tensor if tensor.is_floating_point() else tensor.clone()
            )
    for name, tensor in state.ema.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_bfloat16_learns_nearly_what_float32_learns(small: Small) -> None:
    exact, rough = _state(small()), _state(small("train.precision=bf16"))
    assert rough.functions.precision is torch.bfloat16
    for step in range(5):
        a = train_step(exact, iter([_batch(seed=step)])).loss
        b = train_step(rough, iter([_batch(seed=step)])).loss
        assert float(b) == pytest.approx(float(a), rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in rough.model.parameters())
    assert not torch.equal(_parameters(exact), _parameters(rough))


def test_returns_loss_and_correct_images_before_the_update(small: Small) -> None:
    state = _state(small("model.name=fc"))
    batch = _batch()
    logits = state.model(batch.images).detach()
    result = train_step(state, iter([batch]))
    loss, correct = result.loss, result.correct
    assert float(loss) == pytest.approx(
        float(nn.functional.cross_entropy(logits, batch.labels)), rel=1e-6
    )
    assert int(correct) == int((logits.argmax(1) == batch.labels).sum())
    assert not loss.requires_grad
    assert all(parameter.grad is not None for parameter in state.model.parameters())  # histograms
    assert torch.equal(result.images, batch.images)


def test_processes_exchange_gradients_with_the_last_batch_only(small: Small) -> None:
    state, quiet = _state(small(*NO_NORM)), []

    @contextmanager
    def no_sync() -> Iterator[None]:
        quiet.append(True)
        yield
        quiet.append(False)

    forward = state.functions.forward
    seen: list[int] = []

    def watched(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(quiet))
        return forward(images)

    state.functions = replace(state.functions, no_sync=no_sync, forward=watched)
    train_step(state, iter([_batch(seed=i) for i in range(3)]), 3)
    assert seen == [1, 3, 4]  # within the first limit, within the second one, outside


def test_evaluation_with_mirrored_images(small: Small) -> None:
    state = _state(small("train.flip_test=true"))
    state.model.eval()
    images = _batch().images
    expected = (state.model(images) + state.model(images.flip(3))) / 2
    torch.testing.assert_close(predict_logits(state.functions, images), expected)
    totals = Totals.zeros(6, torch.device("cpu"))
    eval_step(state.functions, _batch(), totals)
    assert totals.result().num_images == 24


def test_mirrored_images_may_come_back_in_the_same_memory(small: Small) -> None:
    """Like outputs of CUDA graphs, which the next call overwrites."""
    state = _state(small("train.flip_test=true"))
    state.model.eval()
    images = _batch().images
    expected = predict_logits(state.functions, images)
    memory = torch.empty(24, 6)

    def evaluate(images: torch.Tensor) -> torch.Tensor:
        return memory.copy_(state.model(images).detach())

    found = predict_logits(replace(state.functions, evaluate=evaluate), images)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_evaluation_with_shifted_images(mirrored: bool, small: Small) -> None:
    """The views of airbench by its definition: reflected borders, half of the weight."""
    state = _state(small("train.shift_test=1", f"train.flip_test={str(mirrored).lower()}"))
    state.model.eval()
    images = _batch().images
    padded = F.pad(images, (1, 1, 1, 1), "reflect")

    def logits(view: torch.Tensor) -> torch.Tensor:
        found = state.model(view)
        return (found + state.model(view.flip(3))) / 2 if mirrored else found

    moved = [logits(padded[:, :, :32, :32]), logits(padded[:, :, 2:, 2:])]
    expected = 0.5 * logits(images) + 0.5 * torch.stack(moved).mean(0)
    torch.testing.assert_close(predict_logits(state.functions, images), expected)
    formats: list[bool] = []
    memory = torch.empty(24, 6)

    def evaluate(view: torch.Tensor) -> torch.Tensor:
        """Like CUDA graphs: the next call overwrites the result."""
        formats.append(view.is_contiguous(memory_format=torch.channels_last))
        return memory.copy_(state.model(view).detach())

    found = predict_logits(replace(state.functions, evaluate=evaluate), images)
    torch.testing.assert_close(found, expected)
    # Another format would require another compilation.
    assert formats == [True] * (6 if mirrored else 3)


def test_images_cannot_be_shifted_by_their_size(small: Small) -> None:
    with pytest.raises(ConfigError, match=r"size of images in evaluation, 32"):
        small("train.shift_test=32")


@pytest.mark.slow  # the compiler takes most of a minute
def test_compiled_steps_equal_eager_steps(small: Small) -> None:
    eager, compiled = (
        _state(small("model.options.width=4")),
        _state(small("model.options.width=4", "train.compile=on")),
    )
    assert compiled.functions.compiled
    assert not eager.functions.compiled
    for step in range(3):
        train_step(eager, iter([_batch(seed=step)]))
        train_step(compiled, iter([_batch(seed=step)]))
    assert list(compiled.model.state_dict()) == list(eager.model.state_dict())  # no _orig_mod.
    torch.testing.assert_close(_parameters(compiled), _parameters(eager), rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # the compiler takes most of a minute
def test_layers_that_stop_learning_are_compiled_before_the_next_step(small: Small) -> None:
    late = ("train.freeze_at_epoch=2", "train.freeze_late=['features.0']")
    config = small("model.options.width=4", "train.compile=on", "train.batch_size=24", *late)
    state = _state(config)
    train_step(state, iter([_batch()]))
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    freeze_late(config, state, ALONE)
    after = state.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in state.model.parameters())
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    train_step(state, iter([_batch(seed=1)]))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    frozen = [name for name in before if name.startswith("features.0") and "weight" in name]
    assert frozen
    assert not set(frozen) & set(changed)
    assert [name for name in changed if name.endswith("weight")]


def test_one_value_per_channel_is_refused_before_training(small: Small) -> None:
    """ResNet-18 reduces 32 px to 1 x 1. Frozen BatchNorm is allowed."""
    resnet = ("model.name=resnet18", "model.options={}", "train.batch_size=1")
    with pytest.raises(ConfigError, match=r"batch_size = 1 is too small.*32 px.*2 or more"):
        _state(small(*resnet))
    with pytest.raises(ConfigError, match="too small"):
        _state(small(*resnet, "model.freeze=all_but_head", "train.unfreeze_at_epoch=2"))
    frozen = _state(small(*resnet, "model.freeze=all_but_head"))
    assert not frozen.model.bn1.training
    train_step(frozen, iter([_batch(1)]))
    train_step(_state(small(*resnet[:2], "train.batch_size=2")), iter([_batch(2)]))
    train_step(_state(small(*resnet, "augment.image_size=64")), iter([_batch(1, size=64)]))
