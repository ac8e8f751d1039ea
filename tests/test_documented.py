"""Every public name has documentation, and `__all__` lists the public names of its module.

Names that begin with an underscore, and names inside functions and private classes, are private.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import cache

from tests.modules import MODULES, tree

# The rooms and modules that follow these rules.
ROOMS = ("pipelines", "preprocess", "models", "train", "bench", "doctor", "cli")
DOCUMENTED = [
    module
    for module in MODULES
    if any(f"{module}.".startswith(f"slipform.{room}.") for room in ROOMS)
]
_SECTION = re.compile(r"[A-Z]\w+:")
_ENTRY = re.compile(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):(?: |$)")
_REFERENCE = re.compile(r"See `(\w+)[\w.]*`\.")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _exported(module: ast.Module) -> list[str] | None:
    """The names in `__all__`. None: the module has no `__all__`."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _definitions(module: ast.Module) -> list[Function | ast.ClassDef]:
    """The public functions and classes of a module."""
    found = [node for node in module.body if isinstance(node, Function | ast.ClassDef)]
    return [node for node in found if not node.name.startswith("_")]


def _assigned(module: ast.Module) -> set[str]:
    """The names of a module's constants and type aliases."""
    nodes = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return {
        name.id
        for node in nodes
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def _imported(module: ast.Module) -> set[str]:
    """The names that a module imports."""
    nodes = [node for node in ast.walk(module) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in node.names}


def _decorators(node: Function | ast.ClassDef) -> list[str]:
    """Names of decorators without their arguments: ["dataclass", "main.command"]."""
    return [ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list]


def _parameters(node: Function, *, is_method: bool) -> list[str]:
    """The parameters of a call."""
    decorators, arguments = _decorators(node), node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if (is_method and "staticmethod" not in decorators) or "intrinsic" in decorators:
        names = names[1:]  # self, cls, or the context of numba
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [more.arg for more in (arguments.vararg, arguments.kwarg) if more]
    return [name for name in names if not name.startswith("_")]


def _explained(docstring: str, *titles: str) -> set[str]:
    """The names that have an entry in sections of a docstring."""
    found: set[str] = set()
    inside = False
    for line in docstring.splitlines():
        if _SECTION.fullmatch(line):
            inside = line[:-1] in titles
        elif inside and (entry := _ENTRY.match(line)):
            found |= {name.strip(" *") for name in entry[1].split(",")}
    return found


def _function_faults(node: Function, known: set[str], *, is_method: bool) -> Iterator[str]:
    docstring = ast.get_docstring(node) or ""
    decorators = _decorators(node)
    if any(name.endswith(".setter") or name == "overload" for name in decorators):
        return
    if not docstring:
        yield "has no docstring"
    elif reference := _REFERENCE.match(docstring):
        if reference[1] not in known:
            yield f"refers to {reference[1]}, which the module does not know"
    elif not any(name.endswith((".command", ".group")) for name in decorators):
        # The options of a command explain its parameters.
        missing = set(_parameters(node, is_method=is_method)) - _explained(docstring, "Args")
        if missing:
            yield f"does not explain {', '.join(sorted(missing))} in Args"


def _class_faults(node: ast.ClassDef) -> Iterator[str]:
    docstring = ast.get_docstring(node) or ""
    if not docstring:
        yield "has no docstring"
        return
    explained = _explained(docstring, "Args", "Attributes")
    bases = [ast.unparse(base) for base in node.bases]
    missing: set[str] = set()
    if "dataclass" in _decorators(node) or "NamedTuple" in bases:
        fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
        missing = {ast.unparse(field.target) for field in fields} - explained
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            explained |= _explained(ast.get_docstring(method) or "", "Args")
            missing = set(_parameters(method, is_method=True)) - explained
    if missing := {name for name in missing if not name.startswith("_")}:
        yield f"does not explain {', '.join(sorted(missing))} in Args or Attributes"


@cache
def _exports(name: str) -> frozenset[str]:
    """The names in `__all__` of a module, by its name."""
    return frozenset(_exported(tree(name)) or ())


def _of_package(name: str) -> frozenset[str]:
    """The exports of the package of a module, such as the protocol that its modules implement."""
    return _exports(name.rpartition(".")[0])


def _faults(module: ast.Module, known: Collection[str] = ()) -> Iterator[str]:
    """The faults of public names, one sentence each."""
    definitions = _definitions(module)
    known = {node.name for node in definitions} | _imported(module) | set(known)
    for node in definitions:
        if isinstance(node, Function):
            found = _function_faults(node, known, is_method=False)
            yield from (f"{node.name} {fault}" for fault in found)
            continue
        yield from (f"{node.name} {fault}" for fault in _class_faults(node))
        for method in node.body:
            if isinstance(method, Function) and not method.name.startswith("_"):
                found = _function_faults(method, known, is_method=True)
                yield from (f"{node.name}.{method.name} {fault}" for fault in found)


def test_all_lists_the_public_names() -> None:
    """`__all__` has all public functions and classes of the module, optionally its constants, and
    no other names."""
    wrong = []
    for name in DOCUMENTED:
        module = tree(name)
        public = {node.name for node in _definitions(module)}
        exported = set(_exported(module) or ())
        wrong += [
            f"{name}: add {missing} to __all__, or begin it with an underscore"
            for missing in sorted(public - exported)
        ]
        if name.endswith(".cli"):  # this module combines commands of other modules
            exported -= _imported(module)
        wrong += [
            f"{name}: {other} in __all__ is defined in another module"
            for other in sorted(exported - public - _assigned(module))
        ]
    assert not wrong, "\n".join(wrong)


def test_public_names_are_documented() -> None:
    wrong = [
        f"{name}: {fault}"
        for name in DOCUMENTED
        for fault in _faults(tree(name), _of_package(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_names_that_other_modules_import_are_public() -> None:
    """Modules import from these modules only names in `__all__`."""
    wrong = []
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if not isinstance(node, ast.ImportFrom) or node.module not in DOCUMENTED:
                continue
            names = {alias.name for alias in node.names} - _exports(node.module)
            names -= {inside for inside in names if f"{node.module}.{inside}" in MODULES}
            wrong += [f"{name} imports {node.module}.{inside}" for inside in sorted(names)]
    assert not wrong, "\n".join(wrong)


EXAMPLE = '''
from .contract import Executor
__all__ = ["f", "C", "D"]
def f(a, *b, c=1, **d):
    """Do it.

    Args:
        a, b: Numbers.
        **d: Options.

    Returns:
        c: no argument.
    """
@kernel(fast=True)
def g(x): ...
@main.command()
def h(x):
    """A command."""
def _private(x): ...
class C:
    """A class.

    Args:
        x: A number.
    """
    def __init__(self, x, y): ...
    def submit(self, request):
        """See `Executor`."""
    def collect(self, request):
        """See `Batch`."""
    def _private(self, x): ...
@dataclass(frozen=True)
class D:
    """Data.

    Attributes:
        x: A number.
    """
    x: int
    y: int
    _z: int = 0
    @property
    def sum(self): ...
    @sum.setter
    def sum(self, value): ...
'''


def test_the_rules_find_missing_documentation() -> None:
    assert list(_faults(ast.parse(EXAMPLE))) == [
        "f does not explain c in Args",
        "g has no docstring",
        "C does not explain y in Args or Attributes",
        "C.collect refers to Batch, which the module does not know",
        "D does not explain y in Args or Attributes",
        "D.sum has no docstring",
    ]
