"""Launch files: the shipped ones are sound, and mistakes in them are told with their line, before any machine is paid for."""

import re
from pathlib import Path

import pytest

import search.clusters
from search.clusters.check import check
from search.clusters.launch_file import PLACEHOLDER
from search.clusters.planned import assignments, expand
from spaces.errors import SpaceError

FOLDER = Path(search.clusters.__file__).parent
FILES = (
    "local.yaml",
    "aws.yaml",
    "gcp.yaml",
    "azure.yaml",
    "raycluster.yaml",
    "rayjob.yaml",
    "sky.yaml",
    "slurm.sbatch",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Of a user without a token, on a machine without a Slurm, whose answer would depend on it."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def filled(name):
    """A shipped file with all placeholders filled in."""
    return PLACEHOLDER.sub(
        lambda found: f"/{found[0][1:-1]}" if "directory" in found[0] else found[0][1:-1], (FOLDER / name).read_text()
    )


def checked(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return check(path)


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_is_sound_once_it_is_filled_in(name, tmp_path):
    assert checked(tmp_path, name, filled(name)).findings == []
    report = check(FOLDER / name)
    assert report.findings
    assert all(PLACEHOLDER.search(finding.message) for finding in report.findings)


# File, what stands there, what is written in its place, what is said of its line.
PLANTED = [
    # The words of Ray, of its providers, and of the clouds
    ("local.yaml", "cluster_name:", "cluster_nam:", "cluster_nam: unknown key; did you mean 'cluster_name'"),
    ("local.yaml", "  worker_ips:", "  worker_ip:", "provider.worker_ip: unknown key; did you mean 'worker_ips'"),
    ("local.yaml", "[worker-1, worker-2]", "[worker-1, worker-1]", "worker-1 stands 2 times in head_ip and worker_ips"),
    ("local.yaml", "[worker-1, worker-2]", "[worker-1, head]", "head stands 2 times in head_ip and worker_ips"),
    ("local.yaml", "  ssh_user: user", "  ssh_usr: user", "auth.ssh_usr: unknown key; did you mean 'ssh_user'"),
    ("aws.yaml", "  cache_stopped_nodes:", "  cache_stoped_nodes:", "did you mean 'cache_stopped_nodes'"),
    ("aws.yaml", "      InstanceType: m7i", "      InstanceTyp: m7i", "did you mean 'InstanceType'"),
    ("aws.yaml", "g6.2xlarge", "g6.2xlrge", "did you mean 'g6.2xlarge'"),
    ("aws.yaml", "VolumeSize: 100, VolumeType: gp3}}\n  gpu", "VolumeSiz: 100, VolumeType: gp3}}\n  gpu", "did you mean 'VolumeSize'"),
    ("aws.yaml", "head_node_type: head", "head_node_type: haed", "head_node_type"),
    ("aws.yaml", "    max_workers: 2\n", "    max_worker: 2\n", "did you mean 'max_workers'"),
    ("gcp.yaml", "  project_id:", "  projectid:", "did you mean 'project_id'"),
    ("gcp.yaml", "machineType: g2", "machinetype: g2", "did you mean 'machineType'"),
    ("gcp.yaml", "provisioningModel: SPOT", "provisioningModel: SPOTS", "did you mean 'SPOT'"),
    ("azure.yaml", "  resource_group:", "  resourcegroup:", "did you mean 'resource_group'"),
    ("azure.yaml", "        priority: Spot", "        prioritty: Spot", "did you mean 'priority'"),
    # Kubernetes and KubeRay
    ("raycluster.yaml", "accessModes: [ReadWriteMany]", "accessMode: [ReadWriteMany]", "did you mean 'accessModes'"),
    ("raycluster.yaml", "accessModes: [ReadWriteMany]", "accessModes: [ReadWriteOnce]", "need ReadWriteMany"),
    ("raycluster.yaml", "      minReplicas: 2", "      minReplica: 2", "did you mean 'minReplicas'"),
    ("raycluster.yaml", "mountPath: /shared", "mountpath: /shared", "did you mean 'mountPath'"),
    ("raycluster.yaml", 'num-cpus: "0"', "num-cpus: 0", "expected string, but got 0"),
    ("raycluster.yaml", "rayVersion: 2.60.0", "rayVersion: 2.59.0", "must match to the patch"),
    ("raycluster.yaml", "authOptions: {mode: token}", "authOptions: {mode: disabled}", "no token is asked for"),
    ("raycluster.yaml", "dashboard-host: 127.0.0.1", "dashboard-host: 0.0.0.0", "every Pod of the cluster reaches it"),
    ("rayjob.yaml", "  backoffLimit: 3", "  backofflimit: 3", "did you mean 'backoffLimit'"),
    ("rayjob.yaml", "SidecarMode  #", "K8sJobMode  #", "kuberay #3928"),
    ("rayjob.yaml", "restartPolicy: Never", "restartPolicy: Always", "SidecarMode needs Never"),
    ("rayjob.yaml", "persistentVolumeClaim: {claimName: psf-search-shared}", "emptyDir: {}", "storage that all share"),
    # SkyPilot and Slurm
    ("sky.yaml", "num_nodes: 2", "num_node: 2", "did you mean 'num_nodes'"),
    ("sky.yaml", "  accelerators: L4:1", "  accelerator: L4:1", "did you mean 'accelerators'"),
    ("sky.yaml", '"$head:6379" --out', "auto --out", "finds SkyPilot's own Ray"),
    ("sky.yaml", "    sleep 10", "    ray stop", "`ray stop` also ends SkyPilot's own Ray"),
    ("slurm.sbatch", "#SBATCH --cpus-per-task=8", "#SBATCH --cpu-per-task=8", "did you mean 'cpus-per-task'"),
    ("slurm.sbatch", "--signal=B:TERM@120", "--signal=TERM@120", "B:TERM@120"),
    ("slurm.sbatch", "trap '' TERM", "trap '' TERM; ray stop", "those of other jobs"),
    ("slurm.sbatch", "#SBATCH --open-mode", "#SBATCH --no-kill --open-mode", "--no-kill: a job whose first node fails"),
    # Commands
    ("local.yaml", "  - mountpoint -q /shared", "  - test -n 'a # b' && mountpoint -q /shared", "YAML cuts the command off before"),
    ("local.yaml", "  - mountpoint -q /shared", "  - mountpoint -q '/shared", "bash: unexpected EOF"),
    ("aws.yaml", "    chmod +x ~/search", "    if true; then", "bash: syntax error"),
    ("slurm.sbatch", 'exit "$code"', 'exit "$code")', "bash: syntax error"),
    # The search
    ("local.yaml", "--preset standard", "--preset standart", "--preset standart"),
    ("aws.yaml", "--resume-or-start", "--resume-or-strat", "No such option: --resume-or-strat"),
    ("gcp.yaml", "gpus_per_worker=0.25", "gpu_per_worker=0.25", "did you mean 'gpus_per_worker'"),
    ("gcp.yaml", "gpus_per_worker=0.25", "gpus_per_worker=2", "no node has them"),
    ("azure.yaml", "gpus_per_worker=0.25", "lanes=400", "asks for 400 CPUs"),
    ("rayjob.yaml", "--out /shared/runs", "--out /data/runs", "--out /data/runs: is not on storage"),
    ("sky.yaml", "--cache /shared/cache", "--cache cache", "is below a directory of this node alone"),
    ("slurm.sbatch", '--out "$SHARED/runs"', "--out /tmp/runs", "is each node's own"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "there", "planted", "says"), PLANTED, ids=[f"{one[0]}: {one[2]}" for one in PLANTED])
def test_a_planted_mistake_is_told_with_its_line(name, there, planted, says, tmp_path):
    text = filled(name)
    assert text.count(there) >= 1
    report = checked(tmp_path, name, text.replace(there, planted, 1))
    told = [finding for finding in report.findings if says in finding.message]
    assert told, report.findings
    line = text.count("\n", 0, text.index(ELSEWHERE.get(says, there))) + 1
    assert told[0].line == line


# Where a mistake is told that is one of a whole command, or known at another place.
ELSEWHERE = {
    "head_node_type": "provider:",
    "no node has them": "bin/psf-search run",
    "storage that all share": "          volumes: ",
    "bash: syntax error: unexpected end": "    chmod +x ~/search",
}


# What is left out, and what is said of which line.
MISSING = [
    ("local.yaml", "RAY_enable_autoscaler_v2=0", "ray start --head", "autoscaler v2"),
    ("local.yaml", "RAY_AUTH_MODE=token RAY_e", "ray start --head", "no token is asked for"),
    ("local.yaml", "unset OMP_NUM_THREADS RAY", "ray start --head", "OMP_NUM_THREADS=1"),
    ("local.yaml", "  - chmod 600 ~/.ray/auth_token\n", "  ~/.ray/auth_token:", "keeps its mode, 0644"),
    ("local.yaml", "  ~/.ray/auth_token: ~/.ray/auth_token\n", "file_mounts:", "the token is not copied"),
    ("local.yaml", "  - mountpoint -q /shared\n", "--address auto", "is not on storage that all nodes share"),
    ("aws.yaml", ">> ~/.bashrc", "setup_commands:", "login shell's PATH"),
    ("aws.yaml", "    min_workers: 2\n", "  gpu:", "Ray never adds workers"),
    ("gcp.yaml", "--num-cpus=0 ", "ray start --head", "add --num-cpus=0"),
    ("gcp.yaml", "--set resources.gpus_per_worker=0.25", "psf-search run", "GPUs that the search does not use"),
    ("rayjob.yaml", "--resume-or-start", "psf-search run", "backoffLimit starts the command again"),
    ("rayjob.yaml", "  shutdownAfterJobFinishes: true\n", "spec:\n  entrypoint", "cost money after the job's end"),
    ("sky.yaml", "--resume-or-start", "psf-search run", "spot machines starts the command again"),
    ("slurm.sbatch", "trap 'kill", "#SBATCH --signal", "no `trap ... TERM`"),
    ("slurm.sbatch", " = RUNNING", 'if [ "$code" = 143 ]', "brings back a job that `scancel` ends"),
    ("slurm.sbatch", "--num-cpus=", "exec ray start --head", "the CPUs of the machine, not the job's"),
    ("slurm.sbatch", "RAY_TMPDIR=", "exec ray start --head", "would share /tmp/ray"),
    ("slurm.sbatch", '--address "$HEAD:$PORT"', "psf-search run --space", "--address: missing"),
]


@pytest.mark.parametrize(("name", "left_out", "place", "says"), MISSING, ids=[f"{one[0]}: {one[1]}" for one in MISSING])
def test_what_is_missing_is_told_where_it_belongs(name, left_out, place, says, tmp_path):
    text = filled(name).replace(left_out, "", 1)
    told = [finding for finding in checked(tmp_path, name, text).findings if says in finding.message]
    assert told
    line = text.count("\n", 0, without_comments(text).index(place)) + 1
    assert told[0].line == line


def without_comments(text):
    return re.sub(r"^# .*$", lambda found: " " * len(found[0]), text, flags=re.MULTILINE)


def test_a_token_that_others_can_read(tmp_path, home):
    token = home / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("0" * 64)
    token.chmod(0o644)
    (finding,) = checked(tmp_path, "local.yaml", filled("local.yaml")).findings
    assert "chmod 600" in finding.message
    token.chmod(0o600)
    assert not checked(tmp_path, "local.yaml", filled("local.yaml")).findings


def test_a_checkout_that_is_in_use_is_not_copied(tmp_path):
    (tmp_path / "checkout" / ".venv").mkdir(parents=True)
    text = filled("aws.yaml").replace("~/psf-search: clone", f"~/psf-search: {tmp_path}/checkout")
    (finding,) = checked(tmp_path, "aws.yaml", text).findings
    assert ".venv" in finding.message
    assert finding.line == text.count("\n", 0, text.index("~/psf-search: ")) + 1


NO_CONFIGURATION = """sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source"""
NO_PARTITION = """sbatch: error: invalid partition specified: partition
allocation failure: Invalid partition name specified"""


@pytest.mark.parametrize(
    ("says", "to_mend", "not_checked"),
    [
        (NO_CONFIGURATION, [], ["Could not establish a configuration source"]),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", [], ["connect failure"]),
        (NO_PARTITION, ["Invalid partition name specified"], []),
    ],
)
def test_what_slurm_says_counts_where_there_is_one(says, to_mend, not_checked, tmp_path, monkeypatch):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}")
    report = checked(tmp_path, "slurm.sbatch", filled("slurm.sbatch"))
    for told, wanted in ((report.unchecked, not_checked), ([one.message for one in report.findings], to_mend)):
        assert len(told) == len(wanted)
        assert all(words in said for words, said in zip(wanted, told, strict=True))


@pytest.mark.parametrize(
    "secret",
    ["export RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef", "aws_key: AKIAIOSFODNN7EXAMPLE", 'WANDB_API_KEY: "0123456789abcdef0123"'],
)  # fmt: skip
def test_a_secret_in_the_file(secret, tmp_path):
    text = filled("slurm.sbatch") + f": {secret}\n"
    last = text.count("\n")
    assert [
        (one.line, "a secret stands in the file" in one.message) for one in checked(tmp_path, "s", text).findings
    ] == [(last, True)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\n", "file:2: not valid YAML"),
        ("run: x\nrun: y\n", "file:2: not valid YAML: found duplicate key"),
        ("a: 1\n", "is none of ray up, KubeRay, SkyPilot"),
        ("", "is none of ray up, KubeRay, SkyPilot"),
    ],
)
def test_what_is_no_launch_file(text, says, tmp_path):
    with pytest.raises(SpaceError, match="file") as error:
        checked(tmp_path, "file", text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ("#SBATCH --gpus-per-node=1", 1),
        ("#SBATCH --gres=gpu:a100", 1),
        ("#SBATCH --gres=lustre:2,gpu:h100:4", 4),
        ("#SBATCH --exclusive --gpus-per-node a100:2  # of them", 2),
        ("#SBATCH -G8", 4),
    ],
)
def test_gpus_that_slurm_is_asked_for(asked, gpus, tmp_path):
    """The two nodes of the script hold so many workers with a GPU each, and no more."""
    text = filled("slurm.sbatch").replace("#SBATCH --gpus-per-node=1", asked)
    text = text.replace("#SBATCH --nodes=2\n", "#SBATCH -N2 -J psf-search\n")
    for lanes, sound in ((2 * gpus, True), (2 * gpus + 1, False)):
        wanted = text.replace("gpus_per_worker=0.25", f"gpus_per_worker=1 --set resources.lanes={lanes}")
        assert (not checked(tmp_path, "slurm.sbatch", wanted).findings) is sound


