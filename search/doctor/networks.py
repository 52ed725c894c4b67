"""Which network interface each library takes on a node, for trials whose workers are on several."""

from __future__ import annotations

import re

from search.doctor.facts import GLOO, NCCL, Facts
from search.doctor.finding import Found, warning


def taken(facts: Facts, address: str) -> dict[str, str | None]:
    """The interface that Ray, NCCL and gloo take; None where it cannot be told."""
    return {
        "Ray": next((name for name, its in facts.interfaces.items() if its == address), None),
        "NCCL": _nccl(facts),
        "gloo": _gloo(facts),
    }


def _nccl(facts: Facts) -> str | None:
    """As NCCL does: the first that NCCL_SOCKET_IFNAME allows, else InfiniBand, else no docker* and no lo, else any."""
    names, setting = list(facts.interfaces), facts.environment.get(NCCL, "")
    if setting:
        without, exact = setting.startswith("^"), setting.startswith(("=", "^="))
        wanted = setting.lstrip("^=").split(",")
        names = [
            name
            for name in names
            if any(name == one if exact else name.startswith(one) for one in wanted) is not without
        ]
        return names[0] if names else None
    ranked = [
        [name for name in names if name.startswith("ib")],
        [name for name in names if not name.startswith(("docker", "lo"))],
        [name for name in names if name.startswith("docker")],
        names,
    ]
    return next((group[0] for group in ranked if group), None)


def _gloo(facts: Facts) -> str | None:
    """As torch does: GLOO_SOCKET_IFNAME, else the interface of the host name's address, else the loopback."""
    setting = facts.environment.get(GLOO, "").split(",")[0]
    if setting:
        return setting if setting in facts.interfaces else None
    loopback = next((name for name, its in facts.interfaces.items() if its.startswith("127.")), None)
    return next((name for name, its in facts.interfaces.items() if its == facts.host_address), loopback)


def of_networks(address: str, facts: Facts) -> Found:
    """Of use where the workers of one trial are on several nodes."""
    chosen = taken(facts, address)
    ray, others = chosen["Ray"], [one for one in facts.interfaces if not re.match("lo|docker", one)]
    if ray is None:
        return
    for library, variable in (("NCCL", NCCL), ("gloo", GLOO)):
        if library == "NCCL" and facts.gpus is None:
            continue  # nobody calls it
        setting, takes = facts.environment.get(variable), chosen[library]
        advice = f"`export {variable}={ray}` before `ray start`"
        if setting is not None and takes is None:
            yield warning(f"{variable}={setting} is none of its interfaces {', '.join(facts.interfaces)}: {advice}")
        elif setting is None and takes != ray:
            why = f", the address of its host name is {facts.host_address or 'not known'}" if library == "gloo" else ""
            yield warning(f"{library} takes {takes} for trials of several workers, Ray {ray}{why}: {advice}")
        elif setting is None and library == "NCCL" and len(others) > 1:
            yield warning(
                f"NCCL may take any of {', '.join(others)} for trials of several workers, Ray takes {ray}: {advice}"
            )
