"""A trained model as a file for other programs, read back and compared before anyone relies on it.

In: a model, the size of its images, what else one needs to use it, a format. Out:
model.safetensors, model.onnx or model.pt2 (torch.export), and how far its logits are from the
model's. Images go in normalized, float32 [N, 3, S, S], with any N.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError, unknown
from slipform.pipelines.files import replacing
from slipform.train.run.torch_file import torch_file

NAMES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch-export": "model.pt2"}
TOLERANCE = 1e-3  # of the largest logit: other kernels add in another order, and nothing more


def export_model(
    model: nn.Module, image_size: int, metadata: dict[str, str], format: str, out: Path
) -> tuple[Path, float]:
    """Write the file whole or not at all.

    Args:
        model: In evaluation mode, on any device; it is not changed.
        image_size: S of its images [N, 3, S, S].
        metadata: Kept in the file: names of classes, normalization.
        format: One of NAMES.
        out: The file, or an existing folder, in which it gets the format's name.

    Returns:
        The file's path, and the largest difference of a logit between file and model.

    Raises:
        SlipformError: There is no such format, a package is missing, or the file gives other
            logits than the model.
        OSError: The place cannot be written; the error names `out`.
    """
    if format not in NAMES:
        raise unknown("format", format, NAMES)
    path = out / NAMES[format] if out.is_dir() else out
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    write = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch_export}[format]
    with torch.no_grad(), replacing(path) as temporary:
        expected = model(images)
        again = write(model, images, metadata, temporary)
        difference = float((again - expected).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise SlipformError(
                f"the exported {format} model gives other logits (off by {difference:.2g}):"
                " nothing was written"
            )
    return path, difference


def _safetensors(model: nn.Module, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
    write_weights(path, model.state_dict(), metadata)
    result: Tensor = torch.func.functional_call(model, read_weights(path)[0], (images,))
    return result


def _torch_export(model: nn.Module, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    with torch_file(path) as file:
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata)})
    with open(path, "rb") as file:
        result: Tensor = torch.export.load(file).module()(images)
    return result


def _onnx(model: nn.Module, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
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
    program.model.metadata_props.update(metadata)
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
