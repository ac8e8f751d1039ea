"""Weights from files, run folders and torchvision: loaded, reported and refused."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.models.state_files import read_state
from slipform.models.weights import LoadReport, copy_state, load_weights, log_report
from slipform.pipelines.errors import ConfigError


def tiny(num_classes: int = 5, **settings: object) -> nn.Module:
    return build(ModelConfig("tiny", **settings), num_classes=num_classes, image_size=32)  # type: ignore[arg-type]


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write(state: dict[str, torch.Tensor], folder: Path, how: str) -> Path:
    path = folder / ("best.safetensors" if how in ("safetensors", "run") else "weights.pth")
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif how == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif how == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(state, path)
    return folder if how == "run" else path


@pytest.mark.parametrize("how", ["safetensors", "run", "pth", "nested", "legacy"])
@pytest.mark.parametrize(
    "prefix",
    [
        *("", "_orig_mod.module."),
        *(
            pytest.param(x, marks=pytest.mark.slow)
            for x in ("module.", "_orig_mod.", "module._orig_mod.")
        ),
    ],
)
def test_round_trip(tmp_path: Path, how: str, prefix: str) -> None:
    trained = tiny()
    trained(torch.randn(4, 3, 32, 32))  # changes the statistics of BatchNorm
    path = write(
        {prefix + key: value for key, value in trained.state_dict().items()}, tmp_path, how
    )
    reports: list[LoadReport] = []
    loaded = build(
        ModelConfig("tiny", weights=str(path)), num_classes=5, image_size=32, on_load=reports.append
    )
    assert same(trained, loaded)
    assert reports[0].complete
    assert set(reports[0].loaded) == set(trained.state_dict())
    nested = ' ("state_dict")' if how == "nested" else ""
    shown = f' (their names begin with "{prefix}")' if prefix else ""
    file = path / "best.safetensors" if how == "run" else path
    assert str(reports[0]) == f"{file}{nested}: 26 of 26 tensors loaded{shown}"


def test_another_number_of_classes_gets_a_new_head_and_a_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = tiny(num_classes=9)
    path = write(trained.state_dict(), tmp_path, "safetensors")
    model = tiny()
    head = model.get_submodule("classifier.0").weight.clone()
    report = load_weights(model, str(path), "tiny")
    assert report.mismatched == (
        ("classifier.0.weight", "[9, 128]", "[5, 128]"),
        ("classifier.0.bias", "[9]", "[5]"),
    )
    assert not report.complete
    assert torch.equal(model.get_submodule("classifier.0").weight, head)
    assert torch.equal(
        model.get_submodule("features.0").weight, trained.get_submodule("features.0").weight
    )
    with caplog.at_level("INFO"):
        log_report(report)
    assert (
        "24 of 26 tensors loaded; classifier.0.weight is [9, 128] in the source and [5, 128] in the"
        " net, newly initialized" in caplog.text
    )


def test_another_kind_of_head_is_reported_as_missing_and_unexpected(tmp_path: Path) -> None:
    path = write(tiny().state_dict(), tmp_path, "pth")
    report = load_weights(tiny(head="mlp"), str(path), "tiny")
    assert set(report.missing) == {
        f"classifier.0.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")
    }
    assert report.unexpected == ("classifier.0.bias", "classifier.0.weight")
    assert "not in the source, newly initialized: classifier.0.0.weight" in str(report)


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    path = write(
        build(ModelConfig("fc10"), num_classes=5, image_size=28).state_dict(), tmp_path, "pth"
    )
    with pytest.raises(
        ConfigError, match=r'does not fit "resnet18": only 0 of the 120 tensors below the head'
    ):
        build(ModelConfig("resnet18", weights=str(path)), num_classes=5, image_size=32)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('this code must not run')",))


def test_malicious_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    for name, write_to in (
        ("a.pth", torch.save),
        ("b.pth", lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2))),
    ):
        write_to({"features.0.weight": Malicious()}, tmp_path / name)
        with pytest.raises(ConfigError, match="because that could run code"):
            read_state(tmp_path / name)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = write(tiny().state_dict(), tmp_path, "safetensors").read_bytes()
    zipped = write(tiny().state_dict(), tmp_path, "pth").read_bytes()
    for name, content in {
        "half.safetensors": whole[: len(whole) // 2],
        "half.pth": zipped[: len(zipped) // 2],
        "text.pth": b"no weights",
        "text.safetensors": b"no weights",
        "empty.pth": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="damaged"):
            read_state(tmp_path / name)
    torch.save({"lr": 0.1}, tmp_path / "numbers.pth")
    with pytest.raises(ConfigError, match="no state dict"):
        read_state(tmp_path / "numbers.pth")
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"run has no best.safetensors"):
        read_state(tmp_path / "run")


def test_an_unknown_source_gives_an_error_with_the_allowed_names() -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r'"imagnet": .* Did you mean "imagenet"\? Give a file, a run folder, or one of DEFAULT,'
        ),
    ):
        build(ModelConfig("resnet18", weights="imagnet"), num_classes=5, image_size=32)


def test_every_torchvision_model_has_weights_with_a_checksum_in_the_name() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(name):
            checksum = Path(entry.url).stem.rpartition("-")[2]
            assert len(checksum) >= 8
            int(checksum, 16)


def test_the_message_without_a_network_names_the_file_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_args: object, **_settings: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        ConfigError, match=f"copy the file resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints"
    ):
        build(ModelConfig("resnet18", weights="imagenet"), num_classes=5, image_size=32)


def test_imagenet_file_with_a_wrong_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(
        build(ModelConfig("alexnet"), num_classes=1000, image_size=64).state_dict(),
        folder / "alexnet-owt-7be5be79.pth",
    )
    with pytest.raises(
        ConfigError,
        match=r"is damaged: its SHA-256 begins with [0-9a-f]{8}, not 7be5be79. Delete it",
    ):
        build(ModelConfig("alexnet", weights="IMAGENET1K_V1"), num_classes=5, image_size=64)


@pytest.mark.parametrize("num_classes", [1000, 5])
def test_an_imagenet_file_is_downloaded_checked_and_loaded(
    num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaces the server: a file:// address. The file name contains the checksum, like those of
    torchvision."""
    published = torchvision.models.squeezenet1_1()
    torch.save(published.state_dict(), tmp_path / "new.pth")
    checksum = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()[:8]
    source = (tmp_path / "new.pth").rename(tmp_path / f"squeezenet1_1-{checksum}.pth")
    entry = SimpleNamespace(url=source.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        torchvision.models,
        "get_model_weights",
        lambda _name: SimpleNamespace(DEFAULT=entry, __members__={}),
    )
    reports: list[LoadReport] = []
    config = ModelConfig("squeezenet1_1", weights="imagenet")
    model = build(config, num_classes=num_classes, image_size=64, on_load=reports.append)
    assert (tmp_path / "home" / "hub" / "checkpoints" / source.name).is_file()
    assert torch.equal(model.features[0].weight, published.features[0].weight)
    assert reports[0].complete == (num_classes == 1000)
    assert len(reports[0].mismatched) == (0 if num_classes == 1000 else 2)


