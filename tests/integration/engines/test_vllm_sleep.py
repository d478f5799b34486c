"""vLLM's sleep, where there is a GPU: stand-ins for its server and for NVIDIA's library, which says what is taken.

Not yet seen with a GPU.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import nvml, vllm_standin, vllmsleep
from tests.support.vllmcontract import checkpoint

TAKEN = vllm_standin.WEIGHTS + vllm_standin.GRAPHS


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nvml.Machine]:
    folder = tmp_path_factory.mktemp("nvml")
    nvml.build(folder)
    with nvml.machine(folder) as found:
        yield found


@pytest.fixture
def folder(machine: nvml.Machine, tmp_path: Path) -> Path:
    """A checkpoint, on a machine with a GPU of which 8 GiB are taken."""
    machine.clear()
    machine.gpu(vllmsleep.UUID, free=vllm_standin.FREE)
    return checkpoint(tmp_path)


def test_weights_go_and_come_back_and_what_is_free_is_measured(machine: nvml.Machine, folder: Path) -> None:
    (loaded, *rounds, unloaded), texts = machine.call(vllmsleep.cycle, folder)
    assert loaded.device_bytes == TAKEN
    for offloaded, restored in zip(rounds[::2], rounds[1::2], strict=True):
        assert (offloaded.device_bytes, offloaded.host_bytes) == (0, vllm_standin.WEIGHTS)
        assert restored == loaded
    assert (unloaded.device_bytes, unloaded.host_bytes) == (0, 0)
    assert len(set(texts)) == 1


def test_what_others_free_during_a_download_is_not_counted(machine: nvml.Machine, folder: Path) -> None:
    assert machine.call(vllmsleep.crowded, folder) == TAKEN


def test_a_sleeping_server_gets_no_page(machine: nvml.Machine, folder: Path) -> None:
    assert machine.call(vllmsleep.asleep, folder).message == "the model is not loaded"


def test_a_sleep_that_frees_nothing_is_not_believed(machine: nvml.Machine, folder: Path) -> None:
    (folder / "faults.json").write_text(json.dumps({"sleep": "lies"}))
    said = machine.call(vllmsleep.lying, folder)
    assert said == f"vLLM says that it sleeps, and has freed 0 of {TAKEN} bytes; None"
