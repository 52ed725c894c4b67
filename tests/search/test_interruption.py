"""What asks a search to end, and how it does: in order, with its exit code and the command to go on; a second time at once."""

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from search.terminal import library_output_to
from tests.processes import tree
from tests.search.test_machines import printed_until, resumed, search, states
from tests.search.test_search import TRIALS, new_run
from tests.waiting import wait_until

ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PROGRAM = """
import os, signal, sys
from search.interruption import Interrupted, interruptible

with interruptible() as interruption:
    try:
        print("runs", flush=True)
        while True:
            signal.pause()
    except Interrupted:
        print("ends", flush=True)
        for line in sys.stdin:
            os.kill(os.getpid(), getattr(signal, line.strip()))
            print("goes on", flush=True)
sys.exit(interruption.exit_code)
"""


@pytest.fixture(autouse=True)
def heard():
    """Programs that are started hear SIGHUP, also where nohup has started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def program(*prefix, source=PROGRAM, **options):
    arguments = [*prefix, sys.executable, "-c", source]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_ends_a_program_with_the_code_that_shells_have_for_it(number):
    with program() as process:
        printed_until(process, "runs")
        process.send_signal(number)
        process.stdin.close()
        printed_until(process, "ends")
        assert process.wait() == 128 + number


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_second_signal_is_not_waited_for_but_a_terminal_may_be_lost_twice(second):
    with program() as process:
        printed_until(process, "runs")
        process.send_signal(signal.SIGHUP)
        process.stdin.write("SIGHUP\n")
        process.stdin.flush()
        printed_until(process, "goes on")
        process.stdin.write(f"{second}\n")
        process.stdin.close()
        assert process.wait() == -getattr(signal, second)


def test_what_nohup_started_outlives_its_terminal():
    with program("nohup") as process:
        printed_until(process, "runs")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.stdin.close()
        assert process.wait() == 128 + signal.SIGTERM


def test_the_first_process_of_a_container_ends_at_once_too():
    """The kernel spares it what other processes die of by default."""
    prefix = ["unshare", "--pid", "--fork"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no process namespace can be made here")
    source = PROGRAM.replace("signal.pause()", "os.kill(1, signal.SIGTERM)")
    with program(*prefix, source=source) as process:
        process.stdin.write("SIGTERM\nSIGKILL\n")
        process.stdin.close()
        assert process.stdout.read().split() == ["runs", "ends"]
        assert process.wait() == 128 + signal.SIGTERM


def test_what_a_lost_terminal_would_have_shown_is_in_the_log(tmp_path):
    ours, its = pty.openpty()
    saved = os.dup(1)
    os.dup2(its, 1)
    try:
        with library_output_to(tmp_path / "log") as terminal:
            terminal.write("there\n")
            assert os.read(ours, 100).split() == [b"there"]
            os.close(its)
            os.close(ours)
            terminal.write("lost\n")
            terminal.write("for good\n")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert (tmp_path / "log").read_text().split("\n")[:2] == ["lost", "for good"]


WITH_RAY = """
import os, signal, sys
import ray
from search.interruption import Interrupted, interruptible
from search.process import start_ray

with interruptible() as interruption:
    start_ray(num_cpus=1, include_dashboard=False)
    try:
        ask = os.killpg if sys.argv[2] == "group" else os.kill
        ask(os.getpid(), signal.Signals[sys.argv[1]])
        while True:
            signal.pause()
    except Interrupted:
        print(ray.get(ray.remote(lambda: "answers").remote()), signal.alarm(0), flush=True)
        ray.shutdown()
sys.exit(interruption.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "to"), [(signal.SIGTERM, "it"), (signal.SIGHUP, "group")])
def test_a_driver_of_ray_is_asked_in_the_same_way(number, to):
    """No alarm of Ray's is set then, and Ray still answers. That a terminal is lost is told to Ray's own processes too."""
    arguments = [sys.executable, "-c", WITH_RAY, number.name, to]
    done = subprocess.run(arguments, capture_output=True, text=True, start_new_session=True, check=False)
    assert (done.stdout, done.returncode) == ("answers 0\n", 128 + number), done.stderr


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of one node that `ray start` made."""
    home = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets' names are short
    ports = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("", 0))
            ports.append(str(one.getsockname()[1]))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus", "6"]
    command += ["--port", ports[0], "--ray-client-server-port", ports[1], "--temp-dir", home]
    command += ["--include-dashboard", "false", "--disable-usage-stats"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as head:
        printed_until(head, "Ray runtime started")
        yield f"127.0.0.1:{ports[0]}"
        its = tree(head.pid)
        head.terminate()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in its))
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("interruption")


LARGE = ["data.grid=[60, 60]", "data.rays=65536", "data.held_out_rays=524288"]
MOMENTS = {"rendering": ("rendering PSFs", LARGE), "trials": ("[1/", []), "finals": ("training finalists", [])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment", "joins"),
    [
        (signal.SIGTERM, "trials", False),
        (signal.SIGHUP, "finals", False),
        (signal.SIGTERM, "rendering", True),
        (signal.SIGHUP, "trials", True),
        (signal.SIGTERM, "finals", True),
    ],
)
def test_a_search_that_is_asked_to_end_says_how_to_go_on_and_goes_on(root, request, number, moment, joins):
    name = f"{moment}-{number.name}-{joins}"
    line, settings = MOMENTS[moment]
    more = ["--address", request.getfixturevalue("cluster")] if joins else []
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"} if joins else None
    with search(root, [*new_run(root, name, *settings), *more], process_group=0, env=environment) as process:
        printed_until(process, line)
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait() == 128 + number, rest + (root / "errors").read_text()
    assert f"--resume {name}" in rest
    if moment != "trials":
        return
    assert "RUNNING" not in states(root, name)
    arguments = [*resumed(root, name), *more]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(states(root, name)) == TRIALS


@pytest.mark.slow
def test_a_search_whose_ray_is_ended_by_the_same_signal_says_how_to_go_on(root):
    """As `timeout` and Slurm end all processes of a group, or of a job."""
    with search(root, new_run(root, "group"), process_group=0) as process:
        printed_until(process, "[1/")
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait() == 128 + signal.SIGTERM, rest + (root / "errors").read_text()
    assert "--resume group" in rest
    done = subprocess.run(resumed(root, "group"), capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(states(root, "group")) == TRIALS
