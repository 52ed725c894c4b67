"""Starting Ray where it does not come up in time: its raylet is suspended, as on a machine that is busy with something else."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys, threading
import ray
from results.run_directory import MachineError
from search import process
from tests.processes import own_processes
from tests.waiting import wait_until

process.TRIES, suspended = int(sys.argv[1]), set()

def raylets():
    return {pid for pid, title in own_processes().items() if "raylet/raylet" in title.partition(chr(0))[0]} - suspended

def suspend():
    wait_until(raylets)
    for pid in raylets():
        os.kill(pid, signal.SIGSTOP)
        suspended.add(pid)

thread = threading.Thread(target=suspend)
thread.start()
try:
    process.start_ray(said=lambda line: print("said:", line), num_cpus=2, include_dashboard=False)
    print("sum:", ray.get(ray.remote(lambda: 1 + 2).remote()))
    print("raylets:", len(raylets()))
    ray.shutdown()
except MachineError as error:
    print("error:", error)
thread.join()
wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in suspended))
print("none is left of the first try")
"""


def printed(tries):
    command = [sys.executable, "-c", PROGRAM, str(tries)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.splitlines()


def test_ray_is_started_again_and_nothing_of_the_first_try_stays():
    said, *rest = printed(2)
    assert said.startswith("said: warning: Ray did not start: ")
    assert rest == ["sum: 3", "raylets: 1", "none is left of the first try"]


def test_ray_that_never_comes_up_is_an_error_of_one_line():
    error, rest = printed(1)
    assert error.startswith("error: Ray did not start in 1 tries: ")
    assert rest == "none is left of the first try"
