"""Fixtures shared by all test folders."""

import os
import uuid

import pytest

from tests.processes import MARK

# Before torch is imported. The tests' networks are small, and threads that wait for each other spin where other tests run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whatever these tests start has it: others may run beside them.
os.environ[MARK] = uuid.uuid4().hex


@pytest.fixture(scope="session")
def ray_session():
    """One small local Ray for the whole test session; shut down at the end, unless the caller had started it."""
    import ray

    if ray.is_initialized():
        yield
        return
    # "local": not a cluster that another test has started beside it.
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
