"""What a user has of a trained model of a lens' PSFs: kernels of any size on any pixels, with their units.

    from results import load_model
    model = load_model("results/runs/NAME/model")
    model.psf([[0.0, 0.5]], ks=33)               # x, y in [-1, 1] -> [1, C, 33, 33], unit sum per channel
    model.psf_map((24, 24))                       # [24, 24, C, K, K]: the middles of 24 x 24 patches of the sensor
    model.render(picture)                         # [B, C, H, W], linear light, as the lens sees it

Shape legend: N = field points, d = condition dimension (x, y, then depth and focus distance in mm, negative, where the model was trained
on several), C = channels, K = side of the trained kernels in pixels, k = side of those wanted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics
from trainables.imaging.operators import Operator
from trainables.imaging.warp import pixel_places
from trainables.networks.gaussian import at_least_float32
from trainables.psf.rendering import Distance, Method, Rendering, checked_grid, restored
from trainables.psf.resampling import resampled

if TYPE_CHECKING:
    from deeplens_workers.psf_lens import PSFLens

LOSS = 0.01
"""Share of the light that may fall outside of a smaller kernel before a warning says so."""
MOST_PIXELS = 2048
"""Of a kernel along a side: more of them are a mistake of units."""
WAVELENGTH_UM = 0.002
"""How far a wavelength that is asked for may be from a channel's."""


