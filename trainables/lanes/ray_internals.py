"""All that the lanes use of Ray Train beyond its public API; written for Ray 2.60, which pyproject.toml asks for.

A trainer as Ray makes it starts five actors beside its workers, each of which imports Ray Train, pandas and pyarrow: 5 CPU seconds
or more. Lanes need one of them, the controller, which restarts workers.
"""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import BackendConfig, ControllerError
from ray.train.backend import Backend
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import worker_group
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Trainer(DataParallelTrainer):
    """A worker group without Ray's data sets, which another thread can end.

    Args:
        one_node: also without three more actors: one asks a cluster's autoscaler for nodes, one synchronises reports to Ray Train, and
            one frees the workers' places when the controller has died, which is done here.
    """

    def __init__(self, *arguments: Any, one_node: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._one_node = one_node
        self._controller: Any = None

    def end(self) -> None:
        """Kill the controller, and its workers with it; what waits for `fit` gets an error."""
        if self._controller is not None:
            ray.kill(self._controller)

    def _initialize_and_run_controller(self, *, callbacks: list[Any], **arguments: Any) -> Any:
        """As Ray does it, on the driver's node."""
        unused: tuple[type, ...] = (DatasetsCallback,)
        places = uuid.uuid4().hex
        if self._one_node:
            unused += (PlacementGroupCleanerCallback,)
            arguments["scaling_policy"] = _NoMoreNodes(self.scaling_config, places)
        options = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
            "runtime_env": {"env_vars": get_env_vars_to_propagate()},
        }
        wanted = [callback for callback in callbacks if not isinstance(callback, unused)]
        self._controller = ray.remote(TrainController).options(**options).remote(callbacks=wanted, **arguments)
        try:
            ray.get(self._controller.run.remote())
            return ray.get(self._controller.get_result.remote())
        except RayActorError:  # the controller was killed, such as for memory: nobody else frees its workers' places
            _free(places)
            raise


def _free(places: str) -> None:
    for group in placement_group_table().values():
        if group["name"].startswith(places) and group["state"] != "REMOVED":
            remove_placement_group(get_placement_group(group["name"]))


class _NoMoreNodes(FixedScalingPolicy):  # type: ignore[misc]
    """So many workers, in places of that name, and nobody is asked for nodes."""

    def __init__(self, scaling_config: Any, places: str) -> None:
        super().__init__(scaling_config)
        self._places = places

    def after_controller_start(self, train_run_context: Any) -> None:
        numbers = count()
        worker_group.SynchronizationActor = ray.remote(num_cpus=0)(_idle())
        worker_group.placement_group = lambda **options: placement_group(
            name=f"{self._places}-{next(numbers)}", **options
        )

    def _maybe_send_resource_request(self) -> None: ...


def _idle() -> type:
    """An actor in the place of Ray's own, which synchronises what workers report to Ray Train: ours report to the board.

    A class made here is pickled with its code, so that its process imports nothing.
    """

    class Idle:
        def __init__(self, **options: Any) -> None: ...
        def reset(self) -> None: ...

    return Idle


class Apart(BackendConfig):  # type: ignore[misc]
    """Workers that do not talk to each other: one that dies is replaced alone, and the others go on."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _Apart


class _Apart(Backend):  # type: ignore[misc]
    has_replica_groups = True


def found_no_place(error: Exception) -> bool:
    """Whether a trainer ended because its workers could not be placed in time."""
    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)
