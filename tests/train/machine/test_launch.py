"""The launch texts in train/elastic.md: their fields exist, and their commands continue a run.

The fields are those of Kubeflow Trainer 2.2, pkg/apis/trainer/v1alpha1/trainjob_types.go, and of
SkyPilot's docs/source/reference/yaml-spec.rst and storage.rst.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.page_blocks import blocks
from tests.processes import finish, torchrun
from tests.train.machine.cluster import SETS, Job, free_port

pytestmark = pytest.mark.timeout(1800)

PAGE = Path(__file__).resolve().parents[3] / "train" / "elastic.md"
(SCRIPT,) = (block.text for block in blocks(PAGE) if block.language == "sh")
KUBEFLOW, SKYPILOT = (yaml.safe_load(b.text) for b in blocks(PAGE) if b.language == "yaml")
# Templates of fields. A dict has the allowed keys, a list the template of its elements; None: any
# value.
_POD: Any = {
    "containers": [{"name": None, "volumeMounts": [{"name": None, "mountPath": None}]}],
    "volumes": [{"name": None, "persistentVolumeClaim": {"claimName": None}, "emptyDir": None}],
}
_JOB: Any = {"name": None, "template": {"spec": {"template": {"spec": _POD}}}}
_PATCH: Any = {
    "manager": None,
    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [_JOB]}}},
}
_TRAINER = dict.fromkeys(("image", "command", "args", "env", "numNodes", "numProcPerNode"))
TRAINJOB: Any = {
    "apiVersion": None,
    "kind": None,
    "metadata": {"name": None},
    "spec": {
        "runtimeRef": {"name": None},
        "trainer": {**_TRAINER, "resourcesPerNode": {"limits": None}},
        "runtimePatches": [_PATCH],
    },
}
_MOUNT = dict.fromkeys(("name", "source", "store", "persistent", "mode"))
SKY_TASK: Any = {
    "name": None,
    "num_nodes": None,
    "resources": {
        "accelerators": None,
        "use_spot": None,
        "job_recovery": {"strategy": None, "max_restarts_on_errors": None},
    },
    "envs": None,
    "file_mounts": {"/storage/data": _MOUNT, "/storage/runs": _MOUNT},
    "setup": None,
    "run": None,
}


def _check_fields(found: Any, known: Any, at: str = "") -> None:
    if isinstance(known, dict):
        assert set(found) <= set(known), at
        for name, value in found.items():
            _check_fields(value, known[name], f"{at}.{name}")
    elif isinstance(known, list):
        for one in found:
            _check_fields(one, known[0], f"{at}[]")


def test_the_fields_are_those_of_the_published_interfaces() -> None:
    _check_fields(KUBEFLOW, TRAINJOB)
    kind = (KUBEFLOW["apiVersion"], KUBEFLOW["kind"])
    assert kind == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", KUBEFLOW["metadata"]["name"])
    assert all(isinstance(word, str) for word in KUBEFLOW["spec"]["trainer"]["args"])
    (patch,) = KUBEFLOW["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert job["name"] == pod["containers"][0]["name"] == "node"  # of torch-distributed
    mounted = {one["name"] for one in pod["containers"][0]["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    _check_fields(SKYPILOT, SKY_TASK)
    assert SKYPILOT["file_mounts"]["/storage/runs"]["mode"] == "MOUNT_CACHED"
    assert all(isinstance(value, str) for value in SKYPILOT["envs"].values())


@pytest.mark.parametrize("text", [SCRIPT, SKYPILOT["run"], SKYPILOT["setup"]])
def test_the_shell_reads_the_scripts(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_of_slurm_come_before_the_first_command() -> None:
    """sbatch reads #SBATCH lines up to the first line that is no comment."""
    first, *rest = SCRIPT.splitlines()
    assert first == "#!/bin/bash"
    ends = next(i for i, line in enumerate(rest) if line and not line.startswith("#"))
    assert not [line for line in rest[ends:] if line.startswith("#SBATCH")]
    assert "#SBATCH --signal=B:USR1@180" in rest[:ends]


@pytest.fixture(scope="module")
def undisturbed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    sets = [word for text in SETS for word in ("--set", text)]
    finish(torchrun(2, "-m", "slipform.train.cli", shapes, "--out", run, *sets))
    return run


@pytest.mark.slow
def test_slurm(shapes: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The shell gets USR1, and the job requeues itself."""
    number = free_port(20000 + os.getpid() % 19000) - 20000
    (tmp_path / "job.sh").write_text(SCRIPT)
    sets = [word for text in SETS for word in ("--set", text)]
    variables = {
        "SLURM_JOB_ID": str(number), "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_NODELIST": "node[1-1]",
    }  # fmt: skip
    job = Job(tmp_path, ["bash", "job.sh", str(shapes), *sets], variables)
    run = tmp_path / "runs" / str(number)
    assert job.stop_and_continue(run, signal.SIGUSR1, undisturbed) == 0  # of scontrol
    assert (tmp_path / "scancel.log").read_text() == f"--signal=TERM {number}\n"
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {number}\n"


@pytest.mark.slow
def test_kubeflow(shapes: Path, undisturbed: Path, tmp_path: Path) -> None:
    """torchrun gets TERM, as in a deleted pod. A new pod continues."""
    trainer = KUBEFLOW["spec"]["trainer"]
    words = [word for word in trainer["command"] + trainer["args"] if "--recipe" not in word]
    words = [word.replace("/storage/data/caltech101", str(shapes)) for word in words]
    words = [word.replace("/storage", str(tmp_path)) for word in words]
    variables = {
        "PET_NNODES": "1", "PET_NPROC_PER_NODE": "2", "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port()),
    }  # fmt: skip
    job = Job(tmp_path, [*words, *(f"--set={text}" for text in SETS)], variables)
    assert job.stop_and_continue(tmp_path / "runs/first", signal.SIGTERM, undisturbed) != 0


@pytest.mark.slow
def test_skypilot(shapes: Path, undisturbed: Path, tmp_path: Path) -> None:
    """torchrun gets TERM. New machines run the same command."""
    text = SKYPILOT["run"].replace("29500", str(free_port()))
    text = text.replace("/storage/data/caltech101", str(shapes)).replace("/storage", str(tmp_path))
    text = text.replace("--recipe caltech101/alexnet-scratch", "").rstrip()
    text += "".join(f" --set {setting}" for setting in SETS)
    variables = {
        "SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": "2",
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
    }  # fmt: skip
    job = Job(tmp_path, ["bash", "-c", f"exec {text}"], variables)
    assert job.stop_and_continue(tmp_path / "runs/first", signal.SIGTERM, undisturbed) != 0
