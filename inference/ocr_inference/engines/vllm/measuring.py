"""Memory that vLLM's processes take, measured from outside: what vLLM says of itself is not believed."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ocr_inference.checkpoints.sources import selection
from ocr_inference.checkpoints.weights import header
from ocr_inference.device import nvml
from ocr_inference.device.gpu import NoDevice
from ocr_inference.protocol.engine import Footprint

log = logging.getLogger(__name__)

_PSS: Final = b"Pss:"
_LEAST_PART, _MOST_PART = 0.5, 1.5
"""Parts of what a sleep freed that a wake takes by itself, the least and the most."""


def host_bytes(pids: Collection[int], proc: Path = Path("/proc")) -> int:
    """Return the processes' memory (PSS), in bytes: what they share with each other counts once."""
    return sum(_pss(proc / str(pid)) for pid in pids)


def device_used_bytes(uuid: str | None) -> int | None:
    """Return what all processes together hold of a GPU, in bytes; None where the driver doesn't say it, and why in the
    log.

    Not what each of them holds: within a container the driver names them by numbers of the node's.
    """
    if uuid is None:
        log.warning("a GPU without a UUID can't be measured")
        return None
    try:
        with nvml.opened() as driver:
            return driver.by_uuid(uuid).memory().used
    except NoDevice as error:
        log.warning("GPU %s can't be measured: %s", uuid, error)
        return None


def awake(last: Footprint, slept: Footprint, before: int | None, after: int | None) -> Footprint:
    """Return what a server takes of a GPU after a wake: what has stayed in its sleep, and what came on top between two
    measurements, `before` and `after`.

    Other processes of the GPU come and go at such a moment. Where the difference can't be the wake's alone, or isn't
    known, that is logged, and the `last` footprint of the model counts.
    """
    taken, freed = None if before is None or after is None else after - before, slept.host_bytes
    if taken is not None and _LEAST_PART * freed <= taken <= _MOST_PART * freed:
        return Footprint(device_bytes=slept.device_bytes + taken)
    log.warning(
        "vLLM says that it is awake, which isn't seen on the GPU: %s bytes were taken, and its sleep had freed %d",
        *("unknown" if taken is None else taken, freed),
    )
    return last


def weights_bytes(folder: Path) -> int:
    """Return the size of a checkpoint's weights, in bytes: of the files that its index names, or of the only one.

    Folders may have the weights once more, such as Mistral's own `consolidated.safetensors`. Raises `BadWeights` and
    `OSError`.
    """
    index = folder / selection.INDEX
    names = {selection.SINGLE}
    if index.exists():
        names = set(header.parse_index(index.read_bytes(), index.name).values())
    return sum((folder / name).stat().st_size for name in names)


def _pss(folder: Path) -> int:
    """Return 0 of a process that has ended."""
    try:
        for line in (folder / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(_PSS):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return _rss(folder)
    return 0


def _rss(folder: Path) -> int:
    """Return the resident set, where the kernel hides the rest: in some sandboxes."""
    try:
        return int((folder / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