def test_old_names_in_densenet_files_are_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = torchvision.models.densenet121()
    old = {
        (
            key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2.")
            if "denselayer" in key
            else key
        ): value
        for key, value in published.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "new.pth")
    checksum = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()[:8]
    source = (tmp_path / "new.pth").rename(tmp_path / f"densenet121-{checksum}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    entry = SimpleNamespace(url=source.as_uri())
    monkeypatch.setattr(
        torchvision.models,
        "get_model_weights",
        lambda _name: SimpleNamespace(DEFAULT=entry, __members__={}),
    )
    assert same(
        build(ModelConfig("densenet121", weights="imagenet"), num_classes=1000, image_size=64),
        published,
    )


def test_positions_of_a_vision_transformer_follow_the_image_size(tmp_path: Path) -> None:
    """A smooth map of positions is the same map on a finer grid, with equal corners
    (align_corners)."""
    ramp = torch.arange(4.0).repeat(4, 1).reshape(1, 16, 1).expand(1, 16, 768)
    state = build(ModelConfig("vit_b_32"), num_classes=5, image_size=128).state_dict()
    state["encoder.pos_embedding"] = torch.cat((torch.full((1, 1, 768), 9.0), ramp), 1)
    torch.save({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "vit.pth")
    larger = build(ModelConfig("vit_b_32"), num_classes=5, image_size=224)
    assert load_weights(larger, str(tmp_path / "vit.pth"), "vit_b_32").complete
    positions = larger.encoder.pos_embedding
    assert positions.shape == (1, 50, 768)
    assert torch.equal(positions[0, 0], torch.full((768,), 9.0))
    grid = positions[0, 1:, 0].reshape(7, 7)
    torch.testing.assert_close(grid[:, [0, 3, 6]], torch.tensor([0.0, 1.5, 3.0]).repeat(7, 1))


def test_mnasnet_loads_from_safetensors(tmp_path: Path) -> None:
    """MNASNet's load_state_dict refuses a state dict without a version number, which safetensors
    files do not have."""
    trained = build(ModelConfig("mnasnet0_5"), num_classes=5, image_size=64)
    model = build(ModelConfig("mnasnet0_5"), num_classes=5, image_size=64)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    assert copy_state(model, read_state(tmp_path).tensors, "run").complete
    assert same(model, trained)
