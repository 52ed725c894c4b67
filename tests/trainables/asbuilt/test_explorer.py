"""Units in the page of a report, against the model itself."""

from __future__ import annotations

import pytest
import torch

from deeplens_workers.asbuilt_data import AsBuiltData
from results.explorer import file
from spaces.loading import load
from tests.pages import agrees, chromium, explored, opened, predicted
from trainables.asbuilt.data import AsBuiltTest, observed
from trainables.asbuilt.evaluation import GIVEN
from trainables.asbuilt.explorer import asbuilt_explorer
from trainables.asbuilt.learner import AsBuiltLearner
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export


@pytest.mark.parametrize("network", ["basis", "mlp"])
def test_the_units_in_the_page_are_the_model_s(network, square, data, tmp_path):
    study = load("cvae_asbuilt")
    small = {"latent_dim": 3, "hidden_dim": 24, "num_layers": 2, "encoder_layers": 1, "fourier_bands": 2}
    trial = study.trial({**study.recommended(), **small, "components": 24, "network": network})
    assert isinstance(trial, AsBuiltTrial)
    assert isinstance(study.data, AsBuiltData)
    torch.manual_seed(0)
    model = AsBuiltLearner().build(trial, data).eval().requires_grad_(False)
    test = AsBuiltTest.load(square)
    made = asbuilt_explorer(model, test, study.data)
    export(model, "cvae_asbuilt", tmp_path / "model")
    file.write(tmp_path / "explorer.safetensors", made)
    points = torch.rand(1, 50, 2) * 2 - 1
    seen = observed(test.units.some(slice(1)), GIVEN)
    with chromium() as browser, opened(browser, explored(tmp_path), tmp_path / "page.html") as page:
        agrees(predicted(page, points[0].tolist()), model.predict(seen.kernels, seen.points, points)[0].numpy())
        page.select_option("#explorer-set", label="a unit by the sliders")
        page.fill("#explorer-latent-1", "-1.5")
        z = torch.from_numpy(made.arrays["origin"] - 1.5 * made.arrays["directions"][1])
        agrees(predicted(page, points[0].tolist()), model.decode(z[None], points)[0].numpy())
        assert not page.is_visible("#explorer-true")
