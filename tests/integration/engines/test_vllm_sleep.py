"""vLLM's sleep, where there is a GPU: stand-ins for its server and for NVIDIA's library, which says what is taken.

Not yet seen with a GPU.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_wire.states import Location, State, Worker
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
        assert (offloaded.device_bytes, offloaded.host_bytes) == (vllm_standin.GRAPHS, vllm_standin.WEIGHTS)
        assert (restored.device_bytes, restored.host_bytes) == (TAKEN, 0)
    assert (unloaded.device_bytes, unloaded.host_bytes) == (0, 0)
    assert len(set(texts)) == 1


def test_what_others_free_during_a_sleep_is_not_counted(machine: nvml.Machine, folder: Path) -> None:
    (folder / "faults.json").write_text(json.dumps({"sleep": 9 * nvml.GIB}))
    offloaded = machine.call(vllmsleep.put_to_sleep, folder)
    assert (offloaded.device_bytes, offloaded.host_bytes) == (0, TAKEN)


def test_what_others_free_during_a_download_is_not_counted(machine: nvml.Machine, folder: Path) -> None:
    assert machine.call(vllmsleep.crowded, folder) == TAKEN


def test_a_sleeping_server_gets_no_page(machine: nvml.Machine, folder: Path) -> None:
    assert machine.call(vllmsleep.asleep, folder).message == "the model is not loaded"


def test_a_sleep_that_frees_nothing_is_not_believed(machine: nvml.Machine, folder: Path) -> None:
    (folder / "faults.json").write_text(json.dumps({"sleep": "lies"}))
    said = machine.call(vllmsleep.doubted, folder)
    assert said == f"vLLM says that it sleeps, and has freed 0 of {TAKEN} bytes; None"


@pytest.mark.parametrize("hidden", [True, False], ids=["before it", "after it"])
def test_a_sleep_that_can_not_be_measured_is_not_believed(
    machine: nvml.Machine, folder: Path, *, hidden: bool
) -> None:
    if not hidden:
        (folder / "faults.json").write_text(json.dumps({"sleep": "unseen"}))
    said = machine.call(vllmsleep.doubted, folder, hidden=hidden)
    assert "can't be measured (see the log), so it is unloaded instead; None" in said


def test_what_a_wake_takes_is_measured(machine: nvml.Machine, folder: Path) -> None:
    (folder / "faults.json").write_text(json.dumps({"wake": nvml.GIB}))
    loaded, restored = machine.call(vllmsleep.woken, folder)
    assert restored.device_bytes == loaded.device_bytes + nvml.GIB


@pytest.mark.parametrize("more", [-9 * nvml.GIB, 9 * nvml.GIB])
def test_what_others_take_or_free_during_a_wake_is_not_counted(
    machine: nvml.Machine, folder: Path, more: int
) -> None:
    (folder / "faults.json").write_text(json.dumps({"wake": more}))
    loaded, restored = machine.call(vllmsleep.woken, folder)
    assert restored == loaded


def test_a_model_that_can_not_be_measured_takes_what_was_asked_for(
    machine: nvml.Machine, folder: Path
) -> None:
    weights = (folder / "model.safetensors").stat().st_size
    assert machine.call(vllmsleep.unseen, folder) == 4 * nvml.GIB + weights


def test_the_state_says_where_the_weights_are_and_what_stays(machine: nvml.Machine, folder: Path) -> None:
    ready, asleep, awake = machine.call(vllmsleep.managed, folder)
    assert (ready.state, ready.location, ready.memory_bytes) == (State.READY, Location.GPU, TAKEN)
    assert (asleep.state, asleep.location, asleep.worker) == (State.OFFLOADED, Location.CPU, Worker.RUNNING)
    assert (asleep.memory_bytes, asleep.host_bytes) == (vllm_standin.GRAPHS, vllm_standin.WEIGHTS)
    assert (awake.state, awake.location, awake.memory_bytes) == (State.READY, Location.GPU, TAKEN)
    assert (awake.loads, awake.wakes, awake.offloads) == (1, 1, True)


@pytest.mark.parametrize("fault", ["lies", "unseen"])
def test_a_sleep_that_is_not_believed_is_an_unload_and_the_state_says_why(
    machine: nvml.Machine, folder: Path, fault: str
) -> None:
    (folder / "faults.json").write_text(json.dumps({"sleep": fault}))
    _, after, _ = machine.call(vllmsleep.managed, folder)
    assert (after.state, after.location) == (State.UNLOADED, Location.UNLOADED)
    assert after.memory_bytes == 0
    assert after.last_failure is not None
    assert after.last_failure.reason == "OffloadFailed"
    assert "vLLM says that it sleeps" in after.last_failure.message
