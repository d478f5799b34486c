"""How fast a checkpoint comes from a hub: our download against huggingface_hub's own, in turns, from a stand-in hub.

The stand-in is on loopback, in a process of its own, so that what a client costs shows, not a network. Ours hashes
every byte and has it on the disk when it ends; huggingface_hub does neither, so it is given with its file hashed
afterwards, too.

`python -m bench.download serve MIB` and `python -m bench.download ours|hub URL FOLDER` are the processes of it.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench import report
from tests.support import hub as hubs

MIB: Final = int(os.environ.get("BENCH_DOWNLOAD_MIB", "1024"))
PAIRS: Final = 7
WEIGHTS: Final = "model.safetensors"
METHOD: Final = (
    f"One safetensors file of {MIB} MiB of random bytes, from a stand-in hub on loopback into an empty folder on the "
    f"disk, {PAIRS} pairs, in turns, each in a process of its own; seconds are those of the call, imports left out."
)


def _serve(mib: int) -> None:
    files = hubs.checkpoint() | {WEIGHTS: hubs.safetensors(weights=os.urandom(mib << 20))}
    with hubs.serving() as hub:
        hub.add("owner/name", files)
        for data in files.values():
            # Before anybody is timed.
            hub.entry(WEIGHTS, data)
        print(hub.url, flush=True)
        sys.stdin.read()


def _ours(url: str, folder: Path) -> float:
    # Imported here, each in the process that needs it.
    from ocr_inference.checkpoints import sources  # noqa: PLC0415
    from ocr_inference.checkpoints.sources import downloading  # noqa: PLC0415, F401
    from ocr_inference.protocol.engine import ModelSpec  # noqa: PLC0415

    spec = ModelSpec(name="m", engine="transformers", repo="owner/name", revision="main")
    begin = time.perf_counter()
    sources.fetch(spec, folder, lambda _: None, {"HF_ENDPOINT": url})
    return time.perf_counter() - begin


def _hub(url: str, folder: Path) -> float:
    import huggingface_hub  # noqa: PLC0415

    download = huggingface_hub.snapshot_download
    begin = time.perf_counter()
    download("owner/name", endpoint=url, cache_dir=folder / "hub", token=False)
    return time.perf_counter() - begin


def _call(who: str, url: str, folder: Path) -> float:
    command = [sys.executable, "-m", "bench.download", who, url, str(folder)]
    environ = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return float(ended.stdout.splitlines()[-1])


def _hashing(folder: Path) -> float:
    begin = time.perf_counter()
    for path in folder.glob(f"hub/*/snapshots/*/{WEIGHTS}"):
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - begin


def _turns() -> Mapping[str, list[float]]:
    """MB/s by turns."""
    command = [sys.executable, "-m", "bench.download", "serve", str(MIB)]
    size = (MIB << 20) / 1e6
    speeds: dict[str, list[float]] = {"ours": [], "hub": [], "hub, then hashed": []}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for number in range(PAIRS):
            for who in ("ours", "hub") if number % 2 else ("hub", "ours"):
                with tempfile.TemporaryDirectory(dir=".") as folder:
                    os.sync()
                    seconds = _call(who, url, Path(folder))
                    speeds[who].append(size / seconds)
                    if who == "hub":
                        speeds["hub, then hashed"].append(size / (seconds + _hashing(Path(folder))))
        assert server.stdin is not None
        server.stdin.close()
    return speeds


async def measure() -> report.Result:
    speeds = await asyncio.to_thread(_turns)
    ratios = [ours / theirs for ours, theirs in zip(speeds["ours"], speeds["hub"], strict=True)]
    rows = [report.plain(f"{who}, median", report.median(found), "MB/s") for who, found in speeds.items()]
    rows.append(report.plain("ours / hub, median of the pairs", report.median(ratios), "×"))
    return report.Result("download", METHOD, rows, dict(speeds))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]))
    else:
        print(json.dumps({"ours": _ours, "hub": _hub}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
