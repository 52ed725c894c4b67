"""Training, evaluation and export of the CVAE of units, on synthetic ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.kernels import Tracing, Units
from deeplens_workers.lens_file import find_lens
from deeplens_workers.render import load
from deeplens_workers.tolerances import Tolerances, draw
from tests.trainables.asbuilt.synthetic import mirrored_tolerances
from trainables.asbuilt.baselines import predict_baselines
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, observed
from trainables.asbuilt.evaluation import coverage, name_of, unit_errors
from trainables.asbuilt.learner import AsBuiltLearner, most_observed
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.oracle import MirroredTolerances, oracle
from trainables.asbuilt.system import SYSTEM
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export, load_model
from trainables.psf.metrics import relative_l2
from trainables.training.losses import Ranks
from trainables.training.state import TrainingState
from trainables.training.step import Step

LEARNER = AsBuiltLearner()
SMALL = {
    "hidden_dim": 64,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "kl_weight": 1e-3,
    "components": 48,
    "latent_dim": 6,
    "targets": 4,
}
VARIANTS = [
    {},
    {"pooling": "attention", "prior": "learned", "decoder_variance": "learned"},
    {"network": "mlp", "decoder_variance": "optimal", "smooth_weight": 0.1},
    {"observed_noise": 0.1, "observed_shift_px": 0.1, "mirrored": False},
]


def trained(data, steps, **changed):
    trial = AsBuiltTrial(**{**SMALL, **changed})
    state = TrainingState(trial, lambda: LEARNER.build(trial, data), 0, data.device)
    step = Step(trial, LEARNER, data, state)
    for number in range(1, steps + 1):
        values = step(number, trial.learning_rate, trial.kl_weight)
    return state.model, values


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_every_variant_trains_and_reports_every_metric(data, changed):
    model, values = trained(data, 5, **changed)
    reported = LEARNER.evaluate(model, data) | {f"train/{name}": float(value) for name, value in values.items()}
    assert set(reported) <= set(SYSTEM.metrics)
    assert set(SYSTEM.measured) <= set(reported)
    assert all(torch.isfinite(torch.tensor(value)) for value in reported.values())


@pytest.mark.parametrize("kind", ["oblong", "not_centred"])
def test_units_of_fewer_mirror_images_are_trained_on(request, kind):
    data = AsBuiltTensors.load(request.getfixturevalue(kind))
    drawn = LEARNER.draw(AsBuiltTrial(**SMALL), data, torch.Generator().manual_seed(0))
    assert int(drawn[1].max()) == len(data.mirrors.signs) - 1
    before, after = (LEARNER.evaluate(trained(data, steps)[0], data)["val/rel_l2"] for steps in (1, 40))
    assert after < before


def test_training_learns_to_tell_units_apart(data, square):
    model, _ = trained(data, 400)
    errors = LEARNER.evaluate(model, data)
    lens = AsBuiltSplit.load(square["nominal"])
    nominal = predict_baselines(lens, AsBuiltSplit.load(square["effects"]), data.validation, data.validation)["nominal"]
    assert errors["val/rel_l2"] < 0.8 * float(nominal.errors["rel_l2"].mean())


def test_a_network_is_built_again_from_its_config(data):
    model, _ = trained(data, 3, pooling="attention", prior="learned", decoder_variance="learned")
    again = LEARNER.rebuild(json.loads(json.dumps(model.config_dict)))
    again.load_state_dict(model.state_dict())
    seen, away = observed(data.validation, 9), data.validation.held_out.points
    with torch.no_grad():
        kernels = [one.eval().predict(seen.kernels, seen.points, away) for one in (model, again)]
    assert torch.equal(*kernels)
    torch.testing.assert_close(kernels[0].sum(dim=(-2, -1)), torch.ones(kernels[0].shape[:3]))


@pytest.mark.parametrize("network", ["basis", "mlp"])
def test_the_psfs_of_a_mirrored_unit_are_the_mirrored_psfs_of_the_unit(data, network):
    model, _ = trained(data, 3, network=network)
    seen, away = observed(data.validation, 4), data.validation.held_out.points
    x, y = torch.tensor([-1.0, 1.0]), torch.tensor([1.0, -1.0])
    with torch.no_grad():
        kernels = model.eval().predict(seen.kernels, seen.points, away)
        flipped_x = model.predict(seen.kernels.flip(-1), seen.points * x, away * x).flip(-1)
        flipped_y = model.predict(seen.kernels.flip(-2), seen.points * y, away * y).flip(-2)
        alone = model.decode(model.encode(seen.kernels, seen.points).mu, away)
    torch.testing.assert_close(flipped_x, kernels, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(flipped_y, kernels, rtol=1e-3, atol=1e-5)
    assert float(relative_l2(alone.flatten(0, 1), kernels.flatten(0, 1)).mean()) > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_the_posterior_depends_on_no_order_and_on_nothing_absent(data, pooling):
    trial = AsBuiltTrial(**SMALL, pooling=pooling)
    model = LEARNER.build(trial, data)
    scores, points = data.scores[:2, :6, : model.config.components], data.points[:2, :6]
    present = torch.tensor([[True] * 4 + [False] * 2]).expand(2, -1)
    order = torch.tensor([2, 0, 3, 1, 5, 4])

    def posterior(scores, points, present):
        features = model.encoder(scores, model.condition(points))
        return torch.cat(model.encoder.head(model.encoder.of_set(features, present)))

    found = posterior(scores, points, present)
    torch.testing.assert_close(posterior(scores[:, order], points[:, order], present), found)
    torch.testing.assert_close(posterior(scores[:, :4], points[:, :4], present[:, :4]), found)


def test_two_ranks_have_the_loss_of_one(data):
    trial = AsBuiltTrial(**SMALL)
    model = LEARNER.build(trial, data).eval()  # moving averages would change from call to call
    drawn = LEARNER.draw(trial, data, torch.Generator().manual_seed(0))

    def loss(part):
        terms = model(*LEARNER.inputs(trial, data, part))
        return LEARNER.loss(trial, terms, trial.kl_weight, Ranks())["loss"]

    shares = [loss(tuple(one.tensor_split(2)[rank] for one in drawn)) for rank in (0, 1)]
    torch.testing.assert_close(sum(shares), loss(drawn), rtol=1e-5, atol=0)


def test_targets_that_are_held_back_are_never_observed(data):
    trial = AsBuiltTrial(**SMALL, mirrored=False)
    drawn = LEARNER.draw(trial, data, torch.Generator().manual_seed(0))
    _, points, present, _, targets_at, _, _ = LEARNER.inputs(trial, data, drawn)
    assert present.any(dim=1).all()
    assert points.shape[1] == most_observed(data.shape[1], trial.targets)
    assert float((points[:, :, None] - targets_at[:, None]).abs().sum(-1).min()) > 0


def test_judged_are_all_numbers_of_observed_kernels(data, square):
    model, _ = trained(data, 3)
    test = LEARNER.open_test(square)
    judged = LEARNER.judge(model, test)
    errors = {*map(name_of, OBSERVED)}
    assert {*judged.errors} == errors | {"coverage"}
    rivals = LEARNER.baselines(square, test, model).values()
    assert all({*one.errors} == errors for one in rivals)
    for one in (judged, *rivals):
        assert {values.shape for values in one.errors.values()} == {(len(test.units),)}


def test_baselines_are_declared_and_exact_where_they_must_be(data, square):
    """The nominal lens is a unit without errors, and 25 kernels of it leave the correction nothing to do."""
    lens = AsBuiltSplit.load(square["nominal"])
    rows = [*range(25), *range(25, 31)]
    itself = AsBuiltSplit(lens.kernels[:, rows], lens.points[:, rows], lens.units)
    found = predict_baselines(lens, AsBuiltSplit.load(square["effects"]), data.validation, itself)
    assert set(found) <= {one.name for one in SYSTEM.baselines}
    for name in ("nominal", "corrected", "linear"):
        assert float(found[name].errors["rel_l2"].max()) < 1e-5


def test_coverage_is_complete_of_a_decoder_that_knows_nothing(data):
    trial = AsBuiltTrial(**SMALL)
    model = LEARNER.build(trial, data)
    shares = coverage(model, data.validation)
    assert shares.shape == (len(data.validation),)
    assert float(shares.min()) >= 0
    assert float(shares.max()) <= 1
    assert float(unit_errors(data.validation.kernels, data.validation.kernels).max()) == 0


def test_a_unit_of_mirrored_tolerances_is_the_mirror_image_of_the_unit(data):
    tolerances = Tolerances(grade="commercial")
    renderer = load(find_lens("cooke_triplet_50mm"), 6.4)
    deviations = renderer.manufacture(tolerances).deviations
    values = torch.from_numpy(draw(tolerances, 1, 0, "test", len(deviations)))
    turns = data.mirrors.turns
    mirrored = MirroredTolerances.of(deviations, turns)
    points = torch.tensor([[0.7, -0.3], [-0.2, -0.9]])
    tracing = Tracing(channels=(((0.587, 1.0),),), trace_px=32, kernel_px=32, rays=8192, centre="centroid")

    def kernels(values, points):
        at = torch.cat([points, torch.full((len(points), 1), -1e4)], dim=1).numpy().astype(np.float32)
        return torch.from_numpy(renderer.render_units(at, tracing, Units(tolerances, values.numpy(), -1e4)).kernels)

    unit = kernels(values, points)
    for image, turn in enumerate(turns):
        own = values[:, mirrored.order[image]] * mirrored.signs[image]
        wanted = data.mirrored_kernels(unit[None], torch.tensor([image]))[0]
        error = (kernels(own, points @ turn.mT) - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        assert float(error.max()) < 0.03, image


def test_a_decoder_learns_units_from_their_tolerances(data, square):
    like = LEARNER.build(AsBuiltTrial(**SMALL), data)
    mirrored = mirrored_tolerances(data.mirrors.turns)
    few, many = (
        float(oracle(data, data.validation, like, 1e-9, mirrored, steps).errors["rel_l2"].mean()) for steps in (5, 150)
    )
    assert many < 0.5 * few


def test_an_export_names_its_system_and_predicts_the_same(data, tmp_path):
    model, _ = trained(data, 3, pooling="attention")
    export(model, SYSTEM.name, tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, AsBuiltCVAE)
    seen, away = observed(data.validation, 4), data.validation.held_out.points
    with torch.no_grad():
        assert torch.equal(
            again.predict(seen.kernels, seen.points, away), model.eval().predict(seen.kernels, seen.points, away)
        )


def test_kernels_of_another_size_are_refused_in_a_line(data):
    model = LEARNER.build(AsBuiltTrial(**SMALL), data)
    with pytest.raises(
        ValueError, match=r"kernels \[B, n, 2, 12, 12\] and points \[B, n, 2\], but got \[1, 4, 2, 9, 9\]"
    ):
        model.encode(torch.ones(1, 4, 2, 9, 9), torch.zeros(1, 4, 2))


def test_drawn_units_have_the_moments_of_training_units_posteriors(data):
    model, _ = trained(data, 400)
    drawn = model.draw_units(50_000, torch.Generator().manual_seed(0))
    covariance = model.population_second - torch.outer(model.population_mu, model.population_mu)
    torch.testing.assert_close(drawn.mean(dim=0), model.population_mu, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.mT.cov(), covariance, atol=0.05, rtol=0.05)
    with torch.no_grad():
        posterior = model.encode(data.kernels[:, :8], data.points[:, :8])
    spread = (posterior.mu.var(dim=0) + posterior.logvar.exp().mean(dim=0)).sum()
    assert float(covariance.trace() / spread) == pytest.approx(1, abs=0.4)
