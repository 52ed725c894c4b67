"""The fields of KubeRay's RayCluster and RayJob, strict: a misspelt one is an error, where the API server would drop it.

From KubeRay's API reference, ray.io/v1 (1.6). No package carries its resource definitions. Kubernetes' own objects, such as Pod
templates, are those of the package kubernetes-validate, or any mapping without it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from referencing import Registry, Resource

from search.clusters.schema import each

HAS_KUBERNETES = find_spec("kubernetes_validate") is not None
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
BOOL, INT, TEXT = {"type": "boolean"}, {"type": "integer"}, {"type": "string"}
STRINGS = {"type": "object", "additionalProperties": TEXT}


def kubernetes(name: str) -> dict[str, Any]:
    """The schema of one of Kubernetes' own objects, such as core.v1.PodTemplateSpec."""
    return {"$ref": f"{DEFINITIONS}#/$defs/io.k8s.api.{name}"} if HAS_KUBERNETES else {"type": "object"}


def exactly(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


TEMPLATE = kubernetes("core.v1.PodTemplateSpec")
GROUP = {"rayStartParams": STRINGS, "template": TEMPLATE, "labels": STRINGS, "resources": {"type": "object"}}
HEAD = exactly(
    GROUP
    | {
        "enableIngress": BOOL,
        "headService": kubernetes("core.v1.Service"),
        "serviceType": one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    },
    "template",
)
WORKERS = exactly(
    GROUP
    | {
        **each(("replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds"), INT),
        "groupName": TEXT,
        "suspend": BOOL,
        "scaleStrategy": exactly({"workersToDelete": {"type": "array", "items": TEXT}}),
    },
    "groupName",
    "template",
)
AUTOSCALER = exactly(
    {
        "resources": kubernetes("core.v1.ResourceRequirements"),
        "securityContext": kubernetes("core.v1.SecurityContext"),
        **each(("image", "imagePullPolicy"), TEXT),
        **each(("env", "envFrom", "volumeMounts"), {"type": "array"}),
        "idleTimeoutSeconds": INT,
        "upscalingMode": one_of("Default", "Aggressive", "Conservative"),
        "version": one_of("v1", "v2"),
    }
)
CREDENTIAL = exactly({"value": TEXT, "valueFrom": kubernetes("core.v1.EnvVarSource")})
CLUSTER = exactly(
    {
        "rayVersion": TEXT,
        "authOptions": exactly({"mode": one_of("token", "disabled"), "secretName": TEXT, "enableK8sTokenAuth": BOOL}),
        "headGroupSpec": HEAD,
        "workerGroupSpecs": {"type": "array", "items": WORKERS},
        "enableInTreeAutoscaling": BOOL,
        "autoscalerOptions": AUTOSCALER,
        "headServiceAnnotations": STRINGS,
        "managedBy": one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
        "suspend": BOOL,
        "upgradeStrategy": exactly({"type": one_of("Recreate", "None")}),
        "gcsFaultToleranceOptions": exactly(
            {
                "redisUsername": CREDENTIAL,
                "redisPassword": CREDENTIAL,
                **each(("externalStorageNamespace", "redisAddress"), TEXT),
            },
            "redisAddress",
        ),
    },
    "headGroupSpec",
)
JOB = exactly(
    {
        "rayClusterSpec": CLUSTER,
        "submitterPodTemplate": TEMPLATE,
        "submitterConfig": exactly({"backoffLimit": INT}),
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        **each(("metadata", "clusterSelector"), STRINGS),
        **each(("entrypoint", "runtimeEnvYAML", "jobId", "entrypointResources"), TEXT),
        **each(("entrypointNumCpus", "entrypointNumGpus"), {"type": "number"}),
        **each(("activeDeadlineSeconds", "preRunningDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"), INT),
        **each(("shutdownAfterJobFinishes", "suspend"), BOOL),
        "managedBy": one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
        "deletionStrategy": {"type": "object"},
    }
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def schema(api_version: str, kind: str) -> dict[str, Any] | None:
    """The schema of one document of a manifest; None for a kind that is not known here."""
    if api_version == "ray.io/v1" and kind in SPECS:
        top = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object"}, "spec": SPECS[kind]}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **exactly(top, "metadata", "spec")}
    group, _, version = api_version.rpartition("/")
    name = f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
    known = HAS_KUBERNETES and f"io.k8s.api.{name}" in _definitions()["$defs"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kubernetes(name)} if known else None


def registry() -> Registry[Any]:
    """Where the schemas of Kubernetes' own objects are found."""
    empty: Registry[Any] = Registry()
    return Resource.from_contents(_definitions()) @ empty if HAS_KUBERNETES else empty


@cache
def _definitions() -> dict[str, Any]:
    import kubernetes_validate

    folder = f"kubernetes-json-schema/v{kubernetes_validate.latest_version()}-local-strict"
    found: dict[str, Any] = json.loads(files("kubernetes_validate").joinpath(folder, "_definitions.json").read_text())
    return found
