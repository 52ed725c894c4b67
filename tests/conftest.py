"""Fixtures shared by all test folders."""

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """One small local Ray for the whole test session; shut down at the end, unless the caller had started it."""
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
