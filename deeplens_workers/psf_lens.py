"""A model of a lens' PSFs as a lens of DeepLens: what takes a `deeplens.Lens` takes it.

    lens = load_model("results/runs/NAME/model").to_lens()
    lens.psf_rgb([0.0, 0.5, -10000.0], ks=33)     # [3, 33, 33]
    lens.render(image)                             # [B, 3, H, W] of `lens.sensor_res`, distortion included

Its methods have the signatures, shapes and units of DeepLens' own. Three things are right here that are not there:

* A kernel's origin is pixel ks // 2, where DeepLens' convolutions have theirs. `GeoLens` centres kernels between the pixels, so that
  those of even sides, its default among them, shift the picture by half a pixel.
* Kernels of a map are those of the middles of its patches, for any number of columns and rows.
* A picture's patch has the kernel of the ideal image point that is seen there, not that of the same coordinates.

N = field point, C = channel, k = kernel pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from deeplens_workers.geolens import PSF_KS, Lens, conv_psf_map
from deeplens_workers.kernel_optics import Array, KernelOptics

METHODS = ("psf_map", "psf_patch", "psf_pixel")
PSF_OPTIONS = frozenset({"foc_dist", "spp", "recenter", "model"})
"""All but the first are of DeepLens' ray tracing. Its own functions pass them on."""
RENDER_OPTIONS = frozenset({"psf_grid", "psf_ks", "psf_spp", "warp", "warp_grid", "patch_center", "conv_method", "spp"})
PATCHES = 24
"""Along a side of a picture: 54 dB from a kernel of its own for each pixel of the triplet's full field, and DeepLens' 10 are 46 dB."""
STRIP = 4096
"""Pixels whose own kernels are in memory at once."""

type Grid = int | tuple[int, int]
type Depth = float | Tensor | None


class KernelModel(Protocol):
    """A model as it is asked for kernels: `PSFModel`."""

    optics: KernelOptics

    @property
    def device(self) -> torch.device: ...

    def parameters(self) -> Any: ...

    def psf(
        self, points: Tensor, wavelengths: Sequence[float] | float | None, ks: int | None, pixel_um: float | None
    ) -> Tensor: ...

    def field_points(
        self, x: Tensor, y: Tensor, depth: float | Tensor | None = None, focus: float | Tensor | None = None
    ) -> Tensor: ...


