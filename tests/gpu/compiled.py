"""Compiles the Triton kernels for GPUs that this machine does not need to have.

In: specializations as JSON on the command line; those of the drawing kernels have CROP or CHAINS.
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
    rows, columns = kernel.tile(size)
    constants = {
        "SIZE": size,
        "BORDER": border,
        "ALIGNED": aligned,
        "ERASE": erase,
        "BY": rows,
        "BX": columns,
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
        "fused": len(re.findall(r"\bfma\.rn\.f64\b", binary.asm["ptx"])),
        "lanes": _lanes(binary.asm["ttgir"]),
    }


def _lanes(text: str) -> list[str]:
    """How the threads of a warp are arranged where they load bytes, such as "[32]" or "[16, 2]"."""
    layouts = dict(re.findall(r"^(#\w+) = .*threadsPerWarp = (\[[\d, ]+\])", text, re.MULTILINE))
    used = re.findall(r"tt\.load .*: tensor<[^>]*!tt\.ptr<i8>, (#\w+)>", text)
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
    for case in cases:
        kind = drawn if "CROP" in case else drawn_chains if "CHAINS" in case else compiled
        reports.append(kind(**case))
    print(json.dumps(reports))  # noqa: T201
