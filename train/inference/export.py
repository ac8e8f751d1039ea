"""Export of a trained model for other programs. The file is read back and compared with the model.

In: a model, the size of its images, metadata, a format. Out: model.safetensors, model.onnx or
model.pt2 (torch.export), and the largest difference of a logit. The input of the file is normalized
images, float32 [N, 3, S, S], with any N.
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

__all__ = ["NAMES", "export_model", "export_path"]

# Format -> the default name of its file.
NAMES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch-export": "model.pt2"}
_MAX_ONNX_BYTES = 2_000_000_000  # protobuf's limit is 2 GiB, graph included
_TOLERANCE = 1e-3  # share of the largest logit: other kernels sum in another order


def export_path(format: str, out: Path) -> Path:
    """The path of an exported file.

    Args:
        format: One of NAMES.
        out: The file, or an existing folder for a file with the format's default name.

    Raises:
        SlipformError: There is no such format.
    """
    if format not in NAMES:
        raise unknown("format", format, NAMES)
    return out / NAMES[format] if out.is_dir() else out


def export_model(
    model: nn.Module, image_size: int, metadata: dict[str, str], format: str, out: Path
) -> tuple[Path, float]:
    """Write a model to a file, completely or not at all.

    Args:
        model: The net in evaluation mode, on any device; it is not changed.
        image_size: S of its images [N, 3, S, S].
        metadata: Texts to store in the file: names of classes, normalization.
        format: One of NAMES.
        out: The file, or an existing folder for a file with the format's default name.

    Returns:
        The path of the file, and the largest difference between the file's logits and the model's.

    Raises:
        SlipformError: There is no such format, a package is missing, the format cannot express the
            net, or the logits of the file and the model differ.
        OSError: The file cannot be written.
    """
    path = export_path(format, out)
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    write = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch_export}[format]
    with torch.no_grad(), replacing(path) as temporary:
        expected = model(images)
        try:
            again = write(model, images, metadata, temporary)
        except (OSError, SlipformError):
            raise
        except Exception as error:  # the exporters raise many classes for nets they cannot express
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SlipformError(
                f"the net cannot be exported as {format} ({type(error).__name__}: {reason})."
                " Give another --format."
            ) from error
        difference = float((again - expected).abs().max())
        if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise SlipformError(
                f"the exported {format} model gives other logits (they differ by"
                f" {difference:.2g}): no file was written"
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
    num_bytes = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if num_bytes > _MAX_ONNX_BYTES:
        raise SlipformError(
            f"the weights have {num_bytes:,} bytes, and one ONNX file holds {_MAX_ONNX_BYTES:,} at"
            " most. Give --format safetensors or torch-export."
        )
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own code
        program = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            input_names=["images"], output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
