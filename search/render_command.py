"""`psf-search render`: PSFs of a lens as a file, without a search."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeplens_workers.kernels import Kernels, RenderRequest, Tracing
from deeplens_workers.lens_data import LEAST_SHARED_PX
from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in, origins
from deeplens_workers.psf_data import PsfData
from deeplens_workers.psf_file import FORMATS, PsfFile, write
from deeplens_workers.telemetry import rates
from results.run_directory import RunError
from search.options import ConfigurationOption, SensorOption, check_out, numbers, seed_option
from search.process import start_ray
from spaces.disk import full_disk
from spaces.errors import SpaceError, check


def render(
    lens: Annotated[str, typer.Option(help="Shipped lens name or .json, .zmx, .seq file.")],
    out: Annotated[
        Path, typer.Option(help=f"File to write: {', '.join(FORMATS)}; a .png beside it shows the kernels.")
    ],
    grid: Annotated[
        str | None,
        typer.Option(metavar="NxM", help="Field points along x and y, over the sensor.", show_default="20x20"),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="CSV file of field points in place of the grid: x,y or x,y,depth_mm a line.")
    ] = None,
    depths: Annotated[
        str | None, typer.Option(metavar="MM,...", help="Object distances, negative; default: the lens file's.")
    ] = None,
    focus: Annotated[
        str | None,
        typer.Option(metavar="MM,...", help="Distances to focus at, negative; default: as in the lens file."),
    ] = None,
    wavelengths: Annotated[
        str | None, typer.Option(metavar="UM,...", help="One channel each; default: the lens file's.")
    ] = None,
    sensor: SensorOption = None,
    configuration: ConfigurationOption = None,
    pixel_pitch: Annotated[
        float | None, typer.Option(metavar="UM", help="Sensor pixel pitch; default: as the spots are large.")
    ] = None,
    trace_px: Annotated[
        int | None, typer.Option(help="Side of the traced kernel in sensor pixels; default: as the spots are large.")
    ] = None,
    kernel_px: Annotated[
        int | None, typer.Option(help="Side of the kernel, in larger pixels; default: those traced.")
    ] = None,
    pixel_filter: Annotated[str, typer.Option(help="What a pixel gathers: box, or triangle as in DeepLens.")] = "box",
    rays: Annotated[int, typer.Option(help="Rays per point and wavelength; the most, with --noise.")] = 4096,
    noise: Annotated[
        float | None, typer.Option(help="Relative L2 noise to reach, in place of a number of rays.")
    ] = None,
    model: Annotated[str, typer.Option(help="geometric, coherent or huygens.")] = "geometric",
    recenter: Annotated[bool, typer.Option(help="Centre on the chief ray; otherwise on the ideal image point.")] = True,
    seed: Annotated[int, seed_option("Of the pupil samples.")] = 0,
    actors: Annotated[int, typer.Option(min=0, help="Ray actors; 0 renders in this process.")] = 0,
) -> None:
    """Render the PSFs of a lens to a file, with a contact sheet beside it."""
    check_out(out, tuple(FORMATS), [points])
    if grid is not None and points is not None:
        raise SpaceError("--grid: goes without --points, which are field points in place of a grid's")
    rows = None if points is None else _read_points(points)
    if rows is not None and rows.shape[1] == 3 and depths is not None:
        raise SpaceError("--depths: goes with points x,y only; these have their own depths")
    asked = {
        "lens": lens,
        "configuration": configuration,
        "sensor_mm": sensor and numbers("--sensor", sensor, "36x24"),
        "pixel_pitch_um": pixel_pitch,
        "grid": numbers("--grid", grid or "20x20", "20x20", int),
        "depths_mm": _own_depths(rows) or (depths and numbers("--depths", depths, "-1000,-5000")),
        "focus_mm": focus and numbers("--focus", focus, "-1000,-5000"),
        "wavelengths_um": wavelengths and numbers("--wavelengths", wavelengths, "0.486,0.587"),
        "trace_px": trace_px,
        "kernel_px": LEAST_SHARED_PX if kernel_px is None else kernel_px,
        "pixel_filter": pixel_filter,
        "rays": rays,
        "held_out_rays": 8 * rays,
        "noise": noise,
        "psf_model": model,
        "recenter": recenter,
    }
    data = check(PsfData, {key: value for key, value in asked.items() if value is not None}, where="render")
    found = find_lens(lens, data.configuration, data.sensor_mm)
    data = fill_in(data, found)
    for line in (*found.notes, *origins(data)):
        print(f"{found.name}: {line}", file=sys.stderr)
    if kernel_px is None:
        data = data.model_copy(update={"kernel_px": data.trace_px})
    where = _grid(data) if rows is None else _placed(rows, data)
    tracing = Tracing(
        data.channels(),
        data.trace_px,
        data.kernel_px,
        rays,
        seed,
        noise,
        data.psf_model,
        data.centre,
        pixel_filter=data.pixel_filter,
    )
    request = RenderRequest(found, where, data.pixel_pitch_um, tracing)
    try:
        kernels = _rendered(request, actors)
        file = PsfFile(request, kernels)
        write(out, file)
        from trainables.psf.figures.kernels import save_contact_sheet

        sheet = out.with_name(out.name + ".png")  # not only another suffix: a picture of that name may be somebody's
        save_contact_sheet(sheet, file.kernels.kernels, data.grid[0] if points is None else None)
    except SpaceError:
        raise
    except ValueError as error:  # DeepLens cannot load or focus the lens; no light
        raise SpaceError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise RunError(full_disk(error, out) or f"{out}: {error}") from None
    from deeplens_workers.dataset import sampling_warnings

    for warning in sampling_warnings(kernels, data):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{out}\n{sheet}")


def _rendered(request: RenderRequest, actors: int) -> Kernels:
    from deeplens_workers.pool import Renderer

    console = Console(stderr=True, markup=False)
    bar = (TextColumn("rendering PSFs"), BarColumn(), MofNCompleteColumn())
    columns = (*bar, TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    began = time.perf_counter()
    if actors:
        start_ray(num_cpus=actors, include_dashboard=False)
    with (
        Progress(*columns, console=console, transient=True) as progress,
        Renderer(request.lens, actors) as renderer,
    ):
        task = progress.add_task("render", total=len(request.points), rate="")
        channels = len(request.tracing.channels)

        def show(done: int, _: int, rays: int) -> None:
            progress.update(task, completed=done, rate=rates(done * channels, rays, time.perf_counter() - began))

        kernels = renderer.render(request, show)
    took = time.perf_counter() - began
    console.print(
        f"{len(kernels.kernels)} points x {kernels.kernels.shape[1]} channels in {took:.1f} s; "
        f"{renderer.rays_traced:,} rays traced, {int(kernels.rays.sum()):,} in the kernels{_loss(kernels)}",
        highlight=False,
        soft_wrap=True,
    )
    return kernels


def _loss(kernels: Kernels) -> str:
    worst = float(kernels.lost.max())
    return "" if math.isnan(worst) else f"; at worst {worst:.2%} of the light outside its kernel"


def _grid(data: PsfData) -> Any:
    from deeplens_workers.dataset import grid_points

    return grid_points(data)


def _read_points(path: Path) -> Any:
    """Rows [N, 2 or 3] of a file of field points."""
    import numpy as np

    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise SpaceError(f"--points {path}: expected a file of numbers, without a header: {error}") from None
    if not rows.size:
        raise SpaceError(f"--points {path}: holds no points")
    if rows.shape[1] not in (2, 3):
        raise SpaceError(f"--points {path}: expected x,y or x,y,depth_mm a line, but got {rows.shape[1]} columns")
    if not np.isfinite(rows).all() or np.abs(rows[:, :2]).max() > 1 or (rows[:, 2:] >= 0).any():
        raise SpaceError(f"--points {path}: x and y must lie in [-1, 1] and depths must be negative")
    return rows


def _own_depths(rows: Any) -> list[float] | None:
    """The extreme depths of points that have depths: what the window has to suit."""
    if rows is None or rows.shape[1] == 2:
        return None
    return sorted({float(rows[:, 2].min()), float(rows[:, 2].max())})


def _placed(rows: Any, data: PsfData) -> Any:
    """Field points [N, 3 or 4] of rows: each at every depth, unless it has its own, and at every focus distance."""
    import numpy as np

    varied = [data.depths_mm] if rows.shape[1] == 2 else []
    varied += [data.focus_mm] if data.focus_mm else []
    for distances in varied:
        rows = np.column_stack([np.tile(rows, (len(distances), 1)), np.repeat(distances, len(rows))])
    return rows.astype(np.float32)