class PSFLens(Lens):  # type: ignore[misc]
    """A `deeplens.Lens` whose PSFs are a model's.

    Points are x and y in [-1, 1] over half the sensor's width and height, x to the right and y up in the picture, and z, the depth in
    mm, negative. The sensor is the one that the model was trained for, cut to as many whole kernel pixels as it holds
    (`sensor_res`, `sensor_size`); `set_sensor` and `set_sensor_res` take a part of it or other pixels.

    The lens and the model are one: `to` and `astype` move both, and gradients reach the model's weights.

    Attributes:
        model: what gives the kernels.
        foc_dist: focus distance in mm, negative; NaN: as in the lens file.
        obj_depth: depth in mm where none is given: the first that the model was trained on.
        wvln_rgb: wavelengths in um of the model's channels, longest first. DeepLens needs three of them.
        primary_wvln: that of them nearest to the lens' primary wavelength.
        foclen, fnum: where they are known.
    """

    _default_render_method = "psf_map"

    def __init__(self, model: KernelModel) -> None:
        optics = model.optics
        super().__init__(next(model.parameters()).dtype, model.device, obj_depth=optics.depths_mm[0])
        self.model = model
        # Not by the constructor, which takes three below 10 um and nothing else.
        self.wvln_rgb = sorted(optics.wavelengths_um, reverse=True)
        self.primary_wvln = min(self.wvln_rgb, key=lambda one: abs(one - optics.primary_um))
        self.foc_dist = optics.focus_mm[0] if optics.focus_mm else math.nan
        if optics.focal_length_mm is not None:
            self.foclen = optics.focal_length_mm
        if optics.f_number is not None:
            self.fnum = optics.f_number
        pixel_mm = optics.pixel_um / 1e3
        width, height = (int(side / pixel_mm * (1 + 1e-9)) for side in optics.sensor_mm)
        self.set_sensor((width * pixel_mm, height * pixel_mm), (width, height))

    def set_sensor(self, sensor_size: Sequence[float], sensor_res: Sequence[int]) -> None:
        """Put another sensor in the middle of the trained one's field, with pixels of its own.

        Args:
            sensor_size: (width, height) in mm.
            sensor_res: (columns, rows).

        Raises:
            ValueError: a sensor that is larger than the trained one, or whose pixels are not square to half a pixel of its height.
        """
        (width, height), (columns, rows) = map(float, sensor_size), map(int, sensor_res)
        got = f"but got {width:.6g} x {height:.6g} mm, {columns} x {rows} pixels"
        if not (min(width, height) > 0 and min(columns, rows) > 0):
            raise ValueError(f"a sensor's sides and pixels must be positive, {got}")
        pixel = width / columns
        if not abs(height - rows * pixel) <= pixel / 2:
            raise ValueError(f"a sensor's pixels must be square, {got}: a height of {rows * pixel:.6g} mm would do")
        known = self.model.optics.sensor_mm
        if width > known[0] * (1 + 1e-5) or height > known[1] * (1 + 1e-5):
            fits = min(known[0] / columns, known[1] / rows)
            raise ValueError(
                f"the model knows a field of {known[0]:.6g} x {known[1]:.6g} mm, {got}: "
                f"set_sensor(({columns * fits:.6g}, {rows * fits:.6g}), ({columns}, {rows})) fits"
            )
        self.sensor_size, self.sensor_res = (width, height), (columns, rows)
        self.pixel_size, self.r_sensor = pixel, math.hypot(width, height) / 2
        self.calc_fov()

    def set_sensor_res(self, sensor_res: Sequence[int]) -> None:
        """Set the number of pixels, (columns, rows), and so the aspect ratio; the sensor's diagonal stays.

        Raises:
            ValueError: as of `set_sensor`.
        """
        scale = 2 * self.r_sensor / math.hypot(*sensor_res)
        self.set_sensor((sensor_res[0] * scale, sensor_res[1] * scale), sensor_res)

    @property
    def window_px(self) -> int:
        """The fewest pixels of the sensor, an odd number, that hold a kernel: `ks` of `render`."""
        optics = self.model.optics
        return math.ceil(optics.kernel_px * optics.pixel_um / (1e3 * self.pixel_size) - 1e-6) // 2 * 2 + 1

    def calc_fov(self) -> None:
        """Angles of view in radians, where the focal length is known; `rfov`, to the corner, with the distortion."""
        super().calc_fov()
        optics = self.model.optics
        if optics.focal_length_mm is not None and optics.distortion:
            corner = self._ideal(np.ones(2), self.obj_depth) * np.array(self.sensor_size) / 2
            self.rfov = math.atan(math.hypot(*corner) / optics.focal_length_mm)

    def calc_scale(self, depth: Any) -> Any:
        """How many times larger an object at a depth in mm is than its ideal image.

        Raises:
            ValueError: the focal length is not known.
        """
        if self.model.optics.focal_length_mm is None:
            raise ValueError("the focal length of this model's lens is not known")
        return -depth / self.foclen

    def refocus(self, foc_dist: float) -> None:
        """Focus at an object distance in mm, negative.

        Raises:
            ValueError: a distance beyond those that the model was trained on, or a model of one focus.
        """
        self._kernels([0.0, 0.0, self.obj_depth], self.primary_wvln, self.window_px, {"foc_dist": float(foc_dist)})
        self.foc_dist = float(foc_dist)

    def psf(self, points: ArrayLike | Tensor, wvln: float | None = None, ks: int = PSF_KS, **kwargs: Any) -> Tensor:
        """Kernels [N, k, k] of points [N, 3] at one wavelength, or [k, k] of one of [3]; unit sums.

        Differentiable in points that are a tensor.

        Args:
            wvln: in um, within 2 nm of a channel's; None: `primary_wvln`.
            ks: pixels of the sensor along a side. A kernel is cut, with a warning, or padded with zeros.
            kwargs: `foc_dist`, a number or [N], in place of the lens' own. `spp`, `recenter` and `model` of DeepLens' ray tracing are
                taken, and refused only if the model's kernels are others.

        Raises:
            ValueError: points, a wavelength or options that the model has no kernels for.
        """
        kernels = self._kernels(points, self.primary_wvln if wvln is None else float(wvln), ks, kwargs)
        return kernels.squeeze(-3)

    def psf_rgb(self, points: ArrayLike | Tensor, ks: int = PSF_KS, **kwargs: Any) -> Tensor:
        """Kernels [N, 3, k, k] of points [N, 3], or [3, k, k] of one of [3], red first; else as `psf`.

        Raises:
            ValueError: as of `psf`, or a model that has not three channels.
        """
        if len(self.wvln_rgb) != 3:
            have = len(self.wvln_rgb)
            raise ValueError(f"colours need three channels, but this model has {have}; psf(points, wvln) gives one")
        return self._kernels(points, self.wvln_rgb, ks, kwargs)

    def psf_map(
        self,
        grid: Grid = (5, 5),
        wvln: float | None = None,
        depth: Depth = None,
        ks: int = PSF_KS,
        **kwargs: Any,
    ) -> Tensor:
        """Kernels [rows, columns, 1, k, k] at the middles of a grid's patches, the top row first; else as `psf`.

        Args:
            grid: (columns, rows), or one number for both.
            depth: in mm, a number or a tensor of one; None: `obj_depth`.
        """
        points = self.point_source_grid(self.obj_depth if depth is None else depth, grid)
        kernels: Tensor = self.psf(points.flatten(0, 1), wvln, ks, **kwargs).unflatten(0, points.shape[:2])
        return kernels.unsqueeze(2)

    def psf_map_rgb(self, grid: Grid = (5, 5), ks: int = PSF_KS, depth: Depth = None, **kwargs: Any) -> Tensor:
        """Kernels [rows, columns, 3, k, k], red first; else as `psf_map`."""
        points = self.point_source_grid(self.obj_depth if depth is None else depth, grid)
        kernels: Tensor = self.psf_rgb(points.flatten(0, 1), ks, **kwargs).unflatten(0, points.shape[:2])
        return kernels

    def point_source_grid(
        self,
        depth: float | Tensor,
        grid: Grid = (9, 9),
        normalized: bool = True,
        quater: bool = False,
        center: bool = True,
    ) -> Tensor:
        """Points [rows, columns, 3] over the field at one depth, the top row (y > 0) first.

        Args:
            grid: (columns, rows), or one number for both.
            normalized: x and y in [-1, 1]; False: in mm at the object.
            quater: only the upper right quarter.
            center: the middles of as many patches, +-(1 - 1/n); False: from -0.98 to 0.98, a single one at 0.
        """
        columns, rows = (grid, grid) if isinstance(grid, int) else grid
        x, y = (_axis(n, center).to(self.device, self._point_dtype) for n in (columns, rows))
        y, x = torch.meshgrid(-y, x, indexing="ij")
        z = torch.as_tensor(depth).to(x).expand_as(x)
        if not normalized:
            width, height = self.sensor_size
            x, y = (side / 2 * one * self.calc_scale(z) for side, one in ((width, x), (height, y)))
        points = torch.stack([x, y, z], dim=-1)
        return points[: (rows + 1) // 2, columns // 2 :] if quater else points

    @property
    def _point_dtype(self) -> torch.dtype:
        # In half precision a place would be known to a thousandth, and its depth hardly at all.
        return torch.promote_types(self.dtype, torch.float32)

    def _kernels(
        self, points: ArrayLike | Tensor, wavelengths: Sequence[float] | float, ks: int, options: dict[str, Any]
    ) -> Tensor:
        """Kernels [N, C, k, k], or [C, k, k] of one point."""
        given = torch.as_tensor(points).to(self.device, self._point_dtype)
        if given.ndim not in (1, 2) or given.shape[-1] != 3 or not given.numel():
            raise ValueError(f"points are [N, 3] or [3]: x, y, depth in mm; but got {list(given.shape)}")
        if ks < 1:
            raise ValueError(f"`ks >= 1` must hold, but got {ks}")
        self._check_options(options)
        at = self._field_points(given.reshape(-1, 3), options.get("foc_dist"))
        kernels: Tensor = self.model.psf(at, wavelengths, ks, 1e3 * self.pixel_size)
        return kernels[0] if given.ndim == 1 else kernels

    def _check_options(self, options: dict[str, Any]) -> None:
        optics = self.model.optics
        _check_names("psf", options, PSF_OPTIONS)
        if options.get("recenter", True) is False and optics.centre != "pinhole":
            raise ValueError(f"recenter=False: this model's kernels are centred on the {optics.centre}")
        if options.get("model", optics.psf_model) != optics.psf_model:
            raise ValueError(f"model={options['model']!r}: this model's kernels are {optics.psf_model}")

    def _field_points(self, points: Tensor, foc_dist: float | Tensor | None) -> Tensor:
        """The model's points [N, d] of this lens' [N, 3]."""
        optics = self.model.optics
        x, y, depth = points.unbind(-1)
        x, y = (one * share for one, share in zip((x, y), self._share, strict=True))
        focus = self.foc_dist if foc_dist is None else foc_dist
        if "depth_mm" not in optics.varied:  # the model says whether it is the one that it has
            depth = depth[(depth - optics.depths_mm[0]).abs().argmax()]
        unset = isinstance(focus, float) and math.isnan(focus)
        return self.model.field_points(x, y, depth, None if unset else focus)

    @property
    def _share(self) -> tuple[float, float]:
        """This sensor's width and height in those of the trained one."""
        known = self.model.optics.sensor_mm
        return self.sensor_size[0] / known[0], self.sensor_size[1] / known[1]

    def render(self, img_obj: Tensor, depth: Depth = None, method: str | None = None, **kwargs: Any) -> Tensor:
        """The picture [B, 3, H, W] that this lens makes of an ideal one in linear light, of a flat scene at one depth.

        The ideal picture is the pinhole's of the same magnification, row 0 at the top. Differentiable in it and in the model.

        Args:
            depth: in mm, a number or a tensor of one, whose gradient is that of the blur; None: `obj_depth`.
            method: `psf_map`, the default: distorted, and blurred patch by patch; `psf_pixel`: every pixel's light is spread by a
                kernel of its own, exact and slow; `psf_patch`: a small piece of a picture, blurred by one kernel.
            kwargs: `psf_ks`, pixels of a kernel along a side (as many as hold it). Of a map `psf_grid`, (columns, rows) (24 x 24).
                Of a map and of pixels `warp`, whether the picture is distorted (True), and `warp_grid` (128). Of a patch
                `patch_center`, (x, y) or [B, 2], and `conv_method`, "conv" or "fft". `psf_spp` and `spp` have no meaning here.

        Raises:
            ValueError: another method or option, a picture that has not the pixels of `sensor_res`, a model that has not three
                channels, or a lens whose distortion is not known, without `warp=False`.
        """
        method = self._default_render_method if method is None else method
        depth = self.obj_depth if depth is None else depth
        if method not in METHODS:
            raise ValueError(f"method={method!r}: this lens renders by {', '.join(METHODS)}")
        _check_names("render", kwargs, RENDER_OPTIONS)
        ks = kwargs.get("psf_ks", self.window_px)
        if method == "psf_patch":
            centre, how = kwargs.get("patch_center", (0.0, 0.0)), kwargs.get("conv_method", "conv")
            blurred: Tensor = self.render_psf_patch(img_obj, depth, centre, ks, how)
            return blurred
        columns, rows = self.sensor_res
        if img_obj.ndim != 4 or img_obj.shape[-2:] != (rows, columns):
            got = f"but got {list(img_obj.shape)}; set_sensor_res((width, height)) changes it"
            raise ValueError(f"pictures are [B, 3, {rows}, {columns}], as sensor_res says, {got}")
        warped = kwargs.get("warp", True)
        picture = self.warp(img_obj, depth, kwargs.get("warp_grid", 128)) if warped else img_obj
        if method == "psf_pixel":
            return self._spread(picture, depth, ks, warped)
        grid = kwargs.get("psf_grid", (min(PATCHES, columns), min(PATCHES, rows)))
        places = self.point_source_grid(depth, grid)
        kernels = self.psf_rgb(self._seen(places, depth, warped).flatten(0, 1), ks).unflatten(0, places.shape[:2])
        mapped: Tensor = conv_psf_map(picture, kernels.to(picture.dtype))
        return mapped

    def warp(self, img: Tensor, depth: Depth = None, num_grid: int = 128) -> Tensor:
        """A picture [B, C, H, W] of the whole sensor, distorted as by the lens. Where it sees beyond the picture, the edge goes on.

        Args:
            depth: in mm; None: `obj_depth`.
            num_grid: points along a side at which the distortion is evaluated; it is linear between them.

        Raises:
            ValueError: the distortion is not known.
        """
        optics = self.model.optics
        if optics.distortion is None:
            raise ValueError("the distortion of this model's lens is not known; render(..., warp=False) leaves it out")
        if not optics.distortion:
            return img
        rows, columns = img.shape[-2:]
        x, y = (np.linspace(1 / n - 1, 1 - 1 / n, num_grid) for n in (columns, rows))
        nodes = np.stack(np.meshgrid(x, -y), axis=-1)  # the first and last are the middles of the outermost pixels
        ideal = self._ideal(nodes, self.obj_depth if depth is None else depth) * np.array([1, -1])
        # In half precision a place would be known to half a pixel.
        image = img.to(torch.promote_types(img.dtype, torch.float32))
        sources = torch.from_numpy(ideal).to(image).permute(2, 0, 1)[None]
        sources = F.interpolate(sources, (rows, columns), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
        sources = sources.expand(len(img), -1, -1, -1)
        return F.grid_sample(image, sources, padding_mode="border", align_corners=False).to(img.dtype)

    def _spread(self, picture: Tensor, depth: float | Tensor, ks: int, warped: bool) -> Tensor:
        """Every pixel's light by its own kernel, some rows at a time. DeepLens' own function has another origin for even sides."""
        rows, columns = picture.shape[-2:]
        points = self._seen(self.point_source_grid(depth, (columns, rows)), depth, warped)
        wide = F.pad(torch.zeros_like(picture), (0, ks - 1, 0, ks - 1))
        strip = max(1, STRIP // columns)
        for first, at in zip(range(0, rows, strip), points.split(strip), strict=True):
            kernels = self.psf_rgb(at.flatten(0, 1), ks).to(picture.dtype).movedim(0, -1)  # [C, k, k, pixels]
            light = picture[:, :, first : first + len(at)].flatten(2)[:, :, None, None] * kernels
            spread = F.fold(light.flatten(1, 3), (len(at) + ks - 1, columns + ks - 1), ks)
            wide[:, :, first : first + spread.shape[2]] += spread
        return wide[:, :, ks // 2 : ks // 2 + rows, ks // 2 : ks // 2 + columns]

    def _seen(self, places: Tensor, depth: float | Tensor, warped: bool) -> Tensor:
        """Points [H, W, 3] seen at places of the sensor: where the lens distorts, others; the nearest that the model knows."""
        if not (warped and self.model.optics.distortion):
            return places
        ideal = torch.from_numpy(self._ideal(places[..., :2].detach().double().cpu().numpy(), depth)).to(places)
        edge = ideal.new_tensor(self._share).reciprocal()
        return torch.cat([torch.minimum(torch.maximum(ideal, -edge), edge), places[..., 2:]], dim=-1)

    def _ideal(self, places: Array, depth: float | Tensor) -> Array:
        """The ideal image points [..., 2] that are seen at places [..., 2], both in halves of this sensor."""
        share = np.array(self._share)
        focus = None if math.isnan(self.foc_dist) else float(self.foc_dist)
        depth_mm = float(torch.as_tensor(depth).detach())
        ideal: Array = self.model.optics.ideal_points(places * share, depth_mm, focus) / share
        return ideal


def _axis(n: int, center: bool) -> Tensor:
    """The middles of n equal parts of [-1, 1], or as many points that reach from -0.98 to 0.98."""
    middles = (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1
    return middles if center or n == 1 else middles * 0.98 / middles[-1]


def _check_names(function: str, given: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{function} has no option {unknown[0]}; it has {', '.join(sorted(known))}")
