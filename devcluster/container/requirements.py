"""Whether this machine can run a real node."""

import os
import shutil
from pathlib import Path

from devcluster.container.configuration import CNI_PLUGINS

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
