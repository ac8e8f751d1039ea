"""The package as users get it: built from a clone, installed into an empty environment, and used in
a folder whose own files have the names of Slipform's folders.

The installation uses the versions in requirements.lock and pip's usual index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("pipelines", "preprocess", "models", "train", "bench")
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # setuptools appends its own arguments
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""
RECIPE = """
[augment]
image_size = 32
resize = 36
[model]
name = "tiny"
[train]
epochs = 1
batch_size = 16
[[runs]]
name = "a"
[[runs]]
name = "b"
optimizer.lr = 0.01
"""
# Names that a user's program may have. Python's own modules import the last two.
OWN_FILES = ("train", "prep", "bench", "slipform", "queue", "random")


def run(
    command: list[str], folder: Path, *, seconds: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel of the last commit."""
    folder = tmp_path_factory.mktemp("built")
    run(["git", "clone", "--quiet", str(ROOT), "clone"], folder)
    (folder / "dist").mkdir()
    run([sys.executable, "-P", "-c", BUILD, str(folder / "dist")], folder / "clone")
    return folder / "dist"


@pytest.fixture(scope="module")
def programs(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = str(next(built.glob("*.whl")))
    limits = ["--constraint", str(ROOT / "requirements.lock")]
    wanted = [f"{wheel}[export]", *limits]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    python = folder / "venv/bin/python"
    if uv:
        run([uv, "venv", "--quiet", "--python", sys.executable, "venv"], folder)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        run([sys.executable, "-m", "venv", "venv"], folder)
        install = [str(python), "-m", "pip", "install", "--quiet"]
    run([*install, *wanted], folder, seconds=1500)
    return python.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder. Importing any file in it ends the program."""
    folder = tmp_path_factory.mktemp("user")
    for name in (*ROOMS, "tests"):
        if name != "train":
            (folder / name).mkdir()
            _trap(folder / name / "__init__.py")
    for name in OWN_FILES:
        if name not in ROOMS or name == "train":
            _trap(folder / f"{name}.py")
    (folder / "sweep.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def _trap(path: Path) -> None:
    path.write_text(f"raise SystemExit('the file of a user was run: {path.name}')\n")


def _members(built: Path) -> dict[str, list[str]]:
    """The paths in the sdist, without its outermost folder, and in the wheel."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        files = [member for member in sdist.getmembers() if not member.isdir()]
        assert all(member.isfile() for member in files), "links do not work everywhere"
        inside = [member.name.partition("/")[2] for member in files]
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        return {"sdist": inside, "wheel": wheel.namelist()}


def test_the_contents_of_wheel_and_sdist(built: Path) -> None:
    members = _members(built)
    assert {name.partition("/")[0] for name in members["wheel"]} == {
        "slipform",
        next(name.partition("/")[0] for name in members["wheel"] if ".dist-info" in name),
    }
    top = {name.partition("/")[0] for name in members["sdist"]}
    assert top - {"PKG-INFO", "setup.cfg", "slipform.egg-info", "MANIFEST.in"} == {
        *("slipform", "pyproject.toml", "README.md", "LICENSE"),
    }
    tracked = run(["git", "ls-files", *ROOMS, "slipform"], ROOT).stdout.split()
    wanted = {
        name if name.startswith("slipform/") else f"slipform/{name}"
        for name in tracked
        if name.endswith((".py", "py.typed")) or name.startswith("train/recipes/")
    }
    results = {
        f"slipform/{name}"
        for name in tracked
        if name.startswith("bench/results/") and name.endswith(".json")
    }
    for names in members.values():
        ours = {name for name in names if name.startswith("slipform/")}
        assert ours == wanted | results


def test_the_sdist_installs_the_files_of_the_wheel(built: Path, tmp_path: Path) -> None:
    sdist = str(next(built.glob("*.tar.gz")))
    target = ["--no-deps", "--target", str(tmp_path / "installed"), sdist]
    run([sys.executable, "-m", "pip", "install", "--quiet", *target], tmp_path)
    found = {
        str(path.relative_to(tmp_path / "installed"))
        for path in (tmp_path / "installed/slipform").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert found == {name for name in _members(built)["wheel"] if name.startswith("slipform/")}


def test_it_works_in_a_folder_with_the_same_names(programs: Path, folder: Path) -> None:
    """All commands of a user, one after another."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def bash(line: str) -> subprocess.CompletedProcess[str]:
        return run(["bash", "-c", line], folder, **environment)

    small = "--num-train 48 --num-val 16 --num-test 16 --min-size 32 --max-size 48 --classes 3"
    bash(f"prep shapes --out data {small}")
    bash("prep verify data")
    settings = "--set train.epochs=1 --set train.batch_size=8 --set model.name=tiny"
    settings += " --set augment.image_size=32 --set augment.resize=36"
    trained = bash(f"train data --out runs/one {settings}")
    assert "compiling the kernels" in trained.stderr  # prep has not compiled these kernels
    assert "images/s" in trained.stdout
    bash("slipform train data --recipe sweep.toml --all --jobs 2 --out runs/sweep")
    assert len(list((folder / "runs/sweep").rglob("summary.json"))) >= 2
    both = "torchrun --standalone --nproc-per-node 2"
    bash(f"{both} --no-python slipform train data --out runs/two {settings}")
    bash(f"PYTHONSAFEPATH=1 {both} -m slipform.train.cli data --out runs/module {settings}")
    for name in ("one", "two", "module"):
        found = json.loads(bash(f"validate runs/{name} --json").stdout)
        summary = json.loads((folder / f"runs/{name}/summary.json").read_text())
        assert found["images"] == 16
        # Training and validation may round differently, which may change the class of an image.
        assert found["top1"] == pytest.approx(summary["test_accuracy"], abs=1.01 / 16)
    predictions = bash("predict runs/one photo.png --json").stdout
    assert json.loads(predictions)["classes"]
    for kind in ("safetensors", "onnx", "torch-export"):
        bash(f"slipform export runs/one --format {kind}")
    bash("bench report --out report.html")
    assert (folder / "report.html").is_file()
    bash("slipform --version; slipform doctor; bench --help; python -P -m slipform --help")


@pytest.fixture(autouse=True)
def _photo(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 10, 10)).save(folder / "photo.png")


def test_it_is_imported_in_such_a_folder(programs: Path, folder: Path, tmp_path: Path) -> None:
    """A script beside files with the names of Slipform's folders. Python searches the folder of the
    script first, so slipform.py, queue.py and random.py are not in it."""
    for name in (*ROOMS, "tests"):
        if name != "train":
            shutil.copytree(folder / name, tmp_path / name)
    _trap(tmp_path / "train.py")
    script = tmp_path / "example.py"
    script.write_text(
        "import slipform as sf\n"
        "for name in sf.__all__:\n"
        "    getattr(sf, name)\n"
        "print(sf.__version__)\n",
        encoding="utf-8",
    )
    assert run([str(programs / "python"), "example.py"], tmp_path).stdout.strip()
