"""Lanes on several nodes, a scenario to a process: `python -m tests.trainables.lanes.on_nodes SCENARIO FOLDER`."""

import asyncio
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from results.records import read_trials
from results.run_directory import RunDirectory
from search.driver import TUNE_ENVIRONMENT, tune_trials
from search.limits import Limits
from search.observer import Observer
from search.searcher import open_ledger
from search.trial import TrialSettings
from spaces.loading import load
from tests.results.conftest import record_of
from tests.trainables.lanes.tasks import Counting, Staged
from tests.trainables.lanes.test_lane import assignment, make_data, reports, training
from tests.waiting import wait_until
from trainables.lanes import lanes as module
from trainables.lanes.lanes import START_TIMEOUT, Lanes, LanesLost, ray_environment

METRIC, STEPS, EVERY, TRIALS = "val/prior_rel_l2", 40, 10, 4
NAMESPACE = "nodes"


class Stage:
    """Where trials wait at half of their steps until the curtain rises."""

    def __init__(self):
        self._there, self._changed, self._open = set(), asyncio.Condition(), False

    async def arrive(self, trial):
        async with self._changed:
            self._there.add(trial)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._open)

    async def wait_for(self, trials):
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._there) >= trials)
            return set(self._there)

    async def open(self):
        async with self._changed:
            self._open = True
            self._changed.notify_all()


class StagedSettings(TrialSettings):
    """Trials whose training is a stop at the stage."""

    def of_trial(self, number, params):
        task = super().of_trial(number, params)
        return Staged(task.directory, task.report_steps, NAMESPACE, task.metric)


def start_cluster(head_cpus):
    os.environ.update(ray_environment() | TUNE_ENVIRONMENT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus, "include_dashboard": False})
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    return cluster


def nodes_come_and_go(folder):
    """A search begins on one node; another joins, trains, and leaves in the middle of a trial."""
    os.environ[START_TIMEOUT] = "4"
    cluster = start_cluster(head_cpus=1)  # too few for a lane, enough for the trials' own processes
    cluster.add_node(num_cpus=2)
    sizes = {"steps": STEPS, "grace_steps": EVERY, "evaluate_every": EVERY, "trials": TRIALS}
    changes = [*(f"budget.quick.{key}={value}" for key, value in sizes.items()), "sampler=random", "scheduler=none"]
    space = load("cvae_psf", changes)
    budget, run = space.budget["quick"], RunDirectory(folder / "nodes")
    run.create(record_of("nodes"))
    run.logs.mkdir(exist_ok=True)
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    stage = ray.remote(Stage).options(name="stage", num_cpus=0, max_concurrency=100, scheduling_strategy=here).remote()
    told = []

    with (
        Lanes(
            lanes=1,
            most=TRIALS,
            workers=1,
            cpus=2,
            gpus=0,
            spare_cpus=1,
            storage=run.lanes,
            logs=run.logs,
            told=lambda *what: told.append(what),
            poll=0.5,
        ) as lanes,
        closing(open_ledger(run.storage_url, run.name, space, budget)) as ledger,
        ThreadPoolExecutor(1) as beside,
    ):
        lanes.wait_ready()
        settings, limits = StagedSettings(space, budget, run, {}), Limits(budget, "min", ledger)
        searching = beside.submit(tune_trials, settings, ledger, lanes, Observer(), limits, trials=TRIALS)
        ray.get(stage.wait_for.remote(1))
        second = cluster.add_node(num_cpus=2)
        print("two trials at once:", sorted(ray.get(stage.wait_for.remote(2))))
        cluster.remove_node(second, allow_graceful=False)
        wait_until(lambda: len(told) == 2, seconds=300)  # else its processes, which outlive it a little, end the trial
        ray.get(stage.open.remote())
        searching.result()
    print(*told, sep="\n")
    print((run.logs / "lane-0.log").read_text(), (run.logs / "lane-1.log").read_text(), sep="\n")
    trials = read_trials(run)
    assert [(trial.state, trial.lane) for trial in trials] == [("COMPLETE", "lane-0")] * TRIALS, trials
    for trial in trials:
        assert trial.history == tuple((step, 1 / step) for step in range(EVERY, STEPS + 1, EVERY)), trial
    joined, lost = told
    assert joined == ("lane-1 joins: there is room for it", 2)
    reason = r"lane-1: could not be placed in 4 s: asks for 1 x \{CPU: 2\}, the cluster has free \{CPU: [01](\.\d+)?\}"
    assert re.fullmatch(f"warning: {reason}", lost[0]), lost
    assert lost[1] == 1
    again = re.findall(r"trial (\d+) taken", (run.logs / "lane-1.log").read_text())
    assert len(again) == 1
    assert f"trial {again[0]} taken" in (run.logs / "lane-0.log").read_text()
    return cluster


