"""Manifests for KubeRay: RayCluster, RayJob, and what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

from search.clusters import planned, shell
from search.clusters.kuberay_schema import HAS_KUBERNETES, registry, schema
from search.clusters.launch_file import Document, Finding, Keys, LaunchFile, Node, Result, Unchecked
from search.clusters.schema import check as check_schema
from search.clusters.schema import dotted

SPEC: dict[str, Keys] = {"RayCluster": ("spec",), "RayJob": ("spec", "rayClusterSpec")}
GPU = "nvidia.com/gpu"
CLAIM = "PersistentVolumeClaim"
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3}


def is_one(document: Document) -> bool:
    return "kind" in document.tree and "apiVersion" in document.tree


def check(file: LaunchFile) -> Iterator[Result]:
    """What is wrong with a manifest."""
    if not HAS_KUBERNETES:
        yield Unchecked(
            "Pod templates and Kubernetes' own objects: need kubernetes-validate; pip install 'psf-search[cluster]'"
        )
    claims = {str(one.get("metadata", "name")): one for one in file.documents if one.get("kind") == CLAIM}
    for document in file.documents:
        kind = str(document.get("kind"))
        of_kind = schema(str(document.get("apiVersion")), kind)
        if of_kind is None:
            if kind in SPEC or HAS_KUBERNETES:
                yield Finding(document.line("kind"), f"{document.get('apiVersion')} {kind}: not known here")
            continue
        yield from check_schema(document, of_kind, registry())
        if kind in SPEC and document.get("spec", "clusterSelector") is not None:
            yield Unchecked("the cluster and the search: clusterSelector names a cluster that is not in the file")
        elif kind in SPEC:
            yield from _cluster(document, SPEC[kind])
            yield from _volumes(document, SPEC[kind], claims)
            yield from _job(document) if kind == "RayJob" else _standing(document)


def _cluster(document: Document, spec: Keys) -> Iterator[Finding]:
    if document.get(*spec, "authOptions", "mode") != "token":
        yield Finding(
            document.line(*spec, "authOptions"),
            f"{dotted((*spec, 'authOptions'))}: no token is asked for: authOptions: {{mode: token}}",
        )
    ours, theirs = version("ray"), document.get(*spec, "rayVersion")
    if theirs != ours:
        yield Finding(
            document.line(*spec, "rayVersion"),
            f"{dotted((*spec, 'rayVersion'))}: {theirs}, but psf-search has Ray {ours} here; they must match to the patch",
        )
    if document.get(*spec, "headGroupSpec", "serviceType") in ("NodePort", "LoadBalancer") or document.get(
        *spec, "headGroupSpec", "enableIngress"
    ):
        yield Finding(
            document.line(*spec, "headGroupSpec"),
            "headGroupSpec: the dashboard would be open to the network; use kubectl port-forward",
        )
    for group in _groups(document, spec):
        least, most = document.get(*group, "minReplicas", default=0), document.get(*group, "maxReplicas")
        if document.get(*spec, "enableInTreeAutoscaling") and least != most:
            yield Finding(
                document.line(*group, "minReplicas"),
                f"{dotted(group)}: minReplicas={least}, maxReplicas={most}: a search asks only for what is there, so Ray never adds Pods; set "
                "both alike",
            )
    for path, _ in document.scalars():
        if path[-1] == "value" and "TOKEN" in str(document.get(*path[:-1], "name")):
            yield Finding(
                document.line(*path),
                f"{dotted(path)}: a secret stands in the file; use authOptions, or valueFrom a Secret",
            )


def _standing(document: Document) -> Iterator[Result]:
    host = document.get("spec", "headGroupSpec", "rayStartParams", "dashboard-host")
    if host != "127.0.0.1":
        yield Finding(
            document.line("spec", "headGroupSpec", "rayStartParams", "dashboard-host"),
            f"rayStartParams.dashboard-host: {host or '0.0.0.0, as KubeRay sets it'}: every Pod of the cluster reaches it; 127.0.0.1, and kubectl port-forward",
        )
    yield from planned.check([], _nodes(document, ("spec",)), [])


def _job(document: Document) -> Iterator[Result]:
    spec: Keys = ("spec", "rayClusterSpec")
    mode = document.get("spec", "submissionMode", default="K8sJobMode")
    policy = document.get(*spec, "headGroupSpec", "template", "spec", "restartPolicy")
    if mode == "K8sJobMode":
        yield Finding(
            document.line("spec", "submissionMode"),
            "spec.submissionMode: K8sJobMode: its submitter can hang on the job's log (kuberay #3928); SidecarMode",
        )
    if mode == "SidecarMode":
        if policy != "Never":
            yield Finding(
                document.line(*spec, "headGroupSpec", "template", "spec", "restartPolicy"),
                "headGroupSpec.template.spec.restartPolicy: SidecarMode needs Never",
            )
        for key in ("submitterPodTemplate", "submitterConfig"):
            if document.get("spec", key) is not None:
                yield Finding(document.line("spec", key), f"spec.{key}: not with SidecarMode")
    host = document.get(*spec, "headGroupSpec", "rayStartParams", "dashboard-host", default="0.0.0.0")
    if host in ("127.0.0.1", "localhost"):
        yield Finding(
            document.line(*spec, "headGroupSpec", "rayStartParams", "dashboard-host"),
            f"rayStartParams.dashboard-host: {host}: KubeRay cannot ask how the job is",
        )
    if not document.get("spec", "shutdownAfterJobFinishes") and document.get("spec", "deletionStrategy") is None:
        yield Finding(
            document.line("spec"), "spec.shutdownAfterJobFinishes: false: the machines cost money after the job's end"
        )
    commands = [document.command("spec", "entrypoint")] if isinstance(document.get("spec", "entrypoint"), str) else []
    yield from shell.check(commands)
    again = "backoffLimit" if document.get("spec", "backoffLimit", default=0) else None
    yield from planned.check(commands, _nodes(document, spec), _shared(document, spec), again=again)


def _groups(document: Document, spec: Keys) -> list[Keys]:
    """The places of the worker groups."""
    return [(*spec, "workerGroupSpecs", index) for index in range(len(document.items(*spec, "workerGroupSpecs")))]


def _nodes(document: Document, spec: Keys) -> list[Node]:
    """As Ray counts them: by the container's limits or requests, or what `ray start` is told."""
    workers = [
        _node(document, group, str(document.get(*group, "groupName")), _pods(document, spec, group))
        for group in _groups(document, spec)
    ]
    return [_node(document, (*spec, "headGroupSpec"), "head", 1), *workers]


