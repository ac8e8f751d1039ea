"""`bench gpu` without a GPU: it names missing parts, keeps its time limit, and writes after each
part. The measurements that a CPU can do run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from slipform.bench.race import gpu, gpu_items, gpu_kernels, gpu_runs
from slipform.bench.result import result
from slipform.bench.result.quantities import quantity
from slipform.bench.suites import gpu as suite
from tests.bench.suites.gpu_calls import fail, prepare, sleep
from tests.warm import Warm

# Modules that may be missing on a new machine with torch, Triton, numba and pydantic.
LACKS = ("nvidia", "pynvml", "simplejpeg", "ffcv", "timm", "spdl", "pytest_timeout", "onnx")
BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacks}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_every_part_names_what_is_missing_without_a_gpu(tmp_path: Path, shapes: Path) -> None:
    """The modules that a GPU machine may lack are missing, too: `sitecustomize` hides them from
    every child process."""
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(BLOCK.format(lacks=LACKS))
    out = tmp_path / "gpu.json"
    program = "from slipform.bench.cli import main; main()"
    command = ["gpu", "--device", "cpu", "--minutes", "5", "--data", str(shapes), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(hide), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    rows = result.read_result(out).rows
    assert {str(row.case["part"]) for row in rows} == set(suite.PARTS)
    machine, *others = rows
    assert machine.status == "ok"
    missing = str(machine.settings["missing"]).split(", ")
    assert {"nvidia.dali", "pynvml", "simplejpeg", "ffcv", "pytest_timeout"} <= set(missing)
    assert {"torch", "numba", "pydantic"}.isdisjoint(missing)
    assert {(row.status, row.note) for row in others} == {("not possible", "needs an NVIDIA GPU")}


def test_jpeg_datasets_are_left_out_without_dali(
    shapes: Path, shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "is_installed", lambda name: name != "nvidia.dali")
    for folder, lacks in ((shapes, "JPEGs need DALI, which is not installed"), (shapes_raw, "")):
        items = suite.all_items("cuda", [folder], [], None)
        found = {item.lacks for item in items if item.part in ("step", "loaders")}
        assert found == {lacks, "needs --data"}


def test_it_ends_by_itself_and_writes_after_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [
        gpu_items.Item("kernels", "short", 1, sleep, (0.0,)),
        gpu_items.Item("jpeg", "broken", 1, fail),
        gpu_items.Item("step", "endless", 1 / 900, sleep, (3000.0,)),  # 2 of 1,800 seconds
        gpu_items.Item("loaders", "after it", 1, sleep, (0.5,)),
        gpu_items.Item("accuracy", "absent", 50, sleep, lacks="needs --data"),
    ]
    monkeypatch.setattr(suite, "all_items", lambda *_: items)
    monkeypatch.setattr(gpu_items, "_MIN_SECONDS", 1.0)
    written: list[int] = []
    monkeypatch.setattr(result, "write_result", lambda path, found: written.append(len(found.rows)))
    out = tmp_path / "gpu.json"
    done = CliRunner().invoke(
        suite.command, ["--device", "cpu", "--minutes", "30", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert written == [1, 2, 3, 4, 5, 5]
    assert "slept 0.0" in done.output
    assert "CUDA error" in done.output
    assert "no answer within" in done.output
    assert "slept 0.5" in done.output


def test_steps_are_prepared_together_and_measured_one_after_another(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    names = ["a", "large", "broken", "b"]
    items = [
        gpu_items.Item("step", name, 1, prepare, (str(log), name, 4, "large"), prepared=True)
        for name in names
    ]
    rows = list(gpu_items.run(items, 300.0, lambda message: None))
    found = [(row.case["what"], row.status) for row in rows]
    assert found == [("a", "ok"), ("broken", "failed"), ("b", "ok"), ("large", "ok")]
    assert "does not compile" in rows[1].note
    lines = log.read_text().splitlines()
    assert sorted(lines[:4]) == sorted(f"{name} prepares" for name in names)
    measured = [f"{name} {what}" for name in "ab" for what in ("begins", "ends", "closed")]
    again = [f"large {what}" for what in ("prepares", "begins", "ends", "closed")]
    assert lines[4:] == measured + again


def test_only_steps_that_are_possible_are_prepared_together() -> None:
    step = gpu_items.Item("step", "a", 1, prepare, prepared=True)
    other = gpu_items.Item("loaders", "b", 1, sleep)
    lacks = gpu_items.Item("step", "c", 1, prepare, lacks="needs --data", prepared=True)
    assert gpu_items.together([step] * 6) == [step] * 4
    assert gpu_items.together([step, step, lacks]) == [step, step]
    assert gpu_items.together([lacks, step]) == [lacks]
    assert gpu_items.together([other, step]) == [other]


def test_against_needs_images_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(suite.command, ["--device", "cpu", "--against", "nothing.py"])
    assert done.exit_code != 0
    assert "--against needs --data" in done.output


def test_the_share_of_time_is_that_of_the_weights_left() -> None:
    items = suite.all_items("cuda", [Path("a")], [Path("b")], Path("c.py"))
    assert {item.part for item in items} == set(suite.PARTS)
    assert not [item for item in items if item.lacks]
    steps = [item.what for item in items if item.part == "step"]
    assert len(steps) == 2 + 5 * 2 + 2 * 2
    assert "vgg16, batch 256, stream" in steps
    names = [item.what for item in items if item.part == "accuracy"]
    assert names == [*(f"cifar10/fast, {n} steps a launch" for n in (1, 25)), "c.py"]
    without = suite.all_items("cuda", [], [], None)
    assert {item.part for item in without if item.lacks} == {"step", "loaders", "accuracy"}


def test_rates_of_a_gpu_are_written_with_their_units() -> None:
    assert quantity("copy_bytes_per_second").number(3.04e12) == "3.04 TB/s"
    assert quantity("product_flops_per_second").number(798e12) == "798 TFLOP/s"
    assert quantity("copy_bytes_per_second").number(0.0) == "0 B/s"


def test_the_tests_of_a_gpu_are_found_and_counted() -> None:
    """All of them are skipped without a GPU."""
    (row,) = gpu.tests(600.0)
    assert set(row.figures) == {"skipped_tests"}
    assert row.figures["skipped_tests"].median >= 20
    assert not row.note


def test_the_output_of_pytest_becomes_a_row() -> None:
    text = (
        "..F\nFAILED tests/train/test_gpu.py::test_a[x] - assert 1\n"
        "ERROR tests/b.py::c\n1 failed, 10 passed, 3 skipped, 1 error in 3.21s\n"
        "..\n2 passed, 4 deselected in 1.00s\n"
    )
    row = gpu.tests_row(text, "")
    counts = {name: figure.median for name, figure in row.figures.items()}
    assert counts == {
        "failed_tests": 1.0,
        "passed_tests": 12.0,
        "skipped_tests": 3.0,
        "error_tests": 1.0,
    }
    assert row.note == "tests/train/test_gpu.py::test_a[x] - assert 1; tests/b.py::c"
    assert "no such option" in gpu.tests_row("usage\nno such option", "").note


def test_tests_that_are_stopped_name_their_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_REPORT_SECONDS", 600.0)  # it must not depend on time
    started = tmp_path / "started"
    (tmp_path / "test_long.py").write_text(
        "import pathlib, time\n"
        "def test_wrong(): assert 1 == 2\n"
        f"def test_long(): pathlib.Path({str(started)!r}).touch(); time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "pytest", "-rfE", "--color=no", "test_long.py"]
    with subprocess.Popen(
        [*command, "-c", os.devnull, "-p", "no:randomly", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        row = gpu.tests_row(gpu._stopped(process), "not done; ")
    assert row.note == "not done; test_long.py::test_wrong - assert 1 == 2"


def test_ceilings_are_what_a_call_does_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    copy, product = gpu.ceilings("cpu", size=64)
    read_and_written = 2 * 64 * 64 * 64
    assert copy.figures["copy_bytes_per_second"].median == read_and_written / 0.25
    multiplied_and_added = 2 * 64**3
    assert product.figures["product_flops_per_second"].median == multiplied_and_added / 0.25


def test_the_step_runs_on_a_cpu(shapes: Path) -> None:
    with gpu_runs.prepare_step(str(shapes), "tiny", 8, "cpu", rounds=1, seconds=0.1) as ready:
        (step,) = ready.measure()
    assert step.figures["end_to_end_ratio"].median > 0
    assert step.settings["executor"] == "resident"


@pytest.mark.parametrize(
    "names", [["moved"], pytest.param(list(gpu_kernels.SPECS), marks=pytest.mark.slow)]
)
def test_the_kernels_run_in_the_interpreter(names: list[str], interpreter: Warm) -> None:
    program = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from slipform.bench.race import gpu_kernels\n"
        "gpu_kernels.SPECS = {name: gpu_kernels.SPECS[name] for name in sys.argv[1:]}\n"
        "small = dict(batch_size=2, image_size=8, stored=12, copied=4096, repeats=1)\n"
        "found = gpu_kernels.kernels('cpu', **small)\n"
        "print(json.dumps([[one.what, sorted(one.figures)] for one in found]))"
    )
    done = interpreter.run(program, *names, environment={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr
    figures = ["draw_seconds", "floor_ratio", "floor_seconds", "render_seconds"]
    assert json.loads(done.stdout) == [[name, figures] for name in names]
