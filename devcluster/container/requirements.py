"""Whether this machine can run a real node."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from devcluster.container import host
from devcluster.container.configuration import CNI_PLUGINS

_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
"""Those that a root without all capabilities, as in a container, lacks first; their bits by `capabilities(7)`."""
_PACKAGES = {"runc": "runc", "ip": "iproute2", "openssl": "openssl", "mount": "mount"}


def missing(*, user: int | None = None, path: str | None = None, plugins: Path = CNI_PLUGINS) -> str | None:
    """Return why this machine can run no real node, with the way out; None if it can."""
    if (os.geteuid() if user is None else user) != 0:
        return "a node with containers needs root: namespaces, mounts and a bridge"
    packages = [package for program, package in _PACKAGES.items() if shutil.which(program, path=path) is None]
    if not all((plugins / each).is_file() for each in ("bridge", "host-local", "loopback")):
        packages.append("containernetworking-plugins")
    if packages:
        return f"a node with containers needs what isn't installed: apt-get install {' '.join(packages)}"
    return None


def forbidden(
    *,
    process: str | None = None,
    filesystems: str | None = None,
    hierarchies: Iterable[Path] | None = None,
) -> str | None:
    """Return what this machine's root may not do that a real node does, which no installing mends; None if nothing.

    `process` and `filesystems` are the texts of /proc/self/status and /proc/filesystems.
    """
    process = Path("/proc/self/status").read_text("utf-8") if process is None else process
    filesystems = Path("/proc/filesystems").read_text("utf-8") if filesystems is None else filesystems
    effective = next(int(line.split()[1], 16) for line in process.splitlines() if line.startswith("CapEff:"))
    if lacking := [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]:
        return (
            f"a node with containers needs {', '.join(lacking)}, which root of a container lacks: use a host"
        )
    if "overlay" not in filesystems.split():
        return "a node with containers needs overlay mounts, which this kernel doesn't have"
    tops = list(host.hierarchies() if hierarchies is None else hierarchies)
    if closed := [str(each) for each in tops if not os.access(each, os.W_OK)]:
        return f"a node with containers needs cgroups of its own, and can't write to {closed[0]}: use a host"
    return None
