"""`ray up` with local.yaml, a search on it from outside, a machine that loses its power, `ray down`: as docs/clusters.md has it."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.clusters.machines import CHECKOUT, network
from tests.clusters.tiny import LANES, NO_MEMORY_MONITOR, OPTIONS, PATIENCE, outcome, wait_for
from tests.waiting import wait_until

pytestmark = pytest.mark.clusters


@pytest.fixture
def machines(tmp_path):
    installed = {Path(sys.prefix): Path.home() / "psf-venv"}  # `make setup` has nothing to do there
    with network(tmp_path, "user", "head", "worker", programs={"tmux": "tmux"}, seen=installed) as made:
        yield made


def test_a_search_outlives_a_machine_of_its_cluster(machines, alone):
    user, head, worker = machines.machines.values()
    shared = machines.directory / "shared"
    user.path = f"{sys.prefix}/bin:{user.path}"
    user.run(
        f"git clone --quiet {CHECKOUT} clone && touch --date=2000-01-01 clone/pyproject.toml clone/requirements.lock"
    )
    for machine in (head, worker):
        machine.run(f"echo export {NO_MEMORY_MONITOR} >> ~/.bashrc")
    user.run("ray get-auth-token --generate && chmod 600 ~/.ray/auth_token")
    fill = {"head": head.address, "worker-1": worker.address, "user": "root", "clone": "clone"}
    filled = " ".join(f"--fill {key}={value}" for key, value in fill.items())
    user.run(f"psf-search cluster init local {filled} && sed --in-place 's/, <worker-2>//' local.yaml")
    user.run("psf-search cluster check local.yaml")

    user.run("ray up -y local.yaml")
    wait_until(lambda: "/raylet" in " ".join(worker.processes()), PATIENCE)
    wait_until(
        lambda: "ray start" not in " ".join(worker.processes()), PATIENCE
    )  # which returns once the head knows it

    doctor = "psf-search doctor --address auto --nodes 2 --wait 60 --out /shared/runs --cache /shared/cache"
    said = user.run(f"ray exec local.yaml {shlex.quote(doctor)}").stdout  # fails if any of it is an error
    assert "2 nodes: " in said

    stranger = user.run("ray exec local.yaml 'RAY_AUTH_TOKEN=wrong ./search --name strange'", check=False)
    assert stranger.returncode != 0
    assert "--address auto: " in stranger.stdout
    assert not (shared / "runs" / "strange" / "run.json").exists()

    search = f"{shlex.join(['./search', *OPTIONS, *LANES])} > /shared/log 2>&1; echo ended with $? >> /shared/log"
    user.run(f"ray exec local.yaml --tmux {shlex.quote(search)}")
    wait_for(shared / "log", "[1/")
    worker.cut_power()
    wait_for(shared / "log", "ended with 0")
    assert "warning: lane-" in (shared / "log").read_text()
    assert outcome(shared) == alone

    user.run("ray down -y local.yaml")
    wait_until(lambda: not head.rays())
