"""Whole searches on machines that are in their way: another program, no memory, no space, no home, no time."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from results.records import read_trials
from results.run_directory import RunDirectory
from tests.disks import fill, small_disk
from tests.processes import tree
from tests.results.test_database import WRITER, Holder
from tests.search.test_search import ROOT, TRIALS, command, new_run
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@contextmanager
def search(root, arguments, **options):
    """A search as a process; killed if the test has not waited for its end."""
    with (root / "errors").open("w") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=root, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def printed_until(process, text):
    """All that it prints up to a line with that text."""
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(printed)


def resumed(root, name):
    return command("--resume", name, "--out", root / "runs", "--cache", root / "cache")


def states(root, name):
    return [trial.state for trial in read_trials(RunDirectory(root / "runs" / name))]


def test_another_program_with_the_studys_lock_is_waited_for_and_then_named(tmp_path):
    study = tmp_path / "runs" / "locked" / "study.db"
    with search(tmp_path, new_run(tmp_path, "locked")) as process:
        printed_until(process, "[1/")
        holder = Holder(study, WRITER)
        printed_until(process, f"{study}: locked by process {holder.process.pid}")
        holder.let_go()
        printed_until(process, "[2/")
        holder = Holder(study, WRITER)
        rest = process.stdout.read()  # for a minute
        assert process.wait() == 1
        assert "--resume locked" in rest
        (error,) = (tmp_path / "errors").read_text().splitlines()
        assert f"{study}: locked" in error
        assert str(holder.process.pid) in error
        holder.let_go()
    assert len(states(tmp_path, "locked")) < TRIALS
    done = subprocess.run(resumed(tmp_path, "locked"), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(states(tmp_path, "locked")) == TRIALS


class Cgroup:
    """A cgroup of memory and CPUs, of either version."""

    def __init__(self):
        top, name = Path("/sys/fs/cgroup"), f"psf-search-{uuid.uuid4().hex[:8]}"
        v1 = (top / "memory").is_dir()
        self.path, self.of_cpus = (top / "memory" / name, top / "cpu" / name) if v1 else (top / name, top / name)
        self.names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
        if not v1:
            self.names = ("memory.max", "memory.current", "memory.events")
        self.paths = {self.path, self.of_cpus}
        for path in self.paths:
            path.mkdir()

    def limit_cpus(self, number):
        quota = self.of_cpus / "cpu.cfs_quota_us"
        if quota.exists():
            quota.write_text(str(100_000 * number))
        else:
            (self.of_cpus / "cpu.max").write_text(f"{100_000 * number} 100000")

    def limit(self, size):
        with suppress(OSError):  # version 1 refuses less than what cannot be given back
            (self.path / self.names[0]).write_text(str(size))

    def used(self):
        return int((self.path / self.names[1]).read_text())

    def kills(self):
        return int(dict(line.split() for line in (self.path / self.names[2]).read_text().splitlines())["oom_kill"])

    def around(self, arguments):
        enter = " && ".join(f"echo $$ > {path}/cgroup.procs" for path in self.paths)
        return ["sh", "-c", f'{enter} && exec "$@"', "sh", *arguments]

    def remove(self):
        for pid in (self.path / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not (self.path / "cgroup.procs").read_text())
        for path in self.paths:
            path.rmdir()


@pytest.fixture
def cgroup():
    try:
        made = Cgroup()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield made
    made.remove()


GROWING = "import sys; held = [bytearray(b'x' * 2**24) for line in sys.stdin]"
"""A program that takes 16 MB of memory for each line it reads. Ray's workers are killed before it: Ray asks the kernel for that."""


def test_a_worker_killed_for_memory_costs_nothing_but_time(tmp_path, cgroup):
    """There is memory for one lane of two, which is said. Then another program wants it, and the kernel kills a process of Ray's."""
    size = 2400 * 2**20
    cgroup.limit(size)
    with search(tmp_path, cgroup.around(new_run(tmp_path, "killed", "budget.quick.steps=400"))) as process:
        assert "1 lanes instead of 2" in printed_until(process, "on 1 lane")
        printed_until(process, "[1/")

        cgroup.limit(cgroup.used())
        with subprocess.Popen(cgroup.around([sys.executable, "-c", GROWING]), stdin=subprocess.PIPE) as other:
            assert other.stdin is not None
            lines = other.stdin

            def killed():
                with suppress(BrokenPipeError):
                    lines.write(b"\n")
                    lines.flush()
                return cgroup.kills()

            wait_until(killed)
            other.kill()
        cgroup.limit(size)
        rest = process.stdout.read()
        assert process.wait() == 0, rest + (tmp_path / "errors").read_text()
    found = states(tmp_path, "killed")
    assert len(found) == TRIALS
    assert set(found) <= {"COMPLETE", "PRUNED"}


