"""Which GPU is the least used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.device import least_used
from ocr_inference.device.gpu import Gpu
from ocr_inference.device.least_used import Load

TWO = (Gpu("GPU-a", "NVIDIA L40S", 1000), Gpu("GPU-b", "NVIDIA L40S", 1000))
LOADS = st.builds(Load, st.integers(0, 2000), st.none() | st.floats(0, 1))


@pytest.mark.parametrize(
    ("first", "second", "uuid"),
    [
        (Load(0, 0.0), Load(0, 0.0), "GPU-a"),
        (Load(500, 0.0), Load(100, 1.0), "GPU-b"),
        (Load(60, 0.02), Load(0, 0.9), "GPU-a"),
        (Load(60, 0.02), Load(0, 0.04), "GPU-b"),
        (Load(0, None), Load(50, 0.7), "GPU-b"),
        (Load(50, None), Load(0, None), "GPU-b"),
        (Load(1000, 1.0), Load(1000, 0.2), "GPU-b"),
    ],
    ids=["equal", "memory", "computes less", "alike", "not reported", "neither reports", "both full"],
)
def test_memory_counts_first_then_what_is_computed(first: Load, second: Load, uuid: str) -> None:
    assert least_used.choose(TWO, {"GPU-a": first, "GPU-b": second}).uuid == uuid


def test_a_gpu_of_unknown_load_is_unused() -> None:
    assert least_used.choose(TWO, {"GPU-a": Load(10, 0.0)}).uuid == "GPU-b"


@given(st.lists(st.tuples(st.integers(1, 1000), LOADS), min_size=1, max_size=8))
def test_none_is_better_in_memory_and_in_computing(rows: list[tuple[int, Load]]) -> None:
    gpus = [Gpu(f"GPU-{number}", "P", size) for number, (size, _) in enumerate(rows)]
    loads = {gpu.uuid: load for gpu, (_, load) in zip(gpus, rows, strict=True)}
    chosen = least_used.choose(gpus, loads)

    def free(gpu: Gpu) -> int:
        return max(0, gpu.memory_bytes - loads[gpu.uuid].used_bytes)

    def busy(gpu: Gpu) -> float:
        utilization = loads[gpu.uuid].utilization
        return 2.0 if utilization is None else utilization

    assert free(chosen) >= 0.9 * max(map(free, gpus))
    assert not any(free(other) > free(chosen) and busy(other) < busy(chosen) for other in gpus)