def one_lane_on_two_nodes(folder):
    """Two workers on two nodes train what two on one node do."""
    data = make_data(folder)
    cluster = start_cluster(head_cpus=0)
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    found = {}
    for name in ("apart", "together"):
        logs = folder / name
        logs.mkdir()
        with Lanes(lanes=1, workers=2, cpus=1, gpus=0, storage=folder / "train" / name, logs=logs) as lanes:
            lanes.wait_ready()
            heard = reports(lanes, assignment(0, training(data, logs)))
            found[name] = [report.metrics[METRIC] for report in heard]
        log = (logs / "lane-0.log").read_text()
        print(log)
        where = dict(re.findall(r"rank (\d): lane-0 starts on \S+ \(node (\w+)\)", log))
        assert set(where) == {"0", "1"}
        assert len(set(where.values())) == (2 if name == "apart" else 1), where
        if name == "apart":
            for node in nodes:
                cluster.remove_node(node)
            cluster.add_node(num_cpus=2)
    print(found)
    assert found["apart"] == found["together"]
    assert found["apart"][-1] < found["apart"][0]
    return cluster


def lanes_share_a_gpu(folder):
    """Four quarters of a (logical) GPU are lanes; a fifth is told why not, and does not hold up the others."""
    os.environ[START_TIMEOUT] = "5"
    os.environ.update(ray_environment())
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    told = []
    with Lanes(
        lanes=5,
        workers=1,
        cpus=1,
        gpus=0.25,
        storage=folder / "train",
        told=lambda *what: told.append(what),
    ) as lanes:
        lanes.wait_ready()
        assert lanes.count == 4
        heard = []
        lanes.train([assignment(trial, Counting(2)) for trial in range(8)], lambda one, report: heard.append(report))
    assert [report.step for report in heard if report.last] == [2] * 8
    ((line, _),) = told
    print(line)
    wanted = "asks for 1 x {CPU: 1, GPU: 0.25}, the cluster has free {CPU: 4, GPU: 0}"
    assert re.sub("lane-[0-4]", "lane-N", line) == f"warning: lane-N: could not be placed in 5 s: {wanted}"


def the_only_lane_comes_back(folder):
    """Others have the CPU that it needs, first from the start, then once its worker has died: all that is posted waits, and is trained."""
    os.environ[START_TIMEOUT] = "2"
    os.environ.update(ray_environment())
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    told = []
    others = ray.remote(num_cpus=1)(Other)
    other = others.remote()
    ray.get(other.there.remote())
    with Lanes(
        lanes=1, workers=1, cpus=1, gpus=0, storage=folder, told=lambda *what: told.append(what), poll=0.5
    ) as lanes:
        wait_until(lambda: told)
        first = assignment(0, Counting(2))
        ray.get(lanes.board.submit.remote(first))
        ray.kill(other)
        lanes.wait_ready()
        assert [ray.get(lanes.board.next_report.remote(first.attempt)).step for _ in range(2)] == [1, 2]

        second = assignment(1, Counting(3))
        ray.get(lanes.board.submit.remote(second))
        assert ray.get(lanes.board.next_report.remote(second.attempt)).step == 1
        wait_until(lambda: len(told) == 2)
        lanes._trainers[-1].end()  # its processes die, and their place is taken at once
        other = others.remote()
        wait_until(lambda: len(told) == 3)
        ray.kill(other)
        heard = [ray.get(lanes.board.next_report.remote(second.attempt)).step for _ in range(2)]
        assert heard == [2, 3], heard
        wait_until(lambda: len(told) == 4)
    print(*told, sep="\n")
    assert ["could not be placed" in line or "is lost" in line for line, _ in told] == [True, False, True, False], told
    assert [lanes for _, lanes in told] == [0, 1, 0, 1]

    other = others.remote()
    ray.get(other.there.remote())
    module.WAIT_FOR_ROOM = 1.0
    with Lanes(lanes=1, workers=1, cpus=1, gpus=0, storage=folder / "none", poll=0.5) as lanes:
        try:
            lanes.wait_ready()
        except LanesLost as error:
            print(error)
        else:
            raise AssertionError


class Other:
    def there(self):
        return True


if __name__ == "__main__":
    cluster = globals()[sys.argv[1]](Path(sys.argv[2]))
    ray.shutdown()
    if cluster is not None:
        cluster.shutdown()
    print("all is well")
