"""Variables of a container that come neither from its spec nor from a real kubelet."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import yaml

from devcluster.node.decide import devices, podspec
from devcluster.node.decide.devices import Gpu
from devcluster.node.decide.podspec import ConfigError
from ocr_wire import names


def gpu_variables(
    node: str, gpus: Collection[Gpu], folder: Path, held: Sequence[str], values: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that name a program's device; `held` are GPUs that the node has allocated to the container.

    A container that names GPUs itself (a fieldRef to an annotation, say) has them too, if the node does.
    """
    added = {devices.VISIBLE: ",".join(held)} if held else {}
    wanted = added.get(devices.VISIBLE, values.get(devices.VISIBLE, ""))
    if unknown := devices.missing(wanted, gpus):
        raise ConfigError(f"node {node} has no GPU {', '.join(unknown)}")
    if gpus:
        added[names.ENV_SIMULATED_GPU_DIR] = values.get(names.ENV_SIMULATED_GPU_DIR, str(folder))
    device = "simulated" if gpus and devices.visible(wanted) else "cpu"
    return added | {names.ENV_DEVICE: values.get(names.ENV_DEVICE, device)}


def place_variables(values: Mapping[str, str], places: Mapping[str, str], kubeconfig: Path) -> dict[str, str]:
    """Return the variables of fixed paths: `TMPDIR` for /tmp, `KUBECONFIG` for in-cluster configuration."""
    added = {}
    if podspec.TEMPORARY_MOUNT in places and "TMPDIR" not in values:
        added["TMPDIR"] = places[podspec.TEMPORARY_MOUNT]
    if podspec.TOKEN_MOUNT in places and "KUBECONFIG" not in values:
        added["KUBECONFIG"] = str(kubeconfig)
    return added


def kubeconfig(server: str, namespace: str, account: str) -> str:
    """Return in-cluster configuration as a file, for the service account whose token lies in the folder `account`."""
    cluster = {"server": server, "certificate-authority": f"{account}/ca.crt"}
    context = {"cluster": "in-cluster", "user": "pod", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "in-cluster",
        "contexts": [{"name": "in-cluster", "context": context}],
        "clusters": [{"name": "in-cluster", "cluster": cluster}],
        "users": [{"name": "pod", "user": {"tokenFile": f"{account}/token"}}],
    }
    text: str = yaml.safe_dump(content)
    return text