@pytest.mark.parametrize(
    ("replicas", "pods"),
    [
        ({"replicas": 3, "minReplicas": 1, "maxReplicas": 4}, 3),
        ({"minReplicas": 2, "maxReplicas": 4}, 2),
        ({"replicas": 5, "maxReplicas": 4}, 4),
        ({"replicas": 2, "numOfHosts": 2}, 4),
    ],
)
def test_pods_that_kuberay_starts(replicas, pods, tmp_path):
    """Of 8 CPUs each: they hold so many workers of 7, and no more."""
    there = "        replicas: 2\n        minReplicas: 2\n        maxReplicas: 2\n"
    text = filled("rayjob.yaml").replace(there, "".join(f"        {key}: {one}\n" for key, one in replicas.items()))
    for lanes, sound in ((pods, True), (pods + 1, False)):
        asked = f"gpus_per_worker=0 --set resources.cpus_per_worker=7 --set resources.lanes={lanes}"
        wanted = text.replace("gpus_per_worker=0.25", asked).replace(', nvidia.com/gpu: "1"', "")
        assert (not checked(tmp_path, "rayjob.yaml", wanted).findings) is sound


def test_machines_to_choose_from_are_not_counted(tmp_path):
    text = filled("sky.yaml").replace("  accelerators: L4:1", "  any_of: [{accelerators: L4:1}, {accelerators: T4:4}]")
    report = checked(tmp_path, "sky.yaml", text)
    assert report.findings == []
    assert any("how many CPUs and GPUs" in one for one in report.unchecked)


