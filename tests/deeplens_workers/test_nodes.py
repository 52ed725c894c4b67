"""Rendering and streaming on two nodes: in a process of its own, for it has a Ray of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import numpy as np
import ray
from ray.cluster_utils import Cluster

from deeplens_workers.kernels import RenderRequest
from deeplens_workers.lens_file import find_lens
from deeplens_workers.pool import Renderer
from deeplens_workers.preparation import PsfPreparation
from tests.deeplens_workers.conftest import at_depth, tracing
from tests.trainables.psf.test_stream import CONDITIONS, SEED, streamed
from trainables.psf.stream import StreamReader

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)


lens, points = find_lens("cooke_triplet_50mm"), at_depth(np.random.default_rng(0).uniform(-1, 1, (300, 2)), -1e4)
request = RenderRequest(lens, points, 3.2, tracing(256))
with Renderer(lens, actors=2) as renderer:
    renderer._actors.start()  # both: a small set would be rendered by one
    rendered = renderer.render(request)
    assert len({ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))
                for actor in renderer._actors.handles}) == 2
assert rendered.kernels.tobytes() == Renderer(lens, actors=0).render(request).kernels.tobytes()

with PsfPreparation().supply(streamed(), lens, SEED, actors=2) as supply:
    actor = ray.get_actor(supply.sets["stream"])
    read = ray.remote(num_cpus=0)(lambda actor: StreamReader(actor, CONDITIONS).train.kernels.sum().item())
    for node in ray.nodes():
        where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        total = ray.get(read.options(scheduling_strategy=where).remote(actor))
        assert abs(total - 512 * 3) < 0.1, total
ray.shutdown()
cluster.shutdown()
print("two nodes, the same bits")
"""


@pytest.mark.slow
def test_renderers_and_readers_of_a_stream_on_two_nodes():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "two nodes, the same bits" in done.stdout
