"""The stamp of compiled kernels covers every file that can change compiled code."""

from __future__ import annotations

import ast

import pytest

from slipform.pipelines.kernel import _compiled_sources
from tests.modules import MODULES, ROOT, holding, tree

_SOURCES = {*_compiled_sources(ROOT / "pipelines")}
COMPILED = {name: path for name, path in MODULES.items() if path in _SOURCES}
DECORATORS = ("kernel", "intrinsic", "njit", "overload")


def _is_compiled(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(decorator).split("(")[0].split(".")[-1] in DECORATORS
        for decorator in node.decorator_list
    )


def _imported_from(module: str) -> dict[str, str]:
    """Names that a module imports from our modules, and where each comes from."""
    found = {}
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slipform"):
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                source = inside if inside in MODULES else str(node.module)
                found[alias.asname or alias.name] = source
    return found


def test_modules_with_compiled_functions_are_covered() -> None:
    with_kernels = {
        module
        for module in holding(rf"^\s*@.*\b({'|'.join(DECORATORS)})\b")
        if any(_is_compiled(node) for node in ast.walk(tree(module)))
    }
    assert len(with_kernels) >= 9
    assert with_kernels <= set(COMPILED)


@pytest.mark.parametrize("module", COMPILED)
def test_functions_and_constants_of_compiled_functions_are_covered(module: str) -> None:
    """Functions that they call, and constants that they read, also as attributes of a module."""
    sources = _imported_from(module)
    used: set[str] = set()
    for node in tree(module).body:
        if _is_compiled(node) or isinstance(node, ast.Assign | ast.AnnAssign | ast.ClassDef):
            used |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    wrong = {name: sources[name] for name in used & set(sources) if sources[name] not in COMPILED}
    assert not wrong, "these files are not in the stamp"
