"""The batch script hands Slurm's signal to the search, and queues the job again; Slurm and Ray are stood in for by one-liners."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.search.clusters.test_check import filled
from tests.waiting import wait_until

JOB = 7
PORT = 20000 + JOB * 4
# Says that it runs, and ends as a search does.
SEARCH = """echo "$@" > searching.part && mv searching.part searching
trap 'exit {code}' TERM
[ -z "$ENDS" ] || exit "$ENDS"
while :; do read -r -t 0.1 < pipe || true; done
"""


@pytest.fixture
def job(tmp_path):
    """Starts the script as Slurm would, with a search that ends with a code, or at SIGTERM with 143."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    script = tmp_path / "slurm.sbatch"
    script.write_text(filled("slurm.sbatch"))
    stand_ins = {
        "psf-search": SEARCH.format(code=143),
        "srun": 'test "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" = 600 && echo "$@" > srun.part && mv srun.part srun; exec sleep 60',
        "scontrol": 'echo "$@" > scontrol',
        "squeue": 'echo "$STATE"',
        "scancel": 'echo "$@" > scancel',
        "hostname": "echo localhost",
        "python": f'exec {sys.executable} "$@"',
    }
    for name, text in stand_ins.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    slurm = {"SUBMIT_DIR": tmp_path, "JOB_ID": JOB, "JOB_NUM_NODES": 2, "CPUS_PER_TASK": 8}
    variables = {f"SLURM_{name}": str(value) for name, value in slurm.items()}
    started = []

    def start(ends="", state="RUNNING"):
        process = subprocess.Popen(
            ["bash", script],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ENDS": ends, "STATE": state, **variables},
        )
        started.append(process)
        return process

    with socket.create_server(("localhost", PORT)):  # the head's Ray
        yield start
        for process in started:
            process.kill()


def test_a_job_at_its_time_limit_saves_and_queues_again(job, tmp_path):
    process = job()
    wait_until(lambda: all((tmp_path / name).exists() for name in ("searching", "srun")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert (tmp_path / "scontrol").read_text() == f"requeue {JOB}\n"
    assert f"--address localhost:{PORT}" in (tmp_path / "searching").read_text()
    assert "--cpus-per-task=8" in (tmp_path / "srun").read_text()
    assert f"{JOB}.0" in (tmp_path / "scancel").read_text()  # the nodes' step
    assert not [*(tmp_path / ".ray").iterdir()]  # the token is the job's


def test_a_job_that_is_cancelled_does_not_come_back(job, tmp_path):
    process = job(state="COMPLETING")
    wait_until((tmp_path / "searching").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize("code", [0, 1])
def test_a_search_that_ends_ends_the_job(job, code, tmp_path):
    assert job(str(code)).wait(timeout=60) == code
    assert not (tmp_path / "scontrol").exists()
