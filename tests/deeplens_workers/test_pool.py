"""Real Ray actors, really killed."""

import os
import signal
import urllib.request

import numpy as np
import pytest

from deeplens_workers import pool
from deeplens_workers.pool import Renderer, RenderError
from tests.waiting import wait_until


def assert_same_bits(a, b):
    for name in a.names():
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


def pid_of(actor) -> int:
    import ray

    return int(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))


@pytest.fixture(scope="module")
def in_process():
    """Kernels rendered in this process, by request; the reference for every number of actors."""

    def render(request):
        return Renderer(request.lens, actors=0).render(request)

    return render


def test_progress_counts_points_and_the_result_is_in_order(make_request, renderer):
    request = make_request(150)
    seen: list[tuple[int, ...]] = []
    rendered = Renderer(request.lens, actors=0).render(request, lambda *told: seen.append(told))
    assert seen == [(points, 150, points * 3 * 256) for points in (64, 128, 150)]
    assert_same_bits(rendered, renderer("cooke_triplet_50mm").render(request.points, request.tracing))


def test_two_actors_one_of_them_killed_give_the_same_bits(make_request, in_process, ray_session, monkeypatch):
    import ray

    monkeypatch.setattr(pool, "LARGEST_CHUNK", pool.LEAST_CHUNK)  # more units than are in flight
    request = make_request(400)
    victims: list[int] = []

    def kill_one(done, total, rays):
        if not victims:
            victims.append(pid_of(renderer._actors.handles[0]))
            os.kill(victims[0], signal.SIGKILL)

    with Renderer(request.lens, actors=2) as renderer:
        rendered = renderer.render(request, kill_one)
        survivors = list(renderer._actors.handles)
        assert victims[0] not in {pid_of(actor) for actor in survivors}
        again = renderer.render(request)
    assert_same_bits(rendered, in_process(request))
    assert_same_bits(again, rendered)
    for actor in survivors:
        with pytest.raises(ray.exceptions.RayActorError):
            pid_of(actor)


@pytest.mark.slow
def test_rays_and_kernels_are_counted_where_prometheus_reads_them(make_request, ray_session):
    import ray

    request = make_request(10)
    with Renderer(request.lens, actors=1) as renderer:
        renderer.render(request)
        [actor] = renderer._actors.handles
        worker = ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_worker_id()))
        counters = {"psf_search_rays_traced": renderer.rays_traced, "psf_search_psfs_rendered": 30}
        address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
        found: dict[str, float] = {}

        def all_there() -> bool:
            with urllib.request.urlopen(address, timeout=10) as page:
                for line in page.read().decode().splitlines():
                    for name in counters:
                        if line.startswith(f"ray_{name}_total{{") and worker in line:
                            found[name] = float(line.rsplit(" ", 1)[1])
            return found.keys() == counters.keys()

        wait_until(all_there)  # Ray exports every few seconds
    assert found == counters


def test_one_actor_gives_the_same_bits_and_its_deaths_are_bounded(make_request, in_process, ray_session, monkeypatch):
    request = make_request(20)
    monkeypatch.setattr(pool, "MAX_DEATHS", 0)
    with Renderer(request.lens, actors=1) as renderer:
        assert_same_bits(renderer.render(request), in_process(request))
        dark = make_request(1, points=np.array([[5, 5, -10000]], dtype=np.float32))
        with pytest.raises(ValueError, match="no light of field point"):
            renderer.render(dark)
        os.kill(pid_of(renderer._actors.handles[0]), signal.SIGKILL)
        with pytest.raises(RenderError, match="1 rendering actors died"):
            renderer.render(request)
