import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from devcluster import exporter
from devcluster.node.decide import devices
from devcluster.node.pods import gpufolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gpufolder.lay_out(tmp_path, devices.simulated("gpu-a", 2, "NVIDIA-L40S", 1024))
    return tmp_path


def use(folder: Path, index: int, pid: int, mib: int, utilization: float) -> Path:
    uuid: str = json.loads((folder / "gpus.json").read_text())[index]["uuid"]
    file = folder / "usage" / uuid / f"{pid}.json"
    file.write_text(json.dumps({"memory_bytes": mib * 2**20, "utilization": utilization}))
    return file


def values(folder: Path) -> list[tuple[int, float]]:
    return [(reading.used_bytes // 2**20, reading.utilization) for reading in exporter.read(folder)]


def test_living_processes_are_summed_and_dead_ones_ignored(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        use(folder, 0, os.getpid(), 100, 0.75)
        use(folder, 0, other.pid, 23, 0.5)
        use(folder, 1, other.pid, 7, 0.25)
        assert values(folder) == [(123, 1.0), (7, 0.25)]
        other.communicate(b"\n")
    assert values(folder) == [(100, 0.75), (0, 0.0)]


def test_a_file_older_than_the_process_of_its_number_is_ignored(folder: Path) -> None:
    file = use(folder, 0, os.getpid(), 100, 0.5)
    os.utime(file, (1000, 1000))
    assert values(folder) == [(0, 0.0), (0, 0.0)]


def test_files_that_arent_whole_are_ignored(folder: Path) -> None:
    file = use(folder, 0, os.getpid(), 100, 0.5)
    for content in ('{"memory_bytes": 1', "[]", "", '{"memory_bytes": "1", "utilization": 0}'):
        file.write_text(content)
        assert values(folder)[0] == (0, 0.0)
    (file.parent / "notes.json").write_text("{}")
    assert values(folder)[0] == (0, 0.0)


def test_exposition_is_in_the_words_of_dcgm_exporter(folder: Path) -> None:
    use(folder, 1, os.getpid(), 24, 0.5)
    first, second = (gpu["uuid"] for gpu in json.loads((folder / "gpus.json").read_text()))

    def labels(index: int, uuid: str) -> str:
        return (
            f'{{gpu="{index}",UUID="{uuid}",pci_bus_id="00000000:0{index + 1}:00.0",device="nvidia{index}",'
            'modelName="NVIDIA L40S",Hostname="gpu-a"}'
        )

    assert exporter.render(exporter.read(folder), "gpu-a").splitlines() == [
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).",
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge",
        f"DCGM_FI_DEV_GPU_UTIL{labels(0, first)} 0",
        f"DCGM_FI_DEV_GPU_UTIL{labels(1, second)} 50",
        "# HELP DCGM_FI_DEV_FB_FREE Framebuffer memory free (in MiB).",
        "# TYPE DCGM_FI_DEV_FB_FREE gauge",
        f"DCGM_FI_DEV_FB_FREE{labels(0, first)} 1024",
        f"DCGM_FI_DEV_FB_FREE{labels(1, second)} 1000",
        "# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).",
        "# TYPE DCGM_FI_DEV_FB_USED gauge",
        f"DCGM_FI_DEV_FB_USED{labels(0, first)} 0",
        f"DCGM_FI_DEV_FB_USED{labels(1, second)} 24",
    ]


async def test_metrics_are_served(folder: Path) -> None:
    async with TestClient(TestServer(exporter.application(folder, "gpu-a"))) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert (await answer.text()).count('Hostname="gpu-a"') == 6


def test_restarted_node_forgets_what_was_used(folder: Path) -> None:
    use(folder, 0, os.getpid(), 100, 0.5)
    gpufolder.lay_out(folder, devices.simulated("gpu-a", 2, "NVIDIA-L40S", 1024))
    assert values(folder)[0] == (0, 0.0)
