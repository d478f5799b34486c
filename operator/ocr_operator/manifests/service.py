"""The two Services: one that requests go to, one that always has every pod."""

from typing import Any

from ocr_operator import names
from ocr_operator.manifests import common
from ocr_operator.spec import OcrDeployment


def service(deployment: OcrDeployment) -> common.Manifest:
    """Sends requests to ready pods. Under both policies it selects all of them; see `routing.policy`."""
    return _service(deployment, deployment.name)


def all_pods_service(deployment: OcrDeployment) -> common.Manifest:
    """Headless: its DNS name lists every pod, also those that aren't ready, for tools and debugging."""
    return _service(
        deployment,
        common.all_pods_service_name(deployment.name),
        clusterIP="None",
        publishNotReadyAddresses=True,
    )


def _service(deployment: OcrDeployment, name: str, **spec: Any) -> common.Manifest:
    port = {
        "name": names.PORT_NAME,
        "port": deployment.spec.server.port,
        "targetPort": names.PORT_NAME,
        "protocol": "TCP",
    }
    return common.child(
        deployment,
        "v1",
        "Service",
        name,
        spec={**spec, "selector": common.selector(deployment.name), "ports": [port]},
    )
