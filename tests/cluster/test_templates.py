"""What a real API server says to templates that can't be meant: at once where a type is wrong, and to the rest when
their Deployment is written, for good and in its own words. What Kubernetes takes is never refused.
"""

import collections
import os
from typing import Any

import pytest

from ocr_operator import kube
from ocr_operator.decide import manifests
from ocr_operator.decide.merge import overlay
from ocr_operator.kube import api
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from tests.support import apiserver, odd_templates, pod_schema, resources
from tests.support import cluster as support
from tests.support.apiserver import Refused
from tests.support.paths import CRDS

pytestmark = pytest.mark.cluster

DEFINITION = CRDS / "ocrdeployments.yaml"
RESOURCES = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/template"


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": names.CONTAINER, **fields}]}


AT_ONCE: dict[str, dict[str, Any]] = {
    ".nodeSelector": {"nodeSelector": "gpu=true"},
    ".nodeSelector.a": {"nodeSelector": {"a": True}},
    ".tolerations": {"tolerations": {"key": "a"}},
    ".tolerations[0]": {"tolerations": ["a"]},
    ".hostNetwork": {"hostNetwork": "yes"},
    ".terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": "soon"},
    "terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": 1.5},
    ".env[0].value": container(env=[{"name": "A", "value": 1}]),
    ".env": container(env={"A": "b"}),
    ".limits.memory": container(resources={"limits": {"memory": "12Gigs"}}),
    ".command": container(command="python x"),
    ".httpGet.port": container(livenessProbe={"httpGet": {"port": 1.5}}),
}
"""By the field that the answer names."""

LATER: dict[str, dict[str, Any]] = {
    ".nodeSelektor": {"nodeSelektor": {"a": "b"}},
    ".affinity.nodeAfinity": {"affinity": {"nodeAfinity": {}}},
    ".valeu": container(env=[{"name": "A", "valeu": "1"}]),
    "volumeMounts": container(volumeMounts=[{"name": "nope", "mountPath": "/x"}]),
    "restartPolicy": {"restartPolicy": "Never"},
}
"""What a newer Kubernetes may have, or what is wrong only beside something else."""

TAKEN: dict[str, Any] = {
    "a field of a newer version": {"fieldOfTomorrow": {"deep": [1]}, "tolerations": [{"tomorrow": True}]},
    "null removes": {
        "securityContext": None,
        "nodeSelector": {"a": None},
        **container(resources={"limits": None}),
    },
    "numbers as quantities": container(
        resources={"limits": {"cpu": 0.5, "memory": 1024}, "requests": {"cpu": "100m"}}
    ),
    "ports by name and number": container(
        livenessProbe={"httpGet": {"port": "http"}}, readinessProbe={"tcpSocket": {"port": 8001}}
    ),
    "much of everything": {
        "serviceAccountName": "ocr",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
        ],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {
                                "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]
                            },
                        },
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            {"name": "warm", "image": "a", "restartPolicy": "Always", "command": ["sh", "-c", "true"]}
        ],
        "containers": [
            {
                "name": names.CONTAINER,
                "env": [
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {
                        "name": "CPUS",
                        "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}},
                    },
                ],
                "envFrom": [{"configMapRef": {"name": "a", "optional": True}}],
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "resources": {
                    "limits": {"nvidia.com/gpu": 1, "memory": "1.5Gi"},
                    "claims": [{"name": "gpu"}],
                },
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch", "recursiveReadOnly": "Disabled"}
                ],
            },
            {"name": "app", "image": "app:1", "ports": [{"containerPort": 80, "name": "web"}]},
        ],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
        "volumes": [
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {
                "name": "all",
                "projected": {
                    "sources": [
                        {"secret": {"name": "a", "items": [{"key": "a", "path": "b", "mode": 256}]}},
                        {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    ]
                },
            },
            {"name": "nfs", "nfs": {"server": "a", "path": "/", "readOnly": True}},
            {
                "name": "big",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                        },
                    }
                },
            },
        ],
    },
}


