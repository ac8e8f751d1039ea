"""The rules of the layout: imports between folders, length of files, forbidden words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.modules import FOLDERS, MODULES, ROOT, files, holding, imports, tree

_FOR_PREPROCESS = (
    "beton beton_format checksums command dataset decoding.any_image "
    "decoding.image_file decoding.jpeg_entries decoding.jpeg_file "
    "decoding.jpeg_header decoding.jpeg_scan errors files glyphs label_table machine "
    "manifest mirror.copy_index notebook number_text project remote sample_names "
    "stopping stratify together unclosed"
)
# folder -> prefixes of modules that it may import, besides its own
MAY_IMPORT = {
    "pipelines": (),
    "models": tuple(f"slipform.pipelines.{a}" for a in ("errors", "files", "options", "toml_text")),
    "preprocess": tuple(f"slipform.pipelines.{name}" for name in _FOR_PREPROCESS.split()),
    "train": ("slipform.pipelines", "slipform.models"),
    "bench": tuple(f"slipform.{folder}" for folder in FOLDERS),
    "doctor": ("slipform.pipelines",),
}
# The rooms inside a folder, in order. A room may import rooms of its own line and of the lines
# above. A name is a module or a folder.
ROOMS = {
    "pipelines": (
        ("errors", "limits", "number_text", "toml_text"),
        ("wanted", "options", "fastest", "project", "notebook"),
        ("files", "machine", "bus_error", "mapped_files", "workers", "unclosed", "stopping"),
        ("together", "glyphs", "command"),
        (
            "manifest",
            "sample_names",
            "checksums",
            "label_table",
            "beton_format",
            "remote",
            "shapes",
            "beton_index",
            "beton",
            "batch",
            "profile",
            "upload",
        ),
        ("mirror",),
        ("kernel", "simd", "words", "stores"),
        ("plan", "sampling", "folds", "order", "stratify"),
        ("decoding",),
        ("dataset", "samples"),
        ("rendering",),
        ("executors", "read_ahead"),
        ("submitter",),
        ("prefetch",),
        ("sequence", "position"),
        ("device_batches", "loader"),
    ),
    "preprocess": (
        ("claim", "drawing", "listing", "pickles", "pixel_sums", "progress"),
        ("atomic_folder", "temporary_folder"),
        ("replace_objects",),
        ("local_folder", "object_folder"),
        ("places",),
        ("archive_errors",),
        ("compressed",),
        ("archive",),
        ("shard_record", "label_check"),
        ("source", "read_sample"),
        ("class_folders", "splits", "idx", "cifar_files"),
        ("layouts",),
        ("registry",),
        ("datasets",),
        ("chunk",),
        ("encode", "survey", "balance"),
        ("account", "writer"),
        ("write_splits",),
        ("build",),
        ("shard_list",),
        ("shards",),
        ("verify", "show", "duplicates", "merge"),
        ("engines",),
        ("prep",),
        ("duplicate_report", "dataset_command"),
        ("cli",),
    ),
    "train": (
        ("config",),
        ("machine",),
        ("scores",),
        ("step",),
        ("records",),
        ("figures",),
        ("page",),
        ("run", "inference"),
        ("replay",),
        ("sweep",),
        ("search",),
        ("commands", "cli"),
    ),
}
MAX_LINES = 300
NAMES = ("util", "common", "helper", "manager", "factory")
# British spellings, and old words of this project that are not standard terms. Quoted words are
# allowed: they may be a misspelling in a test, or a key of an old file.
WORDS = re.compile(
    r"(?<![\"'=])\b(?:\w*colour\w*|centre[ds]?|normalis\w+|initialis\w+|optimis\w+|behaviour\w*|grey\w*"
    r"|recognis\w+|neighbour\w*|honour\w*|artefact\w*|labelled|labelling|modelling"
    r"|synchronis\w+|serialis\w+|quantis\w+|regularis\w+|whilst|analyse[ds]?"
    r"|fruitless\w*|eats?|wish(?:es)?)\b",
    re.IGNORECASE,
)
OLD_COMMAND = re.compile(rf"-m (?:{'|'.join(FOLDERS)})\b")


def _imported(module: str, *, at_import: bool = False) -> set[str]:
    """The modules of Slipform that a module imports. at_import: only those loaded with it."""
    return {
        found.name
        for found in imports(module)
        if found.name != module and (found.at_import or not at_import)
    }


def _folder(module: str) -> str:
    return ".".join(module.split(".")[1:2])


def test_imports_go_one_way() -> None:
    """Between folders. Imports inside functions and for types count. Modules in slipform/ itself
    may import all folders, and no folder imports them."""
    wrong = []
    for module in MODULES:
        own = _folder(module)
        if own in MAY_IMPORT:
            prefixes = (f"slipform.{own}", *MAY_IMPORT[own])
            wrong += [
                f"{module} imports {name}"
                for name in _imported(module)
                if not any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)
            ]
    assert not wrong, "\n".join(wrong)


def _room(module: str, folder: str) -> str:
    return ".".join(module.removeprefix(f"slipform.{folder}").split(".")[1:2])


@pytest.mark.parametrize("folder", ROOMS)
def test_imports_between_rooms_go_one_way(folder: str) -> None:
    """Inside a folder. Imports inside functions and for types count."""
    lines = {room: number for number, line in enumerate(ROOMS[folder]) for room in line}
    ours = [name for name in MODULES if _folder(name) == folder and _room(name, folder)]
    assert {_room(module, folder) for module in ours} <= set(lines), "a room is not in the table"
    wrong = [
        f"{module} imports {name}"
        for module in ours
        for name in _imported(module)
        if name.startswith(f"slipform.{folder}.")
        and lines[_room(name, folder)] > lines[_room(module, folder)]
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_a_command_line() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in _imported(module)
        if "cli" in name.split(".") and module != "slipform.__main__"
    ]
    assert not wrong, "\n".join(wrong)


def _check_no_cycle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_there_are_no_import_cycles_of_modules() -> None:
    """Only imports at import time count: one inside a function runs later and does not close a
    cycle."""
    _check_no_cycle({module: _imported(module, at_import=True) for module in MODULES})


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_are_no_import_cycles_of_rooms(folder: str) -> None:
    """Imports inside functions and for types count. A module beside the rooms is its own room."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if _folder(module) != folder or not (own := _room(module, folder)):
            continue
        others = {_room(name, folder) for name in _imported(module) if _folder(name) == folder}
        graph.setdefault(own, set()).update(others - {own, ""})
    _check_no_cycle(graph)


