"""Every dialect of the exporter comes out as the same readings, and nothing it writes can hurt."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading
from tests.support.paths import GOLDEN

SAMPLES = GOLDEN / "dcgm"
MIB = 2**20
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def uuid(last: str) -> str:
    return f"GPU-8f2c1d30-0000-4000-8000-{last.zfill(12)}"


def read(sample: str, node: str = "") -> list[GpuReading]:
    return dcgm.parse((SAMPLES / f"{sample}.txt").read_bytes(), node, NOW)


def test_the_old_spelling_of_labels_is_read() -> None:
    busy, idle = read("hostname-upper")
    assert busy == GpuReading(
        node="gpu-a",
        uuid=uuid("1"),
        index=0,
        product="NVIDIA-L40S",
        memory_used_bytes=12468 * MIB,
        memory_free_bytes=33000 * MIB,
        memory_total_bytes=46068 * MIB,
        utilization=0.87,
        read_at=NOW,
    )
    assert (idle.uuid, idle.index, idle.memory_used_bytes, idle.utilization) == (uuid("2"), 1, MIB, 0.0)


def test_the_new_spelling_of_labels_is_read() -> None:
    (gpu,) = read("hostname-lower")
    assert (gpu.node, gpu.uuid, gpu.product) == ("gpu-b", uuid("3"), "NVIDIA-H100-80GB-HBM3")
    assert gpu.memory_total_bytes == 81559 * MIB


def test_the_scraped_pods_node_wins_over_the_label() -> None:
    assert {gpu.node for gpu in read("hostname-upper", "worker-7")} == {"worker-7"}


def test_mig_instances_are_readings_of_their_own() -> None:
    large, small = read("mig")
    assert (large.mig, large.memory_used_bytes, large.utilization) == ("2/3g.40gb", 19955 * MIB, 0.43)
    assert (small.mig, small.memory_total_bytes, small.utilization) == ("9/1g.10gb", 9725 * MIB, 0.0)
    assert large.uuid == small.uuid == uuid("4")


def test_a_gpu_that_pods_share_is_counted_once() -> None:
    (gpu,) = read("shared")
    assert gpu.uuid == uuid("5")
    assert gpu.product == "NVIDIA-L4"
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (9000 * MIB, 23034 * MIB)
    assert gpu.utilization == 0.42
    assert gpu.holders == ("team-a/invoices-0", "team-b/letters-0")


def test_sentinels_and_nonsense_are_unknown_but_the_gpu_is_there() -> None:
    unsupported, nonsense, partial = read("sentinels")
    for gpu in (unsupported, nonsense):
        assert gpu.product == "Tesla-T4"
        assert (gpu.memory_used_bytes, gpu.memory_free_bytes, gpu.memory_total_bytes) == (None, None, None)
        assert gpu.utilization is None
    assert (partial.memory_used_bytes, partial.memory_free_bytes) == (None, 15000 * MIB)
    assert partial.utilization == 0.03


def test_holders_are_the_pods_of_the_device_plugin() -> None:
    held, free, stored = read("pods")
    assert held.holders == ("research/train-0",)
    assert free.holders == ()
    assert stored.holders == ("research/train-1",)


def test_a_broken_line_costs_only_itself() -> None:
    (gpu,) = read("broken")
    assert gpu.uuid == uuid("c")
    assert (gpu.index, gpu.memory_used_bytes, gpu.memory_free_bytes) == (None, 100 * MIB, None)


@pytest.mark.parametrize(
    "reported", ["all", "none", "void", "", "GPU-", "GPU-1,GPU-2", "GPU-1 ", "GPU-" + "1" * 500]
)
def test_only_a_plain_uuid_is_believed(reported: str) -> None:
    assert dcgm.parse(f'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="{reported}"}} 1\n', "node") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA L40S", "NVIDIA-L40S"),
        ("NVIDIA-L40S-SHARED", "NVIDIA-L40S"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "NVIDIA-A100-SXM4-80GB"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED", "NVIDIA-A100-SXM4-80GB"),
        ("", ""),
    ],
)
def test_products_have_one_spelling(name: str, expected: str) -> None:
    assert dcgm.product(name) == expected


def test_hostile_text_is_read_in_bounded_time() -> None:
    escapes = 'DCGM_FI_DEV_FB_USED{UUID="' + '\\"' * 2_000_000
    many = "".join(f'DCGM_FI_DEV_FB_USED{{UUID="GPU-{n}"}} 1\n' for n in range(100_000))
    wide = "\n".join('DCGM_FI_DEV_FB_USED{UUID="' + "\\" * 4000 + '"} 1' for _ in range(50))
    start = time.process_time()
    assert dcgm.parse(escapes, "node") == []
    assert len(dcgm.parse(many, "node")) == dcgm.MAX_SAMPLES
    assert dcgm.parse(wide, "node") == []
    assert time.process_time() - start < 10


@given(
    st.text(alphabet='DCGM_FI_DEV_FB_USED{}gpu="0",UI-\\\n 19.e+NaN#', max_size=300) | st.binary(max_size=300)
)
def test_no_text_raises(text: str | bytes) -> None:
    dcgm.parse(text, "node")


@given(st.permutations((SAMPLES / "shared.txt").read_text().splitlines()))
def test_the_order_of_lines_is_irrelevant(lines: list[str]) -> None:
    assert dcgm.parse("\n".join(lines), "", NOW) == read("shared")


@given(
    st.dictionaries(st.sampled_from(dcgm.INTERESTING), st.floats() | st.integers(-(2**70), 2**70), min_size=1)
)
def test_no_number_makes_an_impossible_reading(values: dict[str, float]) -> None:
    text = "\n".join(f'{name}{{UUID="GPU-1"}} {value}' for name, value in values.items())
    for gpu in dcgm.parse(text, "node"):
        for amount in (gpu.memory_used_bytes, gpu.memory_free_bytes, gpu.memory_total_bytes):
            assert amount is None or 0 <= amount <= 16 * 2**40
        assert gpu.utilization is None or 0 <= gpu.utilization <= 1


def test_old_names_of_metrics_are_read() -> None:
    (gpu,) = read("renamed", "gpu-old")
    assert (gpu.node, gpu.uuid) == ("gpu-old", uuid("9"))
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes, gpu.utilization) == (1024 * MIB, 16160 * MIB, 0.07)


def test_a_gpu_without_memory_metrics_is_there_and_its_load_unknown() -> None:
    (gpu,) = read("missing")
    assert (gpu.node, gpu.uuid, gpu.utilization) == ("gpu-e", uuid("a"), 0.3)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (None, None)


def test_what_is_used_follows_from_total_and_free() -> None:
    (gpu,) = read("total")
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (3034 * MIB, 23034 * MIB)
