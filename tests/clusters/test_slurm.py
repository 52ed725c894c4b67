"""slurm.sbatch on two nodes of a Slurm: the signal before the time limit, queued again, and on to the end without anybody."""

import shlex
import sys

import pytest

from tests.clusters.machines import network
from tests.clusters.tiny import NO_MEMORY_MONITOR, OPTIONS, PATIENCE, outcome, wait_for
from tests.waiting import wait_until

pytestmark = pytest.mark.clusters

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
CONFIGURATION = """
ClusterName=test
SlurmctldHost=first
SlurmUser=root
AuthInfo=cred_expire=5  # a job that is queued again waits for so many seconds
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=/var/spool/slurmd
StateSaveLocation=/var/spool/slurmctld
ReturnToService=2
NodeName=first,second CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL State=UP
"""
NODE = """
mkdir ~/.ray && mount --bind /shared/home ~/.ray  # as home directories are shared
mkdir -p /etc/slurm /var/spool/slurmd /var/spool/slurmctld && cp /shared/slurm.conf /etc/slurm
echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf
install -d -o munge -g munge /run/munge /var/lib/munge /var/log/munge /etc/munge
install -o munge -g munge -m 400 /shared/munge.key /etc/munge
runuser -u munge -- munged
"""


@pytest.fixture
def machines(tmp_path):
    """The first is the controller and a node, too."""
    with network(tmp_path, "first", "second", programs=PROGRAMS) as made:
        shared = tmp_path / "shared"
        (shared / "home").mkdir()
        (shared / "slurm.conf").write_text(CONFIGURATION)
        (shared / "munge.key").write_bytes(bytes(range(128)))
        for machine in made.machines.values():
            machine.run(f"set -e\n{NODE}")
        first, second = made.machines.values()
        first.run("slurmctld && slurmd")
        second.run("slurmd")
        wait_until(lambda: first.run("sinfo --noheader --format '%T %D'").stdout.split() == ["idle", "2"])
        yield made


def test_a_job_near_its_time_limit_is_queued_again_and_goes_on_to_its_end(machines, alone):
    first = machines.machines["first"]
    first.path = f"{sys.prefix}/bin:{first.path}"
    shared = machines.directory / "shared"
    first.run(f"mkdir /shared/checkout && ln -s {sys.prefix} /shared/checkout/.venv")
    first.run(
        "psf-search cluster init slurm --fill partition=main --fill shared-directory=/shared --out /shared/checkout/job"
    )
    script = shared / "checkout" / "job"
    text = script.read_text()
    for old, new in {
        "--cpus-per-task=8": "--cpus-per-task=2",
        "#SBATCH --gpus-per-node=1\n": "",
        "--mem=32G": "--mem=2G",
        "--preset full": shlex.join(OPTIONS),  # lanes come as nodes do
        " --set resources.gpus_per_worker=0.25": "",
    }.items():
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    said = first.run("cd /shared/checkout && psf-search cluster check job").stdout
    assert "not checked" not in said  # sbatch --test-only says that it would run

    job = first.run(f"cd /shared/checkout && {NO_MEMORY_MONITOR} sbatch --parsable job").stdout.strip()
    log = shared / "checkout" / f"psf-search-{job}.log"
    state = f"squeue --noheader --job {job} --format %T"
    wait_for(log, "[1/")
    first.run(f"scancel --signal=TERM --batch {job}")  # what --signal=B:TERM@120 sends, at a moment of ours
    wait_until(lambda: first.run(state, check=False).stdout.strip() in ("", "COMPLETED", "FAILED", "TIMEOUT"), PATIENCE)
    assert "ExitCode=0:0" in first.run(f"scontrol show job {job}").stdout, log.read_text()
    assert "Restarts=1" in first.run(f"scontrol show job {job}").stdout
    assert outcome(shared) == alone
    assert not list((shared / "home").iterdir())  # the token was the job's
    wait_until(lambda: not any(machine.rays() for machine in machines.machines.values()), PATIENCE)
