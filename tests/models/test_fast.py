"""The net for speed runs: its whitening layer whitens, its convolutions start as the identity, and
fixed weights do not learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from slipform.models import freeze
from slipform.models.fast import BatchNorm, init_whitening, patch_covariance
from slipform.models.registry import build
from slipform.models.spec import ModelConfig


def images(count: int = 150) -> torch.Tensor:
    """Images with correlations between positions and colors and a mean other than 0, like
    photographs."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, 3, 34, 34, generator=generator)
    smooth = nn.functional.avg_pool2d(noise, 3, stride=1) * 2 + noise[:, :, 1:-1, 1:-1] * 0.3
    mixed = torch.einsum(
        "dc,nchw->ndhw", torch.tensor([[1.0, 0.5, 0.4], [0.2, 1.0, 0.5], [0.0, 0.3, 0.8]]), smooth
    )
    return mixed + torch.tensor([0.3, -0.2, 0.5])[:, None, None]


def fast(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return build(ModelConfig("fast", options=options), num_classes=10, image_size=32)


def numpy_covariance(x: torch.Tensor) -> np.ndarray:
    """numpy's covariance, in float64, over all patches."""
    a = x.double().numpy()
    offsets = [
        a[:, channel, dy : dy + 31, dx : dx + 31].ravel()
        for channel in range(3)
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    return np.cov(np.stack(offsets), bias=True)


def test_the_patch_covariance_equals_numpys() -> None:
    x = images()
    np.testing.assert_allclose(
        patch_covariance(x).numpy(), numpy_covariance(x), rtol=1e-9, atol=1e-9
    )


def test_whitened_images_have_the_identity_as_covariance() -> None:
    """The covariance is the identity up to EPSILON: a direction has the variance v / (v + 5e-4)."""
    model, x = fast(), images()
    init_whitening(model, x)
    with torch.no_grad():
        outputs = model.whiten(x).double().transpose(0, 1).flatten(1).numpy()
    covariance = np.cov(outputs, bias=True)
    before = numpy_covariance(x)
    variances = np.linalg.eigvalsh(before)[::-1]
    np.testing.assert_allclose(
        covariance[:12, :12], np.diag(variances / (variances + 5e-4)), atol=1e-4
    )
    np.testing.assert_allclose(covariance[:12, :12], np.eye(12), atol=0.05)
    np.testing.assert_allclose(outputs[12:], -outputs[:12], atol=1e-6)
    assert np.abs(before - np.eye(12)).max() > 0.3  # the images are not white before


def test_whitening_is_no_parameter_and_survives_saving() -> None:
    model = fast()
    init_whitening(model, images(20))
    freeze.unfreeze(model)
    assert "whiten.weight" not in dict(model.named_parameters())
    assert "whiten.bias" in dict(model.named_parameters())
    again = fast()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.whiten.weight, model.whiten.weight)


def test_init_from_images_is_init_whitening() -> None:
    one, two, x = fast(), fast(), images(20)
    init_whitening(one, x)
    two.init_from_images(x)
    assert torch.equal(one.whiten.weight, two.whiten.weight)


def test_batch_norm_learns_a_shift_only_and_forgets_quickly() -> None:
    norm, reference = BatchNorm(4), nn.BatchNorm2d(4, eps=1e-12, momentum=0.4)
    assert [name for name, _ in norm.named_parameters()] == ["bias"]
    x = torch.randn(8, 4, 5, 5)
    torch.testing.assert_close(norm(x), reference(x))
    torch.testing.assert_close(norm.running_mean, 0.4 * x.mean((0, 2, 3)))


def test_convolutions_start_as_the_identity() -> None:
    block = fast().features[1]
    x = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(block.convolutions[0](x)[:, :64], x)
    y = torch.randn(2, 256, 8, 8)
    torch.testing.assert_close(block.convolutions[1](y), y)


def test_third_convolution_adds_a_residual() -> None:
    """A block of depth 3 gives gelu(output of the first convolution) if its last BatchNorm outputs
    0."""
    block = fast(depth=3).features[0].eval()
    block.norms[2].weight.zero_()
    x = torch.randn(2, 24, 8, 8)
    first = nn.functional.gelu(
        block.norms[0](nn.functional.max_pool2d(block.convolutions[0](x), 2))
    )
    torch.testing.assert_close(block(x), nn.functional.gelu(first))


def test_the_number_of_parameters_is_the_published_one() -> None:
    """1.97 million parameters for widths 64, 256, 256: 3x3 convolutions, 24 whitening biases,
    shifts, and a linear layer without bias."""
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    assert freeze.count(fast()).total == convolutions + 24 + 2 * (64 + 256 + 256) + 2560


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
def test_half_precision(dtype: torch.dtype) -> None:
    model = fast()
    with torch.autocast("cpu", dtype=dtype):
        loss = model(images(8)).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
