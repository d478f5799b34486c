"""Commands in containers as strict as a cluster's: a read-only root, no capability, a user of any number; by runc."""

import json
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ANY_USER: Final = (1000680000, 0)
"""User and group as OpenShift gives them: a number of the namespace's range, without an entry anywhere, and group 0."""
SECONDS: Final = 600.0


def run(
    folder: Path,
    root: Path,
    command: Sequence[str],
    environment: Sequence[str],
    *,
    user: tuple[int, int],
    files: Mapping[str, Path],
    empty: Sequence[str] = ("/tmp",),
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container whose root is the folder `root`, read-only; `folder` is the container's own.

    `files` are seen, read-only, at the places that they are under; at those of `empty` is a new folder that anybody may
    write to, as an emptyDir of a pod. The network is this machine's. Raises TimeoutExpired after ten minutes.
    """
    volumes = {at: folder / f"empty-{number}" for number, at in enumerate(empty)}
    for volume in volumes.values():
        volume.mkdir()
        volume.chmod(0o777)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    file = folder / "config.json"
    spec = json.loads(file.read_bytes())
    file.write_text(json.dumps(specified(spec, root, command, environment, user, files, volumes)))
    name = f"ocr-test-{uuid.uuid4().hex[:12]}"
    try:
        return subprocess.run(
            ["runc", "--root", str(folder / "state"), "run", name],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:  # a command that ended took its container with it
        subprocess.run(
            ["runc", "--root", str(folder / "state"), "delete", "--force", name],
            capture_output=True,
            check=False,
        )


def specified(
    spec: dict[str, Any],
    root: Path,
    command: Sequence[str],
    environment: Sequence[str],
    user: tuple[int, int],
    files: Mapping[str, Path],
    volumes: Mapping[str, Path],
) -> dict[str, Any]:
    """Return runc's default specification with the command, and less rights."""
    assert spec["process"]["noNewPrivileges"]
    mounts = [*((*pair, "rw") for pair in volumes.items()), *((*pair, "ro") for pair in files.items())]
    spec["mounts"] += [
        {"destination": at, "type": "bind", "source": str(path), "options": ["rbind", mode]}
        for at, path, mode in mounts
    ]
    spec["root"] = {"path": str(root), "readonly": True}
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    spec["process"] |= {
        "args": list(command),
        "capabilities": {},
        "cwd": "/tmp",
        "env": list(environment),
        "terminal": False,
        "user": {"uid": user[0], "gid": user[1]},
    }
    return spec
