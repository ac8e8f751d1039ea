"""Class activation maps: the layer, the layout of its outputs, and the place of what is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import SlipformError
from slipform.train.inference import maps

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v3_small", "vit_b_16", "swin_t"])
def test_maps_of_every_kind_of_net(name: str, needs: Callable[[str], None]) -> None:
    needs("torchcam")
    try:
        model = registry.build(ModelConfig(name=name), num_classes=5, image_size=64).eval()
    except SlipformError as error:
        pytest.skip(str(error))
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))  # the ViT's is 0
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.requires_grad_(False)
    found = torch.stack([maps.class_maps(model, IMAGES, [c, c]) for c in range(5)])
    assert found.shape == (5, 2, 64, 64)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(found.std((2, 3)).max()) > 0.01  # nothing may speak for some class
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


_SWIN = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("name", "options", "layer", "places"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}, "blocks.1.norm1", (192, 4, 4)),
        (
            "vit_medium_patch16_reg4_gap_256",
            {"img_size": 64, "depth": 2},
            "blocks.1.norm2",  # the mean of all tokens: none is without influence
            (512, 4, 4),
        ),
        ("swin_tiny_patch4_window7_224", _SWIN, "norm", (192, 7, 7)),
        ("convnext_atto", {}, "norm_pre", (320, 7, 7)),
    ],
)
def test_the_layer_in_nets_of_timm(
    name: str, options: dict[str, object], layer: str, places: tuple[int, ...],
    needs: Callable[[str], None],
) -> None:  # fmt: skip
    needs("timm")
    import timm

    model = timm.create_model(name, num_classes=3, **options).eval()
    size = 64 if "img_size" in options else 224
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    found, reshape = maps._layer(model, images)
    outputs: list[Tensor] = []
    model.get_submodule(found).register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad():
        model(images)
    assert found == layer
    assert reshape(outputs[0]).shape[1:] == places


class Bright(nn.Module):
    """The score of class 1 is the brightness of 8 x 8 patches, of class 0 its opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, 4, 4, bias=False)
        nn.init.zeros_(self.patches.weight)
        nn.init.constant_(self.patches.weight[0], 1.0)

    def forward(self, images: Tensor) -> Tensor:
        mean = self.last(self.patches(images)).mean((1, 2))
        return torch.stack([-mean, mean], 1)

    def last(self, outputs: Tensor) -> Tensor:
        """Channel 0 as [N, H, W]."""
        return outputs[:, 0]


class ChannelsLast(Bright):
    """Its last layer has outputs [N, H, W, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0]]))
            self.layer.bias.zero_()

    def last(self, outputs: Tensor) -> Tensor:
        return self.layer(outputs.permute(0, 2, 3, 1))[..., 0]


class SelfAttention(nn.Module):
    """The class token is the mean of the keys. There are as many tokens as channels of a head."""

    def __init__(self) -> None:
        super().__init__()
        self.k_norm = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        heads = tokens[:, :, :1, None].expand(-1, -1, -1, tokens.shape[1]).transpose(1, 2)
        mean = self.k_norm(heads)[:, 0, 2:, 0].mean(1, keepdim=True)
        return torch.cat([mean[:, :, None].expand(-1, 2, 2), tokens[:, 2:]], 1)


class Tokens(Bright):
    """A transformer with two tokens before those of the image; the first one is for the class."""

    num_prefix_tokens = 2

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm = nn.LayerNorm(2), SelfAttention(), nn.LayerNorm(2)

    def last(self, outputs: Tensor) -> Tensor:
        dark = 1 - outputs[:, 0] / 24
        tokens = torch.stack([outputs[:, 0] / 24, dark], 3).flatten(1, 2)
        tokens = torch.cat([torch.zeros(len(tokens), 2, 2), tokens], 1)
        mixed = self.attn(self.norm1(tokens))
        return mixed[:, :1, :1] + 0 * self.norm(mixed)[:, :1, :1]


@pytest.mark.parametrize("kind", [Bright, ChannelsLast, Tokens])
def test_a_map_is_where_the_class_is(kind: type[Bright], needs: Callable[[str], None]) -> None:
    """The map of class 1 is the bright corner, that of class 0 is not."""
    needs("torchcam")
    images = torch.zeros(2, 3, 32, 32)
    images[:, :, :8, 24:] = 1
    for_dark, for_bright = maps.class_maps(kind().eval(), images, [0, 1])
    assert for_bright[2, 29] == pytest.approx(1.0, abs=0.01)
    assert float(for_bright[:, :16].max()) < 0.01
    assert float(for_bright[16:].max()) < 0.01
    assert float(for_dark[:6, 26:].max()) < 0.01


def test_no_maps_without_places(needs: Callable[[str], None]) -> None:
    needs("torchcam")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    with pytest.raises(SlipformError, match="no layer whose outputs have places"):
        maps.class_maps(flat, IMAGES, [0, 1])


def test_without_torchcam_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "have_maps", lambda: False)
    with pytest.raises(SlipformError, match=r'pip install "slipform\[judge\]"'):
        maps.class_maps(nn.Conv2d(3, 4, 2), IMAGES, [0, 1])
