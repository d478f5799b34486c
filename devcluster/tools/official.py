"""Programs as their projects publish them, of the versions that are built here: where they are, and their SHA-256.

Sources of the sums: kubernetes/kops, pkg/assets/assetdata/k8s-1.36.yaml, for Kubernetes; for kubectl, kubelet and etcd
kubernetes-sigs/kubespray, roles/kubespray_defaults/vars/main/checksums.yml, which has the same ones; for Helm the notes
of its release, and others that pin it. What was in none, such as containerd 2.2.9, has no line here and is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_KUBERNETES: Final = "https://dl.k8s.io/release/v1.36.3/bin/linux"
_ETCD: Final = "https://github.com/etcd-io/etcd/releases/download/v3.6.14/etcd-v3.6.14-linux"
_HELM: Final = "https://get.helm.sh/helm-v4.2.4-linux"


@dataclass(frozen=True)
class Official:
    """Published file; with `member` an archive (tar.gz) that has the program at that path."""

    url: str
    sha256: str
    member: str = ""


def _kubernetes(architecture: str, sums: Mapping[str, str]) -> dict[str, Official]:
    return {name: Official(f"{_KUBERNETES}/{architecture}/{name}", sha256) for name, sha256 in sums.items()}


def _others(architecture: str, etcd: str, helm: str) -> dict[str, Official]:
    return {
        "etcd": Official(f"{_ETCD}-{architecture}.tar.gz", etcd, f"etcd-v3.6.14-linux-{architecture}/etcd"),
        "helm": Official(f"{_HELM}-{architecture}.tar.gz", helm, f"linux-{architecture}/helm"),
    }


OFFICIAL: Final[Mapping[str, Mapping[str, Official]]] = {
    "x86_64": _kubernetes(
        "amd64",
        {
            "kube-apiserver": "1f217d397234a6d065da663c6e086fdb02c0f0de97a0758ff3e6f3956f4ef8ab",
            "kube-controller-manager": "7edfe976d5a06c7a702d653e914095f4a732a04bb2139115b6a6eba6a9b781c7",
            "kube-scheduler": "b8955d4518c902110b50a825364339b1fb673822518ce0ba081a69ed634f8eee",
            "kubectl": "ebbd080e7c2e275093b55915722043257eb24004363e20acb3c4d71919f88336",
            "kubelet": "46707a53209f826ad0f0d62371ac69cd00e78fd9a8176cf5f6f87f18f7f8b718",
        },
    )
    | _others(
        "amd64",
        etcd="ffe840ff9295808e88cce2794a18a5ac87f12a5203c8314d0bf6aa119b41bac5",
        helm="c306b46f719b0a4da32d0f78ee21bf90ce8d602f15b22ab753f0674d1670a7f3",
    ),
    "aarch64": _kubernetes(
        "arm64",
        {
            "kube-apiserver": "16001b9d35d23634c361a1e2b7b0fc7abe186984af697ef7a869c8c8cded78b7",
            "kube-controller-manager": "27868a5c822824945b93f2d8a724a5dcd99affc68b47230ae766bff8795bbb84",
            "kube-scheduler": "ca1c7cd0033942bf9ef7eac80e18375d91f6f29487244c3e685f11163b01a88d",
            "kubectl": "3d86f24401c41ae5a46ac50eef8865fe891d3647d324a0836f6c63757a126e62",
            "kubelet": "57205a5daf5883873d87b4914e1e00bdd7707acd075714788cfb0fc1f60bc414",
        },
    )
    | _others(
        "arm64",
        etcd="fa1b80565ee6fc2df1ae6f57a508b221f3ecc7d591c317c581cd8281b0842b3e",
        helm="564de2191b881e9f71b5606b25345821ea1682f06ab90499d3ab22b530176da1",
    ),
}
"""By the kind of machine, as `platform.machine()` calls it, then by program."""
