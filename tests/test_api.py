"""The public API: `import slipform` imports little, every name exists, has types and documentation,
and its example runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import slipform
from slipform.models.spec import REGISTERED
from slipform.pipelines.plan import registry
from tests.train.drawing import without_figures

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ast.parse((ROOT / "slipform/__init__.py").read_text(encoding="utf-8"))
ERRORS = [name for name in slipform.__all__ if name.endswith("Error") or name == "Interrupted"]
NAMES = [name for name in slipform.__all__ if name not in ERRORS]


def run(code: str, *, folder: Path = ROOT) -> str:
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import slipform; dir(slipform)\n"
        "after = set(sys.modules) - before\n"
        "print({name for name in after if 'slipform.' in name or 'torch' in name or 'numpy' in name"
        " or 'click' in name})"
    )
    assert run(code) == "set()\n"


def test_every_name_is_there() -> None:
    assert slipform.__all__ == sorted(slipform.__all__)
    assert set(slipform.__all__) <= set(dir(slipform))
    for name in slipform.__all__:
        assert getattr(slipform, name) is getattr(slipform, name)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert slipform.__version__ == tomllib.loads(text)["project"]["version"]
    with pytest.raises(AttributeError, match="no attribute 'Laoder'"):
        getattr(slipform, "Laoder")  # noqa: B009


def test_mypy_and_the_interpreter_get_the_same_names() -> None:
    """mypy reads the imports below TYPE_CHECKING, and the interpreter reads the table."""
    for_types = {
        (alias.asname or alias.name): (node.module, alias.name)
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slipform.")
        for alias in node.names
    }
    assert sorted(for_types) == slipform.__all__
    for name, (module, original) in for_types.items():
        assert getattr(slipform, name) is getattr(sys.modules[module or ""], original)


def test_every_public_class_of_errors_is_a_slipform_error() -> None:
    for name in ERRORS:
        assert issubclass(getattr(slipform, name), slipform.SlipformError)


def example(value: Any) -> str:
    """The runnable example in a docstring: `>>>` lines or ```python blocks."""
    text = inspect.getdoc(value) or ""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    lines = [found.source for found in doctest.DocTestParser().get_examples(text)]
    return "\n".join([*blocks, "".join(lines)]).strip()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_documented(name: str) -> None:
    value = getattr(slipform, name)
    text = inspect.getdoc(value) or ""
    assert re.search(r"^(Args|Attributes):$", text, re.MULTILINE), f"{name} has no Args section"
    assert example(value), f"{name} has no example"
    documented = set(re.findall(r"^ {2,4}\*{0,2}(\w+)(?:,| \(|:)", text, re.MULTILINE))
    documented |= {
        word
        for line in re.findall(r"^ {2,4}(\w+(?:, \w+)+):", text, re.MULTILINE)
        for word in line.split(", ")
    }
    if inspect.isfunction(value) or "Args:" in text:
        missing = set(inspect.signature(value).parameters) - documented - {"self", "_"}
        assert not missing, f"{name} does not explain {missing}"


@pytest.fixture(scope="module")
def a_run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of one short epoch."""
    config = slipform.resolve(
        slipform.load_recipe("shapes/demo"),
        ["train.epochs=1", "augment.image_size=32", "augment.resize=36", "train.precision=fp32"],
    )
    out = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        slipform.fit(config, shapes, out, device="cpu", quiet=True)
    return out


@pytest.fixture
def example_folder(
    shapes: Path, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder for the examples: a dataset, a run, two photos. Their runs draw no figures."""
    without_figures(monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/shapes").symlink_to(shapes)
    (tmp_path / "runs").mkdir()
    shutil.copytree(a_run, tmp_path / "runs/first")
    for name in ("cat.jpg", "dog.png"):
        Image.new("RGB", (60, 40), (200, 120, 10)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registered() -> Iterator[None]:
    """Remove the net and the augmentation that examples register."""
    tables: list[dict[str, Any]] = [REGISTERED, registry.REGISTERED]
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@pytest.mark.usefixtures("example_folder", "registered")
@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name: str) -> None:
    """The output of an example is compared if it has `>>>`."""
    text = inspect.getdoc(getattr(slipform, name)) or ""
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(textwrap.dedent(block), f"example of {name}", "exec"), {})
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0
