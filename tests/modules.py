"""The source of Slipform's modules: their imports, without importing them.

In: the folders of the project. Out: modules by name, and every import statement in them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("preprocess", "pipelines", "models", "train", "bench")


def files(*folders: str) -> list[Path]:
    """The Python files below folders of the project."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "slipform":
        parts = ("slipform", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# The modules in slipform/ itself: the public API, the command, doctor.
_OUTSIDE = [*(ROOT / "slipform").glob("*.py"), *(ROOT / "slipform/doctor").glob("*.py")]
MODULES = {_module(path): path for path in [*files(*FOLDERS), *sorted(_OUTSIDE)]}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        name: The module, "numpy" or "slipform.pipelines.beton".
        at_import: Whether importing the module also imports this one. False inside a function or
            below TYPE_CHECKING.
        for_types: Whether it is below TYPE_CHECKING.
    """

    name: str
    at_import: bool
    for_types: bool


def holding(pattern: str) -> list[str]:
    """The modules whose source has a match of a regular expression: fewer files to parse.

    Args:
        pattern: ^ and $ are the ends of a line.
    """
    found = re.compile(pattern, re.MULTILINE)
    return [
        name for name, path in MODULES.items() if found.search(path.read_text(encoding="utf-8"))
    ]


def tree(module: str) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(
        "TYPE_CHECKING" in (getattr(part, "id", ""), getattr(part, "attr", ""))
        for part in ast.walk(node.test)
    )


@cache
def all_imports(module: str) -> tuple[Import, ...]:
    """Every import statement anywhere in a module."""
    found: list[Import] = []

    def visit(node: ast.AST, at_import: bool, for_types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} imports relatively: {ast.unparse(child)}"
                base = child.module or ""
                inside = [f"{base}.{alias.name}" for alias in child.names]
                names = [name if name in MODULES else base for name in inside]
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                types = for_types or _is_type_checking(child)
                visit(child, at_import and not function and not types, types)
                continue
            found.extend(Import(name, at_import, for_types) for name in names)

    visit(tree(module), True, False)
    return tuple(found)


def imports(module: str) -> list[Import]:
    """The imports of Slipform's modules, including those inside functions and below
    TYPE_CHECKING."""
    return [found for found in all_imports(module) if found.name.split(".")[0] == "slipform"]
