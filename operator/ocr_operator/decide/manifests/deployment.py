"""The Deployment: its pods wait at a gate for their placement and read what may change live from a file.

No live field enters the template: one that did would replace every pod when it changes. The pod's settings
come as an annotation that the placement sets when it lifts the gate.
"""

import json
from typing import Any, Final

import msgspec

from ocr_operator.decide import merge, rollouts
from ocr_operator.decide.manifests import asked, common, requests
from ocr_operator.decide.manifests.claim import on_pod
from ocr_operator.resources.spec import Cache, Gpu, OcrDeployment, Server, Spec
from ocr_wire import names
from ocr_wire.quantity import Bytes

USER: Final = 65532
"""The user `nonroot` of distroless images; ours has the same."""
GRACE_SECONDS: Final = 120
"""From SIGTERM to SIGKILL: time to finish the requests that run. Fixed, because deadlines are live."""
_UUIDS: Final = f"metadata.annotations['{names.ANNOTATION_GPU_UUIDS}']"
_SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
"""Annotation of cluster-autoscaler: volumes on the node that may be lost with it. It removes no node with a pod that
has others, so one with an idle pod would stay for ever. Volumes of the resource's own template are for it to name."""
STARTUP_SECONDS: Final = 120
"""For the import of a runtime from a cold disk. Models load later, on the first request."""
_BORN_AWAKE: Final = {names.LABEL_AWAKE: names.AWAKE}
"""The patch that lifts the gate takes it back, so it shows in one case: the operator is down, and a person lifted the
gate by hand because no pod is left. Then the Service must find this one (ADR 12).
"""


def deployment(
    resource: OcrDeployment, defaults: common.Defaults, *, new_first: bool | None = None
) -> common.Manifest:
    """`new_first`: roll out by a new pod before an old one goes. None, for a first Deployment: as it begins."""
    spec, template = resource.spec, _template(resource, defaults)
    if new_first is None:
        new_first = new_first_at_first(resource)
    manifest = common.child(
        resource,
        "apps/v1",
        "Deployment",
        resource.name,
        spec={
            "replicas": spec.replicas,
            "paused": False,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": common.selector(resource.name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": dict(rollouts.NEW_FIRST if new_first else rollouts.OLD_FIRST),
            },
            "template": template,
        },
    )
    made_from = {
        names.ANNOTATION_TEMPLATE: asked.digest(template),
        names.ANNOTATION_ASKED: asked.asked(resource),
    }
    return common.noted(manifest, made_from)


def new_first_at_first(resource: OcrDeployment) -> bool:
    """Return whether the first Deployment rolls out by a new pod before an old one goes: if pods take no GPU."""
    return resource.spec.gpu.sharing == "none"


def _template(resource: OcrDeployment, defaults: common.Defaults) -> dict[str, Any]:
    """Our template with the user's laid over it; labels, annotations, gate and container stay ours."""
    spec, extra = resource.spec, resource.spec.template
    pod = merge.overlay(_pod(resource, defaults), _without_removals(extra.spec))
    if spec.gpu.sharing != "none":
        pod = _any_number_of_domains(pod)
    annotations = {
        "kubectl.kubernetes.io/default-container": names.CONTAINER,
        _SAFE_TO_EVICT: ",".join(_local_volumes(spec.cache)),
        **{
            key: value
            for key, value in extra.metadata.annotations.items()
            if not names.is_own_annotation(key)
        },
        names.ANNOTATION_CONFIG: config(spec),
    }
    if spec.gpu.memory_policy != "reserved":
        annotations[names.ANNOTATION_MEMORY_POLICY] = spec.gpu.memory_policy
    if spec.gpu.sharing != "none" and spec.gpu.products:
        annotations[names.ANNOTATION_GPU_PRODUCTS] = ",".join(sorted(spec.gpu.products))
    if spec.gpu.sharing == "claim":
        annotations[names.ANNOTATION_CLAIM] = msgspec.json.encode(spec.gpu.claim, order="sorted").decode()
    return {
        "metadata": {
            "labels": {**extra.metadata.labels, **common.labels(resource.name), **_BORN_AWAKE},
            "annotations": annotations,
        },
        "spec": pod,
    }


