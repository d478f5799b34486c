"""Settings of the kernel that a kubelet changes for the whole machine when it starts, kept to be given back.

No setting of the kubelet leaves them alone: it changes them, or doesn't start.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Final

ROOT: Final = Path("/proc/sys")
CHANGED: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What it writes, by file."""


def keep(file: Path, root: Path = ROOT) -> None:
    """Write what the settings are into the file; one that is there is of an earlier node, and right."""
    found = {name: (root / name).read_text().strip() for name in CHANGED if (root / name).is_file()}
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(found))
    with contextlib.suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()


def give_back(file: Path, root: Path = ROOT) -> None:
    """Set what the file has, where it is still as a kubelet leaves it, and remove the file; nothing without one."""
    if not file.is_file():
        return
    for name, before in json.loads(file.read_text()).items():
        with contextlib.suppress(OSError):  # a sandbox where they can't be written: nor could the kubelet
            if (root / name).read_text().strip() == CHANGED[name] != before:
                (root / name).write_text(before)
    file.unlink()
