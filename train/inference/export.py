"""A trained model as a file for other programs, read back and compared before anyone relies on it.

In: a Trained on the CPU, a format. Out: model.safetensors, model.onnx (batch size free) or
model.pt2 (torch.export, batch size free), and how far its logits are from the model's. Images go in
normalized, float32 [N, 3, S, S].
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from slipform.pipelines.errors import SlipformError
from slipform.train.inference.classifier import Trained

_NAMES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch-export": "model.pt2"}
TOLERANCE = 1e-3  # of the largest logit: other kernels add in another order, and nothing more


def export_model(trained: Trained, kind: str, out: Path) -> tuple[Path, float]:
    """Write the file (`out`, or a name in the folder `out`); returns it and the largest difference
    of a logit.

    Raises SlipformError where the file gives other logits than the model; it is then removed.
    """
    model = trained.state.evaluated.to(memory_format=torch.contiguous_format).eval()
    path = out / _NAMES[kind] if out.is_dir() else out
    size = trained.config.augment.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    write = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch_export}[kind]
    temporary = path.with_name("writing-" + path.name)
    with torch.no_grad():
        expected = model(images)
        again = write(trained, model, images, temporary)
    difference = float((again - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        temporary.unlink()
        raise SlipformError(
            f"the exported {kind} model gives other logits (off by {difference:.2g}): nothing was"
            " written"
        )
    temporary.replace(path)
    return path, difference


def _metadata(trained: Trained) -> dict[str, str]:
    """What one needs to use the model: names of classes, size and normalization of the images."""
    spec = trained.config.augment.evaluation().resolved(trained.manifest.mean, trained.manifest.std)
    return {
        "model": trained.config.model.name,
        "classes": json.dumps(trained.classes, ensure_ascii=False),
        "image_size": str(spec.image_size),
        "resize": str(spec.resize),
        "normalize": json.dumps(spec.normalize),
    }


def _safetensors(trained: Trained, model: nn.Module, images: Tensor, path: Path) -> Tensor:
    from safetensors.torch import load_file, save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        path,
        _metadata(trained),
    )
    result: Tensor = torch.func.functional_call(model, load_file(path), (images,))
    return result


def _torch_export(trained: Trained, model: nn.Module, images: Tensor, path: Path) -> Tensor:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(_metadata(trained))})
    result: Tensor = torch.export.load(path).module()(images)
    return result


def _onnx(trained: Trained, model: nn.Module, images: Tensor, path: Path) -> Tensor:
    missing = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise SlipformError(
            f'ONNX needs {", ".join(missing)}. Install them: pip install "slipform[export]"'
        )
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own parts
        program = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            input_names=["images"], output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(_metadata(trained))
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
