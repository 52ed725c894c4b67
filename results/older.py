"""Files that earlier versions of this program wrote, as this one would have written them."""

from __future__ import annotations

from typing import Any


def run_record(found: dict[str, Any]) -> dict[str, Any]:
    """`run.json`; there was one system, whose data is made of a lens, and checkpoints had a size to keep to."""
    found = _renamed(found, {"lens": "source"})
    study = dict(found["study"])
    study["resources"] = {name: value for name, value in study["resources"].items() if name != "checkpoints_gb"}
    return found | {"study": study}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """`summary.json`; a baseline had no interval of its own."""
    if "rays_traced" not in found:
        return found | {"final": _with_intervals(found["final"])}
    found = {name: value for name, value in found.items() if name != "rays_traced"} | {
        "prepared": {"rays traced": found["rays_traced"]},
        "test": _renamed(found["test"], {"document": "reference"}),
    }
    final, seconds = found["final"], {"seconds_per_psf": "seconds"}
    finalists = [{"rival": True} | _renamed(one, seconds) for one in final["finalists"]]
    baselines = {name: _renamed(one, seconds) for name, one in final["baselines"].items()}
    return found | {"final": _with_intervals(final | {"finalists": finalists, "baselines": baselines})}


def _with_intervals(final: dict[str, Any]) -> dict[str, Any]:
    def interval(score: Any) -> Any:
        return score if isinstance(score, dict) else dict.fromkeys(("mean", "low", "high"), score)

    baselines = {name: one | {"score": interval(one["score"])} for name, one in final["baselines"].items()}
    return final | {"baselines": baselines}


def _renamed(found: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in found.items()}