def test_a_search_takes_the_cpus_and_the_memory_of_its_cgroup(tmp_path, cgroup):
    """One CPU of all, and 3 GB: one lane, which is said, and it comes to its end."""
    cgroup.limit_cpus(1)
    cgroup.limit(3 * 10**9)
    with search(tmp_path, cgroup.around(new_run(tmp_path, "small"))) as process:
        said = printed_until(process, "on 1 lane")
        assert "the search may use 1 CPU (the cgroup's quota)" in said
        rest = process.stdout.read()
        assert process.wait() == 0, rest + (tmp_path / "errors").read_text()
    assert "warning" not in said + rest
    assert cgroup.kills() == 0
    assert len(states(tmp_path, "small")) == TRIALS


@pytest.mark.parametrize("moment", ["[1/", "training finalists", "judging"])
def test_a_full_disk_ends_the_search_with_its_name_and_the_search_goes_on_once_there_is_space(tmp_path, moment):
    with small_disk(tmp_path / "runs", 2**27) as disk, search(tmp_path, new_run(tmp_path, "full")) as process:
        printed_until(process, moment)
        filler = fill(disk)
        rest = process.stdout.read()
        assert process.wait() == 1, rest
        (error,) = (tmp_path / "errors").read_text().splitlines()
        assert f"no space left on the disk at {disk} (" in error
        assert "--resume full" in rest
        assert "no finalist" not in rest
        filler.unlink()
        done = subprocess.run(resumed(tmp_path, "full"), capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(states(tmp_path, "full")) <= {"COMPLETE", "PRUNED"}


def test_a_full_disk_under_the_cache_is_named(tmp_path):
    with small_disk(tmp_path / "cache", 2**15) as disk:
        done = subprocess.run(new_run(tmp_path, "full"), capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 1
        (error,) = done.stderr.splitlines()
        assert f"no space left on the disk at {disk} (" in error
        assert "MB needed" in error


def group_of(pid):
    with suppress(ProcessLookupError):
        return os.getpgid(pid)


SUSPENDED = 180.0
"""Seconds: longer than any time after which Ray takes a process for dead."""


@pytest.mark.parametrize("whole", [True, False], ids=["all", "Ctrl-Z"])
def test_a_search_that_is_suspended_for_minutes_goes_on_where_it_was(tmp_path, whole):
    """All of its processes, as a batch system does it; or the terminal's group, in which Ray's own are not."""

    def processes():
        group = {pid for pid in tree(process.pid) if group_of(pid) == process.pid}
        return tree(process.pid) if whole else group

    arguments = new_run(tmp_path, "suspended", "budget.quick.steps=1000")
    with search(tmp_path, arguments, process_group=0) as process:
        printed_until(process, "[1/")
        stopped: set[int] = set()
        while found := processes() - stopped:  # what one that is not yet stopped may have started
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= found
        time.sleep(SUSPENDED)  # what is tested
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        rest = process.stdout.read()
        assert process.wait() == 0, rest + (tmp_path / "errors").read_text()
    assert "warning" not in rest
    found = states(tmp_path, "suspended")
    assert len(found) == TRIALS
    assert set(found) <= {"COMPLETE", "PRUNED"}


def test_no_home_and_a_read_only_program(tmp_path):
    """Caches go elsewhere, which is said; nobody makes the home directory."""
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", read_only, str(ROOT)]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        prefix = []
    (tmp_path / "tmp").mkdir()
    home = tmp_path / "none" / "home"
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(tmp_path / "tmp"), "RAY_TMPDIR": "/tmp"}
    for variable in (
        "NUMBA_CACHE_DIR",
        "MPLCONFIGDIR",
        "XDG_CACHE_HOME",
        "RAY_AUTH_MODE",
    ):  # Ray sets its own in this process
        environment.pop(variable, None)
    arguments = [*prefix, *new_run(tmp_path, "homeless")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(home) in done.stderr
    assert str(tmp_path / "tmp" / f"psf-search-{os.getuid()}") in done.stderr
    assert not home.parent.exists()


def test_rays_own_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path / "file")}
    arguments = new_run(tmp_path, "nowhere")
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert str(tmp_path / "file") in error
    assert "RAY_TMPDIR" in error