def store(place: support.Place, spec: object) -> Any:
    """Return the pod spec as a resource that isn't kept has it; raises `Refused`."""
    body = resources.make_body("template", template={"spec": spec})
    body["metadata"] = {"name": "template"}
    return place.ask(f"{RESOURCES}?dryRun=All", body)["spec"]["template"]["spec"]


def refusal_of(place: support.Place, spec: object) -> str:
    """Return what the definition says to a pod spec; empty where it takes it."""
    try:
        store(place, spec)
    except Refused as error:
        return error.message
    return ""


def kubernetes(place: support.Place, spec: dict[str, Any]) -> str:
    """Return what Kubernetes says to a Deployment with it that isn't kept; empty where it takes it."""
    whole = overlay({"containers": [{"name": names.CONTAINER, "image": "i"}]}, spec)
    labels = {"app": "template"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "template"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": whole},
        },
    }
    path = f"{DEPLOYMENT}?dryRun=All&force=true&fieldManager=test"
    try:
        apiserver.request(place.kubeconfig, "PATCH", path, body, "application/apply-patch+yaml")
    except Refused as error:
        return f"{error.status}: {error.message}"
    return ""


@pytest.fixture(scope="module")
def definitions(control_plane: support.Place) -> Any:
    return control_plane.ask("/openapi/v3/apis/apps/v1")["components"]["schemas"]


def test_the_schema_of_templates_is_that_of_kubernetes(
    control_plane: support.Place, definitions: Any
) -> None:
    version = control_plane.ask("/version")
    found = f"{version['major']}.{version['minor'].rstrip('+')}"
    text = DEFINITION.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        text = pod_schema.replaced(text, found, pod_schema.make(definitions))
        DEFINITION.write_text(text, encoding="utf-8")
    if found != pod_schema.version_of(text):
        pytest.skip(f"the definition was made from Kubernetes {pod_schema.version_of(text)}, this is {found}")
    assert text == pod_schema.replaced(text, found, pod_schema.make(definitions))


@pytest.mark.parametrize("field", AT_ONCE)
def test_a_value_of_the_wrong_type_is_refused_at_once(control_plane: support.Place, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        store(control_plane, AT_ONCE[field])
    assert refusal.value.status == 422
    assert field in refusal.value.message


@pytest.mark.parametrize("name", TAKEN)
def test_a_template_that_can_be_meant_is_kept_as_it_is(control_plane: support.Place, name: str) -> None:
    assert store(control_plane, TAKEN[name]) == TAKEN[name]
    if "newer" not in name:
        assert kubernetes(control_plane, TAKEN[name]) == ""


def test_what_kubernetes_takes_is_never_refused(control_plane: support.Place, definitions: Any) -> None:
    """One value of another kind at a time, anywhere in a PodSpec."""
    outcomes: collections.Counter[tuple[bool, bool]] = collections.Counter()
    for path, value, spec in odd_templates.some(definitions, 200, seed=11):
        taken, refused = not kubernetes(control_plane, spec), refusal_of(control_plane, spec)
        assert not (taken and refused), (path, value, refused)
        outcomes[taken, not refused] += 1
    assert outcomes[False, False] > 80, outcomes
    assert outcomes[True, True] > 10, outcomes


async def test_what_is_told_later_is_refused_for_good(control_plane: support.Place) -> None:
    said = {}
    async with kube.connect({"KUBECONFIG": str(control_plane.kubeconfig)}) as client:
        for named, extra in (AT_ONCE | LATER).items():
            try:
                await client.apply(child(resources.make_deployment(template={"spec": extra})))
            except api.Refused as error:
                said[named] = error.message
    assert set(AT_ONCE | LATER) - set(said) == set()
    assert [named for named in LATER if named not in said[named]] == []
    assert all(store(control_plane, spec) for spec in LATER.values())


def child(resource: OcrDeployment) -> dict[str, Any]:
    """The Deployment of a resource that isn't there: it must not be created, so nothing has to be removed."""
    *_, deployment = manifests.desired(resource, manifests.Defaults("image:1"), "token")
    return deployment
