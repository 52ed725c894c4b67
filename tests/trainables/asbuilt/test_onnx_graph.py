"""ONNX files of models of units: units as a factory makes them, and one unit with measured PSFs."""

import onnxruntime
import pytest
import torch

from tests.trainables.asbuilt.synthetic import CHANNELS, SIDE
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL
from tests.trainables.psf.test_model import optics
from trainables.asbuilt.data import AsBuiltSplit, observed
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.onnx_file import write_onnx


@pytest.mark.slow
def test_units_of_the_factory_and_one_that_was_measured(data, square, tmp_path):
    torch.manual_seed(0)
    model = LEARNER.build(AsBuiltTrial(**SMALL), data).eval().requires_grad_(False)
    assert LEARNER.graphs(model) == {}  # it does not say what its kernels are of
    model.optics = optics(kernel_px=SIDE, channels=optics().channels[:CHANNELS])
    seen = observed(AsBuiltSplit.load(square["test"]), 4)
    unit = model.fit(seen.kernels[0], seen.points[0]).psf_model()
    sessions = []
    for one in (model, unit):
        (graph,) = LEARNER.graphs(one).values()
        write_onnx(tmp_path / "file.onnx", graph)
        sessions.append(onnxruntime.InferenceSession(tmp_path / "file.onnx", providers=["CPUExecutionProvider"]))
    for units, positions in ((1, 1), (3, 5)):
        z, at = torch.randn(units, model.config.latent_dim), torch.rand(units, positions, 2) * 2 - 1
        (found,) = sessions[0].run(None, {"z": z.numpy(), "points": at.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model.decode(model.unit(z), at), atol=1e-5, rtol=0)
        (found,) = sessions[1].run(None, {"points": at[0].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), unit.predict(at[0]), atol=1e-5, rtol=0)
