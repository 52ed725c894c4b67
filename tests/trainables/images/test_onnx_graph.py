"""ONNX files of VAEs of images: the decoder's mean images and the encoder's posteriors."""

import onnxruntime
import pytest
import torch

from trainables.images.learner import ImageLearner
from trainables.networks.vae import VAE, VaeConfig
from trainables.onnx_file import write_onnx


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        VaeConfig("conv", 1, 28, 6, 4, 16, "bernoulli"),
        VaeConfig("residual", 3, 64, 64, 4, 16, "gaussian_learned", ppca=True),
        VaeConfig("bottleneck", 1, 16, 6, 4, 16, "none", blocks=1),
    ],
    ids=lambda config: config.network,
)
def test_decoder_and_encoder_are_the_model_s(tmp_path, config):
    torch.manual_seed(0)
    model = VAE(config).eval().requires_grad_(False)
    graphs = ImageLearner().graphs(model)
    images = torch.rand(3, config.channels, config.px, config.px)
    posterior = model.encode(images)
    expected = {
        "decoder": ({"z": posterior.mu}, [model.generate(posterior.mu)]),
        "encoder": ({"images": images}, [posterior.mu, posterior.logvar]),
    }
    for name, (given, wanted) in expected.items():
        write_onnx(tmp_path / f"{name}.onnx", graphs[name])
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        found = session.run(None, {key: value.numpy() for key, value in given.items()})
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-4, rtol=1e-4)
