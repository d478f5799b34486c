"""Images without a registry: archives go into containerd, and the sandbox's image is made of one program."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from devcluster.container.configuration import PAUSE_IMAGE, socket
from devcluster.machine.network import NodeNetwork


def pause_archive(program: Path, target: Path) -> None:
    """Write an archive, in Docker's format, of an image that has this program and nothing else."""
    layer = _tar({"pause": (program.read_bytes(), 0o755)})
    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest: list[dict[str, Any]] = [{"Config": name, "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    target.write_bytes(
        _tar(
            {
                name: (config, 0o644),
                "layer.tar": (layer, 0o644),
                "manifest.json": (json.dumps(manifest).encode(), 0o644),
            }
        )
    )


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def import_command(ctr: Path, network: NodeNetwork, archive: Path) -> tuple[str, ...]:
    """Return the command that gives an archive's images to the kubelet's containerd."""
    return (
        str(ctr),
        f"--address={socket(network)}",
        "--namespace=k8s.io",
        "images",
        "import",
        "--local",
        str(archive),
    )
