"""ONNX files of PSF models in ONNX Runtime: the same kernels, for any number of points, from one file that says what it is."""

from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from deeplens_workers.kernel_optics import KernelOptics
from deeplens_workers.pooling import fine_px
from tests.trainables.psf.test_model import optics
from trainables.onnx_file import write_onnx
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.model import PSFModel
from trainables.psf.onnx_graph import kernel_graph
from trainables.psf.principal import Components
from trainables.psf.turning import Turned

SIZES: dict[str, Any] = {"latent_dim": 5, "hidden_dim": 16, "num_layers": 2, "fourier_bands": 3}
BOTH = {"depth_mm": (0.1, 2.0), "focus_mm": (0.1, 2.0)}
DISTANCES = (-10000.0, -500.0)
TRACED, SIDE = 16, 8


def components(side: int, mirrored: bool) -> Components:
    kernels = torch.rand(40, 3, side, side)
    return Components.fit(kernels / kernels.sum(dim=(-2, -1), keepdim=True), mirrored)


def made(network: str) -> PSFModel:
    """A model of random weights; all but the `mlp` of x and y are of depth and focus too."""
    torch.manual_seed(0)
    ranges = {} if network == "mlp" else BOTH
    more: dict[str, Any] = {"defocus": bool(ranges)}
    basis = None
    if network == "conv":
        more |= {"network": "conv", "base_width": 4}
    elif network in ("basis", "meridional"):
        turned = Turned(TRACED, 16 / 24, "box") if network == "meridional" else None
        basis = components(fine_px(TRACED, SIDE, "box") if turned else SIDE, mirrored=turned is not None)
        more |= {"network": "basis", "components": 8, "samples": basis.components.shape[1], "turned": turned}
    side = 16 if network == "conv" else SIDE
    cvae = CVAE(CvaeConfig(3, side, ranges, **SIZES, **more), basis).eval().requires_grad_(False)
    torch.nn.init.normal_(cvae.decoder.head.weight, std=0.5)
    distances = {"depths_mm": DISTANCES, "focus_mm": DISTANCES} if ranges else {}
    return PSFModel(cvae, optics(kernel_px=side, **distances))


def points(count: int, model: PSFModel) -> torch.Tensor:
    """At random, but for the centre and places on the axes."""
    at = torch.rand(count, 2) * 2 - 1
    at[:4] = torch.tensor([[0.0, 0.0], [0.0, 0.7], [-1.0, 0.0], [-1.0, -1.0]])[:count]
    distances = DISTANCES[0] + (DISTANCES[1] - DISTANCES[0]) * torch.rand(count, len(model.optics.varied))
    return torch.cat([at, distances], dim=1)


class _Spread(nn.Module):
    """The same kernels everywhere."""

    def predict(self, points: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 3, SIDE, SIDE), SIDE**-2.0) + 0 * points[:, :1, None, None]


@pytest.mark.parametrize(
    "network",
    ["mlp", "meridional", pytest.param("conv", marks=pytest.mark.slow), pytest.param("basis", marks=pytest.mark.slow)],
)
def test_the_same_kernels_for_any_number_of_points(tmp_path, network):
    model, path = made(network), tmp_path / "model.onnx"
    write_onnx(path, kernel_graph(model))
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]  # the weights are inside
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 5, 257):
        at = points(count, model)
        (found,) = session.run(["kernels"], {"points": at.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model.predict(at), atol=1e-6, rtol=0)


def test_the_file_alone_says_what_it_is_and_nothing_of_where_it_was_made(tmp_path):
    model, path = PSFModel(_Spread(), optics(kernel_px=SIDE)), tmp_path / "model.onnx"
    write_onnx(path, kernel_graph(model))
    file = onnx.load(path)
    said = {one.key: one.value for one in file.metadata_props}
    assert KernelOptics.model_validate_json(said["optics"]) == model.optics
    assert (said["lens"], float(said["pixel_um"]), said["pixel_filter"]) == ("triplet", 10.0, "box")
    assert [float(one) for one in said["wavelengths_um"].split(", ")] == [0.656, 0.587, 0.486]
    (given,), (result,) = file.graph.input, file.graph.output
    assert "24 x 16 mm" in given.doc_string
    assert "10 um" in result.doc_string
    assert [one.dim_param or one.dim_value for one in given.type.tensor_type.shape.dim] == ["N", 2]
    assert [one.dim_param or one.dim_value for one in result.type.tensor_type.shape.dim] == ["N", 3, SIDE, SIDE]
    content = path.read_bytes()
    assert str(tmp_path).encode() not in content
    assert b".py" not in content
