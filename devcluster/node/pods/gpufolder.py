"""The folder in which processes say how much of each simulated GPU they use."""

import json
from collections.abc import Sequence
from pathlib import Path

from devcluster.node.decide.devices import Gpu


def lay_out(folder: Path, gpus: Sequence[Gpu]) -> None:
    """Lay out the folder in which processes say how much of each GPU they use, empty of earlier entries."""
    for gpu in gpus:
        usage = folder / "usage" / gpu.uuid
        usage.mkdir(parents=True, exist_ok=True)
        for entry in usage.iterdir():
            entry.unlink(missing_ok=True)
    content = [{"uuid": gpu.uuid, "product": gpu.product, "memory_bytes": gpu.memory_bytes} for gpu in gpus]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpus.json").write_text(json.dumps(content, indent=1))
