"""Rendering PSF grids: DeepLens' own `psf` and this project's renderer, in one run.

    python -m benchmarks.render

For each lens a 20 x 20 grid at three wavelengths, kernels of 64 x 64 sensor pixels. Noise is the relative L2 error against
2^18 rays traced one by one, averaged over some points and the wavelengths. DeepLens draws its rays from the smallest disc that
holds all of the light of these points, as ours do; from the pupil it finds itself it would miss some. `noise_equivalent_speedup` is the ratio of the
times, DeepLens' with 8,192 rays on all cores and ours with two actors and the fewest rays (2^n or 3 2^(n-1)) whose noise is
no larger. Start-up (importing DeepLens, loading the lens, compiled loops) is outside of both and printed apart. Times are medians
of three; what takes five seconds is timed once. `units_per_core` are PSFs of as-built units a second.
"""

from __future__ import annotations

import resource
import time
from argparse import Namespace
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import ray

from benchmarks._shared import Options
from deeplens_workers import sampling
from deeplens_workers.kernels import RenderRequest, Tracing, Units
from deeplens_workers.lens_file import find_lens
from deeplens_workers.pool import Renderer
from search.process import start_ray

LENSES = {"cooke_triplet_50mm": (3.2, -1e4), "double_gauss_100mm": (3.2, -1e6), "plano_hyperbolic_50mm": (5.0, -1e4)}
WAVELENGTHS = (0.656, 0.587, 0.486)
REPEATS = 3
LONG = 5.0  # s; what takes so long is not timed again
SHARE = 10  # what is too slow for all points is measured on one in so many, and scaled up
MOST_RANDOM_RAYS = 2**17


def grid(side: int, depth_mm: float) -> Any:
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    return np.stack([x.ravel(), y.ravel(), np.full(side * side, depth_mm)], axis=-1).astype(np.float32)


def tracing(rays: int, **options: Any) -> Tracing:
    """With pixels as DeepLens has them."""
    channels = tuple(((wavelength, 1.0),) for wavelength in WAVELENGTHS)
    return Tracing(channels, 64, 64, rays, pixel_filter="triangle", **options)


def noise(kernels: Any, reference: Any) -> float:
    error, size = ((a.reshape(*a.shape[:2], -1) ** 2).sum(-1) for a in (kernels - reference, reference))
    return float(np.sqrt(error / size).mean())


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    times: list[float] = []
    while len(times) < repeats and max(times, default=0.0) < LONG:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def deeplens_psf(lens: Any, disc: tuple[float, float], points: Any, rays: int) -> Any:
    import torch

    from deeplens_workers.geolens import rays_through

    with torch.no_grad(), rays_through(lens, *disc):
        psfs = [lens.psf(torch.from_numpy(points), wvln=wave, ks=64, spp=rays) for wave in WAVELENGTHS]
    return torch.stack(psfs, dim=1).numpy()


def disc_of_all_light(local: Any, points: Any) -> tuple[float, float]:
    """z and radius in mm of the smallest disc about the axis that all of the light of the points passes."""
    from deeplens_workers.pupil import find_pupils

    places, _ = local._canonical(local.tracer.object_points(points))
    pupils = find_pupils(local.tracer, places, np.full(len(places), local.tracer.primary_um), symmetric=True)
    reach = np.abs(pupils.center[:, 0]) + pupils.radii.max(axis=1)
    return float(local.tracer.pupil(places)[0][0]), float(reach.max())


