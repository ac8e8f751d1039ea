"""Why a test may fail by chance, or on a machine that is slow or busy: `chances`.

In: the source of a test. Out: a line for each possible cause: random numbers without a seed, short
time limits, and what depends on a clock. Programs in strings are searched, too. The comment
`# any speed: WHY` on a line says that it holds at any speed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

__all__ = ["LEAST_SECONDS", "chances"]

LEAST_SECONDS = 200  # the minimum timeout of a process; pytest ends a test after 900 s
EXCUSE = "# any speed: "
_CLOCKS = {
    "time": {"perf_counter", "monotonic", "time", "process_time", "thread_time"},
    "datetime": {"now", "today", "utcnow"},
    "date": {"today"},
}
_CLOCKS["time"] |= {f"{name}_ns" for name in _CLOCKS["time"]}
_EVERY_CLOCK = set().union(*_CLOCKS.values())
_CLOCK = re.compile(rf"\b({'|'.join(_EVERY_CLOCK - {'time'})})|\.time\(|time import")
# Function -> the place of the seconds among its arguments.
_PLACES = {
    "wait": 0, "join": 0, "result": 0, "alarm": 0, "settimeout": 0, "dump_traceback_later": 0,
    "wait_for": 1, "wait_procs": 1, "communicate": 1, "setitimer": 1, "get": 1,
    "acquire": 1, "put": 2, "select": 3,
}  # fmt: skip
_SIGNALS = {"alarm", "setitimer"}
_AFTER_A_BOOL = {"get", "acquire", "put"}  # queue.get(True, 3), but not settings.get("size", 3)
_DURATION = re.compile(r"(?<!per_)seconds$|elapsed$|duration$|latency$")
_RATE = re.compile(r"per_second$")
_UPPER, _LOWER = (ast.Lt, ast.LtE), (ast.Gt, ast.GtE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def chances(text: str) -> list[str]:
    """The faults in a test file.

    Args:
        text: Its source.
    """
    found = _Search(ast.parse(text), text.split("\n")).faults()
    return [f"line {number}: {what}" for number, what in sorted(set(found))]


class _Search:
    """The faults of one program.

    Args:
        tree: The program.
        lines: Its lines.
    """

    def __init__(self, tree: ast.Module, lines: list[str]) -> None:
        self._tree, self._lines = tree, lines
        self._modules = {name: name for name in _CLOCKS}  # what `time` and `datetime` are called
        self._timed: set[str] = set()  # names with times: clocks, and what was computed from them
        self._constants: dict[str, ast.expr] = {}  # the constants of the module
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._modules |= {x.asname or x.name: x.name for x in node.names}
            elif isinstance(node, ast.ImportFrom):
                known = _CLOCKS.get(node.module or "", set())
                self._timed |= {x.asname or x.name for x in node.names if x.name in known}
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                self._constants[statement.targets[0].id] = statement.value
        self._has_clock = any(_CLOCK.search(line) for line in lines)
        for _ in range(3 * self._has_clock):  # a function may return what another one has returned
            self._timed |= self._computed(self._outside(), self._timed)
            for function in self._functions():
                names = self._computed([function], self._timed)
                self._timed |= {name for name in names if name.startswith("self.")}
                returned = (one for one in ast.walk(function) if isinstance(one, ast.Return))
                if any(one.value and self._is_timed(one.value, names) for one in returned):
                    self._timed |= {function.name, f"self.{function.name}"}

    def _outside(self) -> list[ast.stmt]:
        """The statements outside functions and classes."""
        kinds = _Function | ast.ClassDef
        return [one for one in self._tree.body if not isinstance(one, kinds)]

    def _functions(self) -> list[_Function]:
        """The functions and methods of the module. Inner functions belong to the outer ones."""
        classes = [one for one in ast.walk(self._tree) if isinstance(one, ast.ClassDef)]
        owners: list[ast.Module | ast.ClassDef] = [self._tree, *classes]
        return [x for owner in owners for x in owner.body if isinstance(x, _Function)]

    def _is_timed(self, part: ast.AST, names: set[str]) -> bool:
        """Whether a value depends on a clock, or on one of these names."""
        last = {name.rpartition(".")[2] for name in names}
        for node in ast.walk(part):
            if isinstance(node, ast.Name) and node.id in names:
                return True
            if isinstance(node, ast.Attribute):  # few of them are unparsed, which takes long
                if node.attr in last and ast.unparse(node) in names:
                    return True
                if node.attr in _EVERY_CLOCK:
                    module = ast.unparse(node.value).split(".")[-1]
                    if node.attr in _CLOCKS.get(self._modules.get(module, module), ()):
                        return True
        return False

    def _computed(self, parts: list[ast.stmt], known: set[str]) -> set[str]:
        """These names, and those that get a value computed from a clock or from one of them."""
        names, before = set(known), -1
        while len(names) != before:
            before = len(names)
            for node in (node for part in parts for node in ast.walk(part)):
                targets: list[ast.expr] = []
                value: ast.AST | None = None
                if isinstance(node, ast.Assign):
                    targets, value = node.targets, node.value
                elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                    targets, value = [node.target], node.value
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    keeps = node.func.attr in ("append", "extend", "add")
                    targets, value = [node.func.value], ast.Tuple(node.args) if keeps else None
                if value is None or not self._is_timed(value, names):
                    continue
                for target in targets:
                    inner = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
                    names |= {ast.unparse(_base(one)) for one in inner}
        return names

    def faults(self) -> Iterator[tuple[int, str]]:
        """The line and the text of each fault."""
        for number, what in self._all():
            if EXCUSE not in self._lines[number - 1]:
                yield number, what

    def _all(self) -> Iterator[tuple[int, str]]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                yield from self._limits_of(node)
            elif isinstance(node, ast.Assert):
                yield from _limits_of_figures(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from _in_a_string(node)
        if self._has_clock:
            for function in self._functions():
                yield from self._decided(function, self._computed([function], self._timed))
            for statement in self._outside():
                yield from self._decided(statement, self._timed)

    def _decided(self, part: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
        """What a clock decides. A loop may take some time, but not wait for something."""
        for node in ast.walk(part):
            kinds = ast.Assert | ast.If | ast.IfExp | ast.While
            if not isinstance(node, kinds) or not self._is_timed(node.test, names):
                continue
            if not isinstance(node, ast.While) or _waits(node):
                yield node.lineno, f"{ast.unparse(node.test)[:60]} depends on the time"

    def _limits_of(self, call: ast.Call) -> Iterator[tuple[int, str]]:
        """Random numbers without a seed, and the time limit of a call."""
        function = call.func
        owner = function.value if isinstance(function, ast.Attribute) else None
        name = str(getattr(function, "id" if owner is None else "attr", ""))
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if name in ("default_rng", "Random") and not call.args and "seed" not in given:
            yield call.lineno, f"{ast.unparse(call)[:60]} has no seed"
        limits = [given["timeout"]] if "timeout" in given else []
        if name == "timeout" and owner is not None and ast.unparse(owner).endswith("mark"):
            limits += call.args[:1]
        for limit in limits:
            if self._is_short(limit):
                yield call.lineno, f"{ast.unparse(limit)} s may be too few on a busy machine"
        place, count = _PLACES.get(name, -1), len(call.args)
        if (owner is not None or name in _SIGNALS) and 0 <= place < count and (place or count == 1):
            if name in _AFTER_A_BOOL:
                first = call.args[place - 1]
                if not (isinstance(first, ast.Constant) and isinstance(first.value, bool)):
                    return
            if self._is_limit(ast.unparse(owner) if owner else "", name, call.args[place]):
                yield call.lineno, f"{ast.unparse(call)[:60]} has a time limit of its own"

    def _is_limit(self, owner: str, name: str, argument: ast.expr) -> bool:
        """Whether the argument of a wait is a small number of seconds. `", ".join(WORDS)` has
        none."""
        if owner.endswith(("process", "thread")):
            return self._seconds(argument) is None or self._is_short(argument)
        named = isinstance(argument, ast.Name) and self._seconds(argument) is None
        return self._is_short(argument) and not (name == "join" and named)

    def _is_short(self, limit: ast.expr) -> bool:
        """Whether a time limit is short. That of a constant of another module may be."""
        seconds = self._seconds(limit)
        if seconds is None:
            unknown = isinstance(limit, ast.Name) and limit.id.isupper()
            return unknown and ast.unparse(limit) not in self._constants
        return 0 < seconds < LEAST_SECONDS

    def _seconds(self, limit: ast.expr) -> float | None:
        """The value of a number or of a constant of the module; None: it is not known."""
        if isinstance(limit, ast.Name):
            limit = self._constants.get(limit.id, limit)
        if isinstance(limit, ast.Constant) and type(limit.value) in (int, float):
            return float(limit.value)
        return None


def _waits(loop: ast.While) -> bool:
    """Whether a loop checks something, or ends before its time is over."""
    if loop.orelse or isinstance(loop.test, ast.BoolOp):
        return True
    parts = list[ast.AST](loop.body)
    for part in parts:
        if isinstance(part, ast.Break | ast.Return | ast.Raise | ast.Assert):
            return True
        if isinstance(part, ast.Call) and ast.unparse(part.func).endswith(("sleep", "fail")):
            return True
        # A `break` in an inner loop ends that one only.
        if not isinstance(part, ast.For | ast.While):
            parts += ast.iter_child_nodes(part)
    return False


def _base(target: ast.expr) -> ast.expr:
    while isinstance(target, ast.Subscript | ast.Starred):
        target = target.value
    return target


def _limits_of_figures(node: ast.Assert) -> Iterator[tuple[int, str]]:
    """Upper limits of figures whose name says that they are seconds, and lower limits of rates."""
    for compared in (one for one in ast.walk(node.test) if isinstance(one, ast.Compare)):
        sides = [compared.left, *compared.comparators]
        for k, operator in enumerate(compared.ops):
            for figure, limit, upper, lower in (
                (sides[k], sides[k + 1], _UPPER, _LOWER),
                (sides[k + 1], sides[k], _LOWER, _UPPER),
            ):
                if not (isinstance(limit, ast.Constant) and limit.value):
                    continue
                name = _name(figure)
                if (_DURATION.search(name) and isinstance(operator, upper)) or (
                    _RATE.search(name) and isinstance(operator, lower)
                ):
                    yield node.lineno, f"{ast.unparse(compared)[:60]} limits a measured figure"


def _name(figure: ast.expr) -> str:
    """The name of a figure: of `x`, `a.x` or `a["x"]`; "": it has none."""
    if isinstance(figure, ast.Subscript):
        figure = figure.slice
    if isinstance(figure, ast.Constant):
        return str(figure.value)
    return (
        ast.unparse(figure).split(".")[-1] if isinstance(figure, ast.Name | ast.Attribute) else ""
    )


def _in_a_string(node: ast.Constant) -> Iterator[tuple[int, str]]:
    """The faults of a program in a string."""
    if "\n" not in str(node.value) or not re.search(r"\b(import|time|wait)\b", str(node.value)):
        return
    try:
        inner = ast.parse(str(node.value))
    except (SyntaxError, ValueError):
        return
    for number, what in _Search(inner, str(node.value).split("\n")).faults():
        yield node.lineno + number - 1, f"in a program: {what}"
