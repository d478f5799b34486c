"""What a real node takes of this machine, and how it is given back however the cluster ended.

Containers outlive what started them: their processes have neither the cluster's mark nor its supervisor as their
parent, and are found by their cgroup; then their mounts, the bridge and the folders go.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from devcluster.container import configuration, kernel, traces
from devcluster.errors import StartFailed
from devcluster.machine import processes
from devcluster.machine.layout import Identity
from devcluster.machine.network import NodeNetwork

CGROUPS: Final = Path("/sys/fs/cgroup")
_PATIENCE_SECONDS: Final = 10.0


def prepare(network: NodeNetwork, shim: Path, client_authority: Path) -> None:
    """Set up the network and write the files; what an earlier cluster left with the same block is removed first."""
    clear(network)
    folder = network.folder
    (folder / "cni").mkdir(parents=True)
    folder.chmod(0o700)
    kernel.keep(network.kernel)
    (folder / "cni" / "10-bridge.conflist").write_text(configuration.cni(network))
    (folder / "containerd.toml").write_text(configuration.containerd(network, shim))
    (folder / "kubelet.json").write_text(configuration.kubelet(network, client_authority=client_authority))
    for hierarchy in hierarchies():
        (hierarchy / network.cgroup.removeprefix("/")).mkdir()
    for command in network.commands_up():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StartFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def client_certificate(certificate: Path, key: Path) -> None:
    """Make what the API server shows to the kubelet: a certificate that signs itself, of an administrator."""
    key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-days", "30", "-subj", "/O=system:masters/CN=devcluster-api-server"]
    usage = ["-addext", "extendedKeyUsage=clientAuth"]
    done = subprocess.run(
        [*command, *subject, *usage, "-keyout", str(key), "-out", str(certificate)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartFailed(f"openssl makes no certificate: {done.stderr.strip()}")
    key.chmod(0o600)


def clear(network: NodeNetwork) -> None:
    """Give back everything; nothing happens where there is nothing. containerd and kubelet must have ended."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (found := list(members(network.cgroup))) and time.monotonic() < deadline:
        for identity in found:
            processes.send(identity, signal.SIGKILL)
        processes.wait(found, 1.0)
    for place in reversed(list(mounts(network.folder))):
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)
    if left := list(mounts(network.folder)):  # removing the folder would remove what is mounted there
        raise StartFailed(f"{left[0]} can't be unmounted, so {network.folder} stays")
    for command in network.commands_down():
        subprocess.run(command, capture_output=True, check=False)
    for folder in groups(network.cgroup):
        for inner in sorted(folder.rglob("*"), key=lambda path: -len(path.parts)):
            if inner.is_dir():
                with contextlib.suppress(OSError):
                    inner.rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()
    for file in traces.files(network):
        file.unlink(missing_ok=True)
    shutil.rmtree(network.folder, ignore_errors=True)
    if not any(path.is_dir() for path in network.kernel.parent.glob("*")):  # the last node gives them back
        kernel.give_back(network.kernel)


def groups(cgroup: str) -> Iterator[Path]:
    """Yield the folders of a cgroup: one with version 2, one in each hierarchy with version 1."""
    for top in hierarchies():
        if (folder := top / cgroup.removeprefix("/")).is_dir():
            yield folder


def hierarchies() -> list[Path]:
    """Return the roots of the tree or trees of cgroups."""
    if (CGROUPS / "cgroup.controllers").is_file():
        return [CGROUPS]
    return [top for top in CGROUPS.iterdir() if top.is_dir() and not top.is_symlink()]


def members(cgroup: str) -> Iterator[Identity]:
    """Yield the processes in a cgroup and those below it."""
    seen: set[int] = set()
    for folder in groups(cgroup):
        for listed in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            with contextlib.suppress(OSError):
                seen.update(int(line) for line in (listed / "cgroup.procs").read_text().split())
    for pid in seen - {0, os.getpid()}:
        if (identity := processes.identify(pid)) is not None:
            yield identity


def mounts(folder: Path) -> Iterator[str]:
    """Yield what is mounted below a folder, in the order in which it was mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split(" ")[4].encode().decode("unicode_escape")
        if place == str(folder) or place.startswith(f"{folder}/"):
            yield place
