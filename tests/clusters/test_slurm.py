"""slurm.sbatch on two nodes of a Slurm: its time limit, a first node that loses its power and its disk, and on to the end without anybody."""

import shlex
import sys

import pytest

from tests.clusters.machines import network
from tests.clusters.tiny import NO_MEMORY_MONITOR, OPTIONS, PATIENCE, outcome
from tests.waiting import wait_until

pytestmark = pytest.mark.clusters

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
CONFIGURATION = """
ClusterName=test
SlurmctldHost=controller
SlurmUser=root
AuthInfo=cred_expire=5  # a job that is queued again waits for so many seconds
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdTimeout=15
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
def cluster(tmp_path):
    with network(tmp_path, "first", "second", "controller", programs=PROGRAMS) as made:
        shared = tmp_path / "shared"
        (shared / "home").mkdir()
        (shared / "slurm.conf").write_text(CONFIGURATION)
        (shared / "munge.key").write_bytes(bytes(range(128)))
        for machine in made.machines.values():
            machine.path = f"{sys.prefix}/bin:{machine.path}"
            machine.run(f"set -e\n{NODE}")
        made.machines["controller"].run("slurmctld")
        for name in ("first", "second"):
            made.machines[name].run("slurmd")
        wait_until(lambda: ask(made, "sinfo --noheader --format '%T %D'").split() == ["idle", "2"])
        yield made


def ask(cluster, command):
    """What the controller answers."""
    return cluster.machines["controller"].run(command, check=False).stdout


def script_of(cluster):
    """The shipped script with a tiny search in it, for nodes of two CPUs."""
    controller, checkout = cluster.machines["controller"], cluster.directory / "shared" / "checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    fill = "--fill partition=main --fill shared-directory=/shared"
    controller.run(f"psf-search cluster init slurm {fill} --out /shared/checkout/job")
    text = (checkout / "job").read_text()
    for old, new in {
        "--cpus-per-task=8": "--cpus-per-task=2",
        "#SBATCH --gpus-per-node=1\n": "",
        "--mem=32G": "--mem=2G",
        "--preset full": shlex.join(OPTIONS),  # lanes come as nodes do
        " --set resources.gpus_per_worker=0.25": "",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (checkout / "job").write_text(text)
    said = controller.run("cd /shared/checkout && psf-search cluster check job").stdout
    assert "not checked" not in said  # sbatch --test-only says that it would run
    return checkout


def near_its_time_limit(cluster, job):
    """Its limit is moved to two minutes from now, where Slurm tells it within half a minute; training is held for so long."""
    nodes = [cluster.machines[name] for name in ("first", "second")]
    for node in nodes:
        node.run("pkill -STOP -f ray::RayTrainWorker", check=False)
    *_, hours, minutes, seconds = map(
        int, f"0:0:{ask(cluster, f'squeue --noheader --job {job} --format %M')}".split(":")
    )
    run = 60 * (60 * hours + minutes) + seconds
    cluster.machines["controller"].run(f"scontrol update JobId={job} TimeLimit={round((run + 120) / 60)}")
    return nodes


def test_a_job_goes_on_after_its_time_limit_and_a_power_cut(cluster, alone):
    shared, checkout = cluster.directory / "shared", script_of(cluster)
    controller = cluster.machines["controller"]
    job = controller.run(f"cd /shared/checkout && {NO_MEMORY_MONITOR} sbatch --parsable job").stdout.strip()
    log = checkout / f"psf-search-{job}.log"

    def printed(text, times=1):
        wait_until(lambda: log.exists() and log.read_text().count(text) >= times, PATIENCE)

    try:
        printed("[1/")
        nodes = near_its_time_limit(cluster, job)
        second_driver = controller.run(
            "psf-search run --resume triplet --out /shared/runs --cache /shared/cache", check=False
        )
        assert second_driver.returncode == 1
        assert "triplet" in second_driver.stderr + second_driver.stdout
        printed("CANCELLED")  # by slurmstepd, of the signal
        for node in nodes:
            node.run("pkill -CONT -f ray::RayTrainWorker", check=False)
        controller.run(f"scontrol update JobId={job} TimeLimit=600")

        printed("searching: ", times=2)
        cluster.machines["first"].cut_power()  # the head, the driver and its disk
        wait_until(lambda: "Restarts=2" in ask(cluster, f"scontrol show job {job}"), PATIENCE)
        first = cluster.boot("first")
        first.run(f"set -e\n{NODE}\nslurmd")

        wait_until((shared / "runs" / "triplet" / "summary.json").exists, PATIENCE)
        wait_until(lambda: not ask(cluster, f"squeue --noheader --job {job}"), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{log.read_text() if log.exists() else ''}\n{ask(cluster, 'squeue; sinfo')}") from None
    assert "ExitCode=0:0" in ask(cluster, f"scontrol show job {job}"), log.read_text()
    assert outcome(shared) == alone
    assert not list((shared / "home").iterdir())  # the token was the job's
    wait_until(lambda: not any(machine.rays() for machine in cluster.machines.values()), PATIENCE)
