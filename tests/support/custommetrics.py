"""The API `custom.metrics.k8s.io` as an adapter serves it: one metric of resources, which a test sets.

Kubernetes' own autoscaler asks for it through the API server, which wants TLS and leads there by an APIService.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from ocr_wire import names
from tests.support.certificates import certify
from tests.support.cluster import Place
from tests.support.webserver import serving_beside

GROUP: Final = "custom.metrics.k8s.io"
VERSION: Final = "v1beta2"
_ROOT: Final = f"/apis/{GROUP}/{VERSION}"
_SERVICE: Final = "custom-metrics"


class CustomMetrics:
    """What a test says that waits for a resource, for each of its replicas."""

    def __init__(self, place: Place, metric: str) -> None:
        self._place, self._metric = place, metric
        self.total = 0
        self.asked = 0
        """How often the autoscaler has read the metric."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(_ROOT, self._discovery)
        group = names.API_VERSION.partition("/")[0]
        resources = f"{_ROOT}/namespaces/{{namespace}}/{names.PLURAL}.{group}"
        app.router.add_get(f"{resources}/{{name}}/{self._metric}", self._value)
        return app

    async def _discovery(self, _: web.Request) -> web.Response:
        resource = {
            "name": f"{names.PLURAL}/{self._metric}",
            "singularName": "",
            "namespaced": True,
            "kind": "MetricValueList",
            "verbs": ["get"],
        }
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
        return web.json_response(body | {"resources": [resource]})

    async def _value(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}/{name}"
        resource = await asyncio.to_thread(self._place.ask, path)
        replicas = max(1, resource.get("status", {}).get("replicas", 0))
        self.asked += 1
        value = {
            "describedObject": {
                "kind": names.KIND,
                "apiVersion": names.API_VERSION,
                "namespace": namespace,
                "name": name,
            },
            "metric": {"name": self._metric},
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": f"{1000 * self.total // replicas}m",
        }
        body: dict[str, Any] = {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
        return web.json_response(body | {"items": [value]})


@contextlib.contextmanager
def served(place: Place, namespace: str, folder: Path, metric: str) -> Iterator[CustomMetrics]:
    """Serve it on this machine, and have the API server lead there, while the block lasts; `namespace` is that of the
    Service. Skips where the cluster has such an API already.
    """
    if place.kubectl("get", "apiservices", f"{VERSION}.{GROUP}", "--ignore-not-found"):
        pytest.skip(f"the cluster has {GROUP} already")
    metrics = CustomMetrics(place, metric)
    certificate = certify(folder, f"{_SERVICE}.{namespace}.svc", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, f"{certificate}.key")
    with serving_beside(metrics.app(), tls=context) as url:
        objects = _objects(namespace, int(url.rpartition(":")[2]))
        registration = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        place.kubectl("apply", "-f", "-", stdin=registration)
        try:
            place.kubectl(
                "wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=60s"
            )
            yield metrics
        finally:  # before the server ends: namespaces aren't removed while an API of the cluster doesn't answer
            place.kubectl("delete", "-f", "-", stdin=registration)


def _objects(namespace: str, port: int) -> list[dict[str, Any]]:
    """An external name is the one kind of Service that may lead to a loopback address."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _SERVICE, "namespace": namespace},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]},
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "service": {"name": _SERVICE, "namespace": namespace, "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    return [service, registration]
