"""What the CVAE of manufactured lenses computes: batches, losses, errors.

Shape legend: B = batch (units), P = positions of a unit, n = most observed kernels, T = targets, L = latent dimension, R =
components, V = values of a kernel, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplens_workers.asbuilt_data import OBSERVED, AsBuiltData
from deeplens_workers.kernel_optics import KernelOptics, optics_facts
from deeplens_workers.lens_data import COORDINATES
from deeplens_workers.threads import one_thread
from spaces.card import Card
from spaces.explorer import Explorer
from spaces.study import Study
from spaces.system import Source
from trainables.asbuilt import linear_gaussian
from trainables.asbuilt.baselines import predict_baselines
from trainables.asbuilt.basis import FLIPS, of_unit_norm
from trainables.asbuilt.card import asbuilt_card
from trainables.asbuilt.data import GRID, AsBuiltSplit, AsBuiltTensors, AsBuiltTest, diopter_ranges, observed
from trainables.asbuilt.evaluation import GIVEN, coverage, evaluate, model_errors, name_of, unit_errors
from trainables.asbuilt.explorer import asbuilt_explorer
from trainables.asbuilt.losses import Terms, asbuilt_loss
from trainables.asbuilt.network import AsBuiltConfig, AsBuiltCVAE
from trainables.asbuilt.oracle import MirroredTolerances, oracle
from trainables.asbuilt.residuals import measure_residuals
from trainables.asbuilt.system import SYSTEM
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.learner import Judged, Learner
from trainables.packing import Packing
from trainables.psf.model import PSFModel
from trainables.timing import fastest
from trainables.training.losses import Ranks

if TYPE_CHECKING:  # a lane draws no figures and exports nothing
    from spaces.drawing import Figures
    from trainables.onnx_file import Graph

NEIGHBOUR = 0.1
"""Distance of a target's neighbour along x and y, at the most; it has the target's depth and focus."""
TIMED_UNITS = 8
ALTERNATIVE = 120
"""Seconds for each of what takes long to answer."""


class AsBuiltLearner(Learner[AsBuiltTrial, AsBuiltTensors, AsBuiltCVAE, AsBuiltTest]):
    """The learner of `cvae_asbuilt`."""

    packing = Packing(["recon_scale", "free_bits"])

    def open(self, sets: Mapping[str, str], device: str | torch.device = "cpu") -> AsBuiltTensors:
        """With the running stream whose actor `sets["stream"]` names, if it does."""
        fresh = None
        if "stream" in sets:
            import ray  # a model that is only loaded does without

            from trainables.psf.stream import StreamReader

            conditions = (*COORDINATES[:2], *diopter_ranges(sets))
            fresh = StreamReader(ray.get_actor(sets["stream"]), conditions, device)
        return AsBuiltTensors.load(sets, device, fresh)

    def build(self, trial: AsBuiltTrial, data: AsBuiltTensors) -> AsBuiltCVAE:
        _, _, channels, side = data.shape
        names = {one.name for one in fields(AsBuiltConfig)} & set(AsBuiltTrial.model_fields) - {"components"}
        config = AsBuiltConfig(
            channels=channels,
            kernel_px=side,
            components=data.basis.whole(trial.components),
            learned_variance=trial.decoder_variance == "learned",
            pixel_um=data.facts.pixel_um,
            wavelengths=data.facts.wavelengths,
            distances_mm=data.facts.distances_mm,
            diopter_ranges=data.diopter_ranges,
            flips=min(len(FLIPS), len(data.mirrors.signs)) if trial.mirrored else 1,
            **trial.model_dump(include=names),
        )
        return AsBuiltCVAE(config, data.basis)

    def rebuild(self, config: dict[str, Any]) -> AsBuiltCVAE:
        known = {  # JSON has lists
            "wavelengths": tuple(config.get("wavelengths", ())),
            "diopter_ranges": {name: tuple(ends) for name, ends in config.get("diopter_ranges", {}).items()},
        }
        return AsBuiltCVAE(AsBuiltConfig(**config | known))

    def facts(self, sets: Mapping[str, str], study: Study, source: Source) -> dict[str, Any]:
        """Distortion is the design's."""
        assert isinstance(study.data, AsBuiltData)
        return optics_facts(study.data, source, sets["nominal"])

    def presented(self, network: AsBuiltCVAE, record: Mapping[str, Any]) -> AsBuiltCVAE:
        if "optics" in record:
            network.optics = KernelOptics(**record["optics"])
        return network

    def graphs(self, model: nn.Module) -> dict[str, Graph]:
        """Of the model of all units, or of one of them."""
        from trainables.asbuilt.onnx_graph import units_graph
        from trainables.psf.onnx_graph import kernel_graph

        if isinstance(model, PSFModel):
            return {"kernels": kernel_graph(model)}
        assert isinstance(model, AsBuiltCVAE)
        return {} if model.optics is None else {"units": units_graph(model, model.optics)}

    def draw(self, trial: AsBuiltTrial, data: AsBuiltTensors, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Units [B], mirror images [B], order of positions [B, P], numbers observed [B], noise of z [B, L], offsets [B, 2] in [0, 1),
        and, if asked for, noise of what is observed [B, n, R] and its shifts [B, n, 2]."""
        batch, device = trial.batch_size, data.device
        units, positions, _ = data.points.shape
        most = most_observed(positions, trial.targets)
        drawn = [
            torch.randint(units, (batch,), generator=generator, device=device),
            torch.randint(len(data.mirrors.signs), (batch,), generator=generator, device=device),
            torch.rand(batch, positions, generator=generator, device=device).argsort(dim=1),
            torch.randint(1, most + 1, (batch,), generator=generator, device=device),
            torch.randn(batch, trial.latent_dim, generator=generator, device=device),
            torch.rand(batch, 2, generator=generator, device=device),
        ]
        if trial.observed_noise:
            count = data.basis.whole(trial.components)
            drawn.append(torch.randn(batch, most, count, generator=generator, device=device))
        if trial.observed_shift_px:
            drawn.append(torch.randn(batch, most, 2, generator=generator, device=device))
        return tuple(drawn)

    def inputs(self, trial: AsBuiltTrial, data: AsBuiltTensors, drawn: tuple[Tensor, ...]) -> tuple[Any, ...]:
        unit, mirror, order, count, noise, offset, *disturbed = drawn
        most = most_observed(data.shape[1], trial.targets)
        if not trial.mirrored:
            mirror = torch.zeros_like(mirror)
        components = data.basis.whole(trial.components)
        points = data.mirrors.turned(data.points[unit[:, None], order], mirror)
        seen, wanted = slice(None, most), slice(most, most + trial.targets)

        def scores(part: slice) -> Tensor:
            own = data.scores[unit[:, None], order[:, part]][..., :components]
            return data.mirrored(own, mirror)

        observed_scores = scores(seen)
        if trial.observed_shift_px:
            shift = disturbed[-1].flatten(0, 1) * trial.observed_shift_px
            observed_scores = data.shifts.apply(observed_scores.flatten(0, 1), shift).view(observed_scores.shape)
        if trial.observed_noise:
            _, _, channels, side = data.shape
            # White noise spreads over all pixels, of which components are few.
            deviation = trial.observed_noise / (channels * side**2) ** 0.5
            observed_scores = observed_scores + deviation * data.noise[:components] * disturbed[0]
        if trial.network == "basis":
            targets = scores(wanted)
        else:
            kernels = data.mirrored_kernels(data.kernels_at(unit, order[:, wanted]), mirror)
            targets = of_unit_norm(kernels.flatten(0, 1)).flatten(1).unflatten(0, kernels.shape[:2])
        present = torch.arange(most, device=data.device) < count[:, None]
        targets_at = points[:, wanted]
        neighbours = None
        if trial.smooth_weight:
            first = targets_at[:, 0]
            neighbours = (first[:, :2] + NEIGHBOUR * (2 * offset - 1)).clamp(-1, 1)
            neighbours = torch.cat([neighbours, first[:, 2:]], dim=-1)
        data.refresh(trial.batch_size)
        return observed_scores, points[:, seen], present, targets, targets_at, noise, neighbours

    def loss(self, trial: AsBuiltTrial, terms: Terms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
        return asbuilt_loss(trial, terms, kl_weight, ranks)

    def capturable(self, data: AsBuiltTensors) -> bool:
        """A stream's units are changed by Python."""
        return data.fresh is None

    def evaluate(self, network: AsBuiltCVAE, data: AsBuiltTensors) -> dict[str, float]:
        return evaluate(network, data.validation)

    def since_last(self, data: AsBuiltTensors) -> dict[str, float]:
        share = data.fresh.fresh_share() if data.fresh is not None else None
        return {} if share is None else {"train/fresh_share": share}

    def open_test(self, sets: Mapping[str, str]) -> AsBuiltTest:
        return AsBuiltTest.load(sets)

    def judge(self, network: AsBuiltCVAE, test: AsBuiltTest) -> Judged:
        """A unit's time is that of all its held-out kernels, from 4 observed. `coverage` is that of 64 units at most."""
        errors = {**model_errors(network, test.units), "coverage": coverage(network, test.units)}
        few = test.units.some(slice(TIMED_UNITS))
        seen, away = observed(few, GIVEN), few.held_out.points
        with one_thread(), torch.no_grad():
            _, seconds = fastest(lambda: network.predict(seen.kernels, seen.points, away))
        size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        return Judged(errors, size, seconds / len(few))

    def complete(self, network: AsBuiltCVAE, sets: Mapping[str, str]) -> None:
        """What it leaves of training units' light, which no step of training needs."""
        measure_residuals(network, AsBuiltSplit.of(sets, "train"))

    def baselines(self, sets: Mapping[str, str], test: AsBuiltTest, winner: AsBuiltCVAE) -> dict[str, Judged]:
        alone, validation = (AsBuiltSplit.of(sets, name) for name in ("effects", "validation"))
        return predict_baselines(test.nominal, alone, validation, test.units)

    def alternatives(
        self,
        sets: Mapping[str, str],
        test: AsBuiltTest,
        study: Study,
        source: Source,
        winner: AsBuiltCVAE,
        seconds: float,
    ) -> dict[str, Judged]:
        """The best linear model of the same units; the true tolerances given to the same decoder, and tolerances fitted through the ray
        tracer, both for half as long as the winner trained, `ALTERNATIVE` seconds at most: fitted to as many of the units as that allows, two at the least."""
        from deeplens_workers.asbuilt_preparation import manufacture
        from deeplens_workers.preparation import lens_of
        from deeplens_workers.unit_fit import fitted_units

        assert isinstance(study.data, AsBuiltData)
        data, limit = self.open(sets), min(seconds / 2, ALTERNATIVE)
        mirrored = MirroredTolerances.of(manufacture(study.data, lens_of(source)).deviations, data.mirrors.turns)
        told = oracle(data, test.units, winner, limit, mirrored)
        points = np.load(Path(sets["test"]) / "points.npy").reshape(*test.units.kernels.shape[:2], -1)
        fits = fitted_units(study.data, source, points, test.units.kernels.numpy(), OBSERVED[GIVEN], GRID, limit)
        true = test.units.held_out.kernels[: len(fits.kernels)]
        errors = unit_errors(torch.from_numpy(fits.kernels), true)
        found = {}
        with suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # of too few units there is none
            found["gaussian"] = linear_gaussian.judged(data, test.units, winner)
        return found | {
            "oracle": told,
            "fitted": Judged({name_of(GIVEN): errors}, fits.bytes, fits.seconds, data=None),
        }

    def figures(self, network: AsBuiltCVAE, test: AsBuiltTest, study: Study) -> Figures:
        from trainables.asbuilt.figures import unit_figures  # matplotlib

        assert isinstance(study.data, AsBuiltData)
        return unit_figures(network, test, study.data)

    def comparison_figures(self, errors: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figures:
        from trainables.asbuilt.figures import error_figure

        titles = {"best": "the winner", "reference": "the document's values"}
        titles |= {one.name: one.title for one in SYSTEM.baselines}
        shown = {name: title for name, title in titles.items() if name in errors}
        return {"errors": lambda: error_figure(errors, shown)}

    def explorer(self, network: AsBuiltCVAE, test: AsBuiltTest, study: Study) -> Explorer:
        assert isinstance(study.data, AsBuiltData)
        return asbuilt_explorer(network, test, study.data)

    def card(self, study: Study, source: str) -> Card:
        assert isinstance(study.data, AsBuiltData)
        return asbuilt_card(study.data, source)


def most_observed(positions: int, targets: int) -> int:
    """Kernels of a training unit that may be observed at once: those that are no targets."""
    return min(GRID, positions - targets)
