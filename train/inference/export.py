"""Export of a trained model for other programs. The file is read back and compared with the model.

In: a model, metadata, a format. Out: model.safetensors, model.onnx or model.pt2 (torch.export), and
the largest difference of an output. The file is the net alone, from normalized images to logits, or
with preprocessing, from pixels to probabilities.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from glob import escape
from pathlib import Path

import torch
from torch import Tensor, nn

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError, unknown
from slipform.pipelines.files import replacing
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.inference.program import Program, net_program, pixel_program
from slipform.train.run.folder import locked_if_run
from slipform.train.step.state import StepFunctions

__all__ = [
    "INPUTS",
    "NAMES",
    "export",
    "export_path",
    "export_program",
]

_Run = Callable[[Tensor], Tensor]
INPUTS = ("normalized", "pixels")

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


def export(
    model: nn.Module,
    spec: Augmentation,
    functions: StepFunctions,
    metadata: dict[str, str],
    format: str,
    out: Path,
    input: str = "normalized",
) -> tuple[Path, float]:
    """Write a trained model to a file, and compare the file with the model.

    Args:
        model: The net in evaluation mode; it is not changed.
        spec: Size, crop and normalization of evaluation; `normalize` has numbers.
        functions: The functions of evaluation.
        metadata: Texts to store in the file; "classes" is a list in JSON, "labels" as in
            `Manifest`.
        format: One of NAMES.
        out: The file, or an existing folder for a file with the format's default name.
        input: One of INPUTS.

    Returns:
        The path of the file, and the largest difference between its outputs and the model's.

    Raises:
        SlipformError: See `Classifier.export`. No file is written.
        OSError: The file cannot be written.
    """
    if input not in INPUTS:
        raise unknown("input", input, INPUTS)
    path = export_path(format, out)
    with locked_if_run(path.parent, escape(path.name)):
        if input == "pixels":
            several = metadata.get("labels") == "multi"
            classes = json.loads(metadata["classes"])
            program = pixel_program(model, spec, functions, classes, several)
        else:
            program = net_program(model, spec.image_size)
        return export_program(program, {**metadata, "input": input}, format, path)


def export_program(
    program: Program, metadata: dict[str, str], format: str, out: Path
) -> tuple[Path, float]:
    """Write a program to a file, completely or not at all.

    Args:
        program: The program; see `net_program` and `pixel_program`.
        metadata: Texts to store in the file: names of classes, normalization.
        format: One of NAMES.
        out: The file, or an existing folder for a file with the format's default name.

    Returns:
        The path of the file, and the largest difference between its outputs and the expected ones.

    Raises:
        SlipformError: There is no such format, a package is missing, the format cannot express the
            program, or the outputs differ.
        OSError: The file cannot be written.
    """
    path = export_path(format, out)
    write = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch_export}[format]
    with torch.no_grad(), replacing(path) as temporary:
        try:
            run = write(program, metadata, temporary)
            found = [run(images) for images in program.examples]
        except (OSError, SlipformError):
            raise
        except Exception as error:  # the exporters raise many classes for nets they cannot express
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SlipformError(
                f"the net cannot be exported as {format} ({type(error).__name__}: {reason})."
                " Give another --format."
            ) from error
        pairs = list(zip(found, program.expected, strict=True))
        difference = max(float((one - other).abs().max()) for one, other in pairs)
        largest = max(float(other.abs().max()) for _, other in pairs)
        if not difference <= _TOLERANCE * max(1.0, largest):
            raise SlipformError(
                f"the exported {format} model gives other {program.output} (they differ by"
                f" {difference:.2g}): no file was written"
            )
    return path, difference


def _safetensors(program: Program, metadata: dict[str, str], path: Path) -> _Run:
    if program.classes:
        raise SlipformError(
            "safetensors holds weights only, no preprocessing: give --format onnx or torch-export,"
            " or leave out --input pixels"
        )
    write_weights(path, program.module.state_dict(), metadata)
    weights = read_weights(path)[0]
    return lambda images: torch.func.functional_call(program.module, weights, (images,))


def _torch_export(program: Program, metadata: dict[str, str], path: Path) -> _Run:
    exported = torch.export.export(
        program.module, (program.examples[0],), dynamic_shapes=program.shapes
    )
    # Not into the file: torch's zip writer hides the error of a full disk. A `TorchFile` does not,
    # but torch.export warns of files that are no io.IOBase.
    archive = io.BytesIO()
    torch.export.save(exported, archive, extra_files={"metadata.json": json.dumps(metadata)})
    path.write_bytes(archive.getbuffer())
    with open(path, "rb") as file:
        return torch.export.load(file).module()


def _onnx(program: Program, metadata: dict[str, str], path: Path) -> _Run:
    missing = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise SlipformError(
            f'ONNX needs {", ".join(missing)}. Install them: pip install "slipform[export]"'
        )
    tensors = program.module.state_dict().values()
    num_bytes = sum(t.numel() * t.element_size() for t in tensors)
    if num_bytes > _MAX_ONNX_BYTES:
        raise SlipformError(
            f"the weights have {num_bytes:,} bytes, and one ONNX file holds {_MAX_ONNX_BYTES:,} at"
            " most. Give --format safetensors or torch-export."
        )
    import onnx
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own code
        exported = torch.onnx.export(
            program.module, (program.examples[0],), dynamo=True, dynamic_shapes=program.shapes,
            input_names=["images"], output_names=[program.output], verbose=False,
        )  # fmt: skip
    assert exported is not None
    exported.model.metadata_props.update(metadata)
    given, result = exported.model.graph.inputs[0].shape, exported.model.graph.outputs[0].shape
    assert given is not None
    assert result is not None
    for place, name in enumerate(program.dynamic):
        given[place] = name
    result[0] = program.dynamic[0]
    proto = exported.model_proto
    if program.classes:
        names = onnx.helper.make_tensor(
            "classes", onnx.TensorProto.STRING, [len(program.classes)],
            [name.encode() for name in program.classes],
        )  # fmt: skip
        proto.graph.node.append(onnx.helper.make_node("Constant", [], ["classes"], value=names))
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info("classes", names.data_type, [len(program.classes)])
        )
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run([program.output], {"images": images.numpy()})[0]
    )
