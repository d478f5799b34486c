"""The two Services: one that requests go to, one that always has every pod."""

from typing import Any

from ocr_operator.decide.manifests import common
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names


def service(deployment: OcrDeployment) -> common.Manifest:
    """Send requests to ready pods of the awake set: under `routing.policy: all`, that is every pod. So a change of
    the policy changes labels, never the Service, and it selects a pod at any moment.
    """
    awake = {names.LABEL_AWAKE: names.AWAKE}
    return _service(deployment, deployment.name, selector=common.selector(deployment.name) | awake)


def all_pods_service(deployment: OcrDeployment) -> common.Manifest:
    """Headless: its DNS name lists every pod, also those that aren't ready, for tools and debugging."""
    return _service(
        deployment,
        common.all_pods_service_name(deployment.name),
        selector=common.selector(deployment.name),
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
        spec={"type": "ClusterIP", "publishNotReadyAddresses": False, **spec, "ports": [port]},
    )
