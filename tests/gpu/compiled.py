"""Compiles the Triton kernels for GPUs that this machine does not need to have.

In: specializations as JSON on the command line; those of the drawing kernels have CROP or FIXED,
those of the kernels for policies and blurs have the name of a kernel.
Out: a JSON list on standard output: registers, spills, shared memory, instructions, loops, and the
arrangement of the threads. It needs only Triton, whose wheel contains ptxas, cuobjdump and
nvdisasm. Other versions of Triton than the locked one can run it, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# A Triton of another environment has no slipform.
sys.path.insert(0, str(Path(__file__).parents[2]))

from slipform.pipelines.plan import triton as draw_kernels
from slipform.pipelines.plan import triton_chains as chain_kernels
from slipform.pipelines.rendering import triton as kernel
from slipform.pipelines.rendering import triton_blur, triton_operations, triton_pictures

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
POINTERS = {
    "pixels": "*u8",
    "offsets": "*i64",
    "sizes": "*i32",
    "indices": "*i64",
    "rows": "*i64",
    "floats": "*fp32",
    "ints": "*i32",
}
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z0-9_.]+)(.*)")


def compiled(
    arch: int, dtype: str, border: int, aligned: bool, erase: bool, size: int
) -> dict[str, Any]:
    """Registers, spilled bytes, shared bytes, instructions by name, and loops (the names of the
    instructions of each)."""
    rows, columns, tiles = kernel.strip(size, aligned)
    constants = {
        "SIZE": size,
        "BORDER": border,
        "ALIGNED": aligned,
        "ERASE": erase,
        "BY": rows,
        "BX": columns,
        "BLOCKS": tiles,
    }
    types = {**POINTERS, "out": f"*{dtype}", **dict.fromkeys(constants, "constexpr")}
    return _report(kernel.render, arch, types, constants, kernel.options(aligned))


def drawn(arch: int, **switches: Any) -> dict[str, Any]:
    """The same of the kernel that draws Plans."""
    constants = {**switches, "BLOCK": draw_kernels.BLOCK}
    types = {
        **dict.fromkeys(("order", "position", "labels_of", "indices", "labels", "keys"), "*i64"),
        "sizes": "*i32",
        "numbers": "*fp64",
        "floats": "*fp32",
        "ints": "*i32",
        "count": "i32",
        "total": "i32",
        "first": "i32",
    }
    types = {name: types[name] for name in draw_kernels.draw.arg_names if name in types}
    types |= dict.fromkeys(constants, "constexpr")
    return _report(draw_kernels.draw, arch, types, constants, draw_kernels.OPTIONS)


def drawn_chains(arch: int, **switches: Any) -> dict[str, Any]:
    """The same of the kernel that draws the operations of a policy."""
    constants = {**switches, "BLOCK": draw_kernels.BLOCK}
    types = {
        **dict.fromkeys(("position", "indices"), "*i64"),
        **dict.fromkeys(("floats", "moved", "amounts", "weights"), "*fp32"),
        "numbers": "*fp64",
        **dict.fromkeys(("codes", "moves"), "*i32"),
        "count": "i32",
    }
    names = chain_kernels.draw_chains.arg_names
    types = {name: types[name] for name in names if name in types}
    types |= dict.fromkeys(constants, "constexpr")
    return _report(chain_kernels.draw_chains, arch, types, constants, draw_kernels.OPTIONS)


# The kernels for policies and blurs, and their options.
PICTURES = {
    "sample": (triton_pictures.sample, triton_pictures.OPTIONS),
    "find_tables": (triton_operations.find_tables, triton_operations.OPTIONS),
    "operate": (triton_operations.operate, triton_operations.OPTIONS),
    "mix": (triton_pictures.mix, triton_operations.OPTIONS),
    "blur_columns": (triton_blur.blur_columns, triton_blur.OPTIONS),
    "blur_rows": (triton_blur.blur_rows, triton_blur.OPTIONS),
}


def pictures(arch: int, kernel_name: str, dtype: str, size: int, **switches: Any) -> dict[str, Any]:
    """The same of a kernel for policies or blurs."""
    function, options = PICTURES[kernel_name]
    rows, columns = kernel.tile(size)
    if kernel_name == "find_tables":
        columns = min(128, triton.next_power_of_2(size))
    constants = {"SIZE": size, "BY": rows, "BX": columns, **switches}
    constants = {name: constants[name] for name in function.arg_names if name in constants}
    between = {"operate": "u8", "blur_columns": "fp32"}  # what is not the output of the batch
    types = {
        **POINTERS,
        **dict.fromkeys(("pictures", "tables"), "*u8"),
        **dict.fromkeys(("geometry", "amounts", "weights", "values", "sigmas"), "*fp32"),
        **dict.fromkeys(("codes", "moves"), "*i32"),
        "k": "i32",
        "out": f"*{between.get(kernel_name, dtype)}",
    }
    types = {name: types[name] for name in function.arg_names if name in types}
    types |= dict.fromkeys(constants, "constexpr")
    return _report(function, arch, types, constants, options)


def drawn_sigmas(arch: int) -> dict[str, Any]:
    """The same of the kernel that draws the deviations of blurs."""
    constants = {"BLOCK": draw_kernels.BLOCK}
    types = {"position": "*i64", "indices": "*i64", "numbers": "*fp64", "sigmas": "*fp32"}
    types |= {"count": "i32", "BLOCK": "constexpr"}
    return _report(draw_kernels.draw_sigmas, arch, types, constants, draw_kernels.OPTIONS)


def _report(
    function: Any,
    arch: int,
    types: dict[str, str],
    constants: dict[str, Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    # The launcher tells the compiler that pointers are multiples of 16, like those of torch.
    pointers = [i for i, kind in enumerate(types.values()) if kind.startswith("*")]
    multiples = {(i,): [["tt.divisibility", 16]] for i in pointers}
    source = ASTSource(function, types, constexprs=constants, attrs=multiples)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = _run("cuobjdump", "-res-usage", file.name)
        code = _run("nvdisasm", "-c", file.name)
    names, loops = _read(code)
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[0]),
        "stack": int(re.findall(r"STACK:(\d+)", usage)[0]),
        "shared": binary.metadata.shared,
        "names": names,
        "loops": loops,
        "approximate": len(re.findall(r"\.(?:approx|full)\b", binary.asm["ptx"])),
        "fused": len(re.findall(r"\bfma\.rn\.f(?:32|64)\b", binary.asm["ptx"])),
        "lanes": _lanes(binary.asm["ttgir"]),
    }


def _lanes(text: str) -> list[str]:
    """How the threads of a warp are arranged where they load stored pixels: "[32]" or "[16, 2]"."""
    layouts = dict(re.findall(r"^(#\w+) = .*threadsPerWarp = (\[[\d, ]+\])", text, re.MULTILINE))
    used = re.findall(r"tt\.load .*: tensor<[^>]*!tt\.ptr<i(?:8|32)>, (#\w+)>", text)
    return sorted({layouts[name] for name in used})


def _run(tool: str, *arguments: str) -> str:
    command = [str(TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read(code: str) -> tuple[list[str], list[list[str]]]:
    """The names of all instructions, and those of each loop (from a label to a branch back to
    it)."""
    names: list[str] = []
    labels: dict[str, int] = {}
    loops = []
    for line in code.splitlines():
        if label := re.match(r"^\s*(\.L_\w+):", line):
            labels[label[1]] = len(names)
        elif found := _INSTRUCTION.match(line):
            names.append(found[1])
            to = re.search(r"`\((\.L_\w+)\)", found[2])
            if found[1].startswith("BRA") and to and labels.get(to[1], len(names)) < len(names) - 1:
                loops.append(names[labels[to[1]] :])
    return names, loops


if __name__ == "__main__":
    cases = json.loads(sys.argv[1])
    reports = []
    kinds = {"CROP": drawn, "FIXED": drawn_chains, "kernel_name": pictures, "dtype": compiled}
    for case in cases:
        kind = next((kinds[key] for key in kinds if key in case), drawn_sigmas)
        reports.append(kind(**case))
    print(json.dumps(reports))  # noqa: T201