def _any_number_of_domains(pod: dict[str, Any]) -> dict[str, Any]:
    """Drop the least number of domains from spread that must hold: the scheduler counts only nodes that the pod may go
    to, which are few once placement has named them, and would refuse them all. Placement keeps the number itself.
    """
    listed = pod.get("topologySpreadConstraints")
    if not isinstance(listed, list):
        return pod
    kept = [
        {key: value for key, value in each.items() if key != "minDomains"} if isinstance(each, dict) else each
        for each in listed
    ]
    return pod | {"topologySpreadConstraints": kept}


def _without_removals(extra: dict[str, Any]) -> dict[str, Any]:
    """Return what pods can't be without: it is merged by name only, never removed or replaced as a whole."""
    needed = ("containers", "schedulingGates")
    return {key: value for key, value in extra.items() if key not in needed or isinstance(value, list)}


def config(spec: Spec) -> str:
    """Return what the server reads as its configuration FILE: models and limits as JSON, no live field.

    Sizes are spelled canonically, so that 1024Mi instead of 1Gi replaces no pod.
    """
    models = [
        {
            "name": model.name,
            "engine": model.engine,
            "source": model.source,
            "dtype": model.dtype,
            "attention": model.attention,
            "gpuMemory": model.gpu_memory.quantity() if model.gpu_memory else None,
        }
        for model in spec.models
    ]
    built = msgspec.to_builtins({"models": models, "server": {"limits": spec.server.limits}})
    return json.dumps(_without_nulls(built), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_nulls(item) for key, item in value.items() if item is not None}
        case list():
            return [_without_nulls(item) for item in value]
    return value


def _pod(resource: OcrDeployment, defaults: common.Defaults) -> dict[str, Any]:
    spec = resource.spec
    pod: dict[str, Any] = {
        "schedulingGates": [{"name": names.GATE}],
        "nodeSelector": {},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            **({"fsGroup": USER} if defaults.fixed_user else {}),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, defaults)],
        "volumes": _volumes(resource),
    }
    if defaults.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": each} for each in defaults.image_pull_secrets]
    if spec.gpu.sharing != "none":
        pod |= _on_gpu_nodes(spec.gpu)
    if spec.gpu.sharing == "claim":
        pod |= on_pod(resource.name)
    return pod


def _on_gpu_nodes(gpu: Gpu) -> dict[str, Any]:
    """Tolerations for the taints that keep other pods off GPU nodes, and the runtime."""
    keys = ["nvidia.com/gpu"]
    if gpu.sharing == "exclusive" and gpu.resource_name not in keys:
        keys.append(gpu.resource_name)
    pod: dict[str, Any] = {
        "tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
    }
    if gpu.sharing == "shared" and gpu.runtime_class_name:
        pod["runtimeClassName"] = gpu.runtime_class_name
    return pod


def _container(spec: Spec, defaults: common.Defaults) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": defaults.image_of(spec),
        "args": ["serve", "--config", f"{names.CONFIG_DIR}/{names.CONFIG_FILE}"],
        "ports": [{"name": names.PORT_NAME, "containerPort": spec.server.port, "protocol": "TCP"}],
        "env": _env(spec),
        "volumeMounts": _mounts(spec.server, spec.cache),
        "startupProbe": _probe(
            names.PATH_LIVE, periodSeconds=1, timeoutSeconds=1, failureThreshold=STARTUP_SECONDS
        ),
        "livenessProbe": _probe(names.PATH_LIVE, periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        "readinessProbe": _probe(names.PATH_READY, periodSeconds=5, timeoutSeconds=2, failureThreshold=2),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **({"runAsUser": USER, "runAsGroup": USER} if defaults.fixed_user else {}),
        },
    }
    if defaults.image_pull_policy:
        container["imagePullPolicy"] = defaults.image_pull_policy
    container["resources"] = requests.of(spec)
    return container


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": names.PORT_NAME}, **timing}


