"""Importing a module has no side effect: no thread, no file, no changed setting."""

from __future__ import annotations

import subprocess
import sys

from tests.modules import FOLDERS, MODULES, ROOT, all_imports


def _run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _third_party() -> list[str]:
    """The third-party modules that are imported at import time. Their side effects are not
    tested."""
    found = {
        found.name
        for module in MODULES
        for found in all_imports(module)
        if found.at_import and not module.startswith("slipform.bench.peers")
    }
    return sorted(
        name for name in found if name.split(".")[0] not in ("slipform", *FOLDERS, "__future__")
    )


WATCH = """
import importlib, logging, os, random, signal, sys, threading, warnings
for name in THIRD_PARTY:
    importlib.import_module(name)
import cv2, numpy, torch
sys.path.insert(0, ROOT)
sys.dont_write_bytecode = True
events = []
def watch(event, args):
    if "__pycache__" in str(args[:1]):  # Python's and numba's compiled code
        return
    if event in (
        "socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "os.mkdir",
        "os.rename",
    ):
        events.append((event, args))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        events.append((event, args))
sys.addaudithook(watch)
def state():
    return {
        "logging": (logging.root.level, list(logging.root.handlers)),
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy": str(numpy.random.get_state()),
        "torch seed": torch.initial_seed(),
        "threads of torch": torch.get_num_threads(),
        "torch": (torch.get_default_dtype(), torch.backends.cudnn.benchmark),
        "cv2": cv2.getNumThreads(),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "hooks": (sys.excepthook, list(warnings.filters)), "threads": threading.active_count(),
    }
for module in MODULES:
    before = state()
    importlib.import_module(module)
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    assert not changed, f"{module} changes {changed}"
    assert not events, f"{module} does {events}"
print("quiet")
"""


def test_importing_a_module_has_no_side_effects() -> None:
    """All modules in one process: no thread, socket, child process, written file or output, and no
    changed setting."""
    modules = [module for module in MODULES if not module.startswith("slipform.bench.peers")]
    assert (
        _run(
            f"THIRD_PARTY, MODULES, ROOT = {_third_party()!r}, {modules!r}, {str(ROOT)!r}\n{WATCH}"
        )
        == "quiet\n"
    )
