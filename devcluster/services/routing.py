"""The parts of a Service that the proxy reads, where it is served, and which pods it leads to."""

from collections.abc import Iterable

import msgspec

from devcluster.kube import model

Endpoint = tuple[str, int]
Name = tuple[str, str]
"""Namespace and name."""


class ServicePort(model.Part, frozen=True):
    port: int
    target_port: int | str = 0


class ServiceSpec(model.Part, frozen=True):
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    publish_not_ready_addresses: bool = False
    ports: list[ServicePort] = msgspec.field(default_factory=list)


class Service(model.Part, frozen=True):
    metadata: model.Metadata
    spec: ServiceSpec

    @property
    def name(self) -> Name:
        return self.metadata.namespace, self.metadata.name

    @property
    def served(self) -> bool:
        """Whether the proxy serves it: not if it is headless (a DNS name only) or has no selector."""
        return self.spec.cluster_ip.startswith("10.96.") and bool(self.spec.selector)


def address(cluster_ip: str, network: str) -> str:
    """Return the address that serves a cluster IP, one each; `network` is the cluster's `127.N`.

    Where there is none, cluster IPs are the machine's own and serve themselves.
    """
    if not network:
        return cluster_ip
    *_, third, fourth = cluster_ip.split(".")
    return f"{network}.{128 + int(third)}.{fourth}"


def endpoints(service: Service, port: ServicePort, pods: Iterable[model.Pod]) -> list[Endpoint]:
    """Return the ready pods that the Service selects, in no particular order; those that aren't ready, too, where it
    publishes their addresses.
    """
    found = []
    for pod in pods:
        ready = any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)
        serves = (ready and not pod.metadata.deletion_timestamp) or service.spec.publish_not_ready_addresses
        same = pod.metadata.namespace == service.metadata.namespace
        if not (same and serves and pod.status.pod_ip) or pod.status.phase in ("Succeeded", "Failed"):
            continue
        if service.spec.selector.items() <= pod.metadata.labels.items() and (number := _target(port, pod)):
            found.append((pod.status.pod_ip, number))
    return found


def _target(port: ServicePort, pod: model.Pod) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = (each for container in pod.spec.containers for each in container.ports)
    return next((each.container_port for each in named if each.name == port.target_port), None)
