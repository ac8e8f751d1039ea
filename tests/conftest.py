"""Fixtures for all folders: small generated datasets, and the real ones if this machine has
them."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import os
import random
import re
import signal
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from slipform.pipelines.remote import client, repeated
from tests.object_server import ENVIRONMENT, Proxy, end_requests, object_server
from tests.warm import Warm

REAL_DATA = "SLIPFORM_TEST_DATA"
# The examples are always the same, so a failure can be repeated. No deadline: compiling is slow.
settings.register_profile(
    "slipform",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("slipform")
# Else `train` looks how busy the machine is, and may say so. Commands that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
for _name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(
        _name, None
    )  # rich writes to a log as to a terminal with them; some CI sets them
torch.set_num_threads(1)  # tests compare numbers: with one thread the order of sums is fixed
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_IGNORED: list[int] = []  # those of them that this process ignores


def pytest_configure(config: pytest.Config) -> None:
    """Let the children of the tests get signals that this process ignores, and ignore them still.

    nohup and some CI runners ignore SIGHUP, and a shell ignores SIGINT in the background. Children
    inherit that, and tests would wait forever for a child that a signal shall end. A signal with a
    handler has its default effect in children; a handler that does nothing ignores it here. The
    processes of xdist are children that must ignore it, too.
    """
    given = getattr(config, "workerinput", {}).get("ignored")
    found = [number for number in _SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    for number in found if given is None else given:
        signal.signal(number, lambda *_: None)
        _IGNORED.append(int(number))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of xdist which signals it ignores."""
    node.workerinput["ignored"] = _IGNORED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need an optional package can be chosen: pytest -m extras."""
    for item in items:
        if "needs" in getattr(item, "fixturenames", ()):
            item.add_marker("extras")


def pytest_collection_finish() -> None:
    """Leave the collected tests and the imported modules out of later garbage collections."""
    gc.freeze()


def seed_all(name: str) -> None:
    """Seed the shared random generators from a name."""
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in a terminal, also where this process ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """A shared fixture draws the same numbers, whichever test uses it first."""
    seed_all(f"{fixturedef.baseid}::{fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """A test draws the same random numbers in any order of the tests."""
    seed_all(item.nodeid)


@pytest.fixture(scope="session")
def needs() -> Callable[[str], None]:
    """needs("lightning"): skip where that package is not installed. The reason names its extra."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    extras = {
        re.split(r"[^\w-]", requirement)[0]: name
        for name, requirements in tomllib.loads(text)["project"]["optional-dependencies"].items()
        for requirement in requirements
    }

    def check(package: str) -> None:
        names = (package, f"{package}-skinny", f"mosaicml-{package}")
        extra = next(extras[name] for name in names if name in extras)
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'needs {package}: pip install -e ".[{extra}]"')

    return check


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Turn off garbage collection during a test. It calls finalizers and a callback of hypothesis,
    which would be counted among the calls of the test. Python also drops an exception that is
    raised in a finalizer, and pytest reports it as a failure.

    What is alive before the test is left out of its collections, and of later ones: a collection of
    all modules takes half a second."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.collect()  # what the test left: its finalizers would be called in a later test


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect garbage after a test that ignores errors of finalizers. Pytest would report those of
    a later collection in the test that is run then."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the profiles of tests, instead of the user's tune.json. Shared fixtures have one
    of their own."""
    folder = tmp_path_factory.mktemp("profiles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPFORM_PROFILE", str(folder / "fixtures.json"))
        yield folder


@pytest.fixture(autouse=True)
def own_profile(
    profiles: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty profile for each test, also for the commands that it starts."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    monkeypatch.setenv("SLIPFORM_PROFILE", str(profiles / f"{name}.json"))


@pytest.fixture(scope="session")
def warm_process() -> Iterator[Warm]:
    """A warm process that has imported torch, the loader and its kernels, and has opened no
    file."""
    modules = ("torch", "numba", "cv2", "slipform.pipelines.loader", "tests.loaded_kernels")
    with Warm(*modules) as process:
        yield process


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Warm]:
    """A warm process in which Triton interprets the kernels of GPUs. Triton reads its variable when
    it is imported."""
    modules = ("quick_interpreter", "streamed", "graph_steps", "loaded")
    with Warm(*(f"tests.gpu.{name}" for name in modules), TRITON_INTERPRET="1") as process:
        yield process


@pytest.fixture(scope="session")
def one_object_server() -> Iterator[Proxy]:
    """The S3 server of all tests of this process; see `object_store`."""
    with object_server() as proxy:
        yield proxy


@pytest.fixture
def object_store(one_object_server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A real S3 server on this machine, behind a proxy that can make faults. The environment has
    its address and credentials, also for child processes. `new_folder` gives a folder to a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", one_object_server.url)
    for module in (client, repeated):  # tests with many faults would wait
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)
    one_object_server.reset()
    yield one_object_server
    one_object_server.reset()  # what is still asked for gets an answer
    end_requests()
    one_object_server.reset()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real Caltech-101, CIFAR-10 and MNIST: that of the environment variable,
    or shared/data beside this repository. Skips the test if there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get(REAL_DATA) or beside)
    if folder == beside and not beside.is_dir():
        pytest.skip(f"needs real data: set {REAL_DATA} to a folder with caltech101, cifar10, mnist")
    assert folder.is_dir(), f"{REAL_DATA}={folder} is no folder"
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of skipped tests for each reason."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if deselected := len(terminalreporter.stats.get("deselected", [])):
        reasons["not chosen by -m or -k"] = deselected
    if reasons:
        terminalreporter.section("not run")
        for reason, number in reasons.most_common():
            terminalreporter.write_line(f"{number:5} {reason}")


def _prep_shapes(out: Path, *options: str) -> None:
    from click.testing import CliRunner

    from slipform.preprocess.cli import main

    sizes = ["--num-train", "240", "--num-val", "60", "--num-test", "60"]
    sizes += ["--min-size", "40", "--max-size", "96"]
    result = CliRunner().invoke(
        main, ["shapes", "--out", str(out), *sizes, *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output


def _shared(folder: Path, *options: str) -> Iterator[Path]:
    """A dataset that all tests read. It must not change: the order of the tests would have an
    effect."""

    def content() -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    _prep_shapes(folder, *options)
    before = content()
    yield folder
    assert content() == before, f"a test changed {folder}: it must work on a copy"


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Colored shapes as JPEGs of different sizes, 40 to 96 px, some of them grayscale."""
    yield from _shared(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def shapes_raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same kind of images as raw pixels, all 32 x 32, like those of CIFAR."""
    square = ["--min-size", "32", "--max-size", "32", "--square"]
    yield from _shared(tmp_path_factory.mktemp("data") / "shapes_raw", "--encoding", "raw", *square)