def _pods(document: Document, spec: Keys, group: Keys) -> int:
    """Pods of a worker group that are always there: without the autoscaler `replicas`, within its limits."""
    least = document.number(*group, "minReplicas", default=0) or 0
    count = document.number(*group, "replicas", default=least) or 0
    if document.get(*spec, "enableInTreeAutoscaling"):
        count = least
    most = document.number(*group, "maxReplicas", default=count) or 0
    hosts = document.number(*group, "numOfHosts", default=1) or 1
    return int(min(max(count, least), max(most, least)) * hosts)


def _node(document: Document, group: Keys, name: str, count: int) -> Node:
    resources = (*group, "template", "spec", "containers", 0, "resources")

    def first(*places: Keys) -> float | None:
        quantities = (_quantity(document.get(*place)) for place in places)
        return next((one for one in quantities if one is not None), None)

    cpus = first((*group, "rayStartParams", "num-cpus"), (*resources, "limits", "cpu"), (*resources, "requests", "cpu"))
    return Node(name, count, cpus, first((*group, "rayStartParams", "num-gpus"), (*resources, "limits", GPU)) or 0)


def _quantity(text: object) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mk]?)", str(text))
    return float(found[1]) * UNITS[found[2]] if found else None


KEPT = ("persistentVolumeClaim", "nfs", "csi", "cephfs", "azureFile")
"""Volumes that outlive a Pod."""


def _mounts(document: Document, group: Keys) -> dict[str, Keys]:
    """Where the first container of a group mounts volumes that are kept, and the volumes' places in the file."""
    pod, kept, found = (*group, "template", "spec"), {}, {}
    for index in range(len(document.items(*pod, "volumes"))):
        volume = (*pod, "volumes", index)
        if document.mapping(*volume).keys() & set(KEPT):
            kept[str(document.get(*volume, "name"))] = volume
    for index in range(len(document.items(*pod, "containers", 0, "volumeMounts"))):
        mount = document.mapping(*pod, "containers", 0, "volumeMounts", index)
        if str(mount.get("name")) in kept:
            found[str(mount.get("mountPath"))] = kept[str(mount.get("name"))]
    return found


def _every_group(document: Document, spec: Keys) -> list[Keys]:
    return [(*spec, "headGroupSpec"), *_groups(document, spec)]


def _shared(document: Document, spec: Keys) -> list[str]:
    """Mounted by the head and every group."""
    of_each = [set(_mounts(document, group)) for group in _every_group(document, spec)]
    return sorted(set.intersection(*of_each))


def _volumes(document: Document, spec: Keys, claims: dict[str, Document]) -> Iterator[Finding]:
    shared = _shared(document, spec)
    for group in _every_group(document, spec):
        mounts = _mounts(document, group)
        if not shared:
            yield Finding(
                document.line(*group, "template", "spec", "volumes"),
                f"{dotted(group)}: no volume is mounted by the head and every group: searches need storage that all share",
            )
            break
        for volume in mounts.values():
            name = str(document.get(*volume, "persistentVolumeClaim", "claimName"))
            modes = claims[name].items("spec", "accessModes") if name in claims else ["ReadWriteMany"]
            if "ReadWriteMany" not in modes:
                yield Finding(
                    claims[name].line("spec", "accessModes"),
                    f"accessModes {modes}: Pods on several machines need ReadWriteMany",
                )