def _env(spec: Spec) -> list[dict[str, Any]]:
    env = [
        {"name": "PORT", "value": str(spec.server.port)},
        _from_field("POD_NAME", "metadata.name"),
        _from_field("POD_UID", "metadata.uid"),
        _from_field("NODE_NAME", "spec.nodeName"),
        {"name": names.ENV_LIVE_SETTINGS_FILE, "value": f"{names.CONFIG_DIR}/{names.LIVE_SETTINGS_FILE}"},
        {"name": names.ENV_ADMIN_TOKEN_FILE, "value": f"{names.ADMIN_DIR}/{names.ADMIN_KEY}"},
        {"name": names.ENV_CACHE_DIR, "value": names.CACHE_DIR},
    ]
    if spec.cache.weights_in_memory == "perNode":
        env.append({"name": names.ENV_SHARED_WEIGHTS, "value": "on"})
    if spec.server.api_keys_secret_name:
        env.append({"name": names.ENV_API_KEYS_FILE, "value": f"{names.API_KEYS_DIR}/{names.API_KEYS_KEY}"})
    if spec.gpu.sharing == "shared":
        # Resolved when the container starts, after the placement set the annotation; without it the value is
        # empty, which means no GPU: a pod that bypassed the placement can't take somebody's memory.
        env.append(_from_field(names.ENV_VISIBLE_DEVICES, _UUIDS))
    if spec.gpu.sharing in ("shared", "claim"):
        env.append(_from_field(names.ENV_PROMISED_GPU_UUIDS, _UUIDS))
    if spec.gpu.sharing == "none":
        # CUDA images set this variable to `all`, and some runtimes would obey it.
        env.append({"name": names.ENV_VISIBLE_DEVICES, "value": "void"})
        env.append({"name": names.ENV_DEVICE, "value": "cpu"})
    return env


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _mounts(server: Server, cache: Cache) -> list[dict[str, Any]]:
    at_cache: dict[str, Any] = {"name": "cache", "mountPath": names.CACHE_DIR}
    if cache.persistent_volume_claim and cache.persistent_volume_claim.sub_path:
        at_cache["subPath"] = cache.persistent_volume_claim.sub_path
    mounts = [
        {"name": "podinfo", "mountPath": names.CONFIG_DIR, "readOnly": True},
        {"name": "admin", "mountPath": names.ADMIN_DIR, "readOnly": True},
        at_cache,
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the container's own, an emptyDir
    ]
    if server.api_keys_secret_name:
        mounts.append({"name": "keys", "mountPath": names.API_KEYS_DIR, "readOnly": True})
    return mounts


def _volumes(resource: OcrDeployment) -> list[dict[str, Any]]:
    files = {
        names.CONFIG_FILE: names.ANNOTATION_CONFIG,
        names.LIVE_SETTINGS_FILE: names.ANNOTATION_LIVE_SETTINGS,
    }
    items = [
        {"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in files.items()
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "podinfo", "downwardAPI": {"items": items}},
        {"name": "admin", "secret": {"secretName": names.admin_secret(resource.name)}},
        {"name": "cache", **_cache(resource.spec.cache)},
        {"name": "tmp", "emptyDir": {}},
    ]
    if keys := resource.spec.server.api_keys_secret_name:
        volumes.append({"name": "keys", "secret": {"secretName": keys}})
    return volumes


def _local_volumes(cache: Cache) -> list[str]:
    """List our volumes that are on the node: files of a moment, and weights that are downloaded again."""
    return ["tmp"] if cache.persistent_volume_claim else ["cache", "tmp"]


def _cache(cache: Cache) -> dict[str, Any]:
    if claim := cache.persistent_volume_claim:
        return {"persistentVolumeClaim": {"claimName": claim.claim_name}}
    if folder := cache.host_path:
        return {"hostPath": {"path": folder.path, "type": folder.type}}
    limit: Bytes | None = cache.empty_dir.size_limit if cache.empty_dir else None
    return {"emptyDir": {"sizeLimit": limit.quantity()} if limit else {}}
