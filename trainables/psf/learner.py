"""What the CVAE of kernels computes: batches, losses, errors, interpolation of its grid.

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, P = neighbour pairs, N = held-out
points, d = condition dimension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics, optics_facts
from deeplens_workers.lens_data import COORDINATES
from deeplens_workers.psf_data import PsfData
from deeplens_workers.threads import one_thread
from spaces.card import Card
from spaces.explorer import Explorer
from spaces.study import Study
from spaces.system import Source
from trainables.learner import Judged, Learner
from trainables.psf.card import psf_card
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.data import Basis, PsfSplit, PsfTensors, diopter_ranges
from trainables.psf.explorer import psf_explorer
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.interpolation import predict_baselines
from trainables.psf.metrics import evaluate, kernel_errors, predict
from trainables.psf.model import PSFModel
from trainables.psf.packing import CvaePacking
from trainables.psf.pictures import psf_image
from trainables.psf.stream import StreamReader
from trainables.psf.tables import judged_tables
from trainables.psf.trial import CvaePsfTrial
from trainables.psf.turning import Turned, at_random_azimuths
from trainables.timing import fastest
from trainables.training.losses import Ranks
from trainables.training.squared_error import Terms, squared_error_loss

if TYPE_CHECKING:  # a lane draws no figures and exports nothing
    from spaces.drawing import Figures
    from trainables.onnx_file import Graph


class CvaePsfLearner(Learner[CvaePsfTrial, PsfTensors, CVAE, PsfSplit]):
    """The learner of `cvae_psf`."""

    packing = CvaePacking()

    def open(self, sets: Mapping[str, str], device: str | torch.device = "cpu") -> PsfTensors:
        """The grid, or the running stream whose actor `sets["stream"]` names, and what reads it."""
        data = PsfTensors.load(sets["train"], sets["validation"], device, frame_of(sets), sets.get("grid"))
        if "stream" not in sets:
            return data
        reader = StreamReader(ray.get_actor(sets["stream"]), data.conditions, device)
        stays = PsfSplit.load(sets.get("axis", sets["train"]), data.conditions)
        basis = Basis(reader.train.kernels, mirrored=data.turned is not None, found_from=stays.kernels)
        reader.on_change = basis.update
        return replace(data, train=reader.train, fresh=reader, basis=basis)

    def build(self, trial: CvaePsfTrial, data: PsfTensors) -> CVAE:
        _, channels, kernel_px, _ = data.validation.kernels.shape
        basis = data.basis.components if trial.network == "basis" else None
        config = CvaeConfig.of(
            trial,
            channels=channels,
            kernel_px=kernel_px,
            diopter_ranges=data.diopter_ranges,
            basis=basis,
            turned=data.turned,
        )
        return CVAE(config, basis)

    def rebuild(self, config: dict[str, Any]) -> CVAE:
        return CVAE(CvaeConfig.from_dict(config))

    def facts(self, sets: Mapping[str, str], study: Study, source: Source) -> dict[str, Any]:
        """Of a study of the first versions, which did not say how large the sensor is, nothing."""
        assert isinstance(study.data, PsfData)
        return optics_facts(study.data, source, sets.get("grid", sets["train"]))

    def presented(self, network: CVAE, record: Mapping[str, Any]) -> nn.Module:
        """`PSFModel`; of an export of the first versions, which says nothing of the kernels, the network."""
        return PSFModel(network, KernelOptics(**record["optics"])) if "optics" in record else network

    def graphs(self, model: nn.Module) -> dict[str, Graph]:
        from trainables.psf.onnx_graph import kernel_graph

        return {"kernels": kernel_graph(model)} if isinstance(model, PSFModel) else {}

    def draw(self, trial: CvaePsfTrial, data: PsfTensors, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Indices [B] of kernels, noise [B, L] of the posterior, indices [P] of neighbour pairs, turns [B] in [0, 1)."""
        device, count = data.device, len(data.train) - data.held_back
        return (
            torch.randint(count, (trial.batch_size,), generator=generator, device=device),
            torch.randn(trial.batch_size, trial.latent_dim, generator=generator, device=device),
            torch.randint(len(data.pairs), (trial.smooth_pairs,), generator=generator, device=device),
            *([torch.rand(trial.batch_size, generator=generator, device=device)] if data.turned else []),
        )

    def inputs(self, trial: CvaePsfTrial, data: PsfTensors, drawn: tuple[Tensor, ...]) -> tuple[Any, ...]:
        batch, noise, pairs, *turns = drawn
        points, neighbours = data.train.points[batch], data.pairs[pairs]
        if trial.network == "basis":
            values = data.basis.scores[batch, : trial.components]
        else:
            values = data.train.kernels[batch]
            if data.turned is not None:
                points, values = at_random_azimuths(
                    data.turned, points, values, turns[0], data.validation.kernels.shape[-1]
                )
        if data.fresh is not None:
            data.fresh.refresh(trial.batch_size)
        return values, points, noise, neighbours.movedim(1, 0), trial.smooth_term

    def loss(self, trial: CvaePsfTrial, terms: Terms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
        return squared_error_loss(trial, terms, trial.smooth_pairs, kl_weight, ranks)

    def capturable(self, data: PsfTensors) -> bool:
        """A stream's kernels are changed by Python."""
        return data.fresh is None

    def evaluate(self, network: CVAE, data: PsfTensors) -> dict[str, float]:
        return evaluate(network, data)

    def pictures(self, network: CVAE, data: PsfTensors) -> dict[str, Tensor]:
        return {"psfs": psf_image(network, data)}

    def since_last(self, data: PsfTensors) -> dict[str, float]:
        share = data.fresh.fresh_share() if data.fresh is not None else None
        return {} if share is None else {"train/fresh_share": share}

    def open_test(self, sets: Mapping[str, str]) -> PsfSplit:
        conditions = diopter_ranges(np.load(Path(sets.get("grid", sets["train"])) / "points.npy"))
        return PsfSplit.load(sets["test"], (*COORDINATES[:2], *conditions))

    def judge(self, network: CVAE, test: PsfSplit) -> Judged:
        with one_thread():
            kernels, seconds = fastest(lambda: predict(network, test.points))
        return Judged(kernel_errors(kernels, test.kernels), size_of(network), seconds / len(test))

    def baselines(self, sets: Mapping[str, str], test: PsfSplit, winner: CVAE) -> dict[str, Judged]:
        conditions = winner.config.conditions
        grid = PsfSplit.load(sets.get("grid", sets["train"]), conditions)
        if (frame := frame_of(sets)) is None:
            found = predict_baselines(grid, test.points)
        else:
            axis, validation = (PsfSplit.load(sets[name], conditions) for name in ("axis", "validation"))
            found = judged_tables(grid, axis, frame, validation, test.points, size_of(winner))
            if not winner.config.diopter_ranges:  # in the field alone, a table needs no axes
                found = predict_baselines(grid, test.points) | found
        return {
            name: Judged(
                kernel_errors(one.kernels, test.kernels),
                one.bytes,
                one.seconds_per_psf,
                data=one.data if one.data in sets else "train",
                share=one.share,
            )
            for name, one in found.items()
        }

    def alternatives(
        self, sets: Mapping[str, str], test: PsfSplit, study: Study, source: Source, winner: CVAE, seconds: float
    ) -> dict[str, Judged]:
        """Our renderer called directly, with as many rays as kernels to train on have, and DeepLens' own network."""
        from deeplens_workers.alternatives import answers

        points = np.load(Path(sets["test"]) / "points.npy")
        return {
            name: Judged(
                kernel_errors(torch.from_numpy(one.kernels), test.kernels),
                one.bytes,
                one.seconds_per_psf,
                data=None,  # traced while it trains, if at all
                training=one.training,
            )
            for name, one in answers(study.data, source, points, seconds).items()
        }

    def figures(self, network: CVAE, test: PsfSplit, study: Study) -> Figures:
        """None of a study of the first versions, which did not say how large the sensor is."""
        from trainables.psf.figures.model import model_figures  # matplotlib

        assert isinstance(study.data, PsfData)
        if study.data.lens_facts is None:
            return {}
        conditions = tuple(network.config.conditions)
        kernels = FieldKernels.of(test.points, test.kernels, predict(network, test.points), study.data, conditions)
        return model_figures(network, kernels)

    def explorer(self, network: CVAE, test: PsfSplit, study: Study) -> Explorer:
        assert isinstance(study.data, PsfData)
        return psf_explorer(network, test, study.data)

    def card(self, study: Study, source: str) -> Card:
        assert isinstance(study.data, PsfData)
        return psf_card(study.data, source)


def size_of(network: CVAE) -> int:
    """Bytes of its weights and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def frame_of(sets: Mapping[str, str]) -> Turned | None:
    """How the train set's kernels become those of any azimuth; None: they are of the sensor."""
    return Turned(**json.loads(sets["turning"])) if "turning" in sets else None
