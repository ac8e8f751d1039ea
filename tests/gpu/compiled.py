"""Compiles the render kernel for GPUs that this machine need not have, and reports what came out.

In: specializations as JSON on the command line. Out: a JSON list on standard output: registers,
spills, shared memory, instructions, and the loops among them. It needs only Triton (whose wheel
holds ptxas, cuobjdump and nvdisasm), so another Triton than the locked one can run it, too.
"""

from __future__ import annotations

import importlib.util
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

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
KERNEL = Path(__file__).parents[2] / "pipelines/rendering/triton.py"
POINTERS = {
    "pixels": "*u8",
    "offsets": "*i64",
    "sizes": "*i32",
    "indices": "*i64",
    "floats": "*fp32",
    "ints": "*i32",
}
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z0-9_.]+)(.*)")


def compiled(
    arch: int, dtype: str, border: int, aligned: bool, erase: bool, size: int
) -> dict[str, Any]:
    """Registers, spilled bytes, shared bytes, instructions by name, and loops (each the names of
    its instructions)."""
    spec = importlib.util.spec_from_file_location("kernel", KERNEL)
    assert spec
    assert spec.loader
    kernel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernel)
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
    # The launcher tells the compiler that pointers are multiples of 16, as torch's are.
    multiples = {(i,): [["tt.divisibility", 16]] for i in range(len(POINTERS) + 1)}
    source = ASTSource(kernel.render, types, constexprs=constants, attrs=multiples)
    binary = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options=kernel.options(aligned)
    )
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
    }


def _run(tool: str, *arguments: str) -> str:
    command = [str(TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read(code: str) -> tuple[list[str], list[list[str]]]:
    """The names of all instructions, and those of each loop (a label to a branch back to it)."""
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
    print(json.dumps([compiled(**each) for each in json.loads(sys.argv[1])]))  # noqa: T201
