"""What the first lanes start and what is restarted of them: an update of Ray may change either."""

import re

import pytest
import ray

from tests.processes import kill, own_processes
from tests.trainables.lanes.tasks import Counting
from tests.trainables.lanes.test_lane import assignment, reports
from trainables.lanes.lanes import Lanes


def test_lanes_of_one_worker_share_a_trainer_without_helpers(ray_session, tmp_path):
    before = set(own_processes())
    with Lanes(lanes=2, workers=1, cpus=1, gpus=0, storage=tmp_path) as lanes:
        lanes.wait_ready()
        assert len(lanes._trainers) == 1
        started = [title for pid, title in own_processes().items() if pid not in before]
        ours = {"LaneBoard", "TrainController", "Idle", "RayTrainWorker", "IDLE"}
        names = [re.split(r"[:.\0]+", title)[1] for title in started]
        assert set(names) <= ours, started
        # Between two of its calls an actor's process may be called IDLE.
        assert names.count("TrainController") <= 1
        assert names.count("RayTrainWorker") == 2
        assert [len(reports(lanes, assignment(trial, Counting(2)))) for trial in range(2)] == [2, 2]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_alone(ray_session, tmp_path):
    with Lanes(lanes=2, workers=1, cpus=1, gpus=0, storage=tmp_path / "train", logs=tmp_path) as lanes:
        lanes.wait_ready()
        both = [assignment(trial, Counting(4)) for trial in range(2)]
        ray.get([lanes.board.submit.remote(one) for one in both])
        heard = {one.attempt: [ray.get(lanes.board.next_report.remote(one.attempt)).step] for one in both}
        assert kill("TrainWorker")
        for one in both:
            while heard[one.attempt][-1] < 4:
                heard[one.attempt].append(ray.get(lanes.board.next_report.remote(one.attempt), timeout=120).step)
    assert list(heard.values()) == [[1, 2, 3, 4]] * 2
    starts = [(tmp_path / f"lane-{lane}.log").read_text().count(" starts on ") for lane in range(2)]
    assert sorted(starts) == [1, 2]