class KernelNetwork(Protocol):
    """What gives the kernels: a CVAE, or one unit of a model of as-built lenses."""

    def predict(self, points: Tensor) -> Tensor:
        """Kernels [N, C, K, K] at points [N, d], differentiable in them."""
        ...

    def sample(self, points: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Likewise of latents drawn from the prior, `temperature` times as wide."""
        ...


class PSFModel(nn.Module):
    """A trained model of a lens' PSFs. Move it and change its precision as any module: `.to("cuda")`, `.half()`, `.double()`.

    Args:
        network: a module that gives kernels.
        optics: what they are of.
    """

    def __init__(self, network: nn.Module, optics: KernelOptics) -> None:
        super().__init__()
        self.network = network
        self.optics = optics

    def extra_repr(self) -> str:
        one = self.optics
        return f"{one.lens}, kernels of {one.kernel_px} x {one.kernel_px} pixels of {one.pixel_um:.4g} um, points {', '.join(self.conditions)}"

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the d coordinates of a point are."""
        return ("x", "y", *self.optics.varied)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def predict(self, points: Tensor) -> Tensor:
        """The kernels as trained, [N, C, K, K] at points [N, d]: their middle is that of the K x K pixels."""
        kernels: Tensor = self.network.predict(points)  # type: ignore[operator]
        return kernels

    def psf(
        self,
        points: ArrayLike | Tensor,
        wavelengths: Sequence[float] | float | None = None,
        ks: int | None = None,
        pixel_um: float | None = None,
    ) -> Tensor:
        """Kernels [N, C, k, k] at points [N, d], or [C, k, k] at one of [d]; each channel of unit sum.

        Differentiable in points that are a tensor. Without `ks` and `pixel_um` they are as trained, with the middle of the light's
        `optics.centre` between the K x K pixels; else it is the middle of pixel k // 2, which convolutions take as the origin.

        Args:
            wavelengths: in um, of some channels (within 2 nm); None: all of them.
            ks: pixels along a side; None: as many as hold the trained window.
            pixel_um: side of a pixel on the sensor; None: as trained.

        Raises:
            ValueError: not the model's coordinates, x or y beyond [-1, 1], distances beyond those trained on, a wavelength that
                no channel has, or no pixel.
        """
        at = self.points(points)
        kernels = self._channels(self.predict(at.view(-1, at.shape[-1])), wavelengths)
        found = self._on_pixels(kernels, ks, pixel_um)
        return found[0] if at.ndim == 1 else found

    def sample(
        self,
        points: ArrayLike | Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        ks: int | None = None,
        pixel_um: float | None = None,
    ) -> Tensor:
        """Kernels [N, C, k, k] of latents drawn from the prior at points [N, d], `temperature` times as wide, or [C, k, k]; else as `psf`."""
        at = self.points(points)
        kernels: Tensor = self.network.sample(at.view(-1, at.shape[-1]), generator, temperature)  # type: ignore[operator]
        found = self._on_pixels(kernels, ks, pixel_um)
        return found[0] if at.ndim == 1 else found

    def psf_map(
        self,
        grid: tuple[int, int] = (24, 24),
        depth: float | Tensor | None = None,
        focus: float | Tensor | None = None,
        wavelengths: Sequence[float] | float | None = None,
        ks: int | None = None,
        pixel_um: float | None = None,
    ) -> Tensor:
        """Kernels [rows, columns, C, k, k] at the middles of patches of the field, the top row (y > 0) first; else as `psf`.

        Args:
            grid: (columns, rows).
            depth: object distance in mm, negative; may carry gradients; None: the first that was trained on.
            focus: focus distance likewise.
        """
        columns, rows = checked_grid(grid)
        x, y = pixel_places((rows, columns)).to(self.device, torch.float32).unbind(-1)
        points = self.field_points(x, y, depth, focus)
        kernels = self.psf(points.flatten(0, 1), wavelengths, ks, pixel_um)
        return kernels.view(rows, columns, *kernels.shape[1:])

    def render(self, picture: Tensor, depth: Distance = None, focus: Distance = None, **options: Any) -> Tensor:
        """What the lens makes of a picture, [B, C, H, W]: distorted, and blurred by the kernels of each place. Differentiable.

        Args:
            picture: [B, C, H, W] of a pinhole, in linear light, in the middle of the sensor; C as the kernels have. One of half precision
                is taken in single, which is what comes back: a place would be known to half a pixel.
            depth: of the scene in mm, negative: one, or a map [B, 1, H, W]; None: the first that was trained on.
            focus: that the lens is focused at in mm, negative; None likewise.
            options: of `trainables.psf.rendering.Rendering`.

        Raises:
            ValueError: distances or channels that the kernels are not of, or options that do not go with the picture.
        """
        light = self._light(picture)
        return self.operator((light.shape[-2], light.shape[-1]), depth, focus, **options)(light)

    def operator(
        self, size: tuple[int, int], depth: Distance = None, focus: Distance = None, **options: Any
    ) -> Operator:
        """What `render` applies to pictures of size (H, W), to be used several times, with its adjoint."""
        return Rendering(**options).operator(self, size, depth, focus)

    def restore(
        self,
        seen: Tensor,
        depth: Distance = None,
        focus: Distance = None,
        method: Method = "richardson_lucy",
        iterations: int = 20,
        noise: float = 1e-3,
        **options: Any,
    ) -> Tensor:
        """A sharp picture, [B, C, H, W], of what the lens took.

        Args:
            seen, depth, focus: as of `render`.
            method: richardson_lucy undoes the distortion too (`distortion=False` leaves it) and is nowhere negative; wiener takes one pass and
                leaves the distortion (`trainables.imaging.restore`).
            iterations: of richardson_lucy.
            noise: for wiener, its variance over the mean square difference between neighbouring pixels of the sharp picture.
            options: of `trainables.psf.rendering.Rendering`.

        Raises:
            ValueError: as `render`.
        """
        return restored(self, self._light(seen), depth, focus, method, iterations, noise, Rendering(**options))

    def _light(self, picture: Tensor) -> Tensor:
        """A picture, checked, in single precision at the least."""
        channels = len(self.optics.channels)
        good = isinstance(picture, Tensor) and picture.is_floating_point() and picture.ndim == 4
        if not good or picture.shape[1] != channels:
            shape = list(picture.shape) if hasattr(picture, "shape") else ""
            got = f"a {type(picture).__name__} {shape} {getattr(picture, 'dtype', '')}".rstrip()
            raise ValueError(
                f"a picture is a tensor [B, {channels}, H, W] of linear light, of floating-point numbers, but got {got}; "
                "trainables.imaging.pictures.read_picture gives one of a file"
            )
        return at_least_float32(picture)

    def to_lens(self) -> PSFLens:
        """This model as a `deeplens.Lens`, with its sensor and distortion; DeepLens is imported now, which takes seconds."""
        from deeplens_workers.psf_lens import PSFLens

        return PSFLens(self)

    def field_points(
        self, x: Tensor, y: Tensor, depth: float | Tensor | None = None, focus: float | Tensor | None = None
    ) -> Tensor:
        """Points [..., d] of x and y [...] at a distance.

        Raises:
            ValueError: a distance that the kernels are not of.
        """
        columns = [x, y]
        given = {"depth_mm": depth, "focus_mm": focus}
        for name, known in (("depth_mm", self.optics.depths_mm), ("focus_mm", self.optics.focus_mm)):
            value = given[name]
            if name in self.optics.varied:
                columns.append(torch.as_tensor(known[0] if value is None else value).to(x).expand_as(x))
            elif value is not None and not (known and math.isclose(float(value), known[0], rel_tol=1e-3)):
                only = f"{known[0]:g} mm" if known else "as in the lens file"
                hint = "; distances are negative, in front of the lens" if float(value) > 0 else ""
                raise ValueError(f"{name}: this model's kernels have one, {only}, but got {float(value):g}{hint}")
        return torch.stack(columns, dim=-1)

    def points(self, points: ArrayLike | Tensor) -> Tensor:
        """Field points [N, d] or [d] as a tensor of the model's device, checked.

        Raises:
            ValueError: see `psf`.
        """
        at = torch.as_tensor(points, device=self.device)
        at = at if at.is_floating_point() else at.float()
        if at.ndim not in (1, 2) or at.shape[-1] != len(self.conditions):
            names = ", ".join(self.conditions)
            raise ValueError(
                f"points are [N, {len(self.conditions)}] or [{len(self.conditions)}]: {names}; but got {list(at.shape)}"
            )
        rows = at.detach().view(-1, at.shape[-1])
        if (outside := (~(rows[:, :2].abs() <= 1 + 1e-5)).any(dim=1).nonzero()).numel():
            x, y = rows[int(outside[0]), :2].tolist()
            raise ValueError(
                "points: x and y lie in [-1, 1], the sensor's edges, and beyond them the model knows nothing, but "
                f"points[{int(outside[0])}] has ({x:g}, {y:g})"
            )
        for name, column in zip(self.conditions[2:], at[..., 2:].unbind(-1), strict=True):
            nearest, farthest = max(self.optics.varied[name]), min(self.optics.varied[name])
            if not bool(((column <= nearest * (1 - 1e-5)) & (column >= farthest * (1 + 1e-5))).all()):
                raise ValueError(
                    f"points: {name} lies between {farthest:g} and {nearest:g} mm in this model's kernels, but one has "
                    f"{column.detach().max() if nearest < column.detach().max() else column.detach().min():g}"
                )
        return at

    def _channels(self, kernels: Tensor, wavelengths: Sequence[float] | float | None) -> Tensor:
        if wavelengths is None:
            return kernels
        wanted = [wavelengths] if isinstance(wavelengths, (int, float)) else [*wavelengths]
        return kernels[:, [self.channel(one) for one in wanted]]

    def channel(self, wavelength_um: float) -> int:
        """The channel of a wavelength.

        Raises:
            ValueError: none has it.
        """
        known = self.optics.wavelengths_um
        nearest = min(range(len(known)), key=lambda i: abs(known[i] - wavelength_um))
        if abs(known[nearest] - wavelength_um) > WAVELENGTH_UM:
            there = ", ".join(f"{one:.4g}" for one in known)
            raise ValueError(f"wavelength {wavelength_um:g} um: this model's channels are of {there} um")
        return nearest

    def _on_pixels(self, kernels: Tensor, ks: int | None, pixel_um: float | None) -> Tensor:
        if ks is None and pixel_um is None:
            return kernels
        width_um = 1e3 * max(self.optics.sensor_mm)
        if pixel_um is not None and not 0 < pixel_um < width_um:
            raise ValueError(
                f"pixel_um: a pixel's side in um, above 0 and below the sensor's {width_um:g}, but got {pixel_um}"
            )
        ratio = 1.0 if pixel_um is None else pixel_um / self.optics.pixel_um
        pixels = math.ceil(self.optics.kernel_px / ratio) // 2 * 2 + 1 if ks is None else ks
        if not isinstance(pixels, int) or isinstance(pixels, bool) or not 1 <= pixels <= MOST_PIXELS:
            why = f"ks={ks}" if pixel_um is None else f"ks={ks}, pixel_um={pixel_um:g}: are these micrometres?"
            raise ValueError(
                f"a kernel has 1 to {MOST_PIXELS} pixels along a side, a whole number, but got {pixels} ({why})"
            )
        found, lost = resampled(kernels, pixels, ratio)
        if (share := float(lost.detach().mean())) > LOSS:
            warnings.warn(
                f"{share:.1%} of the light falls outside of {pixels} pixels of {ratio * self.optics.pixel_um:.4g} um and is left out",
                stacklevel=3,
            )
        return found