def compare(name: str, pitch_um: float, depth_mm: float, sizes: Namespace) -> None:
    from deeplens_workers.render import KernelRenderer, load

    lens = find_lens(name)
    points, deeplens_rays = grid(sizes.side, depth_mm), sizes.deeplens_rays
    some = points[np.random.default_rng(0).choice(len(points), sizes.reference_points, replace=False)]
    local = load(lens, pitch_um)
    every_ray = KernelRenderer(local.tracer, maps=False)
    reference = every_ray.render(some, tracing(sizes.reference_rays, seed=1)).kernels

    own, disc = local.tracer._lens, disc_of_all_light(local, points)
    own_noise = noise(deeplens_psf(own, disc, some, deeplens_rays), reference)
    own_seconds = seconds(lambda: deeplens_psf(own, disc, points, deeplens_rays))
    print(f"\n{name}: DeepLens' pupil has a radius of {own.entr_pupilr:.3f} mm; {disc[1]:.3f} holds all of the light")
    rays = 64
    while (ours_noise := noise(local.render(some, tracing(rays)).kernels, reference)) > own_noise:
        rays = rays * 3 // 2 if rays & (rays - 1) == 0 else rays * 4 // 3

    began = time.perf_counter()
    with Renderer(lens, actors=2) as pool:
        pool._actors.start()  # both: so small a request would begin with one
        request = RenderRequest(lens, points, pitch_um, tracing(rays))
        pool.render(request)
        before = pool.rays_traced
        pool.render(request)  # both actors have loaded
        startup, traced = time.perf_counter() - began, pool.rays_traced - before
        ours_seconds = seconds(lambda: pool.render(request))
        alike_seconds = seconds(lambda: pool.render(RenderRequest(lens, points, pitch_um, tracing(deeplens_rays))))
        memory = max(
            ray.get(actor.__ray_call__.remote(lambda _: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
            for actor in pool._actors.handles
        )
    kernels = len(points) * len(WAVELENGTHS)
    print(f"\n{name}, {len(points)} points x {len(WAVELENGTHS)} wavelengths, {pitch_um:g} um pixels")
    print(f"{'':28}{'rays':>7}{'noise':>9}{'seconds':>9}{'PSFs/s':>9}{'rays/s':>11}")

    def line(title: str, count: int, error: float, took: float) -> None:
        print(f"{title:28}{count:7}{error:9.4f}{took:9.3f}{kernels / took:9.0f}{kernels * count / took:11.3g}")

    line("DeepLens psf", deeplens_rays, own_noise, own_seconds)
    line("ours, equal noise", rays, ours_noise, ours_seconds)
    alike_noise = noise(local.render(some, tracing(deeplens_rays)).kernels, reference)
    line("ours, equal rays", deeplens_rays, alike_noise, alike_seconds)
    print(
        f"start-up of two actors {startup:.1f} s; peak memory of an actor {memory / 1024:.0f} MiB; rays traced {traced}"
    )
    print(
        f"noise_equivalent_speedup={own_seconds / ours_seconds:.3g} equal_rays_speedup={own_seconds / alike_seconds:.3g}"
    )
    shares(local, every_ray, points, some, reference, rays, ours_noise)


def shares(local: Any, every_ray: Any, points: Any, some: Any, reference: Any, rays: int, target: float) -> None:
    """Each idea, in one process: what it costs to go without it."""
    few = points[::SHARE]
    whole = seconds(lambda: local.render(points, tracing(rays)))
    direct = seconds(lambda: every_ray.render(few, tracing(rays))) * len(points) / len(few)
    print(
        f"one process, all ideas {whole:.3f} s; tracing every ray of every point {direct:.3f} s, {direct / whole:.1f}x"
    )

    evenly = sampling.sobol
    random = np.random.default_rng(0).integers(0, 2**32, (MOST_RANDOM_RAYS, 2), dtype=np.uint32)
    try:
        sampling.sobol = lambda count: random[:count]  # type: ignore[assignment]
        error = noise(local.render(some, tracing(rays)).kernels, reference)
        needed = rays
        while needed < len(random) and noise(local.render(some, tracing(needed)).kernels, reference) > 1.02 * target:
            needed *= 2
    finally:
        sampling.sobol = evenly
    print(f"pseudo-random pupil points: noise {error:.4f} with {rays} rays; {needed} rays for the noise of even ones")
    splatting(local, rays)
    tracing_alone(local, points)


def rays_of(tracer: Any, objects: Any, count: int) -> Any:
    """[1, count, 2] points of the pupil of one object."""
    from deeplens_workers.pupil import find_pupils
    from deeplens_workers.splat import disc_points

    disc = disc_points(sampling.sobol(count), np.zeros(2, np.uint32))
    return find_pupils(tracer, objects, np.array([0.587]), symmetric=False).place(disc)


def splatting(local: Any, rays: int) -> None:
    """DeepLens' splat and the compiled loop, for the same hits."""
    import torch
    from deeplens.imgsim import forward_integral

    from deeplens_workers.splat import MOMENTS, splat_hits
    from deeplens_workers.threads import one_thread

    tracer, count = local.tracer, 8192
    objects = tracer.object_points(np.array([[0.3, 0.4, -1e4]]))
    pupil = rays_of(tracer, objects, count)
    with torch.inference_mode(), one_thread():
        traced = tracer._lens.trace2sensor(tracer._rays(tracer._lens, objects, pupil, np.array([0.587])))
        center = torch.from_numpy(-traced.o[:, 0, :2].numpy())
        theirs = seconds(lambda: forward_integral(traced.clone().flip_xy(), tracer.pixel_mm, 64, center), 20)
        hits, valid = tracer.hits(objects, pupil, np.array([0.587]))
        hits = (hits[0] - center.numpy()) / tracer.pixel_mm
        ours = seconds(lambda: splat_hits(hits, valid[0], 1.0, 1.0, np.zeros((64, 64)), np.zeros(MOMENTS)), 20)
        trace = seconds(lambda: tracer.hits(objects, pupil, np.array([0.587])), 20)
    per_ray = (1e9 * took / count for took in (theirs, ours, trace))
    print("per ray: DeepLens' splat {:.0f} ns, ours {:.0f} ns, tracing {:.0f} ns".format(*per_ray))


def tracing_alone(local: Any, points: Any) -> None:
    """Nanoseconds per ray of DeepLens' tracing as we call it, and without what that call takes care of; chief rays."""
    import torch

    from deeplens_workers.pupil import find_pupils
    from deeplens_workers.raytrace import RAY_BLOCK
    from deeplens_workers.threads import one_thread

    tracer, lens, wave = local.tracer, local.tracer._lens, np.array([0.587])
    objects = tracer.object_points(np.array([[0.3, 0.4, -1e4]]))
    pupil = rays_of(tracer, objects, 8 * RAY_BLOCK)

    def per_ray(block: int) -> float:
        def all_blocks() -> None:
            for start in range(0, pupil.shape[1], block):
                lens.trace2sensor(tracer._rays(lens, objects, pupil[:, start : start + block], wave))

        return 1e9 * seconds(all_blocks) / len(pupil[0])

    with torch.inference_mode(), one_thread():
        ours, whole = per_ray(RAY_BLOCK), per_ray(pupil.shape[1])
    with torch.inference_mode():
        torch.set_num_threads(2)
        threads = per_ray(RAY_BLOCK)
    curved = next(surface for surface in lens.surfaces if hasattr(surface, "c"))
    with torch.enable_grad(), one_thread():
        curved.c.requires_grad_()
        graph = per_ray(RAY_BLOCK)
        curved.c.requires_grad_(False)
    print(
        f"tracing, ns per ray: {ours:.0f}; {whole:.0f} in one block of {pupil.shape[1]} rays; {graph:.0f} with autograd; "
        f"{threads:.0f} with two threads, where two processes have {ours / 2:.0f}"
    )
    places = tracer.object_points(points)
    waves = np.full(len(places), tracer.primary_um)
    few = torch.tensor(places[::SHARE], dtype=torch.float32)
    with torch.inference_mode(), one_thread():
        searched = seconds(lambda: [lens.psf_center(few) for _ in WAVELENGTHS]) * len(places) / len(few)
        pupils = find_pupils(tracer, places, waves, symmetric=False)
        found = seconds(lambda: tracer.chief_rays(places, waves, pupils))
    print(
        f"chief rays of {len(places)} points: DeepLens' search for each wavelength {searched:.2f} s, scaled up from "
        f"{len(few)} points, to a twentieth of a pixel; Newton's method once per point {found:.2f} s, to 1e-3; with symmetry, once per radius"
    )


def scaling(sizes: Namespace) -> None:
    """One actor against two, and the cost of a point for few and many of them."""
    name, (pitch, depth) = next(iter(LENSES.items()))
    lens = find_lens(name)
    random = np.random.default_rng(0)

    def request(count: int) -> RenderRequest:
        xy = random.uniform(-1, 1, (count, 2))
        points = np.column_stack([xy, np.full(count, depth)]).astype(np.float32)
        how = Tracing(tuple(((wave, 1.0),) for wave in WAVELENGTHS), 64, 15, 4096)
        return RenderRequest(lens, points, pitch, how)

    def timed(pool: Renderer, work: RenderRequest) -> float:
        return seconds(lambda: pool.render(work))

    took = {}
    for actors in (1, 2):
        with Renderer(lens, actors) as pool:
            pool._actors.start()
            for _ in range(2):
                pool.render(request(min(256, sizes.actors_points)))
            took[actors] = timed(pool, request(sizes.actors_points))
            if actors == 2:
                print("\npoints, all at different radii, 4096 rays, 15 px: ms per point")
                for count in sizes.scaling_points:
                    print(f"{count:7}{1e3 * timed(pool, request(count)) / count:9.3f}")
    print(f"1 -> 2 actors: {took[1]:.2f} s -> {took[2]:.2f} s, efficiency={took[1] / took[2] / 2:.2f}")


def units(name: str, count: int) -> None:
    """As-built units of a lens at 20 positions each, in this process on one core: whole pupil maps against every ray traced."""
    from deeplens_workers.raytrace import RayTracer
    from deeplens_workers.render import KernelRenderer
    from deeplens_workers.threads import one_thread
    from deeplens_workers.tolerances import Tolerances, draw
    from deeplens_workers.units import Manufacture

    positions, lens = 20, find_lens(name)
    how = Tracing(tuple(((wave, 1.0),) for wave in WAVELENGTHS), 32, 32, 4096, pixel_filter="triangle")
    made = Manufacture(lens, Tolerances())
    drawn = Units(made.tolerances, draw(made.tolerances, count, 0, "benchmark", len(made.deviations)), -2e4)
    field = np.random.default_rng(0).uniform(-1, 1, (count * positions, 2))
    points = np.column_stack([field, np.full(len(field), -2e4)]).astype(np.float32)
    mapped, single = (KernelRenderer(RayTracer(lens, 6.4), lens, maps=maps) for maps in (True, False))
    few = max(1, count // SHARE)
    part = (points[: few * positions], how, drawn.take(np.arange(few)))
    with one_thread():
        mapped.render_units(points[:positions], how, drawn.take(np.arange(1)))  # compiles
        fast = len(points) / seconds(lambda: mapped.render_units(points, how, drawn))
        slow = few * positions / seconds(lambda: single.render_units(*part))
        error = noise(mapped.render_units(*part).kernels, single.render_units(*part).kernels)
    print(
        f"units of {name}, 4096 rays, three colours, 32 px of 6.4 um: {fast:.0f} PSFs a second on one core, {slow:.0f} with every "
        f"ray traced; relative L2 between them {error:.4f}; units_per_core={fast:.1f}"
    )


def main() -> None:
    options = Options(__doc__)
    options.add_size("--side", 20, 5, "points of the grid along x and along y")
    options.add_size("--deeplens-rays", 8192, 1024, "rays that DeepLens draws for a kernel")
    options.add_size("--reference-rays", 2**18, 2**14, "rays of a kernel that noise is measured against")
    options.add_size("--reference-points", 12, 2, "points whose noise is measured")
    options.add_size("--actors-points", 4000, 64, "points that one actor and two render")
    options.add_size(
        "--scaling-points", (100, 1000, 10_000), (16, 64, 128), "points whose time is told by their number"
    )
    options.add_size("--units", 40, 2, "as-built units, of 20 positions each")
    sizes = options.parse()
    for name in ("cooke_triplet_50mm", "double_gauss_100mm"):
        units(name, sizes.units)
    start_ray(num_cpus=2, include_dashboard=False)
    for name, (pitch, depth) in LENSES.items():
        compare(name, pitch, depth, sizes)
    scaling(sizes)
    ray.shutdown()


if __name__ == "__main__":
    main()