def test_a_job_on_a_cluster_that_is_not_in_the_file(tmp_path):
    head, _, _ = filled("rayjob.yaml").partition("  rayClusterSpec:")
    report = checked(tmp_path, "rayjob.yaml", head + "  clusterSelector: {ray.io/cluster: ours}\n")
    assert report.findings == []
    assert any("clusterSelector" in one for one in report.unchecked)


def test_a_search_that_is_only_asked_for_help_is_none(tmp_path):
    report = checked(tmp_path, "sky.yaml", "resources: {cpus: 8}\nrun: psf-search run --help  # its options\n")
    assert report.findings == []
    assert any("no `psf-search run`" in one for one in report.unchecked)


def test_all_that_is_missing_is_told(tmp_path):
    told = [one.message for one in checked(tmp_path, "r", "apiVersion: ray.io/v1\nkind: RayCluster\n").findings]
    assert {"metadata: missing", "spec: missing"} <= {*told}


def test_variables_of_a_script():
    known = assignments("A=1\nexport B=\"two words\" C='3'\n# D=4\nif x; then E=5; fi\n")
    assert known == {"A": "1", "B": "two words", "C": "3", "E": "5"}
    assert expand("$A/${B}/$UNKNOWN", known) == "1/two words/$UNKNOWN"
