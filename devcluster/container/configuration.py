"""Files and command lines of containerd and kubelet, for a machine where neither may be the only one."""

import json
from pathlib import Path
from typing import Any, Final

from devcluster.machine.network import NodeNetwork

PAUSE_IMAGE: Final = "localhost/devcluster-pause:1"
CNI_PLUGINS: Final = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""

KUBELET_PORT: Final = 10250


def socket(network: NodeNetwork) -> Path:
    return network.folder / "containerd.sock"


def containerd(network: NodeNetwork, shim: Path) -> str:
    """Return config.toml. Roots, socket and namespaces lie in the node's folder; no registry is named."""
    folder = network.folder
    return f"""\
version = 3
root = "{folder}/containerd"
state = "{folder}/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{socket(network)}"
[ttrpc]
  address = "{folder}/containerd.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  # Lowering a score wants a capability that root in a container or sandbox may lack.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{CNI_PLUGINS}"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{shim}"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{folder}/runc"
"""


def cni(network: NodeNetwork) -> str:
    """Return the network's configuration: a bridge without masquerading, since nothing leaves the machine."""
    bridge = {
        "type": "bridge",
        "bridge": network.bridge,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": network.pods, "gateway": network.node}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(network.folder / "addresses"),
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": network.bridge, "plugins": [bridge]}, indent=1)


def kubelet(network: NodeNetwork, *, client_authority: Path) -> str:
    """Return the KubeletConfiguration (JSON, which is YAML)."""
    endpoint = f"unix://{socket(network)}"
    configuration: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": endpoint,
        "imageServiceEndpoint": endpoint,
        "address": network.node,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "podLogsDir": str(network.folder / "logs"),
        # Only the API server is let in, by its certificate: `kubectl logs`, `exec`, `port-forward`.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(client_authority)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": network.cgroup,
        "cgroupsPerQOS": True,
        # The machine has other work than this node: it owns no part of the tree of cgroups but its own folder there,
        # takes cgroups in either version, and must not evict pods because of what others do.
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        # Else it adds chains and a rule that drops packets to the machine's firewall, and leaves them there.
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        # What root may not do in a sandbox (sysctls, scores of the OOM killer) is then logged, and no reason to end.
        "featureGates": {"KubeletInUserNamespace": True},
        "shutdownGracePeriod": "0s",
    }
    return json.dumps(configuration, indent=1)


def containerd_command(program: Path, network: NodeNetwork) -> tuple[str, ...]:
    return (str(program), f"--config={network.folder}/containerd.toml")


def kubelet_command(program: Path, network: NodeNetwork, name: str, kubeconfig: Path) -> tuple[str, ...]:
    return (
        str(program),
        f"--config={network.folder}/kubelet.json",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={name}",
        f"--node-ip={network.node}",
        f"--root-dir={network.folder}/kubelet",
        f"--cert-dir={network.folder}/kubelet-pki",
    )