def test_every_folder_exists_and_is_checked() -> None:
    """A rule that checks no file would always hold."""
    for folder in FOLDERS:
        assert f"slipform.{folder}" in MODULES
        assert sum(module.startswith(f"slipform.{folder}.") for module in MODULES) >= 5
    assert "slipform.doctor.cli" in MODULES
    order = {found.name: found for found in imports("slipform.pipelines.order")}
    assert order["slipform.pipelines.plan.philox"].at_import
    resident = {found.name: found for found in imports("slipform.pipelines.executors.resident")}
    assert not resident["slipform.pipelines.executors.resident_gpu"].at_import
    executors = {found.name: found for found in imports("slipform.pipelines.executors")}
    assert executors["slipform.pipelines.executors.contract"].for_types


def _file_faults(path: Path) -> Iterator[str]:
    """The faults of a file: its length, name, docstring, words and imports."""
    text = path.read_text(encoding="utf-8")
    if (length := len(text.splitlines())) > MAX_LINES:
        yield f"has {length} lines, more than {MAX_LINES}: divide it by meaning"
    yield from (f'has "{word}" in its name' for word in NAMES if word in path.stem.lower())
    found = ast.parse(text)
    if path.name != "__init__.py" and not ast.get_docstring(found):
        yield "has no docstring"
    used = set(re.findall(r"(?<![\"'=])\b\w+", text))  # most of them are used many times
    if path != Path(__file__) and (words := set(filter(WORDS.fullmatch, used))):
        yield f"has {sorted(words)}: write American English, and the field's words"
    for node in ast.walk(found):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        old = [name for name in names if name.split(".")[0] in FOLDERS]  # or a user's train.py
        yield from (f"imports {name}: write slipform.{name}" for name in old)


def test_files_are_short_well_named_and_have_docstrings() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} {fault}"
        for path in (*MODULES.values(), *files("tests"))
        for fault in _file_faults(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rules_for_a_file_find_faults(tmp_path: Path) -> None:
    path = tmp_path / "some_helpers.py"
    path.write_text("from train.run import loop\n# the colour\n" + "x = 1\n" * MAX_LINES)
    assert list(_file_faults(path)) == [
        "has 302 lines, more than 300: divide it by meaning",
        'has "helper" in its name',
        "has no docstring",
        "has ['colour']: write American English, and the field's words",
        "imports train.run: write slipform.train.run",
    ]


def test_pages_start_no_old_module() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / folder / "README.md" for folder in FOLDERS)]:
        if path.is_file():
            found = OLD_COMMAND.findall(path.read_text(encoding="utf-8"))
            assert not found, f"{path.name}: {found}: write -m slipform...."


def test_names_of_classes_and_functions() -> None:
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = [word for word in NAMES if word in node.name.lower() and word != "common"]
                assert not words, f"{module}.{node.name}"


def test_processes_do_not_import_files_of_a_user() -> None:
    """A Python process that Slipform starts gets -P first, or the path of a script."""
    for module in holding("executable"):
        lists = (node.elts for node in ast.walk(tree(module)) if isinstance(node, ast.List))
        for elements in lists:
            if len(elements) > 1 and getattr(elements[0], "attr", "") == "executable":
                second = elements[1]
                assert not isinstance(second, ast.Constant) or second.value == "-P", module
